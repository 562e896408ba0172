"""What a representation is worth: Features go in, a dict of scores comes out. No trainer, no method, no I/O."""

from hf_replearn.evaluation.k_shot import k_shot
from hf_replearn.evaluation.knn import knn
from hf_replearn.evaluation.linear_probe import linear_probe
from hf_replearn.evaluation.voc07 import voc07_full, voc07_low_shot

__all__ = ["k_shot", "knn", "linear_probe", "voc07_full", "voc07_low_shot"]
