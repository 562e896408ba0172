"""GAN: what each network's gradient is, what is kept of the generator, how far generated images are from real ones."""

import json
import math

import pytest
import torch
from PIL import Image

import hf_replearn
from hf_replearn.evaluation.frechet import RandomFeatures, frechet_distance
from hf_replearn.methods.gan import GANConfig, GANForPreTraining, gradient_penalty, relativistic_losses
from hf_replearn.methods.gan.modeling_gan import halvings
from hf_replearn.methods.gan.showing_gan import DISTANCE, ENCODED, TOLD, VIDEO, on_the_arc
from hf_replearn.recipes.gan import GANSettings, main
from hf_replearn.settings import run

SMALL = {"backbone": "resnet18", "stem": "cifar", "backbone_args": {"layers": [1] * 4, "channels": [8] * 4}}
ARGUMENTS = ["--dataset", "toy", "--channels", "1", "--image_size", "16", "--latents", "8", "--width", "4", "--use_cpu"]
ARGUMENTS += ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 8, 8]}"]
ARGUMENTS += ["--knn_steps", "0", "--draws", "2", "--max_steps", "3", "--save_steps", "2"]


def network(**more) -> GANForPreTraining:
    torch.manual_seed(0)
    return GANForPreTraining(GANConfig(**SMALL, **{"image_size": 16, "latents": 8, "width": 4} | more))


def batch(size: int = 16) -> dict[str, torch.Tensor]:
    levels = torch.rand(6, 3, size, size)
    return {"pixel_values": 2 * levels - 1, "levels": levels, "latents": torch.randn(6, 8)}


def moved(model: GANForPreTraining) -> GANForPreTraining:
    """As if it had been trained: nothing is zero any more."""
    with torch.no_grad():
        for weight in (*model.generator.parameters(), *model.discriminator.parameters()):
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


# ---- losses


def test_losses_are_those_of_loops():
    real, fake = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.25])
    by_hand = [
        sum(math.log(1 + math.exp(sign * (f - r))) for r, f in ((0.5, 2.0), (-1.0, 0.25))) / 2 for sign in (1, -1)
    ]
    assert [loss.item() for loss in relativistic_losses(real, fake)] == pytest.approx(by_hand, rel=1e-5)


def test_discriminator_knows_nothing_at_the_start():
    found = network()(**batch())
    assert found.discriminator_loss.item() == pytest.approx(math.log(2), rel=1e-6)
    assert found.generator_loss.item() == pytest.approx(math.log(2), rel=1e-6)
    parts = found.discriminator_loss + found.generator_loss + found.encoder_loss
    assert found.loss.item() == pytest.approx(parts.item(), rel=1e-6)


def test_penalty_is_the_squared_gradient_by_finite_differences():
    score = moved(network()).discriminator.double()
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    seen = images.clone().requires_grad_()
    found, step, squares = gradient_penalty(score(seen), seen), 1e-6, 0.0
    with torch.no_grad():
        for direction in torch.eye(3 * 16 * 16, dtype=torch.float64).split(256):
            shift = step * direction.view(-1, 3, 16, 16)
            for image in images:
                squares += ((score(image + shift) - score(image - shift)) / (2 * step)).square().sum().item()
    assert found.item() == pytest.approx(squares / 2, rel=1e-5)


def test_penalty_weighs_real_and_generated_images_alike():
    model, given = moved(network(gamma=0.6)), batch()
    real, made = 2 * given["levels"] - 1, model.generator(given["latents"]).detach()
    found = model.adversarial_losses(real, given["latents"])[0]
    seen = [images.clone().requires_grad_() for images in (real, made)]
    scores = [model.discriminator(images) for images in seen]
    penalties = [gradient_penalty(*pair).item() for pair in zip(scores, seen, strict=True)]
    expected = relativistic_losses(*scores)[0].item() + 0.3 * sum(penalties)
    assert found.item() == pytest.approx(expected, rel=1e-5) and min(penalties) > 1e-4


