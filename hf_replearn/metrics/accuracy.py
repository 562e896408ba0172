"""The share of right predictions."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score


class Accuracy(evaluate.Metric):
    """`accuracy`: the share of predictions that equal their references, in 0…1."""

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features(predictions=datasets.Value("int64"), references=datasets.Value("int64")),
        )

    def _compute(self, predictions, references):
        return {"accuracy": float(accuracy_score(references, predictions))}
