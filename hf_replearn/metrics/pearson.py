"""Pearson's correlation of predicted and true numbers."""

import datasets
import evaluate
from scipy.stats import pearsonr


class Pearson(evaluate.Metric):
    """`pearson` in -1…1 (linear). NaN, no score, where predictions or references are constant."""

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features(predictions=datasets.Value("float64"), references=datasets.Value("float64")),
        )

    def _compute(self, predictions, references):
        return {"pearson": float(pearsonr(references, predictions).statistic)}
