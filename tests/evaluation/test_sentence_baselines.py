"""What encoders of sentences must beat, by hand; whitening, and how texts are found by others."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_replearn.encoders.words import WordVectors
from hf_replearn.errors import InputError
from hf_replearn.evaluation.sentences import (
    cosine,
    directions,
    find_partners,
    weighted_mean_of_words,
    whitening,
    without_half_of_its_words,
    word_overlap,
)

KNOWN = Dataset.from_dict({"text": ["the sea", "the ship, the gull", "The end"]})  # 8 words, 4 of them "the"
FIRST = Dataset.from_dict({"text": ["the sea", "a gull", "the", "!"]})
SECOND = Dataset.from_dict({"text": ["The SEA!", "the gull", "sea ship", "sea"]})


def weight(count: int) -> float:
    return 1e-3 / (1e-3 + count / 8)


def test_common_words_by_their_weights():
    """Of the words of two texts those that they share, over the root of both sums."""
    first, second = word_overlap(KNOWN, FIRST, SECOND)
    the, rare, unseen = weight(4), weight(1), weight(0)
    both = rare / math.sqrt((unseen + rare) * (the + rare))
    assert cosine(first.x, second.x).tolist() == pytest.approx([1, both, 0, 0], abs=1e-6)


def test_the_mean_of_word_vectors_by_their_weights():
    table = np.eye(3, dtype=np.float32)
    vectors = WordVectors(["the", "sea", "gull"], table)
    first, second = weighted_mean_of_words(KNOWN, vectors, FIRST, SECOND)
    the, rare = weight(4), weight(1)
    expected = [[the / (the + rare), rare / (the + rare), 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(first.x, torch.tensor(expected))
    assert second.x[2].tolist() == [0, 1, 0]  # a word without a vector does not count


def test_whitened_vectors_are_uncorrelated_and_keep_the_largest_directions():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3
    dense = whitening(x, 4)
    found = dense(x)
    torch.testing.assert_close(found.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.T @ found / 500, torch.eye(4), atol=1e-4, rtol=0)
    axes = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:4]  # of PCA
    torch.testing.assert_close(
        (dense.weight / dense.weight.norm(dim=1, keepdim=True) * axes).sum(1).abs(), torch.ones(4)
    )
    assert not any(parameter.requires_grad for parameter in dense.parameters())


def test_vectors_that_vary_in_few_directions_are_not_whitened_into_noise():
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) @ torch.randn(2, 5)
    assert directions(x) == 2 and directions(torch.ones(9, 5)) == 0
    with pytest.raises(InputError, match="vary in 2 directions, and 3 are to be kept"):
        whitening(x, 3)
    with pytest.raises(InputError, match="NaN"):
        whitening(torch.full((4, 2), math.nan), 1)


def test_whether_each_finds_its_partner():
    """Ranks 1, 2 and 3: of the last, two others are as near as the right one, and stand before it."""
    second = torch.eye(3)
    first = torch.tensor([[1, 0.1, 0], [0.9, 0.5, 0.2], [1.0, 1, 1]])
    found = find_partners(first, second)
    assert found["found first"] == pytest.approx(1 / 3)
    assert found["mean 1 / rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert find_partners(torch.ones(4, 2), torch.ones(4, 2))["found first"] == 0  # one point finds nothing


def test_half_of_the_words_in_their_order():
    texts = ["one two three four five", "one"]
    some, single = without_half_of_its_words(texts, seed=0)
    assert len(some.split()) == 2 and single == "one"
    places = [texts[0].split().index(word) for word in some.split()]
    assert places == sorted(places)
    assert without_half_of_its_words(texts, seed=0) == [some, single]
