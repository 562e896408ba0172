"""Sounds: each is read once, all have one rate, and what cannot be used is named."""

import numpy as np
import pytest
from scipy.io import wavfile

from hf_replearn.data.sounds import load_sounds, open_sound, read_wave
from hf_replearn.data.toy import tones
from hf_replearn.errors import InputError

RATE = 8000


@pytest.fixture
def sounds(tmp_path):
    """sounds("cat/0.wav dog/1.npy", …) writes these files, of random int16 samples unless others are given."""

    def make(names: str, samples=None, *, rate=RATE, seed=0):
        rng = np.random.default_rng(seed)
        for name in names.split():
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            wave = rng.integers(-3000, 3000, 400).astype(np.int16) if samples is None else samples
            np.save(path, wave) if path.suffix == ".npy" else wavfile.write(path, rate, wave)
        return str(tmp_path / "data")

    return make


def said(folder, **how):
    with pytest.raises(InputError) as error:
        load_sounds(folder, **how)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_class_folders_are_classes_and_a_fifth_is_held_out(sounds):
    folder = sounds(" ".join(f"{kind}/{number}.wav" for kind in ("dog", "cat") for number in range(10)))
    data = load_sounds(folder)
    assert (len(data.train), len(data.test), data.label_names) == (16, 4, ["cat", "dog"])
    assert sorted(data.test["label"]) == [0, 0, 1, 1] and data.sampling_rate == RATE
    assert set(data.train["samples"]) == {400} and data.test_source.startswith("4 of the 20 sounds of `train`")
    assert data.taken.startswith("train: 20 files, 16 sounds")
    ignored = load_sounds(folder, label_type="ignored")
    assert ignored.label_names is None and ignored.test is None and len(ignored.train) == 20
    assert ignored.fingerprint != data.fingerprint == load_sounds(folder).fingerprint


def test_splits_are_those_of_the_folders(sounds):
    folder = sounds("train/a/0.wav train/a/1.wav train/b/2.wav")
    sounds("test/a/3.wav test/b/4.wav", seed=1)
    data = load_sounds(folder)
    assert (len(data.train), len(data.test), data.test_source) == (3, 2, "split `test`")
    sounds("test/a/5.wav")  # the first of train, byte for byte
    assert "1 of 3 test sounds are byte-identical to training sounds" in load_sounds(folder).test_source


@pytest.mark.parametrize(
    ("kind", "silence", "loudest"),
    [("uint8", 128, 0), ("int16", 0, -(2**15)), ("int32", 0, -(2**31)), ("float32", 0, -1), ("float64", 0, -1)],
)
def test_samples_of_every_width_lie_in_minus_one_to_one(kind, silence, loudest, sounds):
    samples = np.array([silence, loudest, silence], dtype=kind)
    data = load_sounds(sounds("a.wav", samples))
    audio = data.train[0]["audio"]
    assert read_wave(audio).tolist() == [0.0, -1.0, 0.0] and read_wave(audio).dtype == np.float32
    assert read_wave(audio, 1, 1).tolist() == [-1.0]


def test_samples_of_24_bits_are_read(tmp_path):
    """Which scipy reads and does not write: a header by hand, and 0, half and the lowest level."""
    levels = b"".join(int(level).to_bytes(3, "little", signed=True) for level in (0, 2**22, -(2**23)))
    form = (
        b"fmt "
        + (16).to_bytes(4, "little")
        + b"".join(
            number.to_bytes(size, "little")
            for number, size in ((1, 2), (1, 2), (RATE, 4), (3 * RATE, 4), (3, 2), (24, 2))
        )
    )
    body = b"WAVE" + form + b"data" + len(levels).to_bytes(4, "little") + levels + b"\0"
    (tmp_path / "a.wav").write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    assert read_wave({"path": str(tmp_path / "a.wav"), "bytes": None}).tolist() == [0.0, 0.5, -1.0]


def test_one_file_is_data_too(sounds):
    folder = sounds("long.wav long.npy")
    assert len(load_sounds(folder + "/long.wav").train) == 1
    data = load_sounds(folder + "/long.npy", sampling_rate=44_100)
    assert data.sampling_rate == 44_100 and data.train["samples"] == [400]


def test_several_rates_are_refused_with_an_example_of_each(sounds):
    folder = sounds("a.wav b.wav")
    sounds("c.wav", rate=16_000)
    assert "several rates, 2 of 8,000 Hz (such as a.wav), 1 of 16,000 Hz (such as c.wav)" in said(folder)
    assert "sounds of 8,000 Hz are wanted, and 1 sound of 'data' of other rates, such as c.wav of 16,000 Hz" in said(
        folder, sampling_rate=8000
    )
    assert load_sounds(folder, files=["[ab].wav"]).sampling_rate == 8000


