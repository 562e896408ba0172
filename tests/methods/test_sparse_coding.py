"""Sparse codes and dictionaries: conditions of optimality, scikit-learn, and dictionaries that data were made of."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import Lasso

from hf_replearn.errors import InputError
from hf_replearn.methods.sparse_coding import GivenDictionary, LearntDictionary, SparseCodingConfig, SparseCodingModel
from hf_replearn.methods.sparse_coding.fitting_sparse_coding import fading, updated
from hf_replearn.methods.sparse_coding.modeling_sparse_coding import fista, omp, residual
from hf_replearn.pretraining.inputs import Inputs


def atoms(count: int = 24, width: int = 12, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator))


def planted(dictionary: torch.Tensor, count: int, nonzeros: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and the codes that they were made of."""
    generator = torch.Generator().manual_seed(1)
    places = torch.rand(count, len(dictionary), generator=generator).argsort(1)[:, :nonzeros]
    values = 1 + torch.rand(count, nonzeros, generator=generator)
    values = values * (torch.rand(count, nonzeros, generator=generator) < 0.5).float().mul(2).sub(1)
    codes = torch.zeros(count, len(dictionary)).scatter(1, places, values)
    return codes @ dictionary, codes


def test_lasso_codes_are_those_of_scikit_learn_and_optimal():
    dictionary, x = atoms(), torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    found = fista(x, dictionary, 0.4, tolerance=1e-5)
    peer = Lasso(alpha=0.4 / 12, fit_intercept=False, tol=1e-10, max_iter=100_000)  # of the mean squared error
    theirs = np.stack([peer.fit(dictionary.double().numpy().T, row).coef_.copy() for row in x.double().numpy()])
    np.testing.assert_allclose(found, theirs, atol=2e-4)
    off = residual(found, (found @ dictionary - x) @ dictionary.T, 0.4)
    assert off.max() <= 1e-5 * 0.4 * 1.5  # rounding
    assert 0.1 < (found == 0).float().mean() < 0.9


