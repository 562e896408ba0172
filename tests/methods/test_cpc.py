"""CPC: no patch knows of another, no context of what is below, and no more is told than there is to tell."""

import math

import pytest
import torch

from hf_replearn.errors import InputError
from hf_replearn.methods.cpc import CPCConfig, CPCForPreTraining, Direction, info_nce
from hf_replearn.methods.cpc.collating_cpc import DataCollatorForCPC, rows_of
from hf_replearn.methods.cpc.showing_cpc import draw_expected, own_task
from hf_replearn.randomness import Place

WIDTHS = {"layers": [1] * 4, "channels": [16, 16, 32, 32]}
SMALL = {"backbone": "resnet18", "patch_size": 16, "stride": 8, "context_hidden": 16, "projection_dim": 16}
HEAD = CPCConfig(**SMALL, context_layers=5)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CPCForPreTraining(CPCConfig(**SMALL, context_layers=2, backbone_args=WIDTHS | {"norm_layer": "groupnorm1"}))


def whole(images, *, views, generator, aspect=None):
    """A policy that takes all of each image."""
    return images / 255


def collator(**given):
    return DataCollatorForCPC(whole, (0.5,) * 3, (0.5,) * 3, side=16, stride=8, **given)


def test_info_nce_is_that_of_loops_and_ln_n_at_chance():
    predictions, candidates, right = torch.randn(4, 3), torch.randn(6, 3), torch.tensor([5, 0, 2, 2])
    by_hand = 0.0
    for prediction, number in zip(predictions, right, strict=True):
        scores = [
            math.exp(sum(a * b for a, b in zip(prediction.tolist(), c.tolist(), strict=True))) for c in candidates
        ]
        by_hand -= math.log(scores[number] / sum(scores)) / 4
    assert info_nce(predictions, candidates, right).item() == pytest.approx(by_hand, rel=1e-5)
    assert info_nce(torch.zeros(4, 3), candidates, right).item() == pytest.approx(math.log(6))


def test_a_fresh_model_is_at_chance(model):
    views = torch.randn(4, 49, 3, 16, 16)
    assert model(views).loss.item() == pytest.approx(math.log(4 * 49), abs=0.1)


def test_the_right_candidate_lies_so_far_below():
    """Candidates that say where they are: each prediction's right one is in its image and column, 2, 3, ... rows on."""
    direction = Direction(3, HEAD)
    direction.project = torch.nn.Identity()
    image, row, column = torch.meshgrid(torch.arange(2), torch.arange(7), torch.arange(7), indexing="ij")
    grid = torch.stack([image, row, column], 1).float()
    predictions, candidates, right = direction(grid)
    expected = [
        (i, r + distance, c)
        for distance in range(2, 6)
        for i in range(2)
        for r in range(7 - distance)
        for c in range(7)
    ]
    assert len(predictions) == len(right) == len(expected)
    assert candidates[right].int().tolist() == [list(place) for place in expected]


def test_only_distances_of_the_grid_and_without_overlap_are_told():
    grid = torch.randn(2, 8, 3, 3)  # three rows: the last is told from the first, and nothing else
    assert len(Direction(8, HEAD)(grid)[0]) == 2 * 3
    assert CPCConfig(patch_size=16, stride=8).nearest == 2
    assert CPCConfig(patch_size=16, stride=16).nearest == 1
    assert CPCConfig(patch_size=16, stride=5).nearest == 4  # 3 * 5 pixels on, one pixel is shared


def test_a_context_sees_its_row_and_those_above_in_every_direction(model):
    for direction in model.directions:
        grid = torch.randn(1, 32, 7, 7, requires_grad=True)
        context = direction.context(grid)
        context[0, :, 3, 3].sum().backward()
        seen = grid.grad.abs().sum(1)[0] > 0
        assert not seen[4:].any()
        assert seen[3, 3] and seen[1].any() and not seen[0].any()  # two blocks see two rows more


@pytest.mark.parametrize("turns", range(4))
def test_each_direction_reads_the_grid_turned(turns):
    """Of a grid turned by so many quarters, downwards is what the direction asks for."""
    grid = torch.arange(9).view(1, 1, 3, 3)
    downwards = {0: [0, 3, 6], 1: [2, 1, 0], 2: [8, 5, 2], 3: [6, 7, 8]}  # the first column, from above
    assert grid.rot90(turns, (2, 3))[0, 0, :, 0].tolist() == downwards[turns]


