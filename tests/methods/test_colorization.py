"""Colorization: bins, targets and weights of the paper; rebalancing changes the gradient alone; f sees lightness."""

import json
import math
from functools import partial
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from datasets import Dataset, Image
from PIL import Image as Picture

from hf_replearn.data.colours import lab_to_rgb, lightness, rgb_to_lab
from hf_replearn.data.toy import scenes
from hf_replearn.encoders.encoder import read_inputs
from hf_replearn.methods.collating import CROPS, DataCollatorForViews
from hf_replearn.methods.colorization import ColorizationConfig, ColorizationForPreTraining, colour_cross_entropy
from hf_replearn.methods.colorization.collating_colorization import (
    DataCollatorForColorization,
    count_colours,
    is_grey,
    places_of,
)
from hf_replearn.methods.colorization.modeling_colorization import annealed_mean, bins, rebalancing, soft_encode
from hf_replearn.methods.colorization.showing_colorization import LOSS, own_task, pictures
from hf_replearn.randomness import Place
from hf_replearn.recipes.colorization import ColorizationSettings, main
from hf_replearn.representation import ImagePreprocessor
from hf_replearn.settings import run
from hf_replearn.sharing.card import image_in_code

SMALL = {"stem": "cifar", "backbone_args": {"layers": [1] * 4, "channels": [8, 16, 16, 16], "in_chans": 1}}
Q = 313


def network(**more) -> ColorizationForPreTraining:
    torch.manual_seed(0)
    return ColorizationForPreTraining(ColorizationConfig(backbone="resnet18", **SMALL, **more))


# ---- colours


def test_lab_is_that_of_published_colours():
    colours = {
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
    }
    colours |= {(255, 255, 255): (100, 0, 0), (0, 0, 0): (0, 0, 0), (119, 119, 119): (50.03, 0, 0)}
    pixels = torch.tensor(list(colours), dtype=torch.float32).T[None, :, None] / 255
    found = rgb_to_lab(pixels)[0, :, 0].T
    torch.testing.assert_close(found, torch.tensor(list(colours.values()), dtype=torch.float32), atol=0.01, rtol=0)


def test_lab_goes_back_to_rgb():
    images = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    images[0, :, 0] = 0.01  # the straight part near black
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(images)), images, atol=1e-4, rtol=0)
    assert lab_to_rgb(torch.tensor([50.0, 100.0, -100.0]).view(1, 3, 1, 1)).max() <= 1  # no screen shows it


# ---- bins, targets, weights


def test_bins_are_313_on_a_grid():
    centres = bins()
    assert centres.shape == (Q, 2) and len(centres.unique(dim=0)) == Q
    assert (centres % 10 == 0).all() and centres.abs().max() == 110
    assert [0.0, 0.0] in centres.tolist() and [100.0, 100.0] not in centres.tolist()


def test_targets_weigh_the_five_nearest_bins_by_a_gaussian():
    colours = torch.tensor([[3.0, 4.0], [0.0, 0.0], [200.0, 200.0]])
    nearest, shares = soft_encode(colours.T[None, :, None])  # (1, 5, 1, 3)
    for place, colour in enumerate(colours.tolist()):
        distances = sorted((math.dist(colour, centre), number) for number, centre in enumerate(bins().tolist()))[:5]
        weights = [math.exp(-(distance**2) / (2 * 25)) for distance, _ in distances]
        expected = [weight / sum(weights) for weight in weights] if sum(weights) else None
        if expected:  # as far away as the last one, all weights are 0 in float64
            assert shares[0, :, 0, place].tolist() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 1, 3))
    assert bins()[nearest[0, 0, 0, 1]].tolist() == [0, 0]


def test_loss_is_that_of_loops_and_ln_313_at_chance():
    ab = 60 * torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    assert colour_cross_entropy(torch.zeros(2, Q, 3, 3), ab).item() == pytest.approx(math.log(Q), rel=1e-5)
    logits = torch.randn(2, Q, 3, 3, generator=torch.Generator().manual_seed(1))
    nearest, shares = soft_encode(ab)
    by_hand = 0.0
    for image in range(2):
        for row in range(3):
            for column in range(3):
                log_p = logits[image, :, row, column].log_softmax(0)
                for bin_, share in zip(nearest[image, :, row, column], shares[image, :, row, column], strict=True):
                    by_hand -= float(share * log_p[bin_]) / 18
    assert colour_cross_entropy(logits, ab).item() == pytest.approx(by_hand, rel=1e-5)


