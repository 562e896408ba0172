"""What features are worth where each class has a few examples: episodes in which a query is of the class whose mean
lies nearest (Snell et al. 2017), with no weights fitted to anything.

R images, D features, E episodes, N classes, K support images of each, Q queries
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hf_replearn.data.decoding import centre_crop, picture_of
from hf_replearn.data.episodes import Fixed
from hf_replearn.evaluation.checks import check_finite
from hf_replearn.evaluation.k_shot import credit
from hf_replearn.evaluation.statistics import holm, paired_test, t_half_width

MEAN, COSINE, ADAPTED = "nearest_mean", "nearest_mean_cosine", "adapted"
MOST, THUMBNAIL = 10, 56  # classes of an episode that are drawn, and pixels of an image
AT_ONCE = 2**24  # numbers of the features of some episodes


def nearest_mean(x: Tensor, episodes: Fixed, *, cosine: bool = False) -> Tensor:
    """Scores (E, Q, N) of features (R, D): minus the squared distance to the mean of a class, or the cosine with the
    mean of its images at unit length. The scores of a query depend on no other query.

    Raises InputError for features that are not finite.
    """
    check_finite(x, "image")
    x = torch.nn.functional.normalize(x, dim=1) if cosine else x
    each = max(1, AT_ONCE // (x.shape[1] * (episodes.support[0].size + episodes.query.shape[1])))
    scores = []
    for first in range(0, len(episodes), each):
        some = slice(first, first + each)
        means = x[torch.from_numpy(episodes.support[some])].mean(2)  # (e, N, D)
        asked = x[torch.from_numpy(episodes.query[some])]  # (e, Q, D)
        if cosine:
            scores.append(asked @ torch.nn.functional.normalize(means, dim=2).mT)
        else:
            scores.append(2 * asked @ means.mT - means.square().sum(2)[:, None])
            scores[-1] -= asked.square().sum(2, keepdim=True)
    return torch.cat(scores)


def right(scores: Tensor, episodes: Fixed) -> np.ndarray:
    """(E,) the share of the queries of each episode that are told right, by scores (E, Q, N); where n classes have the
    same highest score, one of them the right one, that is 1/n of a query."""
    told = credit(scores.flatten(0, 1), torch.from_numpy(episodes.answers).flatten())
    return told.unflatten(0, episodes.answers.shape).double().mean(1).numpy()


def judge_features(x: Tensor, several: Sequence[Fixed]) -> dict[str, np.ndarray]:
    """Metric, such as `nearest_mean@5w1s` -> (E,) of each of the kinds of episodes."""
    found = {}
    for episodes in several:
        for metric, cosine in ((MEAN, False), (COSINE, True)):
            found[f"{metric}@{episodes.name}"] = right(nearest_mean(x, episodes, cosine=cosine), episodes)
    return found


def to_look_at(rows: Dataset, scores: Tensor, episodes: Fixed, *, count: int, asked: int = 5) -> list[list[dict]]:
    """The first episodes as `sharing.drawn.draw_episodes` draws them: up to ten classes, and so many queries of each.

    rows: images (R) with `image`. scores: (E, Q, N) of the episodes.
    """
    shown = []
    for number in range(min(count, len(episodes))):
        told, answers = scores[number].argmax(1).tolist(), episodes.answers[number]
        shots = [row[0] for row in episodes.support[number]]
        classes = []
        for place, row in enumerate(shots[:MOST]):
            queries = np.flatnonzero(answers == place)[:asked]
            line = [
                (_thumbnail(rows, episodes.query[number][q]), told[q], _thumbnail(rows, shots[told[q]]))
                for q in queries
            ]
            classes.append({"shown": _thumbnail(rows, row), "asked": line})
        shown.append(classes)
    return shown


def _thumbnail(rows: Dataset, row: int) -> np.ndarray:
    """(S, S, 3) uint8."""
    image = centre_crop(picture_of(rows[int(row)]), THUMBNAIL)
    return (
        image[:3].expand(3, -1, -1).permute(1, 2, 0).numpy() if len(image) < 3 else image[:3].permute(1, 2, 0).numpy()
    )


def in_scores(found: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Means over episodes with half their 95 % t intervals, as a report has them."""
    scores: dict[str, float | None] = {}
    for metric, shares in found.items():
        scores |= {metric: float(shares.mean()), f"{metric}_ci95": t_half_width(shares.tolist())}
    return scores


def scores_of(x: Tensor, several: Sequence[Fixed]) -> dict[str, float | None]:
    """What a report has of features (R, D)."""
    return in_scores(judge_features(x, several))


def compare(found: dict[str, dict[str, np.ndarray]], *, seed: int) -> list[dict]:
    """Paired tests of the first row with every other one over the same episodes, p corrected by Holm's method."""
    (_, first), *others = found.items()
    tests = [
        {"metric": metric, "other": other} | paired_test(first[metric][None], second[metric][None], seed=seed)
        for other, second in others
        for metric in first
        if metric in second
    ]
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p"] = p
    return tests


def protocols(metrics: Sequence[str], *, what: str) -> dict[str, str]:
    """What every score means. what: which episodes they are of, in words."""
    told = {
        MEAN: "Accuracy on queries of episodes: each is told to be of the class whose support features' mean lies "
        "nearest (Euclidean distance)",
        COSINE: "Accuracy on queries of episodes: each is told to be of the class with whose mean its features, all at "
        "unit length, have the largest cosine",
        ADAPTED: "Accuracy on queries of episodes, told by encoder and head after the gradient steps on the support "
        "images that it was trained for; batch normalisation goes by the support images alone",
    }
    end = f"; no answer depends on other queries. {what} `5w1s` is of 5 classes with 1 support image each."
    return {name: told[name] + end for name in dict.fromkeys(metric.partition("@")[0] for metric in metrics)}