def test_a_patch_knows_nothing_of_the_others(model):
    views = torch.randn(2, 49, 3, 16, 16)
    others = views.clone()
    others[:, 1:] = torch.randn_like(others[:, 1:])
    others[1] = 0
    with torch.no_grad():
        first, second = (model(given).pooler_output[0, 0] for given in (views, others))  # in training mode
    assert torch.equal(first, second)


def test_batch_normalisation_is_refused():
    with pytest.raises(ValueError, match=r"batch normalisation, .* --backbone_args \"\{'norm_layer': 'groupnorm1'\}\""):
        CPCForPreTraining(CPCConfig(**SMALL, backbone_args=WIDTHS))


def test_patches_lie_on_a_grid_row_by_row():
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    views = collator(one_channel=False).views({"pixel_values": images}, Place(0, 0))["pixel_values"]
    assert views.shape == (2, 49, 3, 16, 16)
    cut = (images[:, :, 16:32, 40:56] / 255 - 0.5) / 0.5
    assert torch.equal(views[:, 2 * 7 + 5], cut)
    dropped = collator().views({"pixel_values": images}, Place(0, 0))["pixel_values"]
    assert torch.equal((dropped == views).all(4).all(3).sum(2), torch.ones(2, 49))


def train(loss_of, parameters, *, steps, lr):
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        optimizer.step()
    return loss.item()


def test_eight_images_are_learnt_by_heart(model):
    colours = torch.randn(8, 9, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    views = colours.repeat_interleave(4, 3).repeat_interleave(4, 4)
    assert train(lambda step: model(views).loss, model.parameters(), steps=110, lr=4e-3) < 0.4


def test_noise_stays_at_chance(model):
    """New noise each step: patches that share no pixel have nothing in common."""

    def loss(step):
        noise = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(step))
        patches = collator(one_channel=False).seen(noise, torch.Generator())
        return model(patches).loss

    train(loss, model.parameters(), steps=6, lr=1e-3)
    with torch.no_grad():
        assert loss(1000).item() > math.log(16 * 49) - 0.03


def test_of_a_sequence_no_more_is_told_than_its_mutual_information():
    """AR(1), x' = rho x + noise: k steps on, context and value share -ln(1 - rho^2k) / 2 nats (a sequence is a grid of
    one column)."""
    rho, length, torch_rng = 0.9, 12, torch.Generator().manual_seed(0)
    config = CPCConfig(patch_size=1, stride=1, farthest=1, context_layers=1, context_hidden=32, projection_dim=16)
    expand = torch.nn.Sequential(torch.nn.Conv2d(1, 32, 1), torch.nn.ReLU())
    direction = Direction(32, config)

    def loss(_):
        values = [torch.randn(64, generator=torch_rng)]
        for _ in range(length - 1):
            values.append(rho * values[-1] + math.sqrt(1 - rho**2) * torch.randn(64, generator=torch_rng))
        return direction.loss(expand(torch.stack(values, 1)[:, None, :, None]))

    train(loss, [*expand.parameters(), *direction.parameters()], steps=250, lr=5e-3)
    with torch.no_grad():
        told = math.log(64 * length) - sum(loss(0).item() for _ in range(10)) / 10
    there_is = -math.log(1 - rho**2) / 2
    assert 0.6 * there_is < told < 1.05 * there_is


def test_images_that_hold_no_grid_are_refused():
    assert rows_of(64, side=16, stride=8) == 7
    assert rows_of(32, side=16, stride=16) == 2
    with pytest.raises(InputError, match="need images of 128 pixels, .* --image_size is 100: say --image_size 128"):
        rows_of(100, side=64, stride=32)
    with pytest.raises(InputError, match="--stride 9: larger than --patch_size 8"):
        rows_of(64, side=8, stride=9)


def test_own_task_and_its_picture(model, tmp_path):
    model.eval()
    batches = [{"pixel_values": torch.randn(count, 49, 3, 16, 16)} for count in (4, 2)]
    with torch.no_grad():
        own = own_task(model, batches)
        losses = [model(**views).loss.item() for views in batches]
    assert own.rows["this run"]["loss (nats)"] == pytest.approx((4 * losses[0] + 2 * losses[1]) / 6)
    chance = (4 * math.log(4 * 49) + 2 * math.log(2 * 49)) / 6
    assert own.rows["chance"] == {"loss (nats)": pytest.approx(chance), "told (nats)": 0}
    order = torch.stack([torch.randperm(2 * 49) for _ in range(2)])
    corners = collator().corners(64)
    path = tmp_path / "expected.png"
    draw_expected(torch.rand(2, 3, 64, 64), corners, 16, order, torch.tensor([45, 49 + 45]), path=path, seen=5)
    assert path.stat().st_size > 10_000
