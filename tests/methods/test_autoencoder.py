"""Autoencoder: a linear one is PCA, noise is on what is seen alone, dense networks are saved with their own code."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.decomposition import PCA
from transformers import AutoImageProcessor, AutoModel

import hf_replearn.sharing.results
from hf_replearn.encoders.encoder import find_encoder
from hf_replearn.evaluation.reconstruction import principal_components
from hf_replearn.methods.autoencoder import AutoencoderConfig, AutoencoderForPreTraining, reconstruction_error
from hf_replearn.methods.autoencoder.collating_autoencoder import DataCollatorForAutoencoder, corrupted
from hf_replearn.methods.autoencoder.showing_autoencoder import (
    ANGLE,
    ERROR,
    EXCESS,
    OFF,
    beside_pca,
    own_task,
    pictures,
)
from hf_replearn.methods.collating import CROPS
from hf_replearn.pretraining.recipe import ImageSettings
from hf_replearn.pretraining.start import find_start
from hf_replearn.randomness import Place
from hf_replearn.recipes import autoencoder
from hf_replearn.settings import run

SIDE, SHIFT = 6, 0.5  # D = 36
SMALL = {"backbone": "resnet18", "stem": "cifar", "backbone_args": {"layers": [1] * 4, "channels": [8, 8, 16, 16]}}


def linear(code: int = 3, **more) -> AutoencoderForPreTraining:
    torch.manual_seed(0)
    arguments = {"widths": [code], "activation": "none", "in_chans": 1, "img_size": SIDE}
    about = {"backbone": "dense", "backbone_args": arguments, "image_size": SIDE, "code": code, "linear": True}
    return AutoencoderForPreTraining(AutoencoderConfig(**about | more)).double()


def gaussian_images(count: int = 400) -> torch.Tensor:
    """(count, 1, 6, 6) float64 around 0.5, of variances 4, 2, 1, and 0.1, 0.095 … beyond."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(36, 36, generator=generator, dtype=torch.float64)).Q
    scales = torch.cat([torch.tensor([4.0, 2.0, 1.0]), torch.linspace(0.1, 0.01, 33)]).double().sqrt()
    drawn = torch.randn(count, 36, generator=generator, dtype=torch.float64) * scales
    return (drawn @ axes.T + SHIFT).view(-1, 1, 6, 6)


