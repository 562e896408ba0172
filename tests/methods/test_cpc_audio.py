"""CPC on sounds: no context hears what comes later, no more is told than there is to tell, and a run leaves an encoder
that loads without this package."""

import hashlib
import json
import math
import shutil

import elsewhere
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from transformers import AutoFeatureExtractor, AutoModel

import hf_replearn.pretraining.sounds as story
from hf_replearn.data.sounds import load_sounds
from hf_replearn.encoders.inputs import SoundInputs
from hf_replearn.evaluation.spectra import BANDS, MelSpectrum
from hf_replearn.methods.cpc import info_nce as of_patches
from hf_replearn.methods.cpc_audio import CPCAudioConfig, CPCAudioForPreTraining
from hf_replearn.methods.cpc_audio.modeling_cpc_audio import info_nce
from hf_replearn.methods.cpc_audio.showing_cpc_audio import own_task
from hf_replearn.pretraining.sounds import RandomWindows, feature_extractor
from hf_replearn.randomness import Place
from hf_replearn.recipes.cpc_audio import CPCAudioSettings, main
from hf_replearn.settings import run

RATE = 8000
NETWORK = {"kernels": (8, 4), "strides": (4, 2), "channels": 16, "context_dim": 12, "steps_ahead": 3}
SMALL = CPCAudioConfig(sampling_rate=RATE, **NETWORK)  # a frame of 8 samples


@pytest.fixture
def model():
    torch.manual_seed(0)
    return CPCAudioForPreTraining(SMALL)


# ---- the objective


def test_a_fresh_model_is_at_chance(model):
    for config in (SMALL, CPCAudioConfig(channels=64, context_dim=32)):
        waves = torch.rand(4, 40 * config.hop) - 0.5
        loss = CPCAudioForPreTraining(config)(waves).loss
        assert loss.item() == pytest.approx(math.log(4 * 40), abs=0.05)


def test_the_right_frame_is_so_many_steps_on():
    """As the objective of images has it, with the numbers of the right frames written out."""
    predictions, frames = torch.randn(2, 5, 7), torch.randn(2, 5, 7)
    right = torch.tensor([2, 3, 4, 7, 8, 9])  # of the sounds 0...4 and 5...9, two steps on
    told = torch.cat([predictions[0, :3], predictions[1, :3]])
    assert info_nce(predictions, frames, 2).item() == pytest.approx(
        of_patches(told, frames.flatten(0, 1), right).item()
    )
    assert info_nce(torch.zeros(2, 5, 7), frames, 1).item() == pytest.approx(math.log(10))


def test_no_context_hears_a_later_sample(model):
    waves = torch.rand(2, 20 * 8) - 0.5
    for changed in (0, 8 * 11, 8 * 12 - 1, 8 * 20 - 1):
        others = waves.clone()
        others[:, changed:] = torch.rand(2, 20 * 8 - changed) - 0.5
        with torch.no_grad():
            first, second = (model.model(given).last_hidden_state for given in (waves, others))
        assert first.shape == (2, 20, 12)
        frame = changed // 8  # which ends with the sample 8 frame + 7
        assert torch.equal(first[:, :frame], second[:, :frame])
        assert not torch.equal(first[:, frame], second[:, frame])


