"""Factors of images, read from columns."""

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Value

from hf_replearn.data.factors import read_factors
from hf_replearn.errors import InputError


def rows(**columns):
    usual = {"size": [1.5, 0.5, 1.0] * 20, "kind": ["b", "a"] * 30, "seen": [True, False, False] * 20}
    return Dataset.from_dict(usual | columns)


def test_values_are_numbered_in_their_order():
    factors = read_factors(rows(), ["size", "kind", "seen"])
    assert factors.names == ["size", "kind", "seen"] and factors.sizes == [3, 2, 2]
    assert factors.is_class == [False, True, True]
    np.testing.assert_array_equal(factors.values[:3], [[2, 1, 1], [0, 0, 0], [1, 1, 0]])
    np.testing.assert_array_equal(factors.numbers[:3, 0], [1.5, 0.5, 1.0])  # what is regressed on
    assert factors.words[:2] == [["0.5", "1.0", "1.5"], ["a", "b"]]
    np.testing.assert_allclose(factors.entropies[:2], np.log([3, 2]))


def test_declared_classes_keep_their_names():
    data = rows(kind=[2, 0] * 30).cast_column("kind", ClassLabel(names=["x", "y", "z"]))
    factors = read_factors(data, ["kind", "size"])
    assert factors.words[0] == ["x", "z"] and factors.is_class[0] and set(factors.values[:, 0]) == {0, 1}


def test_numbers_are_in_the_order_of_numbers():
    factors = read_factors(rows(size=[10, 9, 2] * 20), ["size", "kind"])
    assert factors.words[0] == ["2", "9", "10"] and factors.values[:3, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    "columns, names, says",
    [
        ({}, ["size", "colour"], "'colour' does not exist; the columns are size"),
        ({}, ["size", "size"], "'size' twice"),
        ({}, ["size"], "at least two factors"),
        ({"kind": ["a"] * 60}, ["size", "kind"], "the value 'a' in all 60 rows"),
        ({"kind": [None, "a"] * 30}, ["size", "kind"], "no value in row 0"),
        ({"kind": ["a", ""] * 30}, ["size", "kind"], "no value in row 1"),
        ({"size": [0.5, float("nan"), 1.0] * 20}, ["size", "kind"], "no value in row 1"),
        ({"size": list(range(60))}, ["size", "kind"], "60 values in 60 rows"),
        ({"size": [[1], [2]] * 30}, ["size", "kind"], "a factor is of numbers"),
    ],
)
def test_what_is_no_factor_is_told(columns, names, says):
    with pytest.raises(InputError, match=says) as error:
        read_factors(rows(**columns), names)
    assert "\n" not in str(error.value)


def test_dates_are_no_factors():
    stamps = Dataset.from_dict(
        {"when": [1, 2] * 10, "a": [1, 2] * 10},
        features=datasets.Features(when=Value("timestamp[s]"), a=Value("int64")),
    )
    with pytest.raises(InputError, match="'when' is a column of"):
        read_factors(stamps, ["when", "a"])