def test_the_residual_is_that_of_every_case_by_hand():
    codes = torch.tensor([[0.0, 1.0, -2.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
    slope = torch.tensor([[0.5, -0.4, 0.4], [0.7, 0.1, -0.1], [0.1, -0.2, 0.3]])
    torch.testing.assert_close(residual(codes, slope, 0.4), torch.tensor([0.1, 0.3, 0.0]), atol=1e-6, rtol=0)


def test_a_code_does_not_depend_on_what_stands_beside_it():
    dictionary, x = atoms(), torch.randn(40, 12, generator=torch.Generator().manual_seed(0))
    together = fista(x, dictionary, 0.2, tolerance=1e-5)
    alone = torch.cat([fista(row[None], dictionary, 0.2, tolerance=1e-5) for row in x])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


def test_a_large_penalty_leaves_nothing_and_an_input_of_nothing_has_no_code():
    dictionary = atoms()
    assert not fista(torch.randn(5, 12), dictionary, 100.0).any()
    assert not fista(torch.zeros(5, 12), dictionary, 0.1).any() and not omp(torch.zeros(5, 12), dictionary, 3).any()


def test_pursuit_finds_planted_codes_and_those_of_scikit_learn():
    dictionary = atoms(30, 60)
    x, codes = planted(dictionary, 50)
    torch.testing.assert_close(omp(x, dictionary, 3), codes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(omp(x, dictionary, 6), codes, atol=1e-4, rtol=1e-4)  # nothing is left to tell
    noisy = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    theirs = sparse_encode(noisy.numpy(), dictionary.numpy(), algorithm="omp", n_nonzero_coefs=4)
    np.testing.assert_allclose(omp(noisy, dictionary, 4), theirs, atol=1e-4)


def test_pursuit_of_more_atoms_than_there_are_directions_is_finite():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    codes = omp(x, torch.cat([torch.eye(3), torch.eye(3)]), 6)
    torch.testing.assert_close(codes[:, :3] + codes[:, 3:], x)


def test_a_round_over_atoms_lowers_the_cost_and_no_other_place_on_a_line_is_better():
    dictionary = atoms()
    x, _ = planted(atoms(seed=5), 200)
    z = fista(x, dictionary, 0.2)
    codes, told = z.T @ z, z.T @ x

    def cost(d: torch.Tensor) -> float:
        return (x - z @ d).double().square().sum().item()

    found = updated(dictionary, codes, told, fresh=x)
    assert cost(found) < cost(dictionary) and found.norm(dim=1).max() <= 1 + 1e-5
    for _ in range(20):
        found = updated(found, codes, told, fresh=x)
    for place in range(3):
        for change in (1e-2, -1e-2):
            other = found.clone()
            other[place] = other[place] + change * torch.randn(12, generator=torch.Generator().manual_seed(place))
            other[place] /= other[place].norm().clamp(min=1)
            assert cost(other) >= cost(found) - 1e-3


def test_atoms_that_nothing_uses_become_inputs():
    dictionary, x = atoms(4), torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    use = torch.diag(torch.tensor([1.0, 0.0, 2.0, 0.0]))
    found = updated(dictionary, use, torch.zeros(4, 12), fresh=x)
    torch.testing.assert_close(found[[1, 3]], torch.nn.functional.normalize(x[:2]))


def test_sums_of_earlier_batches_fade_as_in_the_paper():
    known, new = torch.tensor(10.0), torch.tensor(1.0)
    assert fading(known, new, batch=4, number=1) == pytest.approx(10 * (4 + 1 - 4) / 5 + 1)  # θ = batch t
    assert fading(known, new, batch=4, number=6) == pytest.approx(10 * (18 + 1 - 4) / 19 + 1)  # θ = batch² + t - batch


def test_the_dictionary_that_data_were_made_of_is_found_again():
    truth = atoms(16, 20)
    x, _ = planted(truth, 2000, nonzeros=2)
    fit, inputs = LearntDictionary(16, penalty=0.3, passes=8, batch=100), Inputs(x, 20, torch.device("cpu"), 100)
    state, losses = fit.begin(inputs, torch.Generator().manual_seed(0)), []
    for number in range(fit.passes):
        losses.append(fit.go_on(state, inputs, torch.Generator().manual_seed(number))["loss"])
    matched = (torch.nn.functional.normalize(fit.weights(state)["dictionary"]) @ truth.T).abs().amax(0)
    assert matched.min() > 0.98 and losses[-1] < losses[0]


def test_inputs_of_nothing_and_atoms_of_other_inputs_are_refused():
    inputs = Inputs(torch.zeros(20, 5), 5, torch.device("cpu"), 16)
    with pytest.raises(InputError, match="all inputs are 0"):
        LearntDictionary(3, 1.0, 1).begin(inputs, torch.Generator())
    with pytest.raises(InputError, match="atoms of 4 numbers, and the inputs here have 5"):
        GivenDictionary({"dictionary": torch.ones(2, 4)}).begin(inputs, torch.Generator())


@pytest.mark.parametrize("codes", ["lasso", "omp", "threshold"])
def test_codes_of_patches_are_split_by_sign_and_summed_over_regions(codes):
    config = SparseCodingConfig(
        image_size=6, num_channels=1, inputs=9, components=7, patch_size=3, codes=codes, penalty=0.1, nonzeros=2
    )
    model, image = SparseCodingModel(config), torch.rand(1, 1, 6, 6)
    with torch.no_grad():
        found = model(image).pooler_output.view(2, 2, 14)
        patches = image[0, 0].unfold(0, 3, 1).unfold(1, 3, 1)[:2, 2:].reshape(-1, 9)  # the quarter on the upper right
        told = model.code(patches)
    expected = torch.cat([told.clamp(min=0).sum(0), told.clamp(max=0).neg().sum(0)])
    torch.testing.assert_close(found[0, 1], expected, atol=1e-4, rtol=1e-4)
