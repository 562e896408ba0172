"""default < YAML < command line, and every mistake is one clear line."""

import importlib
import math
import typing
import warnings
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from hf_replearn.cli import COMMANDS
from hf_replearn.cli import main as cli
from hf_replearn.errors import InputError
from hf_replearn.settings import RunSettings, changed, command_line, convert, from_values, parse, run, setting, to_yaml


@dataclass(kw_only=True)
class Settings(RunSettings):
    learning_rate: float | None = setting(None, "peak", section="training", above=0, at_most=10)
    steps: int = setting(-1, "-1: off", section="training", at_least=1)
    batch_size: int = setting(8, "examples", section="training", at_least=1)
    flip: bool = setting(True, "mirror", section="data")
    optimizer: Literal["lars", "adamw"] = setting("lars", "which", section="training")
    shots: tuple[int, ...] = setting((1, 2), "labels a class", section="evaluation", at_least=1)
    backbone_args: dict | None = setting(None, "more", section="model")
    fractions: tuple[float, ...] = setting((1.0,), "of the labels", section="data", at_least=0, at_most=1)


def parsed(*arguments: str) -> Settings:
    return parse(Settings, ["--output_dir", "out", *arguments])


def test_types_from_the_command_line():
    settings = parsed(
        "--learning-rate", "1e-3", "--batch_size=16", "--flip", "false", "--shots", "1,4,16",
        "--backbone-args", "{'img_size': 64}", "--fractions", "1e-2,0.5,1",
    )  # fmt: skip
    assert settings.learning_rate == 1e-3
    assert settings.batch_size == 16
    assert settings.flip is False
    assert settings.shots == (1, 4, 16)
    assert settings.backbone_args == {"img_size": 64}
    assert settings.fractions == (0.01, 0.5, 1.0)
    assert parsed("--flip").flip is True
    assert parsed("--learning_rate", "none").learning_rate is None