def test_weights_have_mean_one_and_favour_what_is_rare():
    prior = torch.rand(Q, dtype=torch.float64) ** 4
    prior[:5] = 0  # never met: the weight is finite
    prior /= prior.sum()
    weights = rebalancing(prior, 0.5)
    assert (prior * weights).sum().item() == pytest.approx(1)
    by_hand = 1 / (0.5 * prior + 0.5 / Q)
    torch.testing.assert_close(weights, by_hand / (prior * by_hand).sum())
    assert weights.isfinite().all() and weights.argmax() < 5 and weights.argmin() == prior.argmax()
    torch.testing.assert_close(rebalancing(prior, 1.0), torch.ones(Q, dtype=torch.float64))


def test_rebalancing_weighs_the_gradient_and_not_the_loss():
    ab = 40 * torch.randn(2, 2, 3, 3)
    logits = torch.randn(2, Q, 3, 3, requires_grad=True)
    weights = torch.rand(2, 3, 3) * 3
    plain = colour_cross_entropy(logits, ab)
    (plain_gradient,) = torch.autograd.grad(plain, logits)
    weighted = colour_cross_entropy(logits, ab, weights)
    (gradient,) = torch.autograd.grad(weighted, logits)
    assert weighted.item() == pytest.approx(plain.item(), rel=1e-6)
    torch.testing.assert_close(gradient, plain_gradient * weights[:, None])


def test_annealed_mean_lies_between_mean_and_mode():
    logits = torch.zeros(1, Q, 1, 1)
    logits[0, 7], logits[0, 100] = 9.0, 8.0
    by_hand = (
        logits[0, :, 0, 0].double().exp() ** (1 / 0.38) / (logits.double().exp() ** (1 / 0.38)).sum()
    ) @ bins().double()
    assert annealed_mean(logits).flatten().tolist() == pytest.approx(by_hand.tolist(), rel=1e-4)
    torch.testing.assert_close(annealed_mean(logits, 0.01).flatten(), bins()[7])


# ---- what the network is given


def collator(**more) -> DataCollatorForColorization:
    given = {"stride": 4, "prior": (1 / Q,) * Q, "share": 0.5} | more
    return DataCollatorForColorization(partial(CROPS, size=16, min_scale=1.0, flip=0.0), (0.5,), (0.5,), **given)


def test_lightness_is_seen_and_colours_are_told():
    images = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8)
    images[2] = images[2, :1]  # grey
    views = collator(prior=(0.5, *(0.5 / (Q - 1),) * (Q - 1))).views({"pixel_values": images}, Place(0, 0, 0))
    assert {name: value.shape[1:] for name, value in views.items()} == {
        "pixel_values": (1, 16, 16), "ab": (2, 4, 4), "weights": (4, 4),
    }  # fmt: skip
    lab = rgb_to_lab(images / 255)
    torch.testing.assert_close(views["pixel_values"], lab[:, :1] / 50 - 1, atol=2e-2, rtol=0)
    torch.testing.assert_close(views["ab"][0, :, 0, 1], lab[0, 1:, :4, 4:8].mean((1, 2)), atol=0.5, rtol=0)
    assert is_grey(views["ab"]).tolist() == [False, False, True]
    assert (views["weights"][2] == 0).all() and (views["weights"][:2] > 0).all()  # grey images teach no colours


def rows(images: np.ndarray) -> Dataset:
    files = []
    for pixels in images:
        file = BytesIO()
        Picture.fromarray(pixels).save(file, "PNG")
        files.append({"bytes": file.getvalue(), "path": None})
    return Dataset.from_dict({"image": files}).cast_column("image", Image(decode=False))


