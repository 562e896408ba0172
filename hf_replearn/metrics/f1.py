"""The harmonic mean of precision and recall."""

import datasets
import evaluate
from sklearn.metrics import f1_score


class F1(evaluate.Metric):
    """`f1` of class 1, or with the configuration "macro" `f1_macro`, the mean over classes; in 0…1.

    A class that is neither predicted nor there counts as 0.
    """

    def _info(self):
        if self.config_name not in ("default", "binary", "macro"):
            raise ValueError(f"the configuration is binary or macro, not {self.config_name!r}")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features(predictions=datasets.Value("int64"), references=datasets.Value("int64")),
        )

    def _compute(self, predictions, references):
        macro = self.config_name == "macro"
        score = f1_score(references, predictions, average="macro" if macro else "binary", zero_division=0.0)
        return {"f1_macro" if macro else "f1": float(score)}