def test_several_channels_are_refused_or_their_mean_is_taken(sounds):
    folder = sounds("a.wav b.wav")
    sounds("c.wav", np.array([[1000, 3000], [0, -200]], dtype=np.int16))
    assert "1 sound of 'data' with several channels, such as c.wav with 2: say --stereo mean" in said(folder)
    data = load_sounds(folder, stereo="mean")
    assert read_wave(data.train[2]["audio"]).tolist() == [2000 / 2**15, -100 / 2**15]
    assert "1 sound of several channels: their mean is taken" in data.notes


def test_arrays_need_a_rate(sounds):
    folder = sounds("a.npy b.npy")
    assert ".npy files of 'data' do not tell their rate: say it with --sampling_rate" in said(folder)
    sounds("c.wav")
    both = said(folder, sampling_rate=RATE)
    assert "the 2 .npy files (a.npy, b.npy) or the 1 sound (c.wav)" in both and "--files" in both


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.array([0.1, np.nan], dtype=np.float32), "NaN or infinite samples"),
        (np.array([0.1, -np.inf]), "NaN or infinite samples"),
        (np.array([0.1, -300.0]), "samples up to 300, beyond -1...1"),
        (np.zeros((2, 400), dtype=np.int16), "an array of shape (2, 400), and a sound is (T,)"),
        (np.zeros(400, dtype=np.int64), "int64 is not read"),
        (np.zeros(400, dtype=np.uint8), "an array of uint8: int16 or floats in -1...1 are read"),
        (np.zeros(0, dtype=np.int16), "0 samples, and 2 are needed: say a smaller --window"),
        (np.array(["a"]), "is not read"),
        (np.array([{}], dtype=object), "Python objects"),
    ],
)
def test_what_is_no_sound_is_named_with_the_reason(samples, reason, sounds):
    folder = sounds("good.npy also.npy fine.npy")
    sounds("bad.npy", samples)
    how = {"sampling_rate": RATE, "shortest": 2}
    assert "1 of 4 sounds (25.0%) in 'data' cannot be used" in (told := said(folder, **how)) and reason in told
    data = load_sounds(folder, **how, max_unusable=0.3)
    assert len(data.train) == 3
    [skipped] = data.skipped
    assert skipped.file.endswith("bad.npy") and reason in skipped.reason


def test_damaged_files_are_named(sounds, tmp_path):
    folder = sounds("a.wav b.wav")
    whole = (tmp_path / "data" / "a.wav").read_bytes()
    for name, content in {"cut": whole[:200], "head": whole[:20], "text": b"no sound at all"}.items():
        (tmp_path / "data" / f"{name}.wav").write_bytes(content)
    data = load_sounds(folder, max_unusable=1)
    assert len(data.train) == 2 and {skipped.file.split("/")[-1] for skipped in data.skipped} == {
        "cut.wav", "head.wav", "text.wav",
    }  # fmt: skip


def test_places_without_sounds_are_refused(sounds, tmp_path):
    (tmp_path / "data").mkdir()
    assert "there are no sounds in" in said(str(tmp_path / "data"))
    (tmp_path / "data" / "song.mp3").write_bytes(b"x")
    told = said(str(tmp_path / "data"))
    assert ".mp3 (1)" in told and "what is read are .npy, .wav" in told
    assert "sounds are read from a folder of .wav or .npy files, or toy-tones" in said("someone/speech")
    assert "sounds are read from a folder" in said("toy")
    folder = sounds("part_1/a.wav part_2/b.wav")
    assert "classes, or parts of one set of sounds? Say --label_type classes" in said(folder)
    assert load_sounds(folder, label_type="classes").label_names == ["part_1", "part_2"]


def test_rising_and_falling_tones_have_the_same_spectrum_on_the_whole():
    """What tells them apart is the order: the strongest frequency of the last fifth of a second and of the first."""
    data = tones()
    assert data["train"].num_rows == 600 and data["test"].num_rows == 150
    names = data["test"].features["label"].names
    for kind, sign in (("rising", 1), ("falling", -1)):
        rows = data["test"].select(np.flatnonzero(np.array(data["test"]["label"]) == names.index(kind)))
        for audio in rows["audio"]:
            rate, samples = open_sound(audio)
            first, last = (np.abs(np.fft.rfft(part)).argmax() for part in (samples[: rate // 5], samples[-rate // 5 :]))
            assert sign * (int(last) - int(first)) >= 0
    assert len({audio["bytes"] for audio in data["train"]["audio"]}) == 600