def test_colours_are_counted_with_the_share_that_is_grey():
    images = np.zeros((4, 16, 16, 3), dtype=np.uint8)
    images[0] = (255, 0, 0)
    images[1:] = 90
    prior, grey = count_colours(rows(images), DataCollatorForViews(None, (), ()), 4)
    assert grey == 0.75 and prior.sum().item() == pytest.approx(1)
    red = soft_encode(rgb_to_lab(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))[:, 1:])
    nothing = soft_encode(torch.zeros(1, 2, 1, 1))
    expected = torch.zeros(Q, dtype=torch.float64)
    for (nearest, shares), share in ((red, 0.25), (nothing, 0.75)):
        expected[nearest.flatten()] += share * shares.flatten().double()
    torch.testing.assert_close(prior, expected, atol=1e-4, rtol=0)


# ---- learning


def step(model, views, optimizer) -> float:
    optimizer.zero_grad()
    loss = model(**views).loss
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("objective", ["classes", "regression"])
def test_eight_images_are_learnt_by_heart(objective):
    """To the entropy of their soft targets, below which no cross entropy is; or to an error of 0."""
    generator = torch.Generator().manual_seed(0)
    model = network(objective=objective)
    ab = (60 * torch.randn(8, 2, 4, 4, generator=generator)).clamp(-80, 80)
    views = {"pixel_values": torch.randn(8, 1, 16, 16, generator=generator), "ab": ab}
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    first, *_, last = [step(model, views, optimizer) for _ in range(120)]
    shares = soft_encode(ab)[1]
    floor = -(shares * shares.clamp(min=1e-30).log()).sum(1).mean().item() if objective == "classes" else 0.0
    assert last < floor + 0.2 * (first - floor)


def test_colours_of_what_is_always_the_same_grey_stay_at_chance():
    """Lightness that says nothing: the loss comes to that of the best constant."""
    model, generator = network(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    corners = torch.tensor([[50.0, 50], [-50, 50], [50, -50], [-50, -50]])  # bins themselves
    losses = []
    for _ in range(60):
        drawn = corners[torch.randint(4, (16, 4, 4), generator=generator)].permute(0, 3, 1, 2)
        losses.append(step(model, {"pixel_values": torch.zeros(16, 1, 16, 16), "ab": drawn}, optimizer))
    entropy = soft_encode(corners.T[None, :, None])[1]
    chance = math.log(4) - (entropy * entropy.log()).sum(1).mean().item()  # which of four, and their own
    assert sum(losses[-5:]) / 5 == pytest.approx(chance, abs=0.15)


# ---- the run


class Batches(list):
    """As FixedBatches: its length is in images."""

    collator = collator()

    def __len__(self) -> int:
        return sum(len(views["pixel_values"]) for views in self)

    def few(self, count: int) -> dict[str, torch.Tensor]:
        return {name: value[:count] for name, value in self[0].items()}


def test_own_task_is_beside_a_constant_and_the_least_possible(tmp_path):
    images = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8)
    batches = Batches([collator().views({"pixel_values": part}, Place(0, 0, 0)) for part in images.split(4)])
    model = network().eval()
    with torch.no_grad():
        own = own_task(model, batches)
        drawn = pictures(model, batches, tmp_path)
    losses = {name: row[LOSS] for name, row in own.rows.items()}
    together = {name: torch.cat([part[name] for part in batches]) for name in batches[0]}
    assert losses["this run"] == pytest.approx(model(**together).loss.item(), rel=1e-4)
    assert losses["colours as often as in training"] == pytest.approx(math.log(Q), rel=1e-4)  # here all alike
    assert 0 < losses["the bins themselves"] < math.log(5) and losses["all grey"] is None
    assert (tmp_path / "colours.png").stat().st_size > 1000 and set(drawn) == {"colours.png"}


def test_a_network_that_favours_rare_colours_as_it_was_told_to_knows_how_often_they_are_met():
    """It says p v of each bin (p: how often it is met), the least of the weighted loss for who knows no more."""
    prior = torch.linspace(1, 9, Q) / torch.linspace(1, 9, Q).sum()
    batches = Batches([collator().views({"pixel_values": torch.randint(256, (4, 3, 16, 16)).byte()}, Place(0, 0, 0))])
    batches.collator = collator(prior=tuple(prior.tolist()))
    model = network().eval()
    told = (prior * rebalancing(prior, 0.5)).log().view(1, -1, 1, 1).expand(4, -1, 4, 4)
    model.forward = lambda **views: SimpleNamespace(told=told)
    with torch.no_grad():
        rows = own_task(model, batches).rows
    undone = rows["this run, rare colours not favoured"]
    assert undone == pytest.approx(rows["colours as often as in training"], rel=1e-4)
    assert rows["this run"][LOSS] != pytest.approx(undone[LOSS], rel=1e-3)


