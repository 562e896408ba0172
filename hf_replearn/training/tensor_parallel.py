"""Tensor parallelism (Shoeybi et al. 2019, arXiv:1909.08053): several processes compute one batch, each a part of the
heads of attention and of the width between the matrices of a layer, by transformers' plan of an architecture."""

from __future__ import annotations

from fnmatch import fnmatch

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from transformers import PreTrainedModel

from hf_replearn.errors import InputError

HEADS = 2  # dimension of (B, T, heads, D), of which a norm of queries or keys has a part


def split_matrices(model: nn.Module, mesh: DeviceMesh) -> None:
    """Splits the matrices of the native language model in `model` among the processes of `mesh`, in place. Embeddings
    and the vocabulary head stay whole.

    Raises InputError for an architecture without a plan that is understood, or heads that cannot be shared out.
    """
    native = next(
        (m for m in model.modules() if isinstance(m, PreTrainedModel) and m.base_model is m and _plan(m)), None
    )
    if native is None:
        kind = type(getattr(model, "model", model)).__name__
        raise InputError(f"{kind} has no plan for tensor parallelism in transformers: take the profile fsdp2.yaml")
    config, processes = native.config.get_text_config(), mesh.size()
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        if getattr(config, name) % processes:
            raise InputError(
                f"{name} is {getattr(config, name)}, which {processes} processes cannot share: lower tp_size"
            )
    rules = {name: _rule(name, _plan(native)) for name, _ in native.named_modules()}
    parallelize_module(native, mesh, {name: rule for name, rule in rules.items() if rule is not None})


def _plan(native: PreTrainedModel) -> dict[str, str]:
    return native.config.base_model_tp_plan or {}


def _rule(name: str, plan: dict[str, str]) -> ParallelStyle | None:
    """What torch has for the word of transformers."""
    word = next((word for pattern, word in plan.items() if fnmatch(name, pattern)), None)
    styles = {"colwise": ColwiseParallel, "rowwise": RowwiseParallel}
    if word is None or word in styles:
        return None if word is None else styles[word]()
    if word == "replicated_with_grad_allreduce" and name.endswith(("q_norm", "k_norm")):
        return SequenceParallel(sequence_dim=HEADS, use_local_output=True)  # whole, its gradient the sum over all heads
    raise InputError(f"the plan for tensor parallelism of this architecture has {word!r}: take the profile fsdp2.yaml")
