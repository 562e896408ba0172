"""How much of inputs sparse codes tell, by how few numbers, and how near to optimal they are."""

from __future__ import annotations

from torch import Tensor

from .modeling_sparse_coding import SparseCodingModel, residual


def own_task(model: SparseCodingModel, inputs: Tensor) -> dict[str, float]:
    """Of inputs (N, D). The condition of optimality is of lasso codes only."""
    x = model.normalised(inputs)
    codes = model.code(x)
    told = model.decode(codes)
    left = (told - x).double().square().sum() / x.double().square().sum()
    measured = {
        "squared error, as a share of the squared length": left.item(),
        "numbers of a code that are not 0": codes.count_nonzero().item() / len(codes),
    }
    if model.config.codes == "lasso":
        off = residual(codes, (told - x) @ model.dictionary.T, model.config.penalty)
        measured["largest KKT residual, as a share of the penalty"] = (off.max() / model.config.penalty).item()
    return measured