def test_encoder_is_judged_on_lightness_by_the_run_and_by_evaluate(tmp_path, capsys):
    out = tmp_path / "out"
    for number, row in enumerate(scenes()["train"].select(range(80))):
        path = tmp_path / "scenes" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"]["bytes"])
    arguments = ["--dataset", str(tmp_path / "scenes"), "--image_size", "16", "--backbone", "resnet18"]
    arguments += [
        "--stem",
        "cifar",
        "--backbone_args",
        "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16]}",
        "--use_cpu",
    ]
    arguments += ["--max_steps", "1", "--per_device_train_batch_size", "16", "--knn_steps", "0", "--draws", "2"]
    run(main, ColorizationSettings, [*arguments, "--output_dir", str(out)])
    assert "of the images are grey" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert config["lightness"] and config["pretrained_cfg"]["input_size"] == [1, 64, 64]
    _, inputs = read_inputs(str(out), modality="image")
    row = scenes()["test"][0]
    evaluated = inputs([row])["pixel_values"]
    trained = ImagePreprocessor(16, (0.5,), (0.5,), lightness=True)([row])
    assert evaluated.shape == (1, 1, 64, 64)
    torch.testing.assert_close(evaluated[:, :, ::4, ::4], trained, atol=0.02, rtol=0)
    luma = ImagePreprocessor(16, (0.5,), (0.5,))([row | {"image": row["image"]}]).mean(1, keepdim=True)
    assert (evaluated[:, :, ::4, ::4] - luma).abs().max() > 0.05  # a mean of colours is another thing
    report = json.loads((out / "report.json").read_text())
    assert report["encoder"]["lightness"] and "def lightness" in (out / "README.md").read_text()


def test_lightness_in_the_card_is_ours(tmp_path):
    """The lines of the card, which need nothing of ours, give the same picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Picture.fromarray(pixels).save(tmp_path / "image.png")
    imports, code = image_in_code([1, 9, 9], {}, lightness=True)
    names = {}
    exec(f"{imports}\nfound = {code}".replace("image.png", str(tmp_path / "image.png")), names)
    found = names["found"]
    theirs, ours = (np.asarray(picture, dtype=int) for picture in (found, lightness(Picture.fromarray(pixels))))
    assert np.abs(theirs - ours).max() <= 1


@pytest.mark.parametrize(
    "given, said",
    [
        (["--dataset", "toy"], "has no colours to tell"),
        (["--dataset", "toy-scenes", "--channels", "1"], "--channels 1"),
        (["--dataset", "toy-scenes", "--uniform_share", "0"], "above 0"),
    ],
)
def test_what_has_no_colours_is_refused_in_one_line(given, said, tmp_path, capsys):
    arguments = ["--max_steps", "1", "--output_dir", str(tmp_path), "--use_cpu", "--per_device_train_batch_size", "8"]
    with pytest.raises(SystemExit) as end:
        run(main, ColorizationSettings, [*arguments, "--image_size", "16", *given])
    assert end.value.code == 2 and said in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_network_without_maps_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    """All of timm's have them by now."""
    monkeypatch.delattr(timm.models.resnet.ResNet, "forward_intermediates")
    arguments = ["--dataset", "toy-scenes", "--image_size", "16", "--backbone", "resnet18", "--max_steps", "1"]
    arguments += ["--per_device_train_batch_size", "8", "--use_cpu", "--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit) as end:
        run(main, ColorizationSettings, arguments)
    assert end.value.code == 2 and "feature maps" in capsys.readouterr().err.strip().splitlines()[-1]


def test_grid_of_places():
    lab = torch.randn(2, 3, 18, 18)
    assert places_of(lab, 4).shape == (2, 2, 4, 4)
    assert places_of(lab, 64).shape == (2, 2, 1, 1)
