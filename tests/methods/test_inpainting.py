"""Inpainting: the encoder sees nothing of what is hidden, the loss is of that and its border alone."""

from functools import partial

import numpy as np
import pytest
import torch

from hf_replearn.methods.collating import CROPS
from hf_replearn.methods.inpainting import InpaintingConfig, InpaintingForPreTraining, error_of_filled
from hf_replearn.methods.inpainting.collating_inpainting import MASKS, DataCollatorForInpainting, draw_hidden
from hf_replearn.methods.inpainting.showing_inpainting import ERROR, biharmonic, mean_colour, own_task, pictures
from hf_replearn.randomness import Place
from hf_replearn.recipes.inpainting import InpaintingSettings, main
from hf_replearn.settings import run

SMALL = {"stem": "cifar", "backbone_args": {"layers": [1] * 4, "channels": [16, 16, 32, 32]}}


def network(**more) -> InpaintingForPreTraining:
    torch.manual_seed(0)
    return InpaintingForPreTraining(InpaintingConfig(backbone="resnet18", **SMALL, **{"overlap": 1} | more))


def drawn(mask: str, count: int, size: int = 16, share: float = 0.25, seed: int = 0) -> torch.Tensor:
    return draw_hidden(mask, count, size, share=share, generator=torch.Generator().manual_seed(seed))


# ---- masks


def test_fixed_region_is_a_square_in_the_middle_of_a_quarter_of_the_image():
    hidden = drawn("centre", 3)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[4:12, 4:12] = True
    assert torch.equal(hidden, expected.expand(3, 1, 16, 16))


def test_random_blocks_are_squares_that_may_overlap():
    hidden = drawn("blocks", 200, size=32)[:, 0]
    share = hidden.float().mean((1, 2))
    assert share.max() <= 5 * 7**2 / 32**2 and 0.15 < share.mean() < 0.24  # five squares of 7 pixels, fewer seen
    assert len({image.numpy().tobytes() for image in hidden}) == 200
    met = hidden.any(0)
    assert met[3:-3, 3:-3].all() and met[0].any() and met[-1].any()  # up to the border
    for image in hidden[:20]:
        whole = image.unfold(0, 7, 1).unfold(1, 7, 1).flatten(2).all(2)  # where a square of 7 pixels is all hidden
        covered = torch.zeros_like(image)
        for row, column in whole.nonzero().tolist():
            covered[row : row + 7, column : column + 7] = True
        assert torch.equal(covered, image)


def test_random_regions_hide_as_many_pixels_each_in_shapes_of_their_own():
    hidden = drawn("region", 50, size=32)[:, 0]
    assert (hidden.flatten(1).sum(1) == 256).all()
    assert len({image.numpy().tobytes() for image in hidden}) == 50
    apart = (hidden[:, 1:] != hidden[:, :-1]).float().mean().item()
    assert apart < 0.15  # of scattered pixels it would be 2 * 0.25 * 0.75


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_those_of_their_place(mask):
    collator = DataCollatorForInpainting(partial(CROPS, size=16), (0.5,) * 3, (0.5,) * 3, mask=mask, share=0.25)
    batch = {"pixel_values": torch.randint(256, (4, 3, 20, 20), dtype=torch.uint8)}
    one, same, other = (collator.views(batch, Place(0, step)) for step in (1, 1, 2))
    assert one["pixel_values"].shape == (4, 3, 16, 16) and one["hidden"].shape == (4, 1, 16, 16)
    assert torch.equal(one["hidden"], same["hidden"]) and torch.equal(one["pixel_values"], same["pixel_values"])
    assert mask == "centre" or not torch.equal(one["hidden"], other["hidden"])


# ---- loss


def test_loss_is_that_of_loops():
    told, images = torch.rand(2, 2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    hidden = torch.zeros(2, 1, 6, 6, dtype=torch.bool)
    hidden[0, 0, 2:4, 1:3] = hidden[1, 0, 5, 5] = True
    by_hand = []
    for image in range(2):
        total = weights = 0.0
        for row in range(6):
            for column in range(6):
                near = hidden[image, 0, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].any().item()
                weight = 1.0 if hidden[image, 0, row, column] else 10.0 * near
                difference = told[image, :, row, column] - images[image, :, row, column]
                total += weight * difference.square().mean().item()
                weights += weight
        by_hand.append(total / weights)
    found = error_of_filled(told, images, hidden, overlap=1, overlap_weight=10.0)
    assert found.item() == pytest.approx(sum(by_hand) / 2, rel=1e-5)


def test_what_is_seen_away_from_the_border_has_no_loss():
    told = torch.zeros(1, 3, 16, 16, requires_grad=True)
    hidden = drawn("centre", 1)
    error_of_filled(told, torch.rand(1, 3, 16, 16), hidden, overlap=2, overlap_weight=10.0).backward()
    due = torch.zeros(16, 16, dtype=torch.bool)
    due[2:14, 2:14] = True
    assert torch.equal((told.grad != 0).any(1)[0], due)


def test_encoder_sees_nothing_of_what_is_hidden():
    model, images, hidden = network().eval(), torch.randn(3, 3, 16, 16), drawn("region", 3)
    found = model(images, hidden)
    changed = torch.where(hidden, torch.randn(3, 3, 16, 16), images)
    again = model(changed, hidden)
    assert torch.equal(again.told, found.told) and torch.equal(again.pooler_output, found.pooler_output)
    assert again.loss != found.loss
    assert torch.equal(found.pooler_output, model.model(torch.where(hidden, 0.0, images)).pooler_output)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "convnext_atto", "regnetx_002"])