@pytest.mark.parametrize(("which", "reached"), [(0, "discriminator."), (1, "generator.")])
def test_a_loss_reaches_its_own_network_alone(which, reached):
    model, given = moved(network()), batch()
    model.adversarial_losses(2 * given["levels"] - 1, given["latents"])[which].backward()
    touched = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert touched and all(name.startswith(reached) for name in touched)


def test_encoder_learns_from_the_kept_generator_and_from_no_real_image():
    model, given = moved(network()).eval(), batch()
    found = model(**given)
    other = model(**given | {"levels": torch.rand(6, 3, 16, 16), "pixel_values": torch.randn(6, 3, 16, 16)})
    assert torch.equal(found.encoder_loss, other.encoder_loss)
    assert found.discriminator_loss != other.discriminator_loss
    told = model.codes(2 * model.decode(given["latents"]) - 1)
    expected = (told - given["latents"]).square().mean()
    assert found.encoder_loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_penalties_are_float32_under_autocast():
    model, given = moved(network()), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**given)
    assert found.discriminator_loss.dtype == torch.float32
    assert torch.equal(found.discriminator_loss, model(**given).discriminator_loss)
    assert found.loss.isfinite()


# ---- the generator that is kept


def test_kept_generator_is_the_running_mean_with_its_buffers():
    model = network(ema=0.5)
    model.generator.register_buffer("level", torch.zeros(2))
    model.kept_generator.register_buffer("level", torch.zeros(2))
    weight, kept = model.generator.start.weight, model.kept_generator.start.weight
    assert torch.equal(weight, kept)
    expected = kept.detach().double()
    for step in range(1, 15):
        with torch.no_grad():
            weight.add_(1.0)
            model.generator.level.add_(1.0)
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * weight.detach().double()
        model.after_step(0.0)
    torch.testing.assert_close(kept.double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(model.kept_generator.level, torch.full((2,), 14.0))
    assert not any(weight.requires_grad for weight in model.kept_generator.parameters())


@pytest.mark.parametrize("size", [8, 12, 16, 28, 32, 40, 64])
def test_generator_and_discriminator_are_of_the_size_of_the_images(size):
    model = network(image_size=size)
    images = model.decode(torch.randn(2, 8))
    assert images.shape == (2, 3, size, size) and images.min() >= 0 and images.max() <= 1
    assert model.discriminator(images).shape == (2,)
    assert 4 <= size / 2 ** halvings(size) < 8


def test_images_and_their_codes_are_of_each_alone():
    """Nothing of the other images of a batch, whether the model is in training or not."""
    model = moved(network())
    latents = torch.randn(4, 8)
    torch.testing.assert_close(model.train().decode(latents)[:1], model.eval().decode(latents[:1]))


# ---- learning


def test_generator_and_encoder_learn_a_line_of_grey_images():
    """Real images have one grey level from 0.25 to 0.75: so come to be the generated ones, and their level is told."""
    torch.manual_seed(0)
    small = {"backbone_args": {"layers": [1] * 4, "channels": [4, 4, 8, 8], "in_chans": 1}, "stem": "cifar"}
    config = GANConfig(backbone="resnet18", **small, image_size=8, latents=1, width=4, ema=0.9, gamma=0.5)
    model, latents = GANForPreTraining(config), torch.linspace(-2, 2, 64)[:, None]
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=4e-3, betas=(0.0, 0.99))
    before = model.decode(latents).flatten(1).mean(1)
    for _ in range(120):
        levels = (0.25 + 0.5 * torch.rand(16, 1, 1, 1)).expand(-1, 1, 8, 8)
        optimizer.zero_grad()
        model(pixel_values=2 * levels - 1, levels=levels, latents=torch.randn(16, 1)).loss.backward()
        optimizer.step()
        model.after_step(0.0)
    images = model.eval().decode(latents)
    grey = images.flatten(1).mean(1)
    told = model.codes(2 * images - 1)
    assert grey.std() > 0.08 and grey.min() > 0.15 and grey.max() < 0.85 and before.std() < 0.08
    assert images.flatten(1).std(1).max() < 0.1
    assert torch.corrcoef(torch.cat([told, latents], 1).T)[0, 1] > 0.8


