import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from hf_replearn.evaluation import linear_probe
from hf_replearn.evaluation.linear_probe import batch_norm_probe
from hf_replearn.evaluation.softmax_regression import centre_and_scale, softmax_regression
from hf_replearn.representation import Features


@pytest.fixture(scope="module")
def digits() -> tuple[Features, Features]:
    x, labels = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
    noisy = x.float() + 8 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return Features(noisy[:1300], labels[:1300]), Features(noisy[1300:], labels[1300:])


def test_solver_reaches_sklearns_minimum_at_every_cost(digits):
    train, _ = digits
    x = centre_and_scale(train.x[None], train.x)[0]
    costs = torch.tensor([0.01, 1.0, 100.0])
    w, b = softmax_regression(x, train.labels[None], costs, 10)
    for i, cost in enumerate(costs.tolist()):
        peer = LogisticRegression(C=cost, max_iter=5000, tol=1e-8).fit(x[0].double().numpy(), train.labels.numpy())

        def objective(w, b, cost=cost):
            scores = x[0].double() @ torch.as_tensor(w).double().T + torch.as_tensor(b).double()
            fit = torch.nn.functional.cross_entropy(scores, train.labels, reduction="sum")
            return 0.5 * torch.as_tensor(w).double().square().sum() + cost * fit

        minimum = objective(peer.coef_, peer.intercept_)
        assert objective(w[0, i], b[0, i]) == pytest.approx(minimum.item(), rel=1e-4)


def test_problems_in_a_batch_are_solved_as_alone(digits):
    train, _ = digits
    x, labels = train.x[:60].view(3, 20, 64), torch.arange(10).repeat(6).view(3, 20)  # fewer rows than features
    x = centre_and_scale(x, train.x)[0]
    together, bias = softmax_regression(x, labels, torch.tensor([0.1, 10.0]), 10)
    for i in range(3):
        for j, cost in enumerate((0.1, 10.0)):
            alone, b = softmax_regression(x[i : i + 1], labels[i : i + 1], torch.tensor([cost]), 10)
            scores, expected = x[i] @ together[i, j].T + bias[i, j], x[i] @ alone[0, 0].T + b[0, 0]
            assert torch.allclose(scores, expected, atol=0.02 * expected.abs().max().item())


def test_accuracy_is_within_03_points_of_sklearn_at_the_chosen_cost(digits):
    train, test = digits
    scores = linear_probe(train, test)
    x, [test_x] = centre_and_scale(train.x[None], test.x)
    peer = LogisticRegression(C=scores["linear_cost"], max_iter=5000).fit(x[0].numpy(), train.labels.numpy())
    assert scores["linear"] == pytest.approx(peer.score(test_x.numpy(), test.labels.numpy()), abs=0.003)
    assert linear_probe(train, test) == scores  # deterministic


def test_cost_of_best_validation_accuracy_and_the_smallest_of_equals(digits):
    train, test = digits
    assert linear_probe(train, test, costs=(1e-6, 1.0))["linear_cost"] == 1.0
    easy = Features(10 * torch.eye(10)[train.labels], train.labels)
    assert linear_probe(easy, easy, costs=(100.0, 1.0, 10.0)) == {"linear": 1.0, "linear_cost": 1.0}


def test_shift_scale_and_rotation_change_nothing(digits):
    train, test = digits
    rotation = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))[0]
    moved = [Features(1000 * f.x @ rotation + 500, f.labels) for f in digits]
    expected = linear_probe(train, test)
    assert linear_probe(*moved)["linear"] == pytest.approx(expected["linear"], abs=0.005)


def test_a_class_of_one_example_is_fitted_though_it_cannot_be_validated(digits):
    train, _ = digits
    lonely = torch.cat([(train.labels != 4).nonzero().flatten(), (train.labels == 4).nonzero().flatten()[:1]])
    four = train[lonely][-1:]  # of a class left out, it could not be right
    assert linear_probe(train[lonely], four, costs=(1000.0,))["linear"] == 1.0


def test_batch_norm_probe_does_not_mind_the_scale_of_a_dimension(digits):
    """Where most of the variance says nothing, the plain probe's penalty keeps it from the rest."""
    noise = 1e4 * torch.randn(len(digits[0]) + len(digits[1]), 8, generator=torch.Generator().manual_seed(1))
    still = torch.full((len(noise), 1), 3.0)
    parts = zip(digits, noise.split([*map(len, digits)]), still.split([*map(len, digits)]), strict=True)
    odd = [Features(torch.cat([5 + part.x, extra, same], 1), part.labels) for part, extra, same in parts]
    plain, normalised = linear_probe(*odd)["linear"], batch_norm_probe(*odd)["linear_bn"]
    assert normalised > plain + 0.1
    scaled = [Features(part.x * torch.linspace(0.01, 100, part.x.shape[1]), part.labels) for part in odd]
    assert batch_norm_probe(*scaled)["linear_bn"] == pytest.approx(normalised, abs=0.01)
    assert abs(normalised - linear_probe(*digits)["linear"]) < 0.03
