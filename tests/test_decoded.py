"""hr.decode and hr.interpolate: images of numbers, the ends of the way are the images made again."""

import numpy as np
import pytest
import torch
from PIL import Image

import hf_replearn as hr
from hf_replearn.errors import InputError
from hf_replearn.methods.vae import VAEConfig, VAEForPreTraining
from hf_replearn.sharing.export import export_own, export_timm, save_native

SIDE, LATENTS = 8, 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of grey images, as `hf-replearn vae` leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    torch.manual_seed(0)
    dense = {"backbone": "dense", "backbone_args": {"widths": [16], "in_chans": 1, "img_size": SIDE}}
    model = VAEForPreTraining(VAEConfig(**dense, latents=LATENTS, image_size=SIDE)).eval()
    export_own(model.model, folder, image_size=SIDE, channels=1, mean=(0.0,), std=(1.0,))
    save_native(model, folder / "pretraining")
    return folder


@pytest.fixture(scope="module")
def of_colours(tmp_path_factory):
    """A convolutional run on RGB images, normalised with other numbers."""
    folder = tmp_path_factory.mktemp("runs") / "colours"
    torch.manual_seed(0)
    arguments = {"layers": [1] * 4, "channels": [8] * 4}
    config = VAEConfig(backbone="resnet18", backbone_args=arguments, latents=LATENTS, image_size=32)
    model = VAEForPreTraining(config).eval()
    about = {"architecture": "resnet18", "arguments": arguments, "mean": (0.4,) * 3, "std": (0.2,) * 3}
    export_timm(model.model.encoder, folder, image_size=32, **about)
    save_native(model, folder / "pretraining")
    return folder


def images(*shape: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8))


def test_codes_become_the_images_that_the_decoder_makes(run):
    model = VAEForPreTraining.from_pretrained(run / "pretraining").eval()
    codes = np.random.default_rng(0).normal(size=(5, LATENTS))
    with torch.no_grad():
        expected = model.decode(torch.tensor(codes, dtype=torch.float32))[:, 0].numpy()
    for given in (codes, codes.tolist(), torch.tensor(codes, requires_grad=True)):
        found = hr.decode(run, given)
        assert found.shape == (5, SIDE, SIDE) and found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.round(expected * 255).astype(np.uint8))


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (32, 32, 3)])
def test_the_way_goes_in_equal_steps_between_the_codes(shape, run, of_colours):
    folder = run if len(shape) == 2 else of_colours
    first, last = images(*shape)
    found = hr.interpolate(folder, first, Image.fromarray(last), steps=5)
    assert found.shape == (5, *shape)
    model = VAEForPreTraining.from_pretrained(folder / "pretraining").eval()
    pixels = torch.from_numpy(np.stack([first, last])).float().view(2, *shape[:2], -1).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        codes = model.codes((pixels - 0.4) / 0.2 if len(shape) == 3 else pixels).numpy()
    expected = hr.decode(folder, [codes[0] + share * (codes[1] - codes[0]) for share in (0, 0.25, 0.5, 0.75, 1)])
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "codes, said",
    [
        (np.zeros((2, 4)), r"takes \(N, 3\)"),
        (np.zeros(3), r"takes \(N, 3\)"),
        (np.zeros((0, 3)), r"takes \(N, 3\)"),
        ([[1, 2, float("nan")]], "1 of 1 codes are NaN"),
        ([["a", "b", "c"]], "must be numbers"),
        ([[1, 2, 3], [1, 2]], "must be numbers"),
    ],
)
def test_what_are_no_codes_is_refused(codes, said, run):
    with pytest.raises(InputError, match=said):
        hr.decode(run, codes)


def test_what_has_no_decoder_is_refused(run, tmp_path):
    import timm

    network = timm.create_model("test_resnet", num_classes=0)
    export_timm(network, tmp_path, architecture="test_resnet", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    first, last = images(32, 32, 3)
    for ask in (lambda: hr.interpolate(tmp_path, first, last), lambda: hr.decode(tmp_path, [[0.0]])):
        with pytest.raises(InputError, match="no decoder of a code"):
            ask()
    with pytest.raises(InputError, match="no folder"):
        hr.decode(tmp_path / "nothing", [[0.0]])


@pytest.mark.parametrize("steps", [1, 0, 2.5, True, "9", 10**9])
def test_steps_are_whole_numbers_from_two(steps, run):
    with pytest.raises(InputError, match="steps="):
        hr.interpolate(run, *images(SIDE, SIDE), steps=steps)


def test_texts_are_no_images(run):
    with pytest.raises(InputError, match="is a text"):
        hr.interpolate(run, "a.png", "b.png")
    with pytest.raises(InputError, match="these are of several kinds, image, text"):
        hr.interpolate(run, images(SIDE, SIDE)[0], "b.png")