def descend(model, seen: torch.Tensor, levels: torch.Tensor, steps: int = 600) -> None:
    """To the minimum, by L-BFGS."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=steps, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        told = model(seen, return_loss=False).told
        value = (told - levels).square().flatten(1).sum(1).mean()
        if model.config.l2:
            value = value + model.config.l2 * sum(matrix.square().sum() for matrix in model.matrices)
        value.backward()
        return value

    optimizer.step(loss)


# ---- loss and architecture


def test_loss_is_that_of_loops():
    told, levels = torch.rand(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    by_hand = [
        sum((told[n, c, y, x] - levels[n, c, y, x]).item() ** 2 for c in range(3) for y in range(4) for x in range(4))
        for n in range(2)
    ]
    assert reconstruction_error(told, levels).item() == pytest.approx(sum(by_hand) / 2, rel=1e-5)


def test_loss_adds_the_squares_of_both_matrices():
    images = gaussian_images(8)
    plain, penalised = linear()(images, images).loss, linear(l2=0.5)(images, images).loss
    squares = sum(matrix.square().sum() for matrix in linear().matrices)
    assert (penalised - plain).item() == pytest.approx(0.5 * squares.item(), rel=1e-5)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "convnext_atto", "resnet18", "dense"])
@pytest.mark.parametrize("size", [64, 50])
def test_networks_of_all_kinds_make_the_whole_image(backbone, size):
    if backbone.startswith("vit") and size == 50:
        return
    arguments = {"img_size": size} if backbone in ("vit_tiny_patch16_224", "dense") else {}
    config = AutoencoderConfig(backbone=backbone, backbone_args=arguments, image_size=size, code=5)
    model = AutoencoderForPreTraining(config).eval()
    images = torch.rand(2, 3, size, size)
    found = model(images, images)
    assert found.told.shape == images.shape and found.code.shape == (2, 5)
    torch.testing.assert_close(found.pooler_output, model.model(images).pooler_output)
    torch.testing.assert_close(model.decode(model.codes(images)), found.told.clamp(0, 1))


def test_eight_images_are_learnt_by_heart():
    torch.manual_seed(0)
    dense = {"backbone": "dense", "backbone_args": {"widths": [64], "img_size": 16}}
    model = AutoencoderForPreTraining(AutoencoderConfig(**dense, image_size=16, code=8))
    coarse = torch.rand(8, 3, 4, 4)
    levels = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = model(levels, levels).loss
        loss.backward()
        optimizer.step()
    assert loss.item() / levels[0].numel() < 0.05 * levels.var(0).mean().item()


# ---- what if f(x) = A x and g(y) = B y?


def test_linear_autoencoder_finds_the_principal_components():
    images, model = gaussian_images(), linear()
    descend(model, images, images)
    known = principal_components([images], 3)
    assert model(images, images).loss.item() == pytest.approx(known.left, rel=1e-4)
    found = beside_pca(model, known)
    assert -1e-9 < found[EXCESS] < 1e-4 and found[ANGLE] < 1
    assert beside_pca(linear(), known)[ANGLE] > 30  # of one that has learnt nothing


@pytest.mark.parametrize("tied", [False, True])
def test_with_l2_squared_singular_values_are_one_minus_l2_over_variance(tied):
    """Kunin et al. 2019, theorem 2. A variance below l2 is not kept at all."""
    images, model = gaussian_images(), linear(code=4, l2=0.2, tied=tied)
    descend(model, images, images)
    encoder, decoder = (matrix.detach() for matrix in model.matrices)
    variances = principal_components([images], 4).variances
    due = (1 - 0.2 / variances).clamp(min=0)
    assert due[:3].min() > 0 and due[3] == 0
    torch.testing.assert_close(torch.linalg.svdvals(decoder).square(), due, atol=1e-3, rtol=0)
    torch.testing.assert_close(encoder, decoder.T, atol=1e-3, rtol=0)
    assert beside_pca(model, principal_components([images], 4))[OFF] < 1e-3


def test_linear_denoising_autoencoder_is_the_wiener_filter():
    """Of x + n, n ~ N(0, s² I), the best linear estimate of centred x is Σ (Σ + s² I)⁻¹."""
    images, model = gaussian_images(1000), linear(code=36)
    noise = corrupted(torch.zeros_like(images), "gaussian", 0.5, generator=torch.Generator().manual_seed(1)).double()
    x = images.flatten(1) - images.flatten(1).mean(0)
    sigma = x.T @ x / len(x)
    wiener = sigma @ torch.linalg.inv(sigma + 0.25 * torch.eye(36))
    noisy = (images + noise).flatten(1)
    best = torch.linalg.lstsq(noisy - noisy.mean(0), x).solution
    assert torch.linalg.matrix_norm(best.T - wiener, 2) < 0.3  # of a thousand images
    descend(model, images + noise, images, steps=150)
    least = (x - (noisy - noisy.mean(0)) @ best).square().sum(1).mean().item()
    assert model(images + noise, images).loss.item() == pytest.approx(least, rel=1e-3)
    assert least < 0.8 * noise.flatten(1).square().sum(1).mean().item()


def test_principal_components_are_those_of_scikit_learn():
    images = gaussian_images(50)
    theirs = PCA(3).fit(images.flatten(1).numpy())
    for known in (principal_components(images.split(20), 3), wide(images)):
        rebuilt = theirs.inverse_transform(theirs.transform(images.flatten(1).numpy()))
        np.testing.assert_allclose(known.rebuilt(images).flatten(1).numpy(), rebuilt, atol=1e-5)
        np.testing.assert_allclose(known.variances.numpy(), theirs.explained_variance_ * 49 / 50, rtol=1e-8)
    left = (images.flatten(1).numpy() - rebuilt).__pow__(2).sum(1).mean()
    assert principal_components(images.split(20), 3).left == pytest.approx(left, rel=1e-8)


def wide(images: torch.Tensor):
    """Components of the same images as a part of larger ones, whose covariance is not held."""
    many = torch.zeros(len(images), 5000, dtype=images.dtype)
    many[:, :36] = images.flatten(1)
    known = principal_components([many.view(-1, 1, 1, 5000)], 3)
    assert known.covariance is None
    return replace(known, mean=known.mean[:36], axes=known.axes[:36])


# ---- noise


def collator(**more) -> DataCollatorForAutoencoder:
    policy = partial(CROPS, size=16, min_scale=1.0, flip=0.0)
    return DataCollatorForAutoencoder(policy, (0.4,) * 3, (0.2,) * 3, **more)


BATCH = {"pixel_values": torch.randint(1, 256, (64, 3, 16, 16), dtype=torch.uint8)}


def test_without_noise_the_whole_image_is_seen_and_made():
    views = collator().views(BATCH, Place(0, 1))
    torch.testing.assert_close(views["levels"], BATCH["pixel_values"] / 255)
    torch.testing.assert_close(views["pixel_values"], (views["levels"] - 0.4) / 0.2)


@pytest.mark.parametrize("corruption, noise", [("masking", 0.25), ("gaussian", 0.3)])
def test_noise_is_on_what_is_seen_and_drawn_anew(corruption, noise):
    one, same, other = (collator(corruption=corruption, noise=noise).views(BATCH, Place(0, step)) for step in (1, 1, 2))
    for views in (one, same, other):
        torch.testing.assert_close(views["levels"], BATCH["pixel_values"] / 255)
    assert torch.equal(one["pixel_values"], same["pixel_values"])
    assert not torch.equal(one["pixel_values"], other["pixel_values"])
    seen, levels = one["pixel_values"] * 0.2 + 0.4, one["levels"]
    if corruption == "masking":
        hidden = seen.abs() < 1e-6
        assert hidden.float().mean().item() == pytest.approx(noise, abs=0.02)
        assert torch.equal(hidden.any(1), hidden.all(1))  # a pixel in all channels
        torch.testing.assert_close(seen[~hidden], levels[~hidden])
    else:
        assert (seen - levels).std().item() == pytest.approx(noise, rel=0.02)
        assert seen.min() < -0.1 and seen.max() > 1.1  # nothing was cut off


# ---- what is told of it


class Batches(list):
    """As FixedBatches: its length is in images."""

    collator = collator()

    class rows:
        features: dict = {}

    def __len__(self) -> int:
        return sum(len(views["levels"]) for views in self)

    def few(self, count: int) -> dict[str, torch.Tensor]:
        return {name: value[:count] for name, value in self[0].items()}

    def of_training(self, most: int):
        return self


def test_own_task_is_the_error_of_levels_beside_pca(tmp_path):
    torch.manual_seed(0)
    model = AutoencoderForPreTraining(AutoencoderConfig(**SMALL, image_size=16, code=4)).eval()
    parts = [{name: value[part] for name, value in BATCH.items()} for part in (slice(40), slice(40, 64))]
    batches = Batches(collator().views(part, Place(0, 0)) for part in parts)
    with torch.no_grad():
        own, drawn = own_task(model, batches), pictures(model, batches, tmp_path)
        told = torch.cat([model(**views).told.clamp(0, 1) for views in batches])
    levels = torch.cat([views["levels"] for views in batches])
    assert own.rows["this run"][ERROR] == pytest.approx((told - levels).square().mean().item(), rel=1e-4)
    theirs = PCA(4, svd_solver="full").fit(levels.flatten(1).numpy())
    rebuilt = theirs.inverse_transform(theirs.transform(levels.flatten(1).numpy())).clip(0, 1)
    error = np.square(rebuilt - levels.flatten(1).numpy()).mean()
    assert own.rows["PCA (4)"][ERROR] == pytest.approx(error, rel=1e-4)
    assert own.rows["mean image"][ERROR] == pytest.approx(levels.var(0, unbiased=False).mean().item(), rel=1e-4)
    assert list(drawn) == ["reconstructions.png", "interpolation.png"]
    assert all((tmp_path / name).stat().st_size > 1000 for name in drawn)


# ---- runs


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of thirty grey images, of which a fifth is held out."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label in ("dark", "light"):
        (folder / label).mkdir()
        for number in range(30):
            pixels = rng.integers(0, 128, (10, 8), dtype=np.uint8) + 127 * (label == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.png")
    return folder


SHORT = ["--channels", "1", "--image_size", "8", "--per_device_train_batch_size", "16", "--use_cpu", "--draws", "2"]
SHORT += ["--max_steps", "4", "--save_steps", "2", "--knn_steps", "0"]


def start(*arguments: str) -> int:
    try:
        run(autoencoder.main, autoencoder.AutoencoderSettings, [*SHORT, *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def _no_curves(monkeypatch):
    """They take most of the time of a run so small, and other tests look at them."""
    monkeypatch.setattr(hf_replearn.sharing.results, "write_curves", lambda folder: False)
    monkeypatch.setattr("hf_replearn.pretraining.worth.draw_neighbours", lambda neighbours, row, path: None)


@pytest.mark.usefixtures("_no_curves")
@pytest.mark.parametrize(
    "given, features",
    [
        (["--linear", "--code", "3", "--l2", "0.1"], 3),
        (["--backbone", "dense", "--backbone_args", "{'widths': [7]}"], 7),
    ],
)
def test_dense_run_resumes_bit_for_bit_and_is_loaded_by_transformers(given, features, images, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = [*given, "--dataset", images, "--output_dir", out]
    assert start(*arguments) == 0, capsys.readouterr().err
    whole = (out / "model.safetensors").read_bytes(), (out / "pretraining" / "model.safetensors").read_bytes()
    report = json.loads((out / "report.json").read_text())
    assert {"reconstructions.png", "interpolation.png"} <= report["figures"].keys()
    assert ("its code (32)" in report["rows"]) == (features == 7)
    shutil.rmtree(out / "checkpoint-4")  # as if it had been killed after the third step
    shutil.rmtree(out / "pretraining")
    assert start(*arguments) == 0, capsys.readouterr().err
    assert whole == ((out / "model.safetensors").read_bytes(), (out / "pretraining" / "model.safetensors").read_bytes())

    trained = AutoencoderForPreTraining.from_pretrained(out / "pretraining").eval()
    grey = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    with torch.no_grad():
        expected = trained.model(torch.from_numpy(grey)[:, None] / 255).pooler_output
        processor, plain = AutoImageProcessor.from_pretrained(out), AutoModel.from_pretrained(out).eval()
        found = plain(**processor([Image.fromarray(image) for image in grey], return_tensors="pt")).pooler_output
    torch.testing.assert_close(found, expected)
    assert found.shape == (2, features)
    encoder = find_encoder(out, modality="image")
    assert encoder.preprocess.channels == 1
    assert find_start(ImageSettings(dataset="", output_dir="", backbone=str(out), channels=1), image_size=8)[0].weights


@pytest.mark.parametrize(
    "given, said",
    [
        (["--tied", "true"], "say --linear too"),
        (["--l2", "0.1"], "say --linear too"),
        (["--linear", "--backbone", "resnet18"], "one linear map"),
        (["--noise", "1"], "below 1"),
        (["--backbone", "dense", "--backbone_args", "{'widths': []}"], "one width or more"),
        (["--backbone", "dense", "--backbone_args", "{'depth': 3}"], "depth"),
        (["--code", "0"], "code"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(given, said, images, tmp_path, capsys):
    assert start(*given, "--dataset", images, "--output_dir", tmp_path / "run") == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.glob("run/checkpoint-*"))
