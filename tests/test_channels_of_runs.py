"""Runs on images of one channel and of five: the encoder, its export, and what judges it, are of as many."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits

import hf_replearn as hr
from hf_replearn import cli
from hf_replearn.data.decoding import stack_images
from hf_replearn.data.images import load_images
from hf_replearn.representation import ImagePreprocessor


def main(words: list[str]) -> int:
    """The exit code of a command."""
    try:
        return cli.main(words) or 0
    except SystemExit as end:
        return end.code or 0


NETWORK = ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 8, 16]}"]
WORDS = "--use_cpu --bf16 false --knn_steps 0 --stem imagenet --image_size 16 --shots 1 --draws 2 --max_steps 2"
SMALL = [*NETWORK, *WORDS.split(), "--per_device_train_batch_size", "8"]
QUICK = ["--use_cpu", "--train_examples", "60", "--test_examples", "20", "--shots", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """grey/ (8-bit PNG) and bands/ (float .npy), 80 digits in class folders; a run on each, out_grey and out_bands."""
    root = tmp_path_factory.mktemp("channels")
    images, labels = load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(images[:80].reshape(-1, 8, 8) / 16, labels, strict=False)):
        for kind in ("grey", "bands"):
            (root / kind / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).astype(np.uint8)).save(root / "grey" / str(label) / f"{number}.png")
        bands = np.stack([image, 1 - image, image / 2, image**2, image.T]).astype(np.float32)
        np.save(root / "bands" / str(label) / f"{number}.npy", bands)
    for name, options in (("grey", ["--channels", "1"]), ("bands", ["--channels", "5", "--value_range", "0,1"])):
        told = ["--dataset", str(root / name), "--output_dir", str(root / f"out_{name}"), "--save_steps", "1"]
        assert main(["simclr", *SMALL, *options, *told]) == 0
    return root


@pytest.mark.parametrize(("name", "channels", "value_range"), [("grey", 1, None), ("bands", 5, (0, 1))])
def test_the_export_is_a_network_of_timm_with_the_features_that_were_trained(made, name, channels, value_range):
    out = made / f"out_{name}"
    network = timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=0).eval()
    assert network.conv1.weight.shape[1] == channels
    known = network.pretrained_cfg
    assert tuple(known["input_size"]) == (channels, 16, 16) and list(known["std"]) == [0.5] * channels
    from hf_replearn.methods.simclr import SimCLRForPreTraining

    trained = SimCLRForPreTraining.from_pretrained(out / "pretraining").eval().model.encoder
    rows = load_images(str(made / name), channels=channels, value_range=value_range).test.select(range(8))
    batch = ImagePreprocessor(16, (0.5,) * channels, (0.5,) * channels)([*rows])
    with torch.no_grad():
        assert torch.equal(network(batch), trained(batch)) and network(batch).std(0).max() > 0
    pixels = stack_images([*rows], canvas=16)[0]
    with torch.no_grad():  # what a user of plain timm does with tensors
        theirs = network(timm.data.create_transform(**timm.data.resolve_model_data_config(network))(pixels / 255))
    torch.testing.assert_close(theirs, trained(batch), atol=1e-4, rtol=1e-4)
    report = json.loads((out / "report.json").read_text())
    assert report["encoder"]["input_size"] == [channels, 16, 16] and report["rows"]["raw pixels"]
    assert (out / "augmentations.png").exists()


def test_what_is_left_out_is_said(made, capsys):
    assert (
        main(
            ["simclr", *SMALL, "--channels", "1", "--dataset", str(made / "grey"), "--output_dir", str(made / "again")]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "images of 1 channel(s): saturation, hue and grey, which need colours, are left out of views" in said
    assert "mean and standard deviation are taken for 0.5" in said


def test_a_checkpoint_is_exported_and_another_run_starts_from_the_encoder(made, capsys):
    assert (
        main(["export", "--checkpoint", str(made / "out_bands/checkpoint-1"), "--output_dir", str(made / "one")]) == 0
    )
    assert timm.create_model(f"local-dir:{made / 'one'}", pretrained=True).conv1.weight.shape[1] == 5
    start = [
        "--backbone",
        str(made / "out_bands"),
        "--backbone_args",
        "none",
        "--dataset",
        str(made / "bands"),
        "--value_range",
        "0,1",
    ]
    for options, code in ((["--channels", "5"], 0), ([], 2), (["--channels", "4"], 2)):
        told = ["simclr", *SMALL, *start, *options, "--output_dir", str(made / f"next{len(options)}{code}")]
        assert main(told) == code
        if code:
            error = capsys.readouterr().err.strip().splitlines()[-1]
            assert error.endswith("takes images of 5 channel(s): say --channels 5")


def evaluate(out, *told) -> dict:
    assert main(["evaluate", *QUICK, *map(str, told), "--output_dir", str(out)]) == 0
    return json.loads((out / "report.json").read_text())


def test_encoders_are_judged_on_images_of_their_channels(made):
    found = evaluate(made / "eval5", "--model", made / "out_bands", "--dataset", made / "bands", "--value_range", "0,1")
    assert set(found["rows"]) == {"out_bands", "random weights", "raw pixels", "PCA of pixels"}
    assert found["encoders"]["raw pixels"]["features"] == f"{5 * 32 * 32:,}"
    assert 0 <= found["rows"]["out_bands"]["knn@20"] <= 1


def test_encoders_of_other_channels_beside_one_another(made, capsys):
    """Greys are read as RGB by one, with their one channel by the other; raw pixels are those of the data as RGB."""
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=0), str(made / "rgb"))
    both = ["--model", made / "out_grey", "--model", made / "rgb", "--baselines", "false"]
    found = evaluate(made / "eval13", *both, "--dataset", made / "grey")
    alone = evaluate(made / "eval1", "--model", made / "out_grey", "--dataset", made / "grey", "--baselines", "false")
    assert found["rows"]["out_grey"] == alone["rows"]["out_grey"]
    for label in range(2):
        (made / "colours" / str(label)).mkdir(parents=True)
        for number in range(10):
            noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(noise).save(made / "colours" / str(label) / f"{number}.png")
    told = [*QUICK, *map(str, both), "--dataset", str(made / "colours"), "--output_dir", str(made / "no")]
    capsys.readouterr()
    assert main(["evaluate", *told]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "out_grey takes images of 1 channel(s), which 16 of 16 have not" in error and "in colour" in error


def test_features_and_fine_tuning_of_five_channels(made):
    data = ["--dataset", str(made / "bands"), "--value_range", "0,1", "--use_cpu"]
    assert main(["encode", "--model", str(made / "out_bands"), *data, "--output", str(made / "five.npz")]) == 0
    with np.load(made / "five.npz") as found:
        assert found["train"].shape[1] == 16 and len(found["train"]) + len(found["test"]) == 80
    told = ["--model", str(made / "out_bands"), *data, "--mode", "linear", "--output_dir", str(made / "tuned")]
    assert main(["finetune", *told, "--seeds", "1", "--bf16", "false"]) == 0
    assert json.loads((made / "tuned/scores.json").read_text())["runs"]


def test_data_of_other_channels_than_told(made, capsys):
    for data, options, said in [
        ("grey", ["--channels", "5"], "1 channel, not 5"),
        ("bands", ["--channels", "4", "--value_range", "0,1"], "has not 4 channel(s)"),
        ("bands", ["--value_range", "0,1"], "say how many there are with --channels"),
        ("bands", ["--channels", "5"], "80 of 80 images are of float32, of levels 0 to 1"),
        ("grey", ["--channels", "0"], "--channels must be"),
    ]:
        told = [*SMALL, "--dataset", str(made / data), *options, "--output_dir", str(made / "refused")]
        assert main(["simclr", *told]) == 2
        assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_arrays_of_a_notebook(made):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 7, 5), dtype=np.uint8)
    report = hr.evaluate(
        {"mine": str(made / "out_bands")}, dataset=[(image, number % 2) for number, image in enumerate(images)],
        use_cpu=True, shots=(1,), baselines=False,
    )  # fmt: skip
    assert report.rows["mine"]
