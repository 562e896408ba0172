"""Classifiers and neighbours on a GPU are those of the CPU, but for the last bits."""

from functools import partial

import pytest
import torch

from hf_replearn.evaluation.k_shot import k_shot
from hf_replearn.evaluation.knn import knn
from hf_replearn.evaluation.linear_probe import linear_probe
from hf_replearn.representation import Features


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("evaluator", [knn, linear_probe, partial(k_shot, shots=(1, 8))])
def test_scores_are_those_of_the_cpu(evaluator):
    labels = torch.arange(400) % 5
    centres = torch.randn(5, 16)
    parts = [Features(centres[labels] + 1.5 * torch.randn(400, 16), labels) for _ in range(2)]
    on_cpu, on_gpu = (evaluator(*parts, device=device) for device in ("cpu", "cuda"))
    assert on_gpu == pytest.approx(on_cpu, abs=0.01)
