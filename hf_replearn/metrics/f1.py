"""The harmonic mean of precision and recall."""

import datasets
import evaluate
from sklearn.metrics import f1_score


class F1(evaluate.Metric):
    """`f1` of the positive class, or with the configuration "macro" `f1_macro`, the mean over classes; in 0…1.

    The positive class is 1 unless `compute(..., positive=0)` says otherwise. Without a prediction or reference of it F1
    is 0; the mean is over the classes that are there or predicted.
    """

    def _info(self):
        if self.config_name not in ("default", "binary", "macro"):
            raise ValueError(f"the configuration is binary or macro, not {self.config_name!r}")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features(predictions=datasets.Value("int64"), references=datasets.Value("int64")),
        )

    def _compute(self, predictions, references, positive=1):
        macro = self.config_name == "macro"
        kind = {"average": "macro"} if macro else {"average": "binary", "pos_label": positive}
        score = f1_score(references, predictions, zero_division=0.0, **kind)
        return {"f1_macro" if macro else "f1": float(score)}
