"""`evaluate.Metric` classes that need no network, one file each: `evaluate.load(path_of_the_file)` works as well.

METRICS["accuracy"]().compute(predictions=[0, 1], references=[0, 0])   # {"accuracy": 0.5}
"""

from functools import partial

from hf_replearn.metrics.accuracy import Accuracy
from hf_replearn.metrics.f1 import F1
from hf_replearn.metrics.glue import GLUE
from hf_replearn.metrics.matthews_correlation import MatthewsCorrelation
from hf_replearn.metrics.pearson import Pearson
from hf_replearn.metrics.spearman import Spearman

METRICS = {
    "accuracy": Accuracy,
    "f1": F1,
    "f1_macro": partial(F1, "macro"),
    "matthews_correlation": MatthewsCorrelation,
    "pearson": Pearson,
    "spearman": Spearman,
}

__all__ = ["GLUE", "METRICS", "Accuracy", "F1", "MatthewsCorrelation", "Pearson", "Spearman"]
