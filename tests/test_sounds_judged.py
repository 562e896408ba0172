"""Encoders of sounds under `encode` and `evaluate`: their own features, of sounds that they hear as they are."""

import importlib
import json

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

import hf_replearn as hr
from hf_replearn.data.sounds import load_sounds
from hf_replearn.errors import InputError
from hf_replearn.methods.cpc_audio import CPCAudioConfig, CPCAudioModel
from hf_replearn.pretraining.sounds import write_model
from hf_replearn.settings import run

RATE = 4000
QUICK = ["--suite", "quick", "--shots", "1"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    config = CPCAudioConfig(sampling_rate=RATE, kernels=(8, 4), strides=(4, 2), channels=16, context_dim=12)
    folder = tmp_path_factory.mktemp("models") / "heard"
    write_model(CPCAudioModel(config), folder)
    return str(folder)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two classes, hums and hisses, ten of each to learn from and five to test on, of several lengths."""
    root, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for split, count in (("train", 10), ("test", 5)):
        for label in ("hiss", "hum"):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                time = np.arange(400 + 30 * number) / RATE
                tone = np.sin(2 * np.pi * rng.uniform(150, 250) * time) * (label == "hum")
                wave = (tone + rng.normal(size=len(time)) * (0.05 if label == "hum" else 0.5)) / 4
                levels = (wave.clip(-1, 1) * 32767).astype(np.int16)
                wavfile.write(root / split / label / f"{number}.wav", RATE, levels)
    return root


def waves_of(folder) -> list[np.ndarray]:
    """In the order of a folder by classes."""
    return [wavfile.read(path)[1] for path in sorted(folder.rglob("*.wav"))]


def command(name: str, *arguments) -> int:
    recipe = importlib.import_module(f"hf_replearn.recipes.{name}")
    settings = {"encode": "EncodeSettings", "evaluation": "EvaluateSettings"}[name]
    try:
        run(recipe.main, getattr(recipe, settings), ["--use_cpu", *map(str, arguments)])
    except SystemExit as end:
        return end.code
    return 0


# ---- features


def test_features_are_those_of_the_network_for_each_sound_alone(encoder, sounds):
    waves, network = waves_of(sounds / "test"), CPCAudioModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        given = [torch.from_numpy(wave / 2**15).float()[None] for wave in waves]
        found = [network(wave, output_hidden_states=True) for wave in given]
    contexts = torch.cat([states.last_hidden_state.mean(1) for states in found]).numpy()
    frames = torch.cat([states.hidden_states[0].mean(1) for states in found]).numpy()
    as_floats = [(wave / 2**15).astype(np.float32) for wave in waves]
    files = load_sounds(str(sounds)).test
    for data in (waves, as_floats, files):
        assert np.abs(hr.encode(encoder, data, use_cpu=True) - contexts).max() < 1e-5
    np.testing.assert_allclose(hr.encode(encoder, waves, layer="frames", use_cpu=True), frames, atol=1e-5)
    own = hr.encode(lambda sounds: [[wave.mean(), wave.std()] for wave in sounds], waves)
    np.testing.assert_allclose(own, [[wave.mean(), wave.std()] for wave in as_floats], atol=1e-6)


def test_a_network_of_transformers_hears_too(sounds, tmp_path):
    """wav2vec 2.0, whose frames are shorter than strides: each sound as alone, brought to mean 0 and deviation 1."""
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, do_stable_layer_norm=True, feat_extract_norm="layer",
    )  # fmt: skip
    torch.manual_seed(0)
    network = Wav2Vec2Model(config).eval()
    network.save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True).save_pretrained(tmp_path)
    waves = [wave / np.float32(2**15) for wave in waves_of(sounds / "test")]
    with torch.no_grad():
        scaled = [torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7))[None] for wave in waves]
        expected = torch.cat([network(wave.float()).last_hidden_state.mean(1) for wave in scaled])
    np.testing.assert_allclose(hr.encode(str(tmp_path), waves, use_cpu=True), expected, atol=1e-4)


def test_a_folder_becomes_arrays_in_its_order(encoder, sounds, tmp_path):
    """.npy files tell no rate, and get that of the encoder."""
    for split in ("train", "test"):
        for path in (sounds / split).rglob("*.wav"):
            folder = tmp_path / "arrays" / split / path.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{path.stem}.npy", wavfile.read(path)[1])
    for name, data in (("wav", sounds), ("npy", tmp_path / "arrays")):
        assert command("encode", "--model", encoder, "--dataset", data, "--output", tmp_path / f"{name}.npz") == 0
    wav, npy = (np.load(tmp_path / f"{name}.npz") for name in ("wav", "npy"))
    assert sorted(wav) == ["classes", "test", "test_labels", "train", "train_labels"]
    assert wav["classes"].tolist() == ["hiss", "hum"] and wav["test_labels"].tolist() == [0] * 5 + [1] * 5
    np.testing.assert_allclose(wav["test"], hr.encode(encoder, waves_of(sounds / "test"), use_cpu=True), atol=1e-5)
    assert all(np.array_equal(wav[part], npy[part]) for part in wav)


# ---- scores


@pytest.fixture(scope="module")
def report(encoder, sounds, tmp_path_factory):
    out = tmp_path_factory.mktemp("reports") / "all"
    asked = ["--model", encoder, "--dataset", sounds, "--layers", "all", "--output_dir", out]
    assert command("evaluation", *QUICK, *asked) == 0
    return out


def test_an_encoder_is_judged_beside_spectra_and_random_weights(report):
    told = json.loads((report / "report.json").read_text())
    spectra = ["mel spectrum, mean over time (40)", "mel spectrum, mean and deviation (80)"]
    assert list(told["rows"]) == ["heard", "random weights", *spectra]
    assert told["rows"][spectra[0]]["linear"] == 1.0  # hums and hisses are easily told
    assert told["task"]["unit"] == "sound" and (told["task"]["train"], told["task"]["test"]) == (20, 10)
    assert told["encoders"]["heard"]["layers"] == "0 frames, 1 block 1"
    assert [len(values) for values in told["layers"]["heard"].values()] == [2] * len(told["layers"]["heard"])
    assert (report / "report.html").read_text().count("data:image/png") > 20  # the spectra of the nearest sounds


def test_scores_are_those_of_the_same_features_as_arrays(report, sounds, encoder, tmp_path):
    assert command("encode", "--model", encoder, "--dataset", sounds, "--output", tmp_path / "own.npz") == 0
    given = {"same": str(tmp_path / "own.npz"), "model": encoder}
    found = hr.evaluate(given, dataset=str(sounds), shots=(1,), baselines=False, use_cpu=True)
    assert found.rows["same"] == pytest.approx(found.rows["model"])
    judged = json.loads((report / "report.json").read_text())["rows"]["heard"]
    assert found.rows["model"]["linear"] == pytest.approx(judged["linear"])


def test_a_file_that_changed_is_heard_again(encoder, sounds, tmp_path):
    """Features are kept by what is in the files, not by their names."""
    import shutil

    data = tmp_path / "data"
    shutil.copytree(sounds, data)
    first = hr.evaluate(encoder, dataset=str(data), shots=(1,), baselines=False, use_cpu=True)
    for number, path in enumerate(sorted((data / "train").rglob("*.wav"))):
        noise = np.random.default_rng(number).normal(0, 3000, len(wavfile.read(path)[1])).astype(np.int16)
        wavfile.write(path, RATE, noise)
    second = hr.evaluate(encoder, dataset=str(data), shots=(1,), baselines=False, use_cpu=True)
    assert first.properties != second.properties or first.rows != second.rows


def test_runs_of_images_are_left_out_of_sounds(encoder, sounds, tmp_path, resnet):
    out = tmp_path / "out"
    asked = ["--runs", encoder, resnet, "--dataset", sounds, "--baselines", "false", "--output_dir", out]
    assert command("evaluation", *QUICK, *asked) == 0
    told = json.loads((out / "report.json").read_text())
    assert list(told["rows"]) == ["heard"]
    assert "resnet is an encoder of images, and these are sounds" in " ".join(told["task"]["notes"])


# ---- what is refused


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    import timm

    from hf_replearn.sharing.export import export_timm

    folder = tmp_path_factory.mktemp("models") / "resnet"
    network = timm.create_model("test_resnet", num_classes=0)
    export_timm(network, folder, architecture="test_resnet", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    return str(folder)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--dataset", "SOUNDS", "--finetune", "1"], "--finetune is of images and texts, and these are sounds"),
        (["--dataset", "SOUNDS", "--label_type", "numbers"], "the labels of sounds are classes"),
        (["--dataset", "SOUNDS", "--sampling_rate", "8000"], "sounds of 8,000 Hz are wanted, and 30 sounds"),
        (["--dataset", "toy-tones"], "sounds of 4,000 Hz are wanted, and 750 sounds of 'toy-tones' of other rates"),
        (["--dataset", "toy-tones", "--sampling_rate", "8000"], "hears sounds of 4,000 Hz, and these are of 8,000 Hz"),
        (["--dataset", "toy", "--model", "RESNET"], "heard is an encoder of sounds, and these are images"),
        (["--dataset", "FLAT"], "have no labels to learn: put them into folders by class"),
    ],
)
def test_what_cannot_be_judged_is_told_in_one_line(more, told, encoder, resnet, sounds, tmp_path, capsys):
    (tmp_path / "flat").mkdir()
    for number, wave in enumerate(waves_of(sounds / "test")):
        wavfile.write(tmp_path / "flat" / f"{number}.wav", RATE, wave)
    places = {"SOUNDS": str(sounds), "RESNET": resnet, "FLAT": str(tmp_path / "flat")}
    more = [places.get(word, word) for word in more]
    assert command("evaluation", *QUICK, "--model", encoder, *more, "--output_dir", tmp_path / "out") == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "out" / "report.json").exists()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([np.full(100, 2.0)], "sound 0 cannot be used: samples up to 2, beyond -1...1"),
        ([np.zeros(100, np.int16), "hum"], "of several kinds, sound, text"),
        ([np.zeros(100, np.int64)], "sound 0 cannot be used: int64 is not read"),
    ],
)
def test_arrays_that_are_no_sounds_are_refused(data, told, encoder):
    with pytest.raises(InputError, match=told):
        hr.encode(encoder, data, use_cpu=True)


def test_files_of_another_rate_are_refused(encoder):
    with pytest.raises(InputError, match=r"sound 0 is of 8,000 Hz, and the encoder hears 4,000 Hz"):
        hr.encode(encoder, load_sounds("toy-tones").test.select(range(2)), use_cpu=True)
