"""The shapes of the schedules."""

import pytest

from hf_replearn.training.schedules import by_name


@pytest.mark.parametrize("name", ["stable", "linear", "cosine"])
def test_up_from_zero_and_down_to_zero(name):
    schedule = by_name(name, warmup=0.1, decay=0.3)
    assert schedule(0) == 0 and schedule(0.05) == pytest.approx(0.5, abs=0.01) and schedule(1) == pytest.approx(0)
    values = [schedule(0.1 + 0.9 * i / 50) for i in range(51)]
    assert values[0] == pytest.approx(1) and values == sorted(values, reverse=True)
    assert by_name(name, warmup=0.0, decay=0.3)(0) == pytest.approx(1)


def test_stable_is_stable():
    schedule = by_name("stable", warmup=0.1, decay=0.3)
    assert schedule(0.1) == schedule(0.4) == schedule(0.7) == 1
    assert schedule(0.85) == pytest.approx(0.5)
