"""Matthews' correlation coefficient of predicted and true classes."""

import datasets
import evaluate
from sklearn.metrics import matthews_corrcoef


class MatthewsCorrelation(evaluate.Metric):
    """`matthews_correlation` in -1…1 (Matthews 1975; Gorodkin 2004 for several classes); 0 for constant predictions."""

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features(predictions=datasets.Value("int64"), references=datasets.Value("int64")),
        )

    def _compute(self, predictions, references):
        return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}
