import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from hf_replearn.errors import InputError
from hf_replearn.evaluation import voc07_full, voc07_low_shot
from hf_replearn.evaluation.svm import linear_svm
from hf_replearn.evaluation.voc07 import COSTS, average_precision, low_shot_grid, low_shot_sample
from hf_replearn.representation import Features


def scenes(n: int, classes: int = 4, dimensions: int = 40, seed: int = 0) -> Features:
    """Several classes an image, some labels ignored, rectified features."""
    rng = torch.Generator().manual_seed(seed)
    present = torch.rand(n, classes, generator=rng) < 0.2
    prototypes = torch.randn(classes, dimensions, generator=torch.Generator().manual_seed(99))
    x = (present.float() @ prototypes + 1.5 * torch.randn(n, dimensions, generator=rng) + 0.5).relu()
    labels = present.to(torch.int8)
    labels[torch.rand(n, classes, generator=rng) < 0.05] = -1
    return Features(x, labels)


@pytest.fixture(scope="module")
def data() -> tuple[Features, Features]:
    return scenes(400), scenes(500, seed=1)


def loop_average_precision(scores, positive) -> float:
    """VOC's definition, one threshold at a time."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    recall, precision, found = [0.0], [0.0], 0
    for rank, i in enumerate(order, start=1):
        found += bool(positive[i])
        recall.append(found / sum(map(bool, positive)))
        precision.append(found / rank)
    return sum((recall[i] - recall[i - 1]) * max(precision[i:]) for i in range(1, len(recall)))


def published_fit(x: np.ndarray, y: np.ndarray, cost: float) -> LinearSVC:
    return LinearSVC(C=cost, class_weight={1: 2, -1: 1}, dual=True, tol=1e-6, max_iter=200_000, random_state=0).fit(
        x, y
    )


def normalised(f: Features) -> np.ndarray:
    return (f.x / (f.x.norm(dim=1, keepdim=True) + 1e-5)).double().numpy()


def test_average_precision_by_hand_and_by_loop():
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    # Precision after the positives of rank 2, 3 and 5 is 1/2, 2/3, 3/5; that of rank 2 rises to 2/3.
    positive = torch.tensor([False, True, True, False, True])
    assert average_precision(scores, positive).item() == pytest.approx((2 / 3 + 2 / 3 + 3 / 5) / 3)
    rng = torch.Generator().manual_seed(0)
    scores, positive = torch.randn(6, 80, generator=rng), torch.rand(80, generator=rng) < 0.2
    expected = [loop_average_precision(s.tolist(), positive.tolist()) for s in scores]
    assert average_precision(scores, positive).tolist() == pytest.approx(expected, abs=1e-6)


def test_average_precision_is_sklearns_where_precision_only_falls_and_bounds_it_elsewhere():
    positive = torch.arange(50) < 10
    perfect = -torch.arange(50.0)[None]
    assert average_precision(perfect, positive).item() == average_precision_score(positive, perfect[0]) == 1
    scores = torch.randn(30, 2000, generator=torch.Generator().manual_seed(0))
    positive = scores[0] + torch.randn(2000, generator=torch.Generator().manual_seed(1)) > 1.5
    ours = average_precision(scores, positive)
    peer = torch.tensor([average_precision_score(positive, s) for s in scores])
    assert (ours >= peer - 1e-6).all() and (ours - peer).max() < 0.02


def test_tied_scores_enter_together_whatever_the_order():
    positive = torch.tensor([True, False, False, True, False])
    assert average_precision(torch.zeros(1, 5), positive).item() == pytest.approx(2 / 5)
    assert average_precision(torch.zeros(1, 5), positive.flip(0)).item() == pytest.approx(2 / 5)


@pytest.mark.parametrize(("n", "dimensions"), [(60, 200), (300, 12)])
def test_svm_scores_equal_linear_svc_at_every_cost(n, dimensions):
    rng = torch.Generator().manual_seed(n)
    x = torch.nn.functional.normalize((torch.randn(3, n, dimensions, generator=rng) + 0.5).relu(), dim=2)
    y = torch.where(x[..., 0] + 0.1 * torch.randn(3, n, generator=rng) > 0.1, 1, -1)
    y[:, ::10] = 0  # take no part
    costs = torch.tensor([1e-6, 1e-3, 0.1, 1.0, 10.0, 300.0])
    gram = x @ x.mT + 1
    scores = linear_svm(gram, y, costs) @ gram
    for b in range(3):
        for p, cost in enumerate(costs.tolist()):
            part = y[b] != 0
            peer = published_fit(x[b, part].double().numpy(), y[b, part].numpy(), cost)
            expected = torch.as_tensor(peer.decision_function(x[b].double().numpy())).float()
            assert (scores[b, p] - expected).norm() < 0.002 * expected.norm(), (b, cost)


def test_svm_with_one_gram_for_all_problems_equals_a_copy_for_each():
    x = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    y = torch.where(x[:, :3].T > 0, 1, -1)
    gram, costs = x @ x.T + 1, torch.tensor([1e-3, 1.0, 100.0])
    assert torch.allclose(
        linear_svm(gram, y, costs) @ gram, linear_svm(gram.repeat(3, 1, 1), y, costs) @ gram, atol=1e-3
    )


def test_low_shot_equals_the_published_loop(data):
    train, test = data
    shots, costs, draws = (1, 4, 16), (1e-4, 0.0625, 1.0, 100.0), 2
    x, test_x = normalised(train), normalised(test)
    expected = {k: np.zeros((draws, 4, len(costs))) for k in shots}
    for draw in range(draws):
        positives, negatives = low_shot_sample(train.labels, max(shots), seed=0, draw=draw)
        for k in shots:
            for number in range(4):
                rows = torch.cat([positives[number, :k], negatives[number, : 3 * k]])
                known = (test.labels[:, number] != -1).numpy()
                for i, cost in enumerate(costs):
                    scores = published_fit(x[rows], np.where(np.arange(4 * k) < k, 1, -1), cost)
                    scores = scores.decision_function(test_x)[known]
                    truth = (test.labels[:, number].numpy() == 1)[known]
                    expected[k][draw, number, i] = loop_average_precision(scores.tolist(), truth.tolist())
    grid = low_shot_grid(train, test, shots=shots, draws=draws, costs=costs)
    reported = voc07_low_shot(train, test, shots=shots, draws=draws, costs=costs)
    for k in shots:
        assert np.abs(grid[k][0].numpy() - expected[k]).max() < 0.005  # 0.5 points of AP in any single cell
        maps = expected[k].mean(axis=1)  # (draws, costs)
        best = maps[:, maps.mean(axis=0).argmax()]
        assert reported[f"voc07@{k}"] == pytest.approx(best.mean(), abs=0.003)
        assert reported[f"voc07@{k}_min"] == pytest.approx(best.min(), abs=0.003)
        assert reported[f"voc07@{k}_max"] == pytest.approx(best.max(), abs=0.003)
        assert reported[f"voc07@{k}_std"] == pytest.approx(best.std(), abs=0.003)


def test_samples_keep_the_protocol(data):
    labels = data[0].labels
    positives, negatives = low_shot_sample(labels, 8, seed=3, draw=1)
    assert positives.shape == (4, 8) and negatives.shape == (4, 24)
    for number in range(4):
        assert (labels[positives[number], number] == 1).all() and (labels[negatives[number], number] == 0).all()
        assert len(torch.cat([positives[number], negatives[number]]).unique()) == 32
    smaller = low_shot_sample(labels, 2, seed=3, draw=1)
    assert torch.equal(smaller[0], positives[:, :2]) and torch.equal(smaller[1], negatives[:, :6])
    assert not torch.equal(positives, low_shot_sample(labels, 8, seed=3, draw=2)[0])


def test_cross_validation_never_sees_the_test_labels(data):
    train, test = data
    scrambled = Features(test.x, test.labels[torch.randperm(500, generator=torch.Generator().manual_seed(0))])
    honest = voc07_low_shot(train, test, shots=(1, 2, 8), draws=2, select="cv")
    other = voc07_low_shot(train, scrambled, shots=(1, 2, 8), draws=2, select="cv")
    oracle = voc07_low_shot(train, test, shots=(1, 2, 8), draws=2)
    for k in (1, 2, 8):
        assert honest[f"voc07_cv@{k}_cost"] == other[f"voc07_cv@{k}_cost"]
        assert honest[f"voc07_cv@{k}"] <= oracle[f"voc07@{k}"]
    assert honest["voc07_cv@1_cost"] == honest["voc07_cv@2_cost"]
    assert honest["voc07_cv@8"] > other["voc07_cv@8"] + 0.1


def test_full_equals_linear_svc_with_costs_from_the_same_folds(data):
    train, test = data
    costs = (0.01, 0.1, 1.0, 10.0)
    x, test_x = normalised(train), normalised(test)
    aps = []
    for number in range(4):
        y = np.where(train.labels[:, number].numpy() == 1, 1, -1)
        folds = list(StratifiedKFold(3).split(x, y))
        criterion = [
            np.mean(
                [_ap(published_fit(x[fit], y[fit], c).decision_function(x[held]), y[held] == 1) for fit, held in folds]
            )
            for c in costs
        ]
        scores = published_fit(x, y, costs[int(np.argmax(criterion))]).decision_function(test_x)
        known = (test.labels[:, number] != -1).numpy()
        aps.append(_ap(scores[known], (test.labels[:, number].numpy() == 1)[known]))
    assert voc07_full(train, test, costs=costs)["voc07_full"] == pytest.approx(np.mean(aps), abs=0.005)


def _ap(scores, positive) -> float:
    return average_precision(torch.as_tensor(scores)[None], torch.as_tensor(positive)).item()


def test_constant_features_score_the_share_of_positives(data):
    flat = [Features(torch.ones(len(f), 5), f.labels) for f in data]
    share = [((c == 1).sum() / (c != -1).sum()).item() for c in data[1].labels.T]
    assert voc07_low_shot(*flat, shots=(2,), draws=2)["voc07@2"] == pytest.approx(np.mean(share), abs=1e-6)


def test_default_shots_stop_where_a_class_runs_out_and_larger_ones_are_refused(data):
    train, test = data
    few = torch.cat([(train.labels[:, 2] != 1).nonzero().flatten(), (train.labels[:, 2] == 1).nonzero().flatten()[:5]])
    scores = voc07_low_shot(train[few], test, draws=2, costs=COSTS[::5])
    assert [key for key in scores if "_" not in key] == ["voc07@1", "voc07@2", "voc07@4"]
    with pytest.raises(InputError, match="k = 16 shots .* class 2 has 5 "):
        voc07_low_shot(train[few], test, shots=(16,))


def test_bad_input_is_named(data):
    train, test = data
    with pytest.raises(InputError, match="use k_shot"):
        voc07_low_shot(Features(train.x, train.labels[:, 0].long()), test)
    with pytest.raises(InputError, match="one class"):
        voc07_low_shot(*(Features(f.x, f.labels[:, :1]) for f in data))
    with pytest.raises(InputError, match="class 1 has no positive example among the"):
        voc07_full(train, test[test.labels[:, 1] != 1])
    with pytest.raises(InputError, match="select is 'best'"):
        voc07_low_shot(train, test, select="best")
    with pytest.raises(InputError, match="add a larger k"):
        voc07_low_shot(train, test, shots=(1,), select="cv")
    broken = train.x.clone()
    broken[0, 0] = float("inf")
    with pytest.raises(InputError, match="NaN or infinite, first in row 0"):
        voc07_full(Features(broken, train.labels), test)


@pytest.mark.parametrize(("centre", "spread"), [(1, 0.1), (2, 0.01), (1, 1e-4), (1, 1e-7), (0, 1e-9), (1, 0)])
def test_features_that_hardly_vary_as_those_of_random_networks(centre, spread):
    """Float32 cannot tell some of these images apart: the classifier is then liblinear's to that rounding."""
    noise = torch.randn(300, 32, generator=torch.Generator().manual_seed(0))
    x = centre + spread * noise
    positive = noise[:, 0] > 0.5
    scores = voc07_low_shot(
        *(Features(part, torch.stack([label, ~label], 1).to(torch.int8)) for part, label in halves(x, positive)),
        shots=[1, 8, 32],
    )
    assert all(0 < scores[f"voc07@{k}"] <= 1 for k in (1, 8, 32))
    # None: draws that agree, and an interval as wide as the scale
    assert np.isfinite([value for value in scores.values() if value is not None]).all()
    k = (x[:100] @ x[:100].T + 1)[None]
    y = torch.where(positive[:100], 1.0, -1.0)[None]
    costs = torch.tensor([0.01, 1.0])
    ours = (linear_svm(k, y, costs) @ k)[0].double().numpy()
    for cost, f in zip(costs.tolist(), ours, strict=True):
        theirs = published_fit(x[:100].double().numpy(), y[0].numpy(), cost).decision_function(x[:100].double().numpy())
        assert np.abs(f - theirs).max() < 2e-2 * np.abs(theirs).max()


def halves(x, positive):
    return (x[:150], positive[:150]), (x[150:], positive[150:])
