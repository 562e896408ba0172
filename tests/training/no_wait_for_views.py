"""The host waits for no views on a GPU: found out with a pretended one. Run by test_no_round_trip.py."""

from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hf_replearn import augmentation as ours
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place

POLICIES = pytest.mark.parametrize("policy", [ours.simclr_cifar, ours.simclr_imagenet])


class NobodyWaits(TorchDispatchMode):
    """Of tensors that pretend to be on a GPU, refuses what the host would have to wait for: a copy to it or back that
    is not from pinned memory. Reading a number, `nonzero` and an index of bools are refused by FakeTensorMode."""

    def __init__(self, pinned):
        super().__init__()
        self.pinned, self.uploads = pinned, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        before, after = (
            {x.device.type for x in tree_leaves(tensors) if isinstance(x, torch.Tensor) and x.ndim}
            for tensors in ((args, kwargs), out)
        )
        if len(before | after) > 1:
            pinned = any(args[0] is tensor for tensor in self.pinned)
            assert after == {"cuda"} and kwargs.get("non_blocking") and pinned, function
            self.uploads += 1
        return out


@pytest.fixture
def pretended_gpu(monkeypatch):
    pinned = []

    def pin_memory(tensor):
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    with FakeTensorMode(), NobodyWaits(pinned) as mode:
        yield mode


WAITS = {
    "reads a number": lambda x: float(x.sum()),
    "asks whether": lambda x: bool((x > 0).any()),
    "counts": lambda x: x.nonzero(),
    "selects by bools": lambda x: x[x > 0],
    "selects by a list": lambda x: x[[2, 1]],
    "makes a constant": lambda x: x.new_tensor([1.0, 2.0]),
    "fetches": lambda x: x.cpu(),
    "sends": lambda x: x + torch.ones(4).to(x.device),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_wait_is_noticed(wait, pretended_gpu):
    with pytest.raises((AssertionError, DataDependentOutputException, DynamicOutputShapeException)):
        wait(torch.ones(4, device="cuda"))


@pytest.mark.parametrize("aspect", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 5])
@POLICIES
def test_the_host_does_not_wait_for_views_on_a_gpu(policy, channels, aspect, pretended_gpu):
    collator = DataCollatorForViews(partial(policy, size=24), (0.5,) * channels, (0.2,) * channels)
    batch = {"pixel_values": torch.empty(8, channels, 40, 30, dtype=torch.uint8, device="cuda")}
    if aspect:
        batch["aspect"] = torch.empty(8, device="cuda")
    views = collator.views(batch, Place(0, 0))["pixel_values"]
    assert views.shape == (8, 2, channels, 24, 24) and views.device.type == "cuda"
    assert pretended_gpu.uploads == 2  # all that was drawn, and the mean and deviation of the encoder's input


def test_products_of_views_are_never_in_tf32(monkeypatch, pretended_gpu):
    """Which Trainer allows on a GPU; what is allowed is the same again afterwards."""
    matmul = torch.backends.cuda.matmul
    before, seen = matmul.fp32_precision, []
    monkeypatch.setattr(ours, "_all_at_once", lambda *_, **__: seen.append(matmul.fp32_precision))
    try:
        matmul.fp32_precision = "tf32"
        ours.simclr_cifar(torch.empty(2, 3, 8, 8, dtype=torch.uint8, device="cuda"), generator=torch.Generator())
        assert (seen, matmul.fp32_precision) == (["ieee"], "tf32")
    finally:
        matmul.fp32_precision = before
