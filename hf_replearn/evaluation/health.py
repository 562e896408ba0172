"""Whether a network learns, told without labels from two views of each of a sample of images, always the same: collapse
in its kinds, and slow learning.

N images, D features, P projected features
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import normalize

from hf_replearn.errors import InputError
from hf_replearn.evaluation.label_free import alignment, rankme, uniformity

SAMPLE = 1000  # images, of which two views are judged: a rank of a few hundred can be told
COLLAPSED = 0.02  # spread below which representations are nearly one point
ONE_DIRECTION = 2.0  # RankMe below which features have nearly one direction, whatever they were before
FEW_DIRECTIONS = 0.05  # share of the directions that there can be, below which RankMe is small
PATIENCE = 4  # scores after the first in which nothing has to get better
CLOSER = 0.95  # of the first relative alignment: what is above it may be chance
MORE_RIGHT = 0.03  # accuracy: about two standard errors of 1,000 test examples


def spread(representations: Tensor) -> float:
    """Mean distance of the normalised representations (..., D) from their centre: 0 when all of them are one point.

    A representation that has collapsed gives every input the same features; its loss may look fine for long.
    """
    x = normalize(representations.float().flatten(0, -2), dim=-1)
    return (x - x.mean(0)).norm(dim=-1).mean().item()


def view_scores(features: Tensor, projections: Tensor | None = None) -> dict[str, float]:
    """What two views of each image tell, from features (N, 2, D) and their projections (N, 2, P); of a method that
    makes one of each, (N, 1, D), that which needs no second:

    "rankme":             of the first views, see `rankme`.
    "alignment":          mean squared distance of the two views of an image, at unit length; see `alignment`.
    "relative_alignment": that as a share of the distance of views of two images: 1 where a view tells nothing of its
                          image, as of random features, and 0 where views are equal. Networks that have not been
                          trained give all images similar features, so that alignment alone rises when they learn.
    "uniformity":         of the first views, see `uniformity`.
    "sample_spread":      of all views, see `spread`; "projection_spread": of their projections.

    Raises InputError for fewer than two images, and for what is not finite.
    """
    if len(features) < 2 or not features.isfinite().all():
        raise InputError("scores of a sample need at least two images with finite features")
    first = features[:, 0].float()
    found = {"rankme": rankme(first), "uniformity": uniformity(first), "sample_spread": spread(features)}
    if features.shape[1] > 1:
        second = features[:, 1].float()
        found["alignment"] = alignment(first, second)
        found["relative_alignment"] = found["alignment"] / max(_apart(first, second), 1e-12)
    return found | ({} if projections is None else {"projection_spread": spread(projections)})


def _apart(first: Tensor, second: Tensor) -> float:
    """Mean squared distance, at unit length, of the first view of an image from the second of another, over all pairs:
    2 - 2 cos, whose sum over all pairs is the product of the sums."""
    u, v = normalize(first.double()), normalize(second.double())
    cosines = u.sum(0) @ v.sum(0) - (u * v).sum()
    return (2 - 2 * cosines / (len(u) * (len(u) - 1))).item()


def diagnose(history: Sequence[dict], *, directions: int) -> tuple[str, str] | None:
    """What is wrong with a run by the scores in its log, the worst first: its kind, and one sentence with what to try.

    history:    lines of the log with their "step", the scores of step 0 among them.
    directions: that the features of the sample can have, min(N, D).

    - "complete collapse": all images have nearly the same features: spread < COLLAPSED, of the last batch or the
      sample. Of normal features of D dimensions it is 1, of trained networks 0.3 and more, of random ones 0.05 to 0.2.
    - "collapsed projections": the same of the projections, where the loss is. The features behind them may look alive
      for long, as those of SimSiam without its stopped gradient: they are what random weights make of images.
    - "dimensional collapse" (Jing et al. 2022, arXiv:2110.09348): images differ in a few directions only. RankMe is
      below ONE_DIRECTION; or below FEW_DIRECTIONS of those there can be and half of what this run had reached. A number
      alone would not do: simple images have few directions whatever the network, so it has to have lost some.
    - "no sign of learning": none of these, and in PATIENCE scores after the first neither has the relative alignment
      fallen below CLOSER of it nor the kNN accuracy risen by MORE_RIGHT (or half of what is missing to 1). Not said
      while the learning rate still rises.

    The first three are looked for after step 0 alone: a network that has not been trained may be near one point.
    """
    scores = [line for line in history if "rankme" in line]
    after = [line for line in scores if line["step"] > 0]
    batch = next((line["spread"] for line in reversed(history) if "spread" in line), 1.0)
    last = after[-1] if after else {}
    if min(batch, last.get("sample_spread", 1.0)) < COLLAPSED:
        return "complete collapse", (
            f"the representation has collapsed (spread {min(batch, last.get('sample_spread', 1.0)):.2g}): every input "
            "gets nearly the same features. Lower --learning_rate, and look at augmentations.png for views that show "
            "nothing"
        )
    if last.get("projection_spread", 1.0) < COLLAPSED:
        return "collapsed projections", (
            f"the projections have collapsed (spread {last['projection_spread']:.2g}): the loss is met by the same "
            "vector for every input, and the encoder learns nothing from it. Lower --learning_rate; of a method "
            "without negatives, go back to the published weights of its loss, momentum and batch size"
        )
    if after and _lost_directions([line["rankme"] for line in scores], directions):
        return "dimensional collapse", (
            f"dimensional collapse (RankMe {last['rankme']:.1f} of {directions}, at most "
            f"{max(line['rankme'] for line in scores):.1f} before): inputs differ in a few directions only. Weaken the "
            "augmentation, lower --learning_rate or --weight_decay, or take larger batches"
        )
    if scores and scores[0]["step"] == 0 and len(after) >= PATIENCE and _is_flat(history, scores):
        knn = _accuracies(scores)
        told = f"; kNN accuracy {knn[0]:.3f} before training, {max(knn[1:]):.3f} since" if len(knn) > 1 else ""
        return "no sign of learning", (
            f"no sign of learning in {len(after)} scores: two views of an image are "
            f"{min(line['relative_alignment'] for line in after):.2f} as far apart as two images, "
            f"{scores[0]['relative_alignment']:.2f} before training{told}. It has not collapsed (RankMe "
            f"{last['rankme']:.1f} of {directions}): raise --learning_rate, train longer, or look at augmentations.png "
            "for views that share nothing"
        )
    return None


def _lost_directions(ranks: list[float], directions: int) -> bool:
    return ranks[-1] < ONE_DIRECTION or (
        ranks[-1] < FEW_DIRECTIONS * directions and ranks[-1] < max(ranks[:-1], default=0.0) / 2
    )


def _is_flat(history: Sequence[dict], scores: list[dict]) -> bool:
    """Whether nothing has got better since the first score, though the learning rate no longer rises."""
    rates = [(line["step"], line["learning_rate"]) for line in history if "learning_rate" in line]
    earlier = [rate for step, rate in rates if step <= scores[-2]["step"]]
    if earlier and rates[-1][1] > earlier[-1]:
        return False
    start, *later = (line.get("relative_alignment", 0.0) for line in scores)
    if min(later) < CLOSER * start or not start:
        return False
    knn = _accuracies(scores)
    return len(knn) < 2 or max(knn[1:]) < knn[0] + min(MORE_RIGHT, (1 - knn[0]) / 2)


def _accuracies(scores: list[dict]) -> list[float]:
    """kNN accuracies beside the scores, where each has one."""
    found = [value for line in scores for name, value in line.items() if name.startswith("knn@")]
    return found if len(found) == len(scores) else []
