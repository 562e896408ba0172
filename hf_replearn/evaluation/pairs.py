"""What an encoder of images and texts is worth: whether an image finds its captions, a caption its images, and whether
it knows which of two objects is where.

I images, T texts, Q queries, P numbers of a projection
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hf_replearn.encoders.pair_encoder import PairEncoder
from hf_replearn.evaluation.repetitions import INTERVAL
from hf_replearn.evaluation.statistics import mean_half_width
from hf_replearn.representation import extract

RANKS = (1, 5, 10)
TEXT_OF_IMAGE, IMAGE_OF_TEXT, SWAPPED = "text_of_image", "image_of_text", "swapped_objects"
AT_ONCE = 512  # queries
# Of one place that is not another: swapping what stands before and behind these says something else.
RELATIONS = (
    "to the left of", "to the right of", "on the left of", "on the right of", "left of", "right of", "on top of",
    "in front of", "above", "below", "under", "underneath", "beneath", "over", "behind", "inside",
)  # fmt: skip
AROUND = re.compile(rf"^(.+?)\s+({'|'.join(RELATIONS)})\s+(.+?)([.!]?)$", re.IGNORECASE)
# Of the linear map: penalty for each pair, pairs it is fitted on, its words, and pixels a side that it sees.
RIDGE, MOST, WORDS, SIDE = 0.01, 5000, 2000, 16


@dataclass(frozen=True)
class PairTask:
    """Pairs to be judged by.

    rows:   a dataset with an `image` for each of the I different images. texts: the T different captions.
    right:  (R, 2), the places of an image and a text that belong together.
    """

    rows: Dataset
    texts: list[str]
    right: Tensor

    @classmethod
    def of(cls, pairs: Dataset) -> PairTask:
        """Of rows as `PairData` has them: each image and each caption once."""
        ids = np.array([pairs["image_id"][:], pairs["text_id"][:]])
        places, first = [], []
        for numbers in ids:
            _, where, place = np.unique(numbers, return_index=True, return_inverse=True)
            places.append(place)
            first.append(where)
        texts = [pairs["text"][int(row)] for row in first[1]]
        right = np.unique(np.stack(places, 1), axis=0)
        return cls(pairs.select_columns("image").select(first[0]), texts, torch.from_numpy(right).long())


@dataclass(frozen=True)
class PairOutcome:
    """scores, properties: as of a report. found: metric -> (Q,), how well each query did."""

    scores: dict[str, float | None]
    found: dict[str, np.ndarray]


def embed_images(encoder: PairEncoder, rows: Dataset, *, workers: int = 0, told: str | None = None) -> Tensor:
    """(I, P), of length 1. Raises InputError for what is not finite."""
    vectors = extract(encoder.images, rows, preprocess=encoder.preprocess, num_workers=workers, progress=told).x
    encoder.check(vectors, "images")
    return vectors


def judge_retrieval(images: Tensor, texts: Tensor, right: Tensor, *, seed: int = 0) -> PairOutcome:
    """R@1, 5 and 10 both ways: whether one of the k nearest (cosine) is a right answer, of which there may be several.

    images: (I, P). texts: (T, P), of length 1. right: (R, 2), see `PairTask`. Ties are broken at random. Ranks that all
    candidates reach are left out.
    """
    scores, found = {}, {}
    sides = ((TEXT_OF_IMAGE, images, texts, right), (IMAGE_OF_TEXT, texts, images, right.flip(1)))
    for name, queries, keys, pairs in sides:
        rank = ranks(queries, keys, pairs, seed=seed)
        for k in (k for k in RANKS if k < len(keys)):
            outcome = (rank <= k).double().numpy()
            found[f"{name}@{k}"] = outcome
            scores[f"{name}@{k}"] = float(outcome.mean())
            scores[f"{name}@{k}{INTERVAL}"] = mean_half_width(outcome, seed=seed)
    return PairOutcome(scores, found)


def ranks(queries: Tensor, keys: Tensor, right: Tensor, *, seed: int = 0) -> Tensor:
    """The place (from 1) of the best right answer to each query among all keys by their product: (Q,)."""
    fits = torch.zeros(len(queries), len(keys), dtype=torch.bool)
    fits[right[:, 0], right[:, 1]] = True
    generator, found = torch.Generator().manual_seed(seed), []
    for part, fit in zip(queries.split(AT_ONCE), fits.split(AT_ONCE), strict=True):
        similarity = part.double() @ keys.double().T
        best = similarity.masked_fill(~fit, -torch.inf).amax(1, keepdim=True)
        before = ((similarity > best + 1e-9) & ~fit).sum(1)
        equal = (((similarity - best).abs() <= 1e-9) & ~fit).sum(1)
        drawn = torch.rand(len(part), generator=generator, dtype=torch.float64)
        found.append(1 + before + (drawn * (equal + 1)).long().minimum(equal))
    return torch.cat(found)


def chance(task: PairTask) -> dict[str, float]:
    """What is found by order at random: the mean over queries of 1 - C(n - r, k) / C(n, k), with n keys and r right."""
    scores = {}
    sizes = len(task.rows), len(task.texts)
    for name, side, keys in ((TEXT_OF_IMAGE, 0, sizes[1]), (IMAGE_OF_TEXT, 1, sizes[0])):
        several = task.right[:, side].bincount(minlength=sizes[side]).tolist()
        for k in (k for k in RANKS if k < keys):
            scores[f"{name}@{k}"] = float(np.mean([1 - comb(keys - right, k) / comb(keys, k) for right in several]))
    return scores


def swapped(text: str) -> str | None:
    """The caption with its two objects in each other's place: "a cat left of a dog" -> "a dog left of a cat". None
    where it has no relation that this would change, or both are the same."""
    match = AROUND.match(text)
    if match is None:
        return None
    first, relation, second, end = match.groups()
    if first.casefold() == second.casefold():
        return None
    if first[:1].isupper() and not second[:1].isupper():
        first, second = first[:1].lower() + first[1:], second[:1].upper() + second[1:]
    return f"{second} {relation} {first}{end}"


def judge_swapped(
    images: Tensor, task: PairTask, embed: Callable[[list[str]], Tensor], *, seed: int = 0
) -> PairOutcome | None:
    """Share of the pairs whose image is nearer to the caption than to the same words with both objects swapped, a tie
    being half; None where fewer than 10 captions have two such objects."""
    pairs = [(image, text, swapped(task.texts[text])) for image, text in task.right.tolist()]
    pairs = [pair for pair in pairs if pair[2] is not None]
    if len(pairs) < 10:
        return None
    image = images[[pair[0] for pair in pairs]]
    true, false = (embed([task.texts[pair[1]] if side == 0 else pair[2] for pair in pairs]) for side in (0, 1))
    difference = ((true - false).double() * image.double()).sum(1)
    outcome = (difference > 1e-9).double() + 0.5 * (difference.abs() <= 1e-9).double()
    scores = {SWAPPED: float(outcome.mean()), SWAPPED + INTERVAL: mean_half_width(outcome.numpy(), seed=seed)}
    return PairOutcome(scores, {SWAPPED: outcome.numpy()})


def linear_map(
    train: Dataset, pixels: Callable[[Dataset], Tensor], *, seed: int = 0
) -> tuple[Callable[[Dataset], Tensor], Callable[[Sequence[str]], Tensor]]:
    """What is to be beaten: the words of a caption (TF-IDF) told from pixels by ridge regression, fitted on some pairs.

    pixels: rows -> (n, D). Returns functions of rows and of texts that give vectors of length 1. Raises ValueError
    where the captions have no words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    drawn = np.random.default_rng(seed).permutation(len(train))[:MOST]
    some = train.select(np.sort(drawn))
    words = TfidfVectorizer(max_features=WORDS, token_pattern=r"(?u)\b\w+\b").fit(some["text"][:])
    told = words.transform(some["text"][:]).toarray()
    middle, ridge = told.mean(0), Ridge(alpha=RIDGE * len(some)).fit(pixels(some).numpy(), told)

    def unit(found: np.ndarray) -> Tensor:
        return torch.nn.functional.normalize(torch.from_numpy(found - middle), dim=1).float()

    return (
        lambda rows: unit(ridge.predict(pixels(rows).numpy())),
        lambda texts: unit(words.transform(texts).toarray()),
    )


PROTOCOLS = {
    TEXT_OF_IMAGE: "Share of {images} images of which one of the k nearest (cosine) of {texts} captions is a right "
    "answer, equal captions being one; {pairs} pairs: {source}; interval by bootstrap over images.",
    IMAGE_OF_TEXT: "Share of {texts} captions of which one of the k nearest (cosine) of {images} images is a right "
    "answer; the same pairs; interval by bootstrap over captions.",
    SWAPPED: "Share of the pairs whose image is nearer to its caption than to the same words with the two objects in "
    "each other's place; 0.5 is chance, and what a bag of words reaches; interval by bootstrap over pairs.",
}
