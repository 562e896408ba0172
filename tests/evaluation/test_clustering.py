import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from hf_replearn.errors import InputError
from hf_replearn.evaluation.clustering import ari, clustering, contingency, matched_accuracy, nmi
from hf_replearn.representation import Features


def random_labels(seed, n=300, classes=5, clusters=5):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    return truth, np.where(rng.random(n) < 0.6, truth % clusters, rng.integers(0, clusters, n))


@pytest.mark.parametrize("seed", range(4))
def test_indices_equal_scikit_learns(seed):
    truth, found = random_labels(seed)
    table = contingency(truth, found, size=5)
    assert nmi(table) == pytest.approx(normalized_mutual_info_score(truth, found), abs=1e-12)
    assert ari(table) == pytest.approx(adjusted_rand_score(truth, found), abs=1e-12)


def test_indices_at_their_ends():
    same = np.diag([3, 4, 5])
    assert (nmi(same), ari(same), matched_accuracy(same[:, [2, 0, 1]])) == (pytest.approx(1), 1.0, 1.0)
    one_cluster = np.array([[3, 0], [3, 0]])
    assert (nmi(one_cluster), ari(one_cluster), matched_accuracy(one_cluster)) == (0.0, 0.0, 0.5)


def test_matched_accuracy_is_the_best_of_all_ways_to_name_the_clusters():
    from itertools import permutations

    truth, found = random_labels(7, n=60)
    best = max(np.mean(np.array(names)[found] == truth) for names in permutations(range(5)))
    assert matched_accuracy(contingency(truth, found, size=5)) == pytest.approx(best)


def test_far_classes_are_found_and_noise_is_not():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3 + 10  # their numbers need not start at 0
    x = torch.eye(3).repeat(30, 1) * 8 + torch.randn(90, 3, generator=generator)
    scores = clustering(Features(x, labels))
    assert scores["nmi"] == scores["ari"] == scores["matched"] == pytest.approx(1)
    assert scores["silhouette"] == pytest.approx(
        silhouette_score(torch.nn.functional.normalize(x).numpy(), labels.numpy(), metric="cosine")
    )
    noise = clustering(Features(torch.randn(90, 3, generator=generator), labels))
    assert abs(noise["ari"]) < 0.1 and noise["silhouette"] < 0.1


def test_the_scores_are_means_over_starts_of_k_means():
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(4, (200,), generator=generator)
    x = torch.nn.functional.normalize(
        torch.randn(4, 6, generator=generator)[labels] + torch.randn(200, 6, generator=generator)
    )
    runs = [KMeans(4, n_init=1, random_state=seed).fit_predict(x.numpy()) for seed in range(3)]
    expected = np.mean([normalized_mutual_info_score(labels.numpy(), run) for run in runs])
    assert clustering(Features(x, labels), runs=3)["nmi"] == pytest.approx(expected, abs=1e-9)


def test_the_interval_narrows_with_more_examples():
    def half(n):
        rng = torch.Generator().manual_seed(2)
        labels = torch.arange(n) % 3
        x = torch.eye(3)[labels] * 2 + torch.randn(n, 3, generator=rng)
        return clustering(Features(x, labels))["matched_ci95"]

    assert 0 < half(2400) < half(150) / 2


def test_what_cannot_be_clustered_is_told():
    with pytest.raises(InputError, match="3 examples of 3 classes"):
        clustering(Features(torch.randn(3, 2), torch.arange(3)))
    with pytest.raises(InputError, match="one label"):
        clustering(Features(torch.randn(3, 2)))
