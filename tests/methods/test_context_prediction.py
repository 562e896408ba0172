"""Context prediction: patches are cut where they should be, and what tells no place stays at chance."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from hf_replearn.errors import InputError
from hf_replearn.methods.collating import CROPS
from hf_replearn.methods.collating_patches import cut_patches, keep_one_channel
from hf_replearn.methods.context_prediction import (
    ContextPredictionConfig,
    ContextPredictionForPreTraining,
    context_prediction,
)
from hf_replearn.methods.context_prediction.collating_context_prediction import (
    AROUND,
    DataCollatorForContextPrediction,
    PatchGrid,
    at_low_resolution,
    find_grid,
    without_green_magenta,
)
from hf_replearn.methods.context_prediction.showing_context_prediction import draw_pairs, own_task
from hf_replearn.randomness import Place

SMALL = {"backbone": "resnet18", "stem": "cifar", "backbone_args": {"layers": [1] * 4, "channels": [16] * 4}}
TIGHT = PatchGrid(side=8, gap=2, jitter=0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ContextPredictionForPreTraining(ContextPredictionConfig(**SMALL, head_hidden=32))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def whole(images, *, views, generator, aspect=None):
    """A policy that takes all of each image."""
    return images / 255


def collator(grid=TIGHT, **given):
    plain = {"colours": "keep", "low_resolution": 0.0, "standardize": False}
    return DataCollatorForContextPrediction(whole, (0.0,) * 3, (1.0,) * 3, grid=grid, **{**plain, **given})


def train(model, views, *, steps, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(views(step)).loss
        loss.backward()
        optimizer.step()
    return loss.item()


def test_loss_is_that_of_loops_and_ln_8_at_chance():
    logits = torch.randn(3, 8, 8)
    by_hand = 0.0
    for image in logits:
        for place, row in enumerate(image):
            by_hand -= math.log(math.exp(row[place]) / sum(map(math.exp, row.tolist()))) / 24
    assert context_prediction(logits).item() == pytest.approx(by_hand, rel=1e-5)
    assert context_prediction(torch.zeros(3, 8, 8)).item() == pytest.approx(math.log(8))


def test_patches_are_cut_around_the_centre_with_their_gap():
    size = TIGHT.span
    assert size == 3 * 8 + 2 * 2
    images = torch.arange(2 * 3 * size * size).view(2, 3, size, size).remainder(256).to(torch.uint8)
    patches = collator().views({"pixel_values": images}, Place(0, 0))["pixel_values"]
    assert patches.shape == (2, 9, 3, 8, 8)
    for number, (down, right) in enumerate([(0, 0), *AROUND]):
        top, left = 10 * (down + 1), 10 * (right + 1)
        assert torch.equal(patches[:, number], images[:, :, top : top + 8, left : left + 8] / 255)


def test_a_mirrored_image_has_its_places_exchanged():
    images = torch.randint(256, (4, 3, TIGHT.span, TIGHT.span), dtype=torch.uint8)
    patches, mirrored = (
        collator().views({"pixel_values": pixels}, Place(0, 0))["pixel_values"] for pixels in (images, images.flip(-1))
    )
    exchanged = [0] + [1 + AROUND.index((down, -right)) for down, right in AROUND]
    assert torch.equal(mirrored, patches[:, exchanged].flip(-1))


def test_the_grid_lies_anywhere_and_its_patches_are_moved_independently(generator):
    grid = PatchGrid(side=8, gap=6, jitter=2)
    corners = grid.draw(4000, 50, generator)
    assert corners.min() == 0 and corners.max() == 50 - 8
    lattice = (torch.tensor([(0, 0), *AROUND]) + 1) * 14
    moved = corners - lattice
    assert set((moved[:, 1] - moved[:, 0]).flatten().tolist()) == set(range(-4, 5))
    nearest = (corners[:, 5] - corners[:, 0]).abs().amin(1)  # of the centre and the one to its right
    assert (corners[:, 5, 1] - corners[:, 0, 1] - 8).min() == 6 - 2 * 2 and nearest.min() >= 0


def test_defences(generator):
    patches = torch.rand(5, 9, 3, 8, 8, generator=generator)
    dropped = keep_one_channel(patches, generator)
    kept = (dropped == patches).all(4).all(3)
    assert torch.equal(kept.sum(2), torch.ones(5, 9))
    noise = dropped[~kept].std()
    assert 0.5 * 0.01 * patches.std() < noise < 2 * 0.01 * patches.std()
    grey = torch.rand(1, 1, 1, 8, 8).expand(1, 1, 3, 8, 8)
    shifted = grey + 0.3 * torch.tensor([-1.0, 2.0, -1.0])[:, None, None]
    assert torch.allclose(without_green_magenta(shifted), grey, atol=1e-6)
    coarse = at_low_resolution(patches, 1.0, generator)
    assert coarse.shape == patches.shape and coarse.std() < 0.7 * patches.std()
    assert torch.equal(at_low_resolution(patches, 0.0, generator), patches)
    grid = PatchGrid(side=8, gap=2, jitter=1)
    images = torch.randint(256, (4, 3, 40, 40), dtype=torch.uint8)
    made = collator(grid, standardize=True).views({"pixel_values": images}, Place(0, 0))["pixel_values"]
    assert made.mean((2, 3, 4)).abs().max() < 1e-5
    assert torch.allclose(made.std((2, 3, 4)), torch.ones(4, 9), atol=1e-4)


def test_noise_stays_at_one_in_eight(model):
    """New noise each step: whatever is told of a place would be a leak."""

    def views(step):
        noise = torch.randint(256, (16, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(step))
        return collator().views({"pixel_values": noise}, Place(0, step))["pixel_values"]

    train(model, views, steps=25, lr=1e-3)
    model.eval()
    with torch.no_grad():
        own = own_task(model, [{"pixel_values": views(1000 + step)} for step in range(16)])  # 2,048 pairs
    assert own.rows["this run"]["accuracy"] == pytest.approx(1 / 8, abs=0.03)
    assert own.rows["this run"]["loss (nats)"] > math.log(8) - 0.02
    assert own.rows["chance"] == {"loss (nats)": pytest.approx(math.log(8)), "accuracy": 0.125}


def fringed(count: int, generator) -> torch.Tensor:
    """Noise without structure, whose red is brighter to the right and whose blue is brighter below, as if a lens had
    done it: (count, 3, 40, 40) uint8."""
    ramp = torch.linspace(0, 120, 40)
    images = 60 + 60 * torch.rand(count, 1, 1, 1, generator=generator) + torch.zeros(count, 3, 40, 40)
    images[:, 0] += ramp
    images[:, 2] += ramp[:, None]
    return images.to(torch.uint8)


def told_by_colours(collate) -> float:
    """Accuracy of a linear classifier of the places on new images, from the mean and deviation of each channel."""
    features, places = [], torch.arange(8).repeat(400)
    for part in range(2):
        images = fringed(400, torch.Generator().manual_seed(part))
        patches = collate.views({"pixel_values": images}, Place(0, part))["pixel_values"]
        summary = torch.cat([patches.mean((3, 4)), patches.std((3, 4))], 2)  # (400, 9, 6)
        pairs = torch.cat([summary[:, :1].expand(-1, 8, -1), summary[:, 1:]], 2).flatten(0, 1)
        features.append(torch.cat([pairs, torch.ones(len(pairs), 1)], 1))
    weights = torch.linalg.pinv(features[0]) @ torch.eye(8)[places]
    return (features[1] @ weights).argmax(1).eq(places).float().mean().item()


def test_a_drift_of_colours_tells_the_place_unless_it_is_taken_away():
    grid = PatchGrid(side=8, gap=6, jitter=2)
    assert told_by_colours(collator(grid)) > 0.45
    assert told_by_colours(collator(grid, colours="drop", standardize=True)) == pytest.approx(1 / 8, abs=0.03)


def test_eight_images_are_learnt_by_heart(model):
    images = torch.randint(256, (8, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = collator().views({"pixel_values": images}, Place(0, 0))["pixel_values"]
    assert train(model, lambda step: views, steps=70, lr=3e-3) < 0.1


def test_views_are_a_function_of_the_place():
    images = torch.randint(256, (4, 3, 50, 50), dtype=torch.uint8)
    collate = replace(
        collator(PatchGrid(side=8, gap=2, jitter=1), colours="drop", low_resolution=0.5),
        policy=partial(CROPS, size=40, min_scale=0.3),
    )
    first, again, other = (
        collate.views({"pixel_values": images}, Place(0, step))["pixel_values"] for step in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_grid_fits_the_images_or_they_are_refused():
    assert find_grid(132, side=None, gap=None, jitter=None) == PatchGrid(32, 16, 2)
    assert find_grid(255, side=None, gap=None, jitter=None).side == 61
    assert find_grid(96, side=32, gap=0, jitter=0).span == 96
    with pytest.raises(InputError, match=r"need images of 132 pixels, and --image_size is 64: say --image_size 132"):
        find_grid(64, side=None, gap=None, jitter=None)
    with pytest.raises(InputError, match=r"3 x 3 patches of 64 pixels, 32 apart .* need images of 266 pixels"):
        find_grid(224, side=64, gap=None, jitter=None)


def test_pairs_are_drawn(generator, tmp_path):
    grid = PatchGrid(side=8, gap=2, jitter=0)
    probabilities = torch.randn(5, 8, 8, generator=generator).softmax(-1)
    crops = torch.rand(5, 2, 28, 28, generator=generator)  # of two channels, the first is shown
    draw_pairs(crops, grid.draw(5, 28, generator), 8, probabilities, tmp_path / "pairs.png")
    assert (tmp_path / "pairs.png").stat().st_size > 10_000


def test_patches_are_copies_of_pixels():
    images = torch.rand(2, 1, 6, 7)
    corners = torch.tensor([[[0, 0], [2, 3]], [[3, 4], [1, 1]]])
    patches = cut_patches(images, corners, 3)
    for image in range(2):
        for patch in range(2):
            top, left = corners[image, patch]
            assert torch.equal(patches[image, patch], images[image, :, top : top + 3, left : left + 3])