def test_sounds_know_nothing_of_each_other_nor_of_their_padding(model):
    extractor = feature_extractor(RATE)
    waves = [np.random.default_rng(seed).uniform(-0.5, 0.5, count) for seed, count in ((0, 160), (1, 67))]
    with torch.no_grad():
        together = model.eval().model(**extractor(waves, sampling_rate=RATE, padding=True, return_tensors="pt"))
        for number, wave in enumerate(waves):
            alone = model.model(torch.tensor(wave, dtype=torch.float32)[None])
            torch.testing.assert_close(together.pooler_output[number], alone.pooler_output[0], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(alone.pooler_output[0], alone.last_hidden_state[0].mean(0))


def train(loss_of, parameters, *, steps, lr):
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        optimizer.step()
    return loss.item()


def test_eight_sounds_are_learnt_by_heart(model):
    waves = torch.rand(8, 8 * 8) - 0.5
    assert train(lambda _: model(waves).loss, model.parameters(), steps=90, lr=1e-2) < 0.3


def test_of_a_sequence_no_more_is_told_than_its_mutual_information():
    """AR(1), x' = rho x + noise, a value a frame: a step on, context and value share -ln(1 - rho^2) / 2 nats."""
    rho, length, rng = 0.9, 8, torch.Generator().manual_seed(0)
    config = CPCAudioConfig(kernels=(1,), strides=(1,), channels=16, context_dim=16, steps_ahead=1)
    model = CPCAudioForPreTraining(config)
    # normalisation would leave nothing but the sign of a single number
    model.model.frames[0].norm = torch.nn.Identity()

    def told(_):
        values = [torch.randn(32, generator=rng)]
        for _ in range(length - 1):
            values.append(rho * values[-1] + math.sqrt(1 - rho**2) * torch.randn(32, generator=rng))
        return model(torch.stack(values, 1)).loss

    train(told, model.parameters(), steps=200, lr=1e-2)
    with torch.no_grad():
        found = math.log(32 * length) - sum(told(0).item() for _ in range(20)) / 20
    there_is = -math.log(1 - rho**2) / 2
    assert 0.5 * there_is < found < 1.05 * there_is


def test_noise_stays_at_chance(model):
    """New noise each time, whose frames have nothing in common three steps on: the field of a frame is 20 samples."""

    def losses(seed):
        return model(torch.rand(16, 128, generator=torch.Generator().manual_seed(seed)) - 0.5)

    train(lambda step: losses(step).loss, model.parameters(), steps=40, lr=3e-3)
    with torch.no_grad():
        assert losses(1000).losses[2].item() > math.log(16 * 16) - 0.02


def test_own_task_says_what_the_losses_are(model):
    batches = [{"input_values": torch.rand(count, 80) - 0.5} for count in (4, 2)]
    with torch.no_grad():
        own = own_task(model, batches)
        losses = [model(**batch).losses for batch in batches]
    assert own.rows["this run"]["loss (nats)"] == pytest.approx(
        (4 * losses[0].mean().item() + 2 * losses[1].mean().item()) / 6, rel=1e-5
    )
    chance = (4 * math.log(40) + 2 * math.log(20)) / 6
    assert own.rows["chance"] == {"loss (nats)": pytest.approx(chance), "told (nats)": 0}
    assert own.rows["this run, the farthest (3 ms on)"]["loss (nats)"] == pytest.approx(
        (4 * losses[0][2].item() + 2 * losses[1][2].item()) / 6, rel=1e-5
    )
    assert own.rows["who knows the sound, not the place"]["loss (nats)"] == pytest.approx(math.log(10))


# ---- what is learnt from, and what is to be beaten


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two classes of twelve sounds, hums and hisses, of 0.1 to 0.2 s."""
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for label in ("hiss", "hum"):
        (folder / label).mkdir()
        for number in range(12):
            time = np.arange(800 + 70 * number) / RATE
            tone = np.sin(2 * np.pi * rng.uniform(150, 250) * time) * (label == "hum")
            wave = (tone + rng.normal(size=len(time)) * (0.05 if label == "hum" else 0.5)) / 4
            wavfile.write(folder / label / f"{number}.wav", RATE, (wave.clip(-1, 1) * 32767).astype(np.int16))
    return folder


def test_windows_lie_anywhere_in_a_sound_and_all_of_it_is_learnt_from(tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, np.arange(1050, dtype=np.int16))
    wavfile.write(tmp_path / "b.wav", RATE, np.arange(5000, 5100, dtype=np.int16))
    windows = RandomWindows(100)
    rows = windows.pieces(load_sounds(str(tmp_path)).train)
    assert rows["start"] == [*range(0, 1000, 100), 0] and rows["reach"] == [200] * 9 + [150, 100]
    assert rows.column_names == ["audio", "start", "reach"]
    batch = windows([rows[number] for number in (0, 9, 10)])
    assert batch["waves"].shape == (3, 200) and batch["room"].tolist() == [100, 50, 0]
    firsts = []
    for step in range(300):
        found = (windows.views(batch, Place(0, step))["input_values"] * 2**15).round().int()
        assert torch.equal(found, found[:, :1] + torch.arange(100))
        firsts.append(found[:, 0].tolist())
    first, ninth, other = map(set, zip(*firsts, strict=True))
    assert min(first) == 0 and max(first) == 100 and (min(ninth), max(ninth)) == (900, 950) and other == {5000}


def test_the_spectrum_of_a_tone_is_where_it_is_however_long_the_padding():
    time = np.arange(RATE) / RATE
    waves = [0.5 * np.sin(2 * np.pi * 440 * time[:4000]), 0.1 * np.sin(2 * np.pi * 2000 * time)]
    inputs = feature_extractor(RATE)(waves, sampling_rate=RATE, padding=True, return_tensors="pt")
    both = MelSpectrum(RATE, deviation=True)(inputs)
    assert both.shape == (2, 2 * BANDS)
    centres = np.linspace(0, 15 + 27 * math.log(4) / math.log(6.4), BANDS + 2)[1:-1]  # Slaney's mel of 4,000 Hz
    for number, mel in enumerate((440 * 3 / 200, 15 + 27 * math.log(2) / math.log(6.4))):
        assert abs(centres[both[number, :BANDS].argmax()] - mel) < 1
        alone = feature_extractor(RATE)([waves[number]], sampling_rate=RATE, padding=True, return_tensors="pt")
        torch.testing.assert_close(MelSpectrum(RATE, deviation=True)(alone)[0], both[number], rtol=1e-3, atol=1e-3)
        assert both[number, BANDS + both[number, :BANDS].argmax()] < 0.01  # a steady tone does not vary there


# ---- a run

SHORT = ["--window", "400", "--kernels", "8,8", "--strides", "4,4", "--channels", "16", "--context_dim", "12"]
SHORT += ["--steps_ahead", "3", "--per_device_train_batch_size", "8", "--max_steps", "3", "--save_steps", "2"]
SHORT += ["--draws", "2", "--use_cpu", "--bf16", "false", "--dataloader_num_workers", "0"]


def start(*arguments: str) -> int:
    try:
        run(main, CPCAudioSettings, [*SHORT, *arguments])
    except SystemExit as end:
        return end.code
    return 0


def digest(out) -> str:
    return hashlib.sha256((out / "pretraining" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def ran(sounds, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert start("--dataset", str(sounds), "--output_dir", str(out)) == 0
    return out


def test_a_run_leaves_report_card_and_picture(ran):
    report = json.loads((ran / "report.json").read_text())
    spectra = ["mel spectrum, mean over time (40)", "mel spectrum, mean and deviation (80)"]
    assert list(report["rows"]) == ["CPC", *spectra, "random weights"]
    assert report["rows"][spectra[0]]["linear"] == 1.0  # hums and hisses are easily told
    assert list(report["own_task"]["rows"])[0] == "this run" and "sounds held out" in report["own_task"]["told"]
    assert report["data"] | {"name": ""} == report["data"] | {"name": "", "unit": "sound", "train": 19, "test": 5}
    assert {"told.png"} <= report["figures"].keys() and (ran / "report.html").exists()
    card = (ran / "README.md").read_text()
    assert "19 sounds of" in card and "windows of 400 samples" in card and "AutoFeatureExtractor" in card


def test_the_card_says_how_to_use_it(ran, monkeypatch):
    import re

    first, second = re.findall(r"```python\n(.*?)```", (ran / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(ran.parent.parent)
    names: dict = {}
    for snippet in (first, second):
        exec(re.sub(r'from_pretrained\("[^"]*"', f'from_pretrained("{ran}"', snippet), names)
    assert names["features"].shape == (1, 12) and names["contexts"].shape == (1, 500, 12)
    assert type(names["model"]).__name__ == "CPCAudioForPreTraining"


def test_a_run_that_was_killed_goes_on_bit_for_bit(ran, sounds, tmp_path, monkeypatch):
    again = tmp_path / "run"
    shutil.copytree(ran, again)
    shutil.rmtree(again / "checkpoint-3")  # as if it had been killed after the second step
    shutil.rmtree(again / "pretraining")
    monkeypatch.setattr(story.images, "has_test_labels", lambda data: False)  # judged it was before
    monkeypatch.setattr(story, "show_own_task", lambda *args, **kwargs: None)
    assert start("--dataset", str(sounds), "--output_dir", str(again)) == 0
    assert digest(again) == digest(ran)


def test_the_code_travels_with_the_weights(ran, sounds, tmp_path):
    """In a process without this package: the features of two sounds of several lengths, and the loss."""
    code = """
import sys
import numpy as np, torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining
folder, sounds, out = sys.argv[1:]
extractor = AutoFeatureExtractor.from_pretrained(folder)
encoder = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
waves = [array for array in np.load(sounds).values()]
inputs = extractor(waves, sampling_rate=extractor.sampling_rate, padding=True, return_tensors="pt")
model = AutoModelForPreTraining.from_pretrained(folder + "/pretraining", trust_remote_code=True).eval()
with torch.no_grad():
    found = {"features": encoder(**inputs).pooler_output, "loss": model(inputs["input_values"]).loss}
torch.save(found, out)
"""
    rows = load_sounds(str(sounds)).train.select([0, 7])
    inputs = SoundInputs(feature_extractor(RATE))([rows[0], rows[1]])
    waves = [wave[mask.bool()].numpy() for wave, mask in zip(*inputs.values(), strict=True)]
    np.savez(tmp_path / "waves.npz", *waves)
    elsewhere.run(code, ran, tmp_path / "waves.npz", tmp_path / "found.pt", folder=tmp_path)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    with torch.no_grad():
        here = AutoModel.from_pretrained(ran)(**inputs).pooler_output
        loss = CPCAudioForPreTraining.from_pretrained(ran / "pretraining").eval()(inputs["input_values"]).loss
    assert torch.equal(found["features"], here) and torch.equal(found["loss"], loss)
    assert AutoFeatureExtractor.from_pretrained(ran).sampling_rate == RATE


def test_the_encoder_of_a_checkpoint_is_exported(ran, tmp_path):
    from hf_replearn.recipes.export import ExportSettings
    from hf_replearn.recipes.export import main as export

    export(ExportSettings(checkpoint=str(ran / "checkpoint-3"), output_dir=str(tmp_path / "out")))
    first, second = (AutoModel.from_pretrained(folder).state_dict() for folder in (ran, tmp_path / "out"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "out").sampling_rate == RATE


def test_labels_are_of_no_use_to_the_training(ran, sounds, tmp_path, monkeypatch):
    """The same sounds without classes, all to learn from but those held out, give the same weights."""
    flat = tmp_path / "flat"
    for split, rows in (("train", load_sounds(str(sounds)).train), ("test", load_sounds(str(sounds)).test)):
        (flat / split).mkdir(parents=True)
        for number, audio in enumerate(rows["audio"]):
            shutil.copy(audio["path"], flat / split / f"{number:02}.wav")
    monkeypatch.setattr(story, "show_own_task", lambda *args, **kwargs: None)
    assert start("--dataset", str(flat), "--output_dir", str(tmp_path / "run")) == 0
    assert digest(tmp_path / "run") == digest(ran)
    assert json.loads((tmp_path / "run" / "report.json").read_text())["rows"] == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--window", "40"], "--window 40: 2 frames of 16 samples, .* say --window 96, or a smaller --steps_ahead"),
        (["--window", "900"], "cannot be used, more than --max_unusable 0.01: .* and 900 are needed: say a smaller"),
        (["--strides", "4"], r"kernels \[8, 8\] and strides \[4\]: each convolution has one of both"),
        (["--strides", "4,9"], "a stride is no larger than its kernel"),
        (["--per_device_train_batch_size", "64"], "a batch of 64 windows is larger than the data"),
        (["--sampling_rate", "16000"], "sounds of 16,000 Hz are wanted, and 24 sounds of .* of other rates"),
        (["--dataset", "no/such/folder"], "there is no folder or file 'no/such/folder'"),
        (["--dataset", "toy-scenes"], "sounds are read from a folder of .wav or .npy files, or toy-tones"),
        (["--shots", "99"], "99"),
    ],
)
def test_what_cannot_be_learnt_from_is_told_in_one_line(arguments, told, sounds, tmp_path, capsys):
    import re

    assert start("--dataset", str(sounds), "--output_dir", str(tmp_path / "run"), *arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and re.search(told, error.splitlines()[-1]), error
    assert not list(tmp_path.glob("run/checkpoint-*"))
