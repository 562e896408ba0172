"""Images that stay decoded on the device are those of the loader, in its order: the weights are the same bits."""

import numpy as np
import pytest
import trials
from PIL import Image
from test_killed import STATES, at_step, killed_and_run_again

ON = ["--data_on_device", "on"]


def test_killed_in_the_middle_of_an_epoch_the_bits_are_those_of_the_loader(whole, data, tmp_path):
    """Two of the three runs have workers, which are for the images of the beginning alone."""
    out = killed_and_run_again("simclr", at_step(7), data, tmp_path, *ON, "--dataloader_num_workers", "2")
    assert trials.digest(out) == trials.digest(whole("simclr"))
    assert "the images stay in memory (--data_on_device on)" in (tmp_path / "again").read_text()


def test_of_two_processes_too(whole, data, tmp_path):
    out = killed_and_run_again("simclr", at_step(4), data, tmp_path, *ON, processes=2)
    assert trials.digest(out) == trials.digest(whole("simclr", processes=2))


@pytest.mark.parametrize(
    ("recipe", "more"),
    [("dino", STATES["dino"]), pytest.param("simclr", ["--negatives", "16"], marks=pytest.mark.slow)],
)
def test_with_crops_of_two_sizes_and_with_cached_gradients(recipe, more, whole, data, tmp_path):
    given = trials.arguments(recipe, data, tmp_path / "out", *more, *ON)
    assert trials.start(recipe, given, tmp_path / "log").wait() == [0], (tmp_path / "log").read_text()[-3000:]
    assert trials.digest(tmp_path / "out") == trials.digest(whole(recipe, *more))


def test_images_of_several_sizes(tmp_path):
    """They are kept as the loader brings them to one size, with the shape that each had."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(16):
        pixels = rng.integers(0, 256, (20 + number, 40 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:02}.png")
    digests = []
    for where in ("on", "off"):
        given = trials.arguments("simclr", tmp_path, tmp_path / where, "--max_steps", "2", "--data_on_device", where)
        assert trials.start("simclr", given, tmp_path / f"log_{where}").wait() == [0]
        digests.append(trials.digest(tmp_path / where))
    assert digests[0] == digests[1]
