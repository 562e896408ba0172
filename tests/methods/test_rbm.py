"""Restricted Boltzmann machines, against the enumeration of all states of small ones."""

import itertools

import numpy as np
import pytest
import torch

from hf_replearn.errors import InputError
from hf_replearn.methods.rbm import BoltzmannMachines, RBMConfig, RBMModel
from hf_replearn.methods.rbm.fitting_rbm import Units, bits, gibbs, gradient
from hf_replearn.pretraining.inputs import Inputs


def machine(gaussian: bool = False) -> Units:
    generator = torch.Generator().manual_seed(0)
    weight, hidden, visible = (torch.randn(*shape, generator=generator) for shape in ((3, 4), (3,), (4,)))
    return Units(weight, hidden / 2, visible / 2, gaussian)


def states(count: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)))


def energy(units: Units, v: torch.Tensor, h: torch.Tensor) -> float:
    """By loops."""
    own = -sum(b * x for b, x in zip(units.visible, v, strict=True))
    if units.gaussian:
        own = sum((x - b) ** 2 for b, x in zip(units.visible, v, strict=True)) / 2
    pairs = sum(units.weight[j, i] * h[j] * v[i] for i in range(4) for j in range(3))
    return float(own - sum(c * x for c, x in zip(units.hidden, h, strict=True)) - pairs)


def log_likelihood(units: Units, data: torch.Tensor) -> torch.Tensor:
    """Mean log P(v) of binary data by enumeration of all visible states, differentiable."""
    return (-units.free_energy(data)).mean() - (-units.free_energy(states(4))).logsumexp(0)


@pytest.mark.parametrize("gaussian", [False, True])
def test_free_energy_and_conditionals_are_those_of_all_states(gaussian):
    units, v = machine(gaussian), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    energies = np.array([energy(units, v[0], h) for h in states(3)])
    np.testing.assert_allclose(units.free_energy(v), -np.logaddexp.reduce(-energies), rtol=1e-5)
    weights = np.exp(-energies) / np.exp(-energies).sum()
    np.testing.assert_allclose(units.up(v)[0], (weights[:, None] * states(3).numpy()).sum(0), rtol=1e-5)
    h = torch.tensor([1.0, 0.0, 1.0])
    if gaussian:  # the energy of v is smallest at its mean
        mean = units.down(h[None])[0]
        assert all(energy(units, mean, h) <= energy(units, mean + step, h) for step in torch.eye(4) * 1e-2)
        return
    weights = np.exp([-energy(units, v, h) for v in states(4)])
    np.testing.assert_allclose(
        units.down(h[None])[0], (weights[:, None] * states(4).numpy()).sum(0) / weights.sum(), rtol=1e-5
    )


def test_long_chains_give_the_gradient_of_the_log_likelihood():
    """The exact one, by automatic differentiation of the enumerated log-likelihood of a machine of 4 x 3 units."""
    units, data = machine(), states(4)[[3, 5, 5, 9, 14]]
    leaves = [part.clone().requires_grad_() for part in units[:3]]
    exact = torch.autograd.grad(log_likelihood(Units(*leaves, gaussian=False), data), leaves)
    generator = torch.Generator().manual_seed(1)
    v, h = gibbs(units, bits(torch.full((40_000, 3), 0.5), generator), 30, generator)
    for found, expected in zip(gradient(data, units.up(data), v, h), exact, strict=True):
        torch.testing.assert_close(found, expected, atol=0.012, rtol=0)  # five standard errors


@pytest.mark.parametrize("sampling", ["cd", "pcd"])
def test_training_raises_the_enumerated_log_likelihood(sampling):
    data = states(4)[[3, 3, 3, 12, 12, 12]].repeat(20, 1)
    fit = BoltzmannMachines((3,), "binary", epochs=200, learning_rate=0.05, batch=60, sampling=sampling, weight_decay=0)
    inputs, generator = Inputs(data, 4, torch.device("cpu"), 50), torch.Generator().manual_seed(0)
    state = fit.begin(inputs, generator)
    before = log_likelihood(fit.units(state, 0), data)
    for _ in range(fit.passes):
        fit.go_on(state, inputs, generator)
    after = log_likelihood(fit.units(state, 0), data)
    assert before < -2.5 and after > -1.5  # -4 ln 2 = -2.77 of chance, -ln 2 = -0.69 of the best


def test_gaussian_chains_come_to_the_mean_and_variance_of_the_enumerated_mixture():
    units, generator = machine(gaussian=True), torch.Generator().manual_seed(0)
    v, _ = gibbs(units, bits(torch.full((40_000, 3), 0.5), generator), 100, generator)
    h = states(3)
    means = h @ units.weight + units.visible
    log_weights = h @ units.hidden + (means.square() - units.visible.square()).sum(1) / 2
    weights = log_weights.softmax(0)
    torch.testing.assert_close(v.mean(0), weights @ means, atol=0.06, rtol=0)
    second = weights @ means.square() + 1 - (weights @ means).square()
    torch.testing.assert_close(v.var(0), second, atol=0.15, rtol=0)


def test_machines_are_a_network_of_sigmoids_and_trained_one_after_the_other():
    data = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
    fit = BoltzmannMachines((5, 3), "binary", epochs=2, learning_rate=0.1, batch=10)
    inputs, generator = Inputs(data, 6, torch.device("cpu"), 16), torch.Generator().manual_seed(0)
    state, kept = fit.begin(inputs, generator), []
    for number in range(fit.passes):
        assert fit.go_on(state, inputs, generator)["layer"] == number // 2 + 1
        kept.append({name: tensor.clone() for name, tensor in state.items()})
    assert not torch.equal(kept[0]["weight.0"], kept[1]["weight.0"])
    assert torch.equal(kept[1]["weight.0"], kept[3]["weight.0"])
    assert not torch.equal(kept[1]["weight.1"], kept[3]["weight.1"])
    model = RBMModel(RBMConfig(inputs=6, components=3, lower_layers=(5,)))
    model.load_state_dict(model.state_dict() | fit.weights(state))
    first = 1 / (1 + (-data @ state["weight.0"].T - state["hidden.0"]).exp())
    second = 1 / (1 + (-first @ state["weight.1"].T - state["hidden.1"]).exp())
    torch.testing.assert_close(model(data).pooler_output, second)
    assert model.decode(second).shape == (40, 6)


def test_numbers_that_are_no_probabilities_are_refused_by_binary_units():
    fit = BoltzmannMachines((3,), "binary", epochs=1, learning_rate=0.1)
    inputs = Inputs(torch.tensor([[0.5, 1.5], [0.0, 1.0]]), 2, torch.device("cpu"), 16)
    with pytest.raises(InputError, match="inputs are from 0 to 1.5.*--visible gaussian"):
        fit.begin(inputs, torch.Generator())
