"""default < YAML < command line, and every mistake is one clear line."""

from dataclasses import dataclass
from typing import Literal

import pytest

from hf_replearn.errors import InputError
from hf_replearn.settings import RunSettings, changed, command_line, parse, setting, to_yaml


@dataclass(kw_only=True)
class Settings(RunSettings):
    learning_rate: float | None = setting(None, "peak", section="training", at_least=0)
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
        (["--batch_size"], "expected one argument"),
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
        ("batch_size: [3]", "batch_size must be a whole number, got [3]"),
        ("batch_size: true", "batch_size must be a whole number, got True"),
        ("learning_rate: .inf\nbatch_size: 2\nbatch_size: 3", "'batch_size' is given twice"),
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
    with pytest.raises(InputError, match="--folders is required: where"):
        parse(Places, ["--models", "a"])
