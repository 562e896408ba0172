"""NT-Xent against Python loops and across two processes; the model's contract; timm's weights intact."""

import math

import pytest
import timm
import torch
import torch.distributed as dist
from torch.nn.functional import cosine_similarity
from torch.utils._python_dispatch import TorchDispatchMode

from hf_replearn.methods.simclr import SimCLRConfig, SimCLRForPreTraining, SimCLRModel, nt_xent

SMALL = {"layers": [1, 1, 1, 1], "channels": [8, 16, 32, 64]}


def small_config(**changes) -> SimCLRConfig:
    return SimCLRConfig(backbone="resnet18", backbone_args=SMALL, **({"projection_dim": 16} | changes))


def nt_xent_by_hand(z: torch.Tensor, temperature: float) -> float:
    """Algorithm 1 of the paper, sum by sum."""
    views = z.flatten(0, 1)
    total = 0.0
    for i in range(len(views)):
        similarity = [cosine_similarity(views[i], views[k], dim=0).item() / temperature for k in range(len(views))]
        positive = i + 1 if i % 2 == 0 else i - 1
        total -= math.log(math.exp(similarity[positive]) / sum(math.exp(s) for k, s in enumerate(similarity) if k != i))
    return total / len(views)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_nt_xent_is_equation_1(temperature, chunk):
    z = torch.randn(5, 2, 8)
    assert nt_xent(z, temperature, chunk=chunk).item() == pytest.approx(nt_xent_by_hand(z, temperature), rel=1e-5)


def test_nt_xent_gradient_is_that_of_the_plain_formula():
    z = torch.randn(7, 2, 8, dtype=torch.float64)
    ours, plain = z.float().requires_grad_(), z.clone().requires_grad_()
    nt_xent(ours, 0.2, chunk=4).mul(3.0).backward()
    rows = torch.nn.functional.normalize(plain, dim=-1).flatten(0, 1)
    logits = (rows @ rows.T / 0.2).fill_diagonal_(-math.inf)
    torch.nn.functional.cross_entropy(logits, torch.arange(14) ^ 1).mul(3.0).backward()
    torch.testing.assert_close(ours.grad.double(), plain.grad, rtol=1e-5, atol=1e-6)


def test_nt_xent_is_float32_under_autocast_and_keeps_no_square_of_the_batch():
    z = torch.randn(6, 2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        under = nt_xent(z, 0.1)
    assert under.dtype == torch.float32
    assert under.item() == nt_xent(z, 0.1).item()

    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            largest = max(largest, result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    many = torch.randn(512, 2, 8, requires_grad=True)
    with Largest():
        nt_xent(many, 0.1, chunk=16).backward()
    assert largest <= 16 * 1024


def test_nt_xent_at_equal_points_is_the_log_of_the_number_of_candidates():
    z = torch.ones(8, 2, 4)
    assert nt_xent(z, 0.1).item() == pytest.approx(math.log(15), rel=1e-6)


def test_nt_xent_refuses_other_shapes_and_temperatures_that_underflow():
    with pytest.raises(ValueError, match=r"\(B, 2, P\)"):
        nt_xent(torch.randn(8, 4), 0.1)
    with pytest.raises(ValueError, match="temperature"):
        small_config(temperature=0.01)


def shortcut(z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """NT-Xent with the usual gather, which keeps the gradient of the process's own rows only."""
    rows = torch.nn.functional.normalize(z, dim=-1)
    everyone, first = [rows], 0
    if dist.is_initialized():
        everyone = [torch.empty_like(rows) for _ in range(2)]
        dist.all_gather(everyone, rows.detach())
        everyone[dist.get_rank()], first = rows, dist.get_rank() * 2 * len(rows)
    logits = rows.flatten(0, 1) @ torch.cat(everyone).flatten(0, 1).T / 0.2
    number = torch.arange(len(logits))
    logits = logits.index_put((number, number + first), torch.tensor(-math.inf))
    return torch.nn.functional.cross_entropy(logits, (number ^ 1) + first)


def test_two_processes_give_the_loss_and_gradients_of_one(difference_of_two_processes):
    assert max(difference_of_two_processes(lambda z, labels: nt_xent(z, 0.2, chunk=5))) < 1e-6
    value, gradient = difference_of_two_processes(shortcut)
    assert value < 1e-6
    assert gradient > 1e-2  # so this test would see it


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_forward_shapes_and_gradients_reach_every_parameter(stem):
    model = SimCLRForPreTraining(small_config(stem=stem))
    output = model(torch.randn(4, 2, 3, 32, 32))
    assert output.projections.shape == (4, 2, 16)
    assert output.pooler_output.shape == (4, 2, 64)
    output.loss.backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert model(torch.randn(4, 2, 3, 32, 32), return_loss=False).loss is None


def test_views_of_an_image_stay_together():
    """The joint forward pass must put view v of image b at (b, v)."""
    model = SimCLRForPreTraining(small_config()).eval()
    pixels = torch.randn(3, 2, 3, 32, 32)
    h = model(pixels).pooler_output
    torch.testing.assert_close(h[1, 0], model.model(pixels[1:2, 0]).pooler_output[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(h[2, 1], model.model(pixels[2:3, 1]).pooler_output[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_a_new_model_has_the_weights_timm_would_give(backbone):
    arguments = {"img_size": 32} if backbone.startswith("vit") else {}
    torch.manual_seed(3)
    ours = SimCLRModel(SimCLRConfig(backbone=backbone, backbone_args=arguments)).encoder.state_dict()
    torch.manual_seed(3)
    theirs = timm.create_model(backbone, num_classes=0, **arguments).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_vit3", "test_efficientnet"])
def test_save_and_load_change_no_bit(backbone, tmp_path):
    model = SimCLRForPreTraining(SimCLRConfig(backbone=backbone, projection_layers=3)).eval()
    pixels = torch.randn(2, 2, 3, 160, 160)
    model.save_pretrained(tmp_path / "pretraining")
    again = SimCLRForPreTraining.from_pretrained(tmp_path, subfolder="pretraining").eval()
    saved, loaded = model.state_dict(), again.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    buffers = dict(again.named_buffers())  # those that no checkpoint holds are made anew
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    with torch.no_grad():  # weights in a mapped file may take another path through a convolution, with another rounding
        torch.testing.assert_close(model(pixels).projections, again(pixels).projections, rtol=1e-4, atol=1e-5)
    assert (
        SimCLRModel.from_pretrained(tmp_path / "pretraining").encoder.num_features == model.model.encoder.num_features
    )


def test_projection_head_has_the_layers_of_its_paper():
    linear = lambda model: [m for m in model.projection if isinstance(m, torch.nn.Linear)]  # noqa: E731
    assert len(linear(SimCLRForPreTraining(small_config()))) == 2
    assert len(linear(SimCLRForPreTraining(small_config(projection_layers=3)))) == 3


def test_a_wrong_type_in_the_config_is_an_error():
    with pytest.raises(Exception, match="projection_dim"):
        small_config(projection_dim="wide")


def test_loss_equals_lightly():
    lightly_loss = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra").NTXentLoss(0.5)
    ours, theirs = (torch.randn(32, 2, 16, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab")
    nt_xent(ours, 0.5).backward()
    loss = lightly_loss(theirs[:, 0], theirs[:, 1])
    loss.backward()
    assert nt_xent(ours, 0.5).item() == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