def test_yaml_beats_defaults_and_the_command_line_beats_yaml(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("learning_rate: 1e-3\nbatch_size: 32\nshots: [1, 8]\nflip: no\n")
    settings = parsed("--config", str(config), "--batch_size", "64")
    assert settings.learning_rate == 1e-3  # YAML itself reads 1e-3 as a text
    assert (settings.batch_size, settings.shots, settings.flip) == (64, (1, 8), False)
    assert changed(settings) == ["output_dir", "learning_rate", "batch_size", "flip", "shots"]


def test_printed_settings_are_a_config_with_the_same_result(tmp_path, capsys):
    settings = parsed("--learning_rate", "0.5", "--shots", "3")
    with pytest.raises(SystemExit) as end:
        parsed("--learning_rate", "0.5", "--shots", "3", "--print_config")
    assert end.value.code == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert parse(Settings, ["--config", str(tmp_path / "printed.yaml")]) == settings
    assert to_yaml(settings) == (tmp_path / "printed.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lerning_rate", "1"], "unknown setting --lerning_rate: did you mean --learning_rate?"),
        (["--learning_rat", "1"], "did you mean --learning_rate?"),  # no silent abbreviation
        (["--zzz"], "unknown setting --zzz: see --help"),
        (["--batch_size", "many"], "--batch_size must be a whole number, got 'many'"),
        (["--batch_size", "1.5"], "--batch_size must be a whole number, got '1.5'"),
        (["--batch_size", "0"], "--batch_size must be at least 1, got 0"),
        (["--learning_rate", "fast"], "--learning_rate must be a number, got 'fast'"),
        (["--flip", "maybe"], "--flip must be true or false, got 'maybe'"),
        (["--optimizer", "sgd"], "--optimizer must be one of lars, adamw, got 'sgd'"),
        (["--shots", "1;2"], "--shots must be whole numbers"),
        (["--shots", "1,2.5"], "--shots must be whole numbers"),
        (["--fractions", "1%"], "--fractions must be numbers with commas between, such as 0.01,0.1,1, got '1%'"),
        (["--fractions", "0.1,2"], "--fractions must be between 0 and 1, got 2"),
        (["--backbone_args", "64"], "--backbone_args must be a mapping"),
        (["--config", "missing.yaml"], "missing.yaml: No such file or directory"),
        (["--batch_size"], "--batch_size needs a value"),
        (["--seed", "-1e5"], "begins with - is written --seed=-VALUE"),
        (["--seed", "-1"], "--seed must be between 0 and 2147483647, got -1"),
        (["--seed", "99999999999999999999"], "--seed must be between 0 and 2147483647, got 1e+20"),
        (["--seed", "9" * 5000], "--seed must be a whole number, got '999999"),
        (["--batch_size", "1e30"], "--batch_size must be at most 1000000000, got 1e+30"),
        (["--batch_size", "inf"], "--batch_size must be a whole number, got 'inf'"),
        (["--batch_size", "1e400"], "--batch_size must be a whole number, got '1e400'"),
        (["--learning_rate", "nan"], "--learning_rate must be a finite number, got nan"),
        (["--learning_rate", "inf"], "--learning_rate must be a finite number, got inf"),
        (["--learning_rate", "0"], "--learning_rate must be above 0 and at most 10, got 0"),
        (["--learning_rate", "11"], "--learning_rate must be above 0 and at most 10, got 11"),
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--shots", "1,0"], "--shots must be at least 1, got 0"),
        (["--shots", "1,1e99"], "--shots must be at most 1000000000, got 1e+99"),
        (["--output_dir", ""], "--output_dir is empty: give folder"),
        (["--output_dir", " "], "--output_dir is empty"),
        (["--output_dir", "a\0b"], "--output_dir holds a NUL character"),
        (["--optimizer", ""], "--optimizer must be one of lars, adamw, got ''"),
        (["--backbone_args", "{'a': {1, 2}}"], "--backbone_args must be a mapping"),
        (["--backbone_args", "[" * 10_000], "--backbone_args must be a mapping"),
        (["--backbone_args", "{'a': 1e400}"], "--backbone_args must be a mapping"),
        (["foo"], "unexpected word 'foo'"),
        (["--flip", "true", "foo"], "unexpected word 'foo'"),
        (["-x", "3"], "unknown setting --x"),
        (["--lr", "1"], "unknown setting --lr: did you mean --learning_rate?"),
        (["--out", "o"], "unknown setting --out: did you mean --output_dir?"),
    ],
)
def test_mistakes_on_the_command_line(arguments, message):
    with pytest.raises(InputError) as error:
        parsed(*arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 3", "unknown setting batchsize: did you mean batch_size?"),
        ("batch_size: [3]", "batch_size must be a whole number, got ['3']"),
        ("batch_size: true", "batch_size must be a whole number, got 'true'"),
        ("batch_size: .inf", "batch_size must be a whole number, got '.inf'"),
        ("batch_size: 1:30", "batch_size must be a whole number, got '1:30'"),  # which YAML reads as 90
        ("learning_rate: .nan", "learning_rate must be a number, got '.nan'"),
        ("batch_size: null", "batch_size must be a whole number, got None"),
        ("shots: []", "--shots is an empty list"),
        ("shots: [1, [2]]", "shots must be whole numbers"),
        ("output_dir: [a]", "output_dir must be a text, got ['a']"),
        ("? [a]\n: b", "must hold `setting: value` lines"),
        ("", "must hold `setting: value` lines"),
        ("backbone_args: {a: 1, a: 2}", "'a' is given twice"),
        ("backbone_args: &x {a: *x}", "backbone_args must be a mapping"),
        ("backbone_args: " + "[" * 3000, "nested more than 30 deep"),
        ("#" * 300_000, "longer than 200,000 characters"),
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)),
            "more than 20 aliases",
        ),
        ("learning_rate: 0.1\nbatch_size: 2\nbatch_size: 3", "'batch_size' is given twice"),
        ("- 1", "must hold `setting: value` lines"),
        ("a: [", "is not valid YAML"),
        ("batch_size: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_mistakes_in_a_yaml_file(text, message, tmp_path):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        parsed("--config", str(tmp_path / "run.yaml"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'output_dir: "a\\0b"', "--output_dir holds a NUL character"), (b"output_dir: ''", "--output_dir is empty"),
     (b"output_dir: caf\xe9", "is not UTF-8 text (byte 0xe9): save it as UTF-8"), (b"a: \x00", "is not valid YAML")],
)  # fmt: skip
def test_a_yaml_file_that_is_no_text(content, message, tmp_path):
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(InputError) as error:
        parse(Settings, ["--config", str(tmp_path / "run.yaml")])
    assert message in str(error.value)


def test_a_value_in_yaml_is_the_text_that_stands_there(tmp_path):
    """Plain YAML reads 007 as 7, no as false and a date as a date; a byte order mark is no part of a name."""
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbfoutput_dir: 007\nlearning_rate: 1e-3\nshots: [1, 010]\n")
    settings = parse(Settings, ["--config", str(tmp_path / "run.yaml")])
    assert (settings.output_dir, settings.learning_rate, settings.shots) == ("007", 1e-3, (1, 10))
    for text in ("no", "2024-01-01", "1_0", "0x1f"):
        (tmp_path / "run.yaml").write_text(f"output_dir: {text}\nbackbone_args: {{layers: [1, 2], act: no}}\n")
        settings = parse(Settings, ["--config", str(tmp_path / "run.yaml")])
        assert settings.output_dir == text
        assert settings.backbone_args == {"layers": [1, 2], "act": False}  # a mapping is as YAML has it
    (tmp_path / "run.yaml").write_text("models: a,b\nfolders: [x y, z]\n")
    assert parse(Places, ["--config", str(tmp_path / "run.yaml")]) == Places(models=("a,b",), folders=("x y", "z"))


