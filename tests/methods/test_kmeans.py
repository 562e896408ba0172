"""k-means features, by loops and beside scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Peer

from hf_replearn.errors import InputError
from hf_replearn.methods.kmeans import KMeans, KMeansConfig, KMeansModel
from hf_replearn.methods.kmeans.fitting_kmeans import most, spread_out, squared_distances
from hf_replearn.pretraining.inputs import Inputs


def inputs(x: torch.Tensor, size: int = 37) -> Inputs:
    return Inputs(x, x.shape[1], torch.device("cpu"), size)


def blobs(count: int = 300, width: int = 3, centres: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    means = 10 * torch.randn(centres, width, generator=generator)
    return means[torch.arange(count) % centres] + torch.randn(count, width, generator=generator)


def patches_of(image: torch.Tensor, size: int, stride: int) -> list[tuple[int, int, torch.Tensor]]:
    """(line, column, patch) by loops."""
    places = range(0, image.shape[1] - size + 1, stride)
    return [(y, x, image[:, y : y + size, x : x + size].flatten()) for y in places for x in places]


@pytest.mark.parametrize(("stride", "regions"), [(1, 2), (2, 3)])
def test_features_of_an_image_are_those_of_loops_over_its_patches(stride, regions):
    config = KMeansConfig(
        image_size=8, inputs=27, components=5, patch_size=3, stride=stride, regions=regions, contrast=0.2, whitened=True
    )
    model = KMeansModel(config)
    with torch.no_grad():
        model.shift.copy_(torch.randn(27) / 5)
        model.whitener.copy_(torch.randn(27, 27) / 5)
        images = torch.rand(2, 3, 8, 8)
        found = model(images).pooler_output
    places = (8 - 3) // stride + 1
    for image, features in zip(images, found, strict=True):
        expected = np.zeros((regions, regions, 5))
        for y, x, patch in patches_of(image, 3, stride):
            p = patch.double().numpy()
            p = (p - p.mean()) / np.sqrt(p.var() + 0.2)
            p = (p - model.shift.detach().double().numpy()) @ model.whitener.detach().double().numpy()
            z = [np.sqrt(np.square(p - c).sum()) for c in model.centroids.detach().double().numpy()]
            region = tuple(place // stride * regions // places for place in (y, x))
            expected[region] += [max(0, np.mean(z) - distance) for distance in z]
        np.testing.assert_allclose(features, expected.flatten(), rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_the_batch(monkeypatch):
    model = KMeansModel(KMeansConfig(image_size=8, inputs=48, components=5, patch_size=4))
    images = torch.rand(5, 3, 8, 8)
    with torch.no_grad():
        whole = model(images).pooler_output
        monkeypatch.setattr("hf_replearn.methods.fitted.AT_ONCE", 25)
        torch.testing.assert_close(model(images).pooler_output, whole)


def test_features_are_the_same_where_gradients_are_asked_for_and_have_them():
    model = KMeansModel(KMeansConfig(image_size=8, inputs=48, components=5, patch_size=4, contrast=0.1))
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        without = model(images).pooler_output
    found = model(images).pooler_output
    assert torch.equal(found, without)
    found.sum().backward()
    step = 1e-2 * model.centroids.grad / model.centroids.grad.norm()
    with torch.no_grad():
        model.centroids += step
        risen = model(images).pooler_output.sum() - without.sum()
    assert risen.item() == pytest.approx(1e-2 * model.centroids.grad.norm().item(), rel=0.05)


def test_a_hard_code_is_the_nearest_centroid():
    model = KMeansModel(KMeansConfig(inputs=3, components=4, activation="hard"))
    x = torch.randn(20, 3)
    codes = model(x).pooler_output
    assert torch.equal(codes.argmax(1), torch.cdist(x, model.centroids).argmin(1)) and (codes.sum(1) == 1).all()


def test_every_pass_is_that_of_scikit_learn():
    x, generator = blobs(), torch.Generator().manual_seed(1)
    fit = KMeans(4, passes=10, tolerance=0.0)
    state = fit.begin(inputs(x), generator)
    start = state["centroids"].numpy()
    for passes in (1, 2, 3):
        fit.go_on(state, inputs(x), generator)
        peer = Peer(4, init=start, n_init=1, max_iter=passes, tol=0).fit(x.numpy())
        np.testing.assert_allclose(state["centroids"], peer.cluster_centers_, rtol=1e-4, atol=1e-4)
    labels = squared_distances(x, torch.from_numpy(start)).min(1).values.mean()
    again = fit.begin(inputs(x), torch.Generator().manual_seed(1))
    assert fit.go_on(again, inputs(x), generator)["loss"] == pytest.approx(labels.item(), rel=1e-5)


def test_the_squared_error_never_rises_and_it_ends():
    x, generator = blobs(centres=7), torch.Generator().manual_seed(0)
    fit = KMeans(5, tolerance=1e-4)
    state, losses = fit.begin(inputs(x), generator), []
    while not losses or not fit.has_converged(state):
        losses.append(fit.go_on(state, inputs(x), generator)["loss"])
    assert 2 < len(losses) < 50 and (np.diff(losses) <= 1e-9).all()


def test_a_centroid_that_nothing_is_near_starts_at_what_is_furthest():
    x = torch.cat([blobs(100, centres=1), torch.tensor([[500.0, 500.0, 500.0]])])
    fit, generator = KMeans(2), torch.Generator()
    none = torch.tensor(1e300, dtype=torch.float64)
    state = {"centroids": torch.stack([x[0], torch.full((3,), -1e4)]), "error": none, "before": none}
    assert fit.go_on(state, inputs(x), generator)["restarted"] == 1
    torch.testing.assert_close(state["centroids"][1], x[-1])


def test_the_furthest_of_several_batches_are_those_of_all():
    squares, x = torch.rand(60), torch.randn(60, 2)
    known = (torch.empty(0), torch.empty(0, 2))
    for part in range(0, 60, 7):
        known = most(known, squares[part : part + 7], x[part : part + 7], count=10)
    order = squares.argsort(descending=True)[:10]
    assert torch.equal(known[0], squares[order]) and torch.equal(known[1], x[order])


def test_first_centroids_are_inputs_in_different_clusters():
    x = blobs(200, centres=4)
    chosen = spread_out(x, 4, torch.Generator().manual_seed(0))
    which = (chosen[:, None] == x[None]).all(2).int().argmax(1)
    assert sorted((which % 4).tolist()) == [0, 1, 2, 3]


def test_more_centroids_than_there_are_different_inputs_are_refused():
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(20, 1)
    with pytest.raises(InputError, match="have 2 different values"):
        KMeans(3).begin(inputs(x), torch.Generator())
    with pytest.raises(InputError, match="there are 40 inputs"):
        KMeans(41).begin(inputs(x), torch.Generator())
