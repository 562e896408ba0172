"""Random numbers are a function of the place in the run, and those of rows not of how a batch is cut."""

import torch

from hf_replearn.randomness import Place, content_uniform

PLACES = [Place(1, 2, 3, 0), Place(2, 2, 3, 0), Place(1, 3, 3, 0), Place(1, 2, 4, 0), Place(1, 2, 3, 1)]


def test_a_generator_is_a_function_of_its_place():
    draws = {tuple(torch.rand(3, generator=place.generator()).tolist()) for place in PLACES + PLACES}
    assert len(draws) == len(PLACES)


def test_the_numbers_of_a_row_do_not_depend_on_how_the_batch_is_cut():
    whole = Place(7, 5).uniform(12, 10)
    assert whole.min() >= 0 and whole.max() < 1 and whole.unique().numel() == whole.numel()
    assert torch.equal(whole, torch.cat([Place(7, 5, micro).uniform(4, 10) for micro in range(3)]))
    parts = [Place(7, 5, micro, rank, 2).uniform(3, 10) for micro in range(2) for rank in range(2)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, Place(7, 6).uniform(12, 10))


def test_the_numbers_of_a_row_by_its_content():
    rows = torch.arange(12).view(3, 4)
    numbers = content_uniform(1, rows, 5)
    assert torch.equal(numbers[[2, 0]], content_uniform(1, rows[[2, 0]], 5))
    assert not torch.equal(numbers, content_uniform(2, rows, 5))