@pytest.mark.parametrize("length", [10_000, 1_000_000])
def test_messages_do_not_repeat_a_long_value(length):
    for flag in ("--batch_size", "--backbone_args", "--optimizer", "--flip", "--" + "x" * length):
        with pytest.raises(InputError) as error:
            parsed(flag, "y" * length)
        assert len(str(error.value)) < 300


def test_what_is_required_may_be_missing_from_a_printed_config(capsys):
    with pytest.raises(SystemExit) as end:
        parse(Settings, ["--print_config", "--batch_size", "3"])
    printed = capsys.readouterr().out
    assert end.value.code == 0
    assert printed.startswith("# output_dir: (required) folder for all that the run writes\n")
    assert "batch_size: 3\n" in printed
    assert "\noutput_dir" not in printed


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK"])
def test_a_launcher_s_variable_that_is_no_number(name, monkeypatch, capsys):
    monkeypatch.setenv(name, "abc")
    with pytest.raises(SystemExit) as end:
        run(lambda settings: None, Settings, ["--output_dir", "out"])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {name}='abc' in the environment is not a whole number: unset it\n"


COMMANDS_WITH_SETTINGS = [name for name, (module, _, _) in COMMANDS.items() if module]


def settings_of(command: str) -> type:
    module, name, _ = COMMANDS[command]
    return getattr(importlib.import_module(f"hf_replearn.recipes.{module}"), name)


def different_settings() -> dict[str, list[str]]:
    """Command -> those of its settings that no earlier one has with the same type and bounds: recipes share many."""
    known, found = set(), {}
    for command in COMMANDS_WITH_SETTINGS:
        settings_class = settings_of(command)
        types = typing.get_type_hints(settings_class)
        for spec in fields(settings_class):
            bounds = {name: value for name, value in spec.metadata.items() if name not in ("help", "section")}
            key = (spec.name, str(types[spec.name]), str(bounds))
            if key not in known:
                known.add(key)
                found.setdefault(command, []).append(spec.name)
    return found


DIFFERENT = different_settings()


@pytest.mark.parametrize("command", DIFFERENT)
def test_every_setting_refuses_nonsense_in_one_line(command):
    """Each number: not finite, absurdly large; each text: empty, NUL. What is accepted is within the bounds."""
    settings_class = settings_of(command)
    types = typing.get_type_hints(settings_class)
    needed = {spec.name: "toy" for spec in fields(settings_class) if spec.default is MISSING}
    for name in DIFFERENT[command]:
        hint = str(types[name])
        number, text = "int" in hint or "float" in hint, "str" in hint
        for value in ("nan", "inf", "-inf", "1e30", "1e400", "-7", "0", "0.5", "", " ", "a\0b", "9" * 5000):
            given = needed | {name: value}
            places = [given.pop(field.name) for field in fields(settings_class)
                      if field.metadata["positional"] and field.name in given]  # fmt: skip
            try:
                settings = parse(settings_class, [*places, *(f"--{name}={value}" for name, value in given.items())])
            except InputError as error:
                assert "\n" not in str(error)
                assert len(str(error)) < 400
                continue
            assert not (text and value in ("", " ", "a\0b")), (name, value)
            if number:
                found = getattr(settings, name)
                found = found if isinstance(found, tuple) else (found,)
                assert all(math.isfinite(item) and abs(item) <= 1e9 * 5 for item in found), (name, value)


@pytest.mark.parametrize("command", COMMANDS_WITH_SETTINGS)
def test_every_help_has_an_example_that_parses_as_far_as_its_flags_go(command, capsys):
    with pytest.raises(SystemExit):
        cli([command, "--help"])
    printed = capsys.readouterr().out
    known = {f"--{spec.name}" for spec in fields(settings_of(command))} | {"--config", "--print_config"}
    examples = printed.partition("examples:\n")[2].replace("\\\n", " ").splitlines()
    ours = [line.partition(f"hf-replearn {command} ")[2] for line in examples if f"hf-replearn {command} " in line]
    assert ours
    assert {word for line in ours for word in line.split() if word.startswith("--")} <= known
    assert "(default: )" not in printed


