"""Examples depend on (task, seed[, document]) and nothing else."""

from collections import Counter

from hf_replearn.evaluation.prompting.shots import balance, draw_order, reorder


def test_an_order_is_a_function_of_its_key():
    assert sorted(draw_order(50, "copa", 1)) == list(range(50))
    assert (draw_order(50, "copa", 1) == draw_order(50, "copa", 1)).all()
    others = [draw_order(50, *key) for key in (("copa", 2), ("cb", 1), ("copa", 1, 0), ("copa1",))]
    assert all((draw_order(50, "copa", 1) != other).any() for other in others)


def test_draws_are_uniform():
    firsts = Counter(int(draw_order(5, "task", seed)[0]) for seed in range(2000))
    expected = 2000 / 5
    chi_squared = sum((count - expected) ** 2 / expected for count in firsts.values())
    assert len(firsts) == 5 and chi_squared < 18.5  # the 99.9 % quantile for 4 degrees of freedom


def test_balance_takes_turns():
    answers = ["a"] * 6 + ["b"] * 3 + ["c"]
    order = draw_order(10, "x").tolist()
    balanced = balance(order, answers)
    assert sorted(balanced) == list(range(10))
    for k, counts in ((3, {1}), (5, {1, 2}), (7, {1, 3})):
        assert set(Counter(answers[number] for number in balanced[:k]).values()) == counts
    for answer in "ab":  # within an answer the draw's order stays
        assert [n for n in balanced if answers[n] == answer] == [n for n in order if answers[n] == answer]


def test_reordering_keeps_the_examples():
    shots = [7, 3, 9, 1]
    found = {tuple(reorder(shots, "task", 0, "order", order)) for order in range(1, 30)}
    assert len(found) > 5 and all(sorted(order) == sorted(shots) for order in found)