def test_networks_of_other_kinds_tell_the_whole_image(backbone):
    arguments = {"img_size": 64} if backbone.startswith("vit") else {}
    model = InpaintingForPreTraining(InpaintingConfig(backbone=backbone, backbone_args=arguments)).eval()
    images = torch.randn(2, 3, 64, 64)
    found = model(images, drawn("centre", 2, size=64))
    assert found.told.shape == images.shape
    expected = model.model(torch.where(drawn("centre", 2, size=64), 0.0, images)).pooler_output
    torch.testing.assert_close(found.pooler_output, expected)


# ---- learning


def step(model, images, hidden, optimizer) -> float:
    optimizer.zero_grad()
    loss = model(images, hidden).loss
    loss.backward()
    optimizer.step()
    return loss.item()


def test_eight_images_are_learnt_by_heart():
    model, generator = network(), torch.Generator().manual_seed(0)
    coarse = torch.randn(8, 3, 4, 4, generator=generator)
    images, hidden = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic"), drawn("region", 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    first, *_, last = [step(model, images, hidden, optimizer) for _ in range(120)]
    assert last < 0.1 * first and last < 0.1


def test_noise_cannot_be_told():
    """Its hidden pixels cost their variance, 1, whatever is seen."""
    model, generator = network(overlap=0), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = [
        step(model, torch.randn(16, 3, 16, 16, generator=generator), drawn("region", 16, seed=seed), optimizer)
        for seed in range(40)
    ]
    assert sum(losses[-8:]) / 8 > 0.98


# ---- who does not learn


def test_biharmonic_continues_polynomials():
    """Of x, y, xy, x² - y² and the like, the Laplacian of the Laplacian is 0."""
    row, column = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    images = torch.stack([0.01 * row + 0.02 * column, (row * column) / 400, (row**2 - column**2) / 400 + 0.5])[None]
    hidden = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    hidden[:, :, 6:13, 5:14] = True
    found = biharmonic(torch.where(hidden, 9.0, images).contiguous(memory_format=torch.channels_last), hidden)
    torch.testing.assert_close(found, images, atol=1e-4, rtol=0)


def test_biharmonic_makes_the_laplacian_smooth_inside_up_to_the_border():
    images = torch.rand(2, 1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hidden = drawn("region", 2, size=9)
    filled = biharmonic(images, hidden)
    assert torch.equal(filled[~hidden], images[~hidden])

    def laplacian(image: np.ndarray) -> np.ndarray:
        around = np.pad(image, 1, mode="symmetric")
        return around[2:, 1:-1] + around[:-2, 1:-1] + around[1:-1, 2:] + around[1:-1, :-2] - 4 * image

    for image, holes in zip(filled[:, 0].numpy(), hidden[:, 0].numpy(), strict=True):
        assert np.abs(laplacian(laplacian(image))[holes]).max() < 1e-9


def test_mean_colour_is_of_what_is_seen():
    images, hidden = torch.rand(2, 3, 8, 8), drawn("centre", 2, size=8)
    found = mean_colour(images, hidden)
    assert found[1, 2, 0, 0].item() == pytest.approx(images[1, 2][~hidden[1, 0]].mean().item())


class Batches(list):
    """As FixedBatches: its length is in images."""

    collator = DataCollatorForInpainting(None, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), mask="region", share=0.25)

    def __len__(self) -> int:
        return sum(len(views["pixel_values"]) for views in self)

    def few(self, count: int) -> dict[str, torch.Tensor]:
        return {name: value[:count] for name, value in self[0].items()}


def test_own_task_is_the_error_of_hidden_pixels_in_levels(tmp_path):
    images, hidden = torch.randn(6, 3, 16, 16), drawn("region", 6)
    batches = Batches({"pixel_values": images[part], "hidden": hidden[part]} for part in (slice(4), slice(4, 6)))
    model = network().eval()
    with torch.no_grad():
        own, drawn_pictures = own_task(model, batches), pictures(model, batches, tmp_path)
        told = model(images, hidden).told
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (Batches.collator.mean, Batches.collator.std))
    errors = ((told * std + mean).clamp(0, 1) - (images * std + mean)).square().mean(1)[hidden[:, 0]]
    assert own.rows["this run"][ERROR] == pytest.approx(errors.mean().item(), rel=1e-4)
    assert list(own.rows) == ["this run", "biharmonic", "mean colour"]
    assert set(drawn_pictures) == {"filled.png", "masks.png"}
    assert all((tmp_path / name).stat().st_size > 1000 for name in drawn_pictures)


@pytest.mark.parametrize(
    "given, said",
    [
        (["--mask", "region", "--hidden_share", "0.001"], "hides nothing"),
        (["--mask", "centre", "--hidden_share", "1"], "hides everything"),
        (["--mask", "blocks", "--hidden_share", "0.001"], "hides nothing"),
        (["--hidden_share", "0"], "above 0"),
        (["--mask", "disc"], "disc"),
    ],
)
def test_masks_of_nothing_or_everything_are_refused_in_one_line(given, said, tmp_path, capsys):
    arguments = ["--dataset", "toy", "--image_size", "16", "--max_steps", "1", "--use_cpu", "--output_dir"]
    with pytest.raises(SystemExit) as end:
        run(main, InpaintingSettings, [*arguments, str(tmp_path), *given])
    assert end.value.code == 2 and said in capsys.readouterr().err.strip().splitlines()[-1]
