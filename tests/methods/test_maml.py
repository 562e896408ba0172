"""Adaptation by gradients: the second order against finite differences, no answer by other queries, Reptile by hand."""

import copy

import pytest
import timm
import torch
from torch.nn.functional import cross_entropy, linear

from hf_replearn.methods.maml import MAMLConfig, MAMLForPreTraining, normalised_by

SMALL = {"backbone": "conv4", "backbone_args": {"width": 3, "img_size": 16}, "way": 3, "shots": 2}
METHODS = ("maml", "fomaml", "anil", "reptile")


def make(method: str, **more) -> MAMLForPreTraining:
    torch.manual_seed(0)
    config = MAMLConfig(
        **SMALL | {"method": method, "inner_learning_rate": 0.1, "inner_steps": 2, "test_steps": 2} | more
    )
    model = MAMLForPreTraining(config)
    assert not model.head.weight.any() and not model.head.bias.any()
    torch.nn.init.normal_(model.head.weight, std=0.3)  # as if learnt: from 0 a first step moves the head alone
    torch.nn.init.normal_(model.head.bias, std=0.3)
    return model


@pytest.fixture
def episode():
    return torch.rand(3, 5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def smooth(model: MAMLForPreTraining) -> MAMLForPreTraining:
    """The same in double precision, without the kinks at which a difference is no derivative."""
    for block in model.model.encoder.blocks:
        block[2], block[3] = torch.nn.Softplus(), torch.nn.AvgPool2d(2)
    model.model.encoder = model.model.encoder.double()
    model.head = model.head.double()
    return model


def loss_of(model, episode) -> torch.Tensor:
    logits = model.answer(episode[:, :2], episode[:, 2:].flatten(0, 1), steps=2)
    return cross_entropy(logits, torch.arange(3).repeat_interleave(3))


def differences(model, episode, *, step: float = 1e-5) -> dict[str, tuple[float, float]]:
    """Name -> the derivative of the loss after adaptation by one number of each weight, by autograd and by central
    differences."""
    model.train()
    loss_of(model, episode).backward()
    found = {}
    for name, weight in model.named_parameters():
        place, values = weight.numel() // 2, []
        for sign in (1, -1):
            with torch.no_grad():
                weight.view(-1)[place] += sign * step
            values.append(loss_of(model, episode).item())
            with torch.no_grad():
                weight.view(-1)[place] -= sign * step
        found[name] = (weight.grad.view(-1)[place].item(), (values[0] - values[1]) / (2 * step))
    return found


@pytest.mark.parametrize("method", ["maml", "anil"])
def test_the_gradient_is_that_of_the_loss_after_adaptation(method, episode):
    """Second derivatives included, through the statistics of the support too."""
    found = differences(smooth(make(method, inner_learning_rate=0.5)), episode.double())
    assert max(abs(by_hand) for _, by_hand in found.values()) > 1e-3
    for name, (gradient, by_hand) in found.items():
        assert gradient == pytest.approx(by_hand, rel=1e-4, abs=1e-8), name


def test_the_first_order_leaves_second_derivatives_out(episode):
    """It is the gradient of the query loss at the adapted weights, taken as if it were one at the start."""
    first = differences(smooth(make("fomaml", inner_learning_rate=0.5)), episode.double())
    assert any(abs(gradient - by_hand) > 1e-2 * abs(by_hand) + 1e-6 for gradient, by_hand in first.values())
    model = smooth(make("fomaml", inner_learning_rate=0.5)).train()
    loss_of(model, episode.double()).backward()
    adapted = copy.deepcopy(model)
    shown, labels = episode[:, :2].flatten(0, 1).double(), torch.arange(3).repeat_interleave(2)
    for _ in range(2):  # two steps of plain gradient descent
        adapted.zero_grad()
        with normalised_by(adapted.model.encoder, len(shown)):
            h = adapted.model.encoder(shown)
        cross_entropy(linear(h, adapted.head.weight, adapted.head.bias), labels).backward()
        with torch.no_grad():
            for weight in adapted.parameters():
                weight -= 0.5 * weight.grad
    adapted.zero_grad()
    with normalised_by(adapted.model.encoder, len(shown)):
        h = adapted.model.encoder(torch.cat([shown, episode[:, 2:].flatten(0, 1).double()]))
    cross_entropy(adapted.head(h[len(shown) :]), torch.arange(3).repeat_interleave(3)).backward()
    for (name, weight), other in zip(model.named_parameters(), adapted.parameters(), strict=True):
        assert torch.allclose(weight.grad, other.grad, rtol=1e-6, atol=1e-10), name


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_does_not_change_with_other_queries(method, episode):
    model = make(method).eval()
    support, query = episode[:, :2], episode[:, 2:].flatten(0, 1)
    before = model.answer(support, query)
    others = torch.cat([query[:1], torch.rand(20, 3, 16, 16)])
    assert torch.allclose(model.answer(support, others)[0], before[0], atol=1e-5)
    assert torch.allclose(model.answer(support, query[:1])[0], before[0], atol=1e-5)
    assert not torch.allclose(model.answer(support.flip(0), query), before, atol=1e-4)  # but on the support it does


@pytest.mark.parametrize("method", METHODS)
def test_answering_changes_no_weight_and_no_running_statistic(method, episode):
    model = make(method).eval()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        assert not model.answer(episode[:, :2], episode[:, 2:].flatten(0, 1)).requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.train()(episode[None]).loss.backward()
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert moved and all("running" in name for name in moved)  # which the encoder goes by when it is alone


@pytest.mark.parametrize("method", METHODS)
def test_adaptation_lowers_the_loss_on_what_was_shown(method, episode):
    model = make(method, inner_learning_rate=0.01 if method == "reptile" else 0.2).eval()
    shown, labels = episode[:, :2], torch.arange(3).repeat_interleave(2)
    losses = [cross_entropy(model.answer(shown, shown.flatten(0, 1), steps=n), labels).item() for n in (0, 5)]
    assert losses[1] < losses[0]


def test_reptile_moves_towards_where_its_inner_steps_end(episode):
    """By hand: one inner step of Adam without momentum goes by the sign of the gradient, times the rate."""
    model = make("reptile", inner_steps=1, inner_learning_rate=0.01).train()
    images, labels = episode.flatten(0, 1), torch.arange(3).repeat_interleave(5)
    with normalised_by(model.model.encoder, len(images)):
        h = model.model.encoder(images)
    inner = cross_entropy(model.head(h), labels)
    gradients = torch.autograd.grad(inner, list(model.head.parameters()))
    found = model(episode[None]).loss
    found.backward()
    assert found.item() == pytest.approx(inner.item(), rel=1e-5)
    for weight, gradient in zip(model.head.parameters(), gradients, strict=True):
        assert torch.allclose(weight.grad, 0.01 * gradient.sign(), atol=1e-6)  # start - end


def test_reptile_takes_its_images_in_the_order_given(episode):
    model = make("reptile", inner_steps=2).train()
    order = torch.tensor([[[0, 5, 10], [1, 6, 11]]])
    first, again = model(episode[None], order).loss, model(episode[None], order).loss
    other = model(episode[None], order.flip(1)).loss
    assert first.item() == again.item() != other.item()


def test_norms_that_timm_has_with_their_activation():
    """BatchNormAct2d of an EfficientNet: as it trains by the batch, where all of it is support."""
    network = timm.create_model("efficientnet_b0", num_classes=0).train()
    maps = network.conv_stem(torch.rand(6, 3, 32, 32))
    with normalised_by(network, 6):
        found = network.bn1(maps)
    assert network.bn1.training and torch.allclose(found, network.bn1(maps), atol=1e-4)