@pytest.mark.parametrize(
    ("given", "meant"),
    [("batch_size", "per_device_train_batch_size"), ("lr", "learning_rate"), ("epochs", "num_train_epochs"),
     ("steps", "max_steps"), ("data", "dataset"), ("num_workers", "dataloader_num_workers"), ("out", "output_dir")],
)  # fmt: skip
def test_usual_names_of_other_tools_are_answered_by_ours(given, meant):
    for command in ("simclr", "masked-lm", "causal-lm"):
        with pytest.raises(InputError, match=f"unknown setting --{given}: did you mean --{meant}"):
            parse(settings_of(command), [f"--{given}", "1"])


def test_the_command_line_of_settings_gives_them_again():
    given = ["--learning_rate", "1e-3", "--shots", "1,8", "--flip", "false", "--backbone_args", "{'layers': [1, 2]}"]
    given += ["--fractions", "0.01,0.1"]
    settings = parsed(*given)
    assert parse(Settings, command_line(settings)) == settings


def test_a_required_setting_may_be_in_the_yaml_file(tmp_path):
    (tmp_path / "run.yaml").write_text("output_dir: there")
    assert parse(Settings, ["--config", str(tmp_path / "run.yaml")]).output_dir == "there"
    with pytest.raises(InputError, match="--output_dir is required"):
        parse(Settings, [])


@dataclass(kw_only=True)
class Places:
    models: tuple[str, ...] = setting(("first",), "which", section="data")
    folders: tuple[str, ...] = setting(..., "where", section="data", positional=True)


@pytest.mark.parametrize("arguments", [["--models", "a,b", "c"], ["--models", "a,b", "--models", "c"]])
def test_several_texts_by_flag_or_place(arguments):
    """A text keeps its commas and spaces; the command line of the result gives the result."""
    settings = parse(Places, ["x y", "z", *arguments])
    assert settings == Places(models=("a,b", "c"), folders=("x y", "z"))
    assert command_line(settings) == ["x y", "z", "--models", "a,b", "c"]
    assert parse(Places, command_line(settings)) == settings
    assert parse(Places, ["x"]).models == ("first",)
    with pytest.raises(InputError, match="give where"):
        parse(Places, ["--models", "a"])


def test_a_tilde_is_the_home_folder_on_the_command_line_and_in_yaml(tmp_path, monkeypatch):
    """Shells hand `--output_dir=~/out` on as it is, and transformers would write elsewhere than the recipe."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text("output_dir: ~/from_yaml\n")
    assert parsed("--output_dir=~/out").output_dir == str(tmp_path / "out")
    assert parse(Settings, ["--config=~/run.yaml"]).output_dir == str(tmp_path / "from_yaml")
    assert parsed("--output_dir", "a~/b").output_dir == "a~/b"


def test_settings_from_python_have_the_checks_of_the_command_line():
    """The same result as the flags give; a path may be an object, and one number stand for several."""
    given = {
        "output_dir": Path("out"),
        "shots": 4,
        "fractions": [0.1, 1],
        "steps": np.int64(7),
    }
    told = from_values(Settings, given)
    flags = ["--shots", "4", "--fractions", "0.1,1", "--steps", "7"]
    assert told == parsed(*flags) and type(told.steps) is int
    for wrong, message in (
        ({"shots": "many"}, "--shots must be whole numbers with commas between"),
        ({"shots": (0,)}, "--shots must be at least 1, got 0"),
        ({"step": 1}, "unknown setting --step: did you mean --steps"),
        ({"optimizer": None}, "--optimizer must be one of lars, adamw"),
        ({"output_dir": ""}, "--output_dir is empty"),
        ({"seed": 1.5}, "--seed must be a whole number, got 1.5"),
        ({"flip": "maybe"}, "--flip must be true or false"),
    ):
        with pytest.raises(InputError, match=message):
            from_values(Settings, {"output_dir": "out"} | wrong)
    with pytest.raises(InputError, match="--output_dir is required"):
        from_values(Settings, {})


def test_a_warning_is_a_line_without_the_program_that_tells_it():
    run(lambda settings: None, Settings, ["--output_dir", "out"])
    assert warnings.formatwarning("1 file is damaged", UserWarning, "a.py", 7) == "warning: 1 file is damaged\n"
    told = warnings.formatwarning("use another", FutureWarning, "a.py", 7)
    assert told == "warning: use another (FutureWarning, a.py:7)\n"


def test_a_number_or_a_word():
    for kind in (int | Literal["auto"], int | Literal["auto"] | None):
        assert convert("auto", kind, "--batch") == "auto" and convert("8", kind, "--batch") == 8
        with pytest.raises(InputError, match="--batch must be a whole number or auto, got 'some'"):
            convert("some", kind, "--batch")
    assert convert("none", int | Literal["auto"] | None, "--batch") is None
    with pytest.raises(InputError, match="must be a whole number or auto, got 'none'"):
        convert("none", int | Literal["auto"], "--batch")
