"""Principal and independent components, beside scikit-learn and by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FastICA

from hf_replearn.errors import InputError
from hf_replearn.methods.components import ComponentsConfig, ComponentsModel, IndependentComponents, PrincipalComponents
from hf_replearn.methods.components.fitting_components import decorrelated
from hf_replearn.methods.fitting import by_covariance, in_passes, leading, moments, principal_axes, zca
from hf_replearn.pretraining.inputs import Inputs


def inputs(x, size: int = 64) -> Inputs:
    return Inputs(torch.as_tensor(x, dtype=torch.float32), x.shape[1], torch.device("cpu"), size)


def mixed(count: int = 400, width: int = 6) -> np.ndarray:
    """Laplace and uniform sources, mixed, around a mean far from 0."""
    rng = np.random.default_rng(0)
    sources = np.concatenate([rng.laplace(size=(count, width // 2)), rng.uniform(-2, 2, (count, width // 2))], axis=1)
    return (sources @ rng.normal(size=(width, width)) + 30).astype(np.float32)


def fitted(fit, x) -> tuple[ComponentsModel, dict]:
    generator = torch.Generator().manual_seed(0)
    state = fit.begin(inputs(x), generator)
    for _ in range(fit.passes):
        fit.go_on(state, inputs(x), generator)
        if fit.has_converged(state):
            break
    model = ComponentsModel(ComponentsConfig(inputs=x.shape[1], components=fit.components))
    model.load_state_dict(fit.weights(state))
    return model.eval(), state


def test_moments_in_batches_are_those_of_all():
    x = mixed(101)
    mean, covariance = moments(inputs(x, size=7))
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(x.astype(np.float64).T, bias=True), rtol=1e-9)


@pytest.mark.parametrize("count", [400, 5])  # by the covariance, and by products of examples
@pytest.mark.parametrize("whiten", [False, True])
def test_principal_components_are_those_of_scikit_learn(count, whiten):
    x, k = mixed(count, 8), 4
    model, _ = fitted(PrincipalComponents(k, whiten=whiten), x)
    peer = PCA(k, svd_solver="full").fit(x.astype(np.float64))
    with torch.no_grad():
        codes = model(torch.from_numpy(x)).pooler_output
        told = model.undone(model.decode(codes))
    cosines = (peer.components_ * torch.nn.functional.normalize(model.components).detach().numpy()).sum(1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-6)
    theirs = peer.transform(x.astype(np.float64)) * np.sign(cosines)
    theirs = theirs / np.sqrt(peer.explained_variance_ * (count - 1) / count) if whiten else theirs
    np.testing.assert_allclose(codes, theirs, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(told, peer.inverse_transform(peer.transform(x)), rtol=1e-3, atol=1e-3)


def decaying(count: int = 900, width: int = 600) -> np.ndarray:
    """Forty directions, each of less variance than the one before it, of which two are alike; around a mean."""
    rng = np.random.default_rng(0)
    scales = 0.9 ** np.arange(40)
    scales[1] = scales[0]
    return (rng.normal(size=(count, 40)) * scales @ rng.normal(size=(40, width)) + 3).astype(np.float32)


@pytest.mark.parametrize("way", [in_passes, by_covariance])
def test_few_components_of_many_numbers_are_those_of_all_eigenvectors(way):
    x = decaying()
    mean, values, vectors = way(inputs(x, size=128), 5)
    theirs, all_vectors = np.linalg.eigh(np.cov(x.astype(np.float64).T, bias=True))
    np.testing.assert_allclose(values, theirs[::-1][:5], rtol=1e-5)
    np.testing.assert_allclose(np.abs((vectors.numpy() * all_vectors[:, ::-1][:, :5]).sum(0)), 1, atol=1e-6)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0), atol=1e-6)


def test_few_components_of_a_mean_far_away_are_as_exact():
    x = decaying()
    found = [principal_axes(inputs(x + shift), 5)[2].double() for shift in (0, 1000)]
    assert torch.linalg.svdvals(found[0] @ found[1].T)[-1] > 1 - 1e-6  # float32 keeps 1e-4 of numbers around 1000


def test_passes_are_made_where_they_are_less_work_and_cost_no_reading():
    x = inputs(decaying())
    assert in_passes(x, 5) is not None
    assert in_passes(x, 20) is None  # 4 x 28 x 8 products, more than 600
    on_disk = SimpleNamespace(held=False, width=x.width, batches=None)
    assert in_passes(on_disk, 5) is None


def test_where_passes_do_not_come_to_rest_the_covariance_is_taken():
    x = np.random.default_rng(0).normal(size=(700, 600)).astype(np.float32)  # no direction stands out
    assert in_passes(inputs(x), 3) is None
    _, values, axes = principal_axes(inputs(x), 3)
    theirs, vectors = np.linalg.eigh(np.cov(x.astype(np.float64).T, bias=True))
    np.testing.assert_allclose(values, theirs[::-1][:3], rtol=1e-5)
    np.testing.assert_allclose(np.abs((axes.numpy() @ vectors[:, ::-1][:, :3]).diagonal()), 1, atol=1e-5)


def test_of_equal_eigenvalues_all_are_found():
    values = torch.cat([torch.full((6,), 5.0), torch.linspace(1, 0.1, 594)]).double()
    turned = torch.linalg.qr(torch.randn(600, 600, generator=torch.Generator().manual_seed(1)).double())[0]
    found, vectors = leading(turned * values @ turned.T, 6)
    torch.testing.assert_close(found, values[:6])
    assert torch.linalg.svdvals(vectors.T @ turned[:, :6])[-1] > 1 - 1e-12


def test_where_products_do_not_come_to_rest_all_eigenvectors_are_computed():
    values, vectors = leading(torch.eye(600, dtype=torch.float64) + torch.diag(torch.arange(600) * 1e-7), 3)
    torch.testing.assert_close(values, 1 + torch.tensor([599, 598, 597], dtype=torch.float64) * 1e-7)
    assert vectors.abs().argmax(0).tolist() == [599, 598, 597]


def test_what_principal_components_leave_is_the_sum_of_the_smaller_eigenvalues():
    x = mixed(300)
    model, _ = fitted(PrincipalComponents(2), x)
    with torch.no_grad():
        told = model.undone(model.decode(model.code(model.normalised(torch.from_numpy(x))))).numpy()
    left = np.square(x - told).sum(1).mean()
    eigenvalues = np.linalg.eigvalsh(np.cov(x.astype(np.float64).T, bias=True))
    np.testing.assert_allclose(left, eigenvalues[:-2].sum(), rtol=1e-4)


def test_the_largest_entry_of_every_axis_is_positive():
    _, _, axes = principal_axes(inputs(mixed()), 6)
    assert (axes.gather(1, axes.abs().argmax(1, keepdim=True)) > 0).all()


def test_more_components_than_the_data_have_directions_are_refused():
    x = np.repeat(mixed(50, 4), 2, axis=1)  # four directions of eight numbers
    with pytest.raises(InputError, match="vary in 4 directions only"):
        principal_axes(inputs(x), 5)
    with pytest.raises(InputError, match="vary in 0 directions only"):
        principal_axes(inputs(np.ones((20, 3))), 1)
    with pytest.raises(InputError, match="vary in 2 directions only"):
        principal_axes(inputs(mixed(3, 8)), 3)  # three examples


def test_whitened_data_have_unit_covariance_and_keep_their_axes():
    x = inputs(mixed(500))
    shift, whitener = zca(x, 0.0)
    mean, covariance = moments(x.whitened(shift, whitener))
    torch.testing.assert_close(mean, torch.zeros(6).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance, torch.eye(6).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(whitener, whitener.T)  # of all that whiten, the one that changes least
    _, noisy = zca(x, 0.5)
    values = torch.linalg.eigvalsh(moments(x)[1])
    torch.testing.assert_close(torch.linalg.eigvalsh(noisy), (values + 0.5).rsqrt().flip(0))


def test_independent_components_are_the_sources_and_those_of_scikit_learn():
    x = mixed(3000)
    model, state = fitted(IndependentComponents(6, passes=200, tolerance=1e-6), x)
    codes = model(torch.from_numpy(x)).pooler_output.detach().numpy()
    peer = FastICA(6, whiten="unit-variance", fun="logcosh", tol=1e-8, max_iter=1000, random_state=0).fit_transform(x)
    rng = np.random.default_rng(0)
    sources = np.concatenate([rng.laplace(size=(3000, 3)), rng.uniform(-2, 2, (3000, 3))], axis=1)
    np.testing.assert_allclose(codes.var(0), 1, rtol=1e-3)
    for other, least in ((peer, 0.9999), (sources, 0.98)):
        matched = np.abs(np.corrcoef(codes.T, other.T)[:6, 6:])
        assert sorted(matched.argmax(1)) == list(range(6)) and matched.max(1).min() > least
    assert state["moved"] < 1e-6
    contrast = np.square(np.log(np.cosh(codes)).mean(0) - 0.374567)
    assert (np.diff(contrast) <= 1e-6).all()  # the least Gaussian first


def test_decorrelated_directions_are_orthogonal_and_of_length_one():
    w = decorrelated(torch.randn(5, 5, dtype=torch.float64))
    torch.testing.assert_close(w @ w.T, torch.eye(5, dtype=torch.float64))
