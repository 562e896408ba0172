"""Rotation: the turns are exact, and what cannot be told stays at chance."""

import math
from functools import partial

import pytest
import torch

from hf_replearn.augmentation import rotate
from hf_replearn.methods.collating import CROPS
from hf_replearn.methods.rotation import RotationConfig, RotationForPreTraining, rotation
from hf_replearn.methods.rotation.collating_rotation import DataCollatorForRotation, turned
from hf_replearn.methods.rotation.showing_rotation import own_task
from hf_replearn.randomness import Place

SMALL = {"backbone": "resnet18", "stem": "cifar", "backbone_args": {"layers": [1] * 4, "channels": [16] * 4}}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return RotationForPreTraining(RotationConfig(**SMALL))


def test_copies_are_turned_as_the_group_of_quarter_turns():
    images = torch.rand(3, 2, 5, 5)
    copies = turned(images)
    assert torch.equal(copies[:, 0], images)
    assert torch.equal(copies[:, 1, :, 4, 0], images[:, :, 0, 0])  # counter-clockwise: top left comes to bottom left
    for turns in range(4):
        assert torch.equal(copies[:, turns], rotate(images, torch.full((3,), turns)))
        assert torch.equal(turned(copies[:, turns])[:, (4 - turns) % 4], images)


def test_loss_is_that_of_loops_and_ln_4_at_chance():
    logits = torch.randn(3, 4, 4)
    by_hand = 0.0
    for image in logits:
        for turns, row in enumerate(image):
            by_hand -= math.log(math.exp(row[turns]) / sum(map(math.exp, row.tolist()))) / 12
    assert rotation(logits).item() == pytest.approx(by_hand, rel=1e-5)
    assert rotation(torch.zeros(3, 4, 4)).item() == pytest.approx(math.log(4))


def disc(size: int) -> torch.Tensor:
    """An image that is the same after every quarter turn."""
    at = torch.arange(size) - (size - 1) / 2
    return (at[:, None].square() + at.square() < (size / 3) ** 2).float().expand(1, 3, size, size)


def test_turns_of_a_disc_cannot_be_told(model):
    views = turned(disc(16))
    for _ in range(20):
        loss = model(views).loss
        loss.backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= 0.1 * weight.grad
                weight.grad = None
    assert loss.item() == pytest.approx(math.log(4), abs=0.01)


def test_eight_images_are_learnt_by_heart(model):
    views = turned(torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = model(views).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_the_crop_is_taken_before_the_turn():
    """A crop of the turned image would not be a turn of a crop."""
    images = torch.randint(256, (4, 3, 20, 20), dtype=torch.uint8)
    policy = partial(CROPS, size=16, min_scale=0.3)
    collator = DataCollatorForRotation(policy, (0.0,) * 3, (1.0,) * 3)
    views = collator.views({"pixel_values": images}, Place(0, 0, 0))["pixel_values"]
    assert views.shape == (4, 4, 3, 16, 16)
    assert torch.equal(views, turned(views[:, 0]))


def test_own_task_is_the_accuracy_over_all_copies(model):
    images = torch.rand(6, 3, 16, 16)
    batches = [{"pixel_values": turned(part)} for part in images.split(4)]
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(**views).projections for views in batches])
        own = own_task(model, batches)
    right = sum(int(logits[i, k].argmax() == k) for i in range(6) for k in range(4))
    assert own.rows["this run"]["accuracy"] == pytest.approx(right / 24)
    assert own.rows["chance"] == {"loss (nats)": pytest.approx(math.log(4)), "accuracy": 0.25}
