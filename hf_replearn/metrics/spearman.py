"""Spearman's rank correlation of predicted and true numbers."""

import datasets
import evaluate
from scipy.stats import spearmanr


class Spearman(evaluate.Metric):
    """`spearman` in -1…1 (of ranks, ties averaged). NaN, no score, where predictions or references are constant."""

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features(predictions=datasets.Value("float64"), references=datasets.Value("float64")),
        )

    def _compute(self, predictions, references):
        return {"spearman": float(spearmanr(references, predictions).statistic)}