# ---- distance


def test_distance_of_gaussians_is_that_of_the_formula():
    generator = torch.Generator().manual_seed(0)
    one = (
        torch.randn(200, 5, generator=generator, dtype=torch.float64) @ torch.randn(5, 5, generator=generator).double()
    )
    other = 2 * torch.randn(300, 5, generator=generator, dtype=torch.float64) + 1
    a, b = torch.cov(one.T), torch.cov(other.T)
    root = torch.linalg.eigvals(a @ b).sqrt().sum().real  # of a product that is not symmetric
    expected = (one.mean(0) - other.mean(0)).square().sum() + a.trace() + b.trace() - 2 * root
    assert frechet_distance(one, other) == pytest.approx(expected.item(), rel=1e-9)
    assert frechet_distance(one, one.flip(0)) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(one, one + 3) == pytest.approx(45.0)


def test_features_are_always_the_same():
    one = RandomFeatures(3)
    torch.manual_seed(5)
    other, images = RandomFeatures(3), torch.rand(5, 3, 16, 16)
    assert torch.equal(one.of([images]), other.of([images])) and one.of([images]).shape == (5, 64)
    torch.testing.assert_close(one.of([images]), one.of([images[:2], images[2:]]))


def test_the_arc_keeps_the_length_of_latents():
    ends = torch.nn.functional.normalize(torch.randn(2, 3, 8), dim=-1) * 2.5
    found = on_the_arc(*ends, 7)
    torch.testing.assert_close(found[:, 0], ends[0])
    torch.testing.assert_close(found[:, -1], ends[1])
    torch.testing.assert_close(found.norm(dim=-1), torch.full((3, 7), 2.5))
    torch.testing.assert_close(on_the_arc(ends[0], ends[0], 3)[:, 1], ends[0])


# ---- a run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("gan") / "run"
    run(main, GANSettings, [*ARGUMENTS, "--output_dir", str(out)])
    return out


def test_a_run_leaves_pictures_and_a_distance_beside_its_floor_and_ceiling(finished):
    report = json.loads((finished / "report.json").read_text())
    rows = report["own_task"]["rows"]
    assert list(rows) == ["this run", "training images", "Gaussian of PCA (64)"]
    assert 0 < rows["training images"][DISTANCE] < rows["Gaussian of PCA (64)"][DISTANCE] < rows["this run"][DISTANCE]
    assert TOLD in rows["this run"] and report["own_task"]["smaller"] == [DISTANCE]
    assert {"its code (8)", "its discriminator", "raw pixels", "random weights"} <= report["rows"].keys()
    assert (finished / ENCODED).is_file()
    with Image.open(finished / VIDEO) as video:
        assert video.n_frames == 72 and video.width == 192


def test_generator_and_discriminator_are_kept_beside_the_encoder(finished):
    model = GANForPreTraining.from_pretrained(finished / "pretraining")
    assert model.updates.item() == 3 and tuple(model.config.mean) == (0.5,)
    assert model.decode(torch.randn(2, 8)).shape == (2, 1, 16, 16)
    assert not torch.equal(model.generator.start.weight, model.kept_generator.start.weight)
    codes = torch.randn(2, 8)
    with torch.no_grad():
        expected = (model.decode(codes) * 255).round().to(torch.uint8)[:, 0].numpy()
    assert (hf_replearn.decode(finished, codes) == expected).all()
    assert hf_replearn.interpolate(finished, expected[0], expected[1], steps=5).shape == (5, 16, 16)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--image_size", "30"], "--image_size 30: 30 pixels cannot be halved 2 times, 28 or 32 can"),
        (["--image_size", "224"], "--image_size"),
        (["--gamma", "-1"], "--gamma"),
        (["--ema", "1"], "--ema"),
        (["--latents", "0"], "--latents"),
        (["--optimizer", "sgd"], "--optimizer"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(given, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run(main, GANSettings, [*ARGUMENTS, *given, "--output_dir", str(tmp_path / "run")])
    assert end.value.code == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.glob("run/checkpoint-*"))
