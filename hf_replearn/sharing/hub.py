"""Push of a finished run to the Hub, and the check before training that it will be possible."""

from __future__ import annotations

import glob
import json
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from hf_replearn.errors import InputError, NotPushed
from hf_replearn.sharing.paths import local_paths, without_paths
from hf_replearn.sharing.readme import FILE as README
from hf_replearn.sharing.readme import edited_elsewhere, listed

# What may leave is named, so that nothing unforeseen does; a star stands for no slash.
WEIGHTS = "config.json generation_config.json model.safetensors model-*-of-*.safetensors model.safetensors.index.json"
PROCESSORS = """
preprocessor_config.json processor_config.json image_processor_config.json video_preprocessor_config.json
tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json chat_template.jinja chat_template.json
additional_chat_templates/*.jinja vocab.txt vocab.json merges.txt vocab.bpe bpe.codes spiece.model spm.model
sentencepiece.model sentencepiece.bpe.model tokenizer.model source.spm target.spm *.tiktoken tekken.json
"""
SENTENCES = "modules.json sentence_bert_config.json config_sentence_transformers.json 1_Pooling/config.json"
SENTENCES += " 2_Dense/config.json 2_Dense/model.safetensors"
VECTORS = "embeddings.safetensors nodes.txt words.txt subwords.safetensors"
SHOWN = "README.md report.json report.html recipe.yaml log.jsonl .eval_results/*.yaml"
PICTURES = "augmentations.png curves.png neighbours.png layers.png shots.png filters.png reconstructed.png"
PICTURES += " reconstructions.png interpolation.png samples.png traversals.png codes.png"
PICTURES += " nearest_training_images.png walk.gif encoded.png colours.png expected.png filled.png masks.png pairs.png"
PICTURES += " told.png map.png found.png episodes.png tasks.png"
PAIRS = [f"image_encoder/{name}" for name in f"{WEIGHTS} {PROCESSORS}".split()]  # of a dual encoder in two folders
PAIRS += [f"text_encoder/{name}" for name in f"{WEIGHTS} {PROCESSORS}".split()]
PAIRS += ["dual_encoder.py", "dual_encoder.json", "dual_encoder.safetensors"]
HEADS = [f"heads/*/{name}" for name in f"{WEIGHTS} {PROCESSORS}".split()]  # of tasks that share the encoder
OWNERS = "LICENSE* LICENCE* COPYING* NOTICE* USE_POLICY.md CITATION.cff .gitattributes"
PRETRAINING = [f"pretraining/{name}" for name in [*WEIGHTS.split(), "*.py"]]
CODE = "configuration_*.py modeling_*.py fitted.py trunk.py codes.py"  # of an encoder, beside its weights
PUSHED = (
    f"{WEIGHTS} {CODE} {PROCESSORS} {SENTENCES} {VECTORS} {SHOWN} {PICTURES} {OWNERS}".split()
    + PRETRAINING
    + PAIRS
    + HEADS
)
UNNAMED = ("checkpoint-*", "damaged-checkpoint-*", "runs", ".cache", ".git", ".lock", "skipped_*.txt", "*.partial")
CLEANED = ("*.yaml", "*.jsonl", "*config.json", "report.json", "report.html")  # told without the paths of this machine
PAUSES = (2, 8, 30, 120)  # seconds before each further attempt


def check_token(folder: str | Path, repo_id: str | None = None, *, asked_by: str = "--push_to_hub") -> str:
    """Returns the full repository id, "owner/name", to which a run in `folder` will be pushed. Call it before training.

    repo_id: "owner/name", or "name" in the user's own namespace; None takes the name of the folder.
    asked_by: the flag or command that asked for it.
    Raises InputError without a network, without a valid token that may write (what a fine-grained token may do is
    known only to the Hub), or when the name cannot be that of a repository.
    """
    repo_id = repo_id or Path(folder).resolve().name
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"cannot push to {repo_id!r}: name the repository with --hub_model_id. {error}") from error
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"{asked_by}: HF_HUB_OFFLINE=1 forbids the network: unset it")
    if get_token() is None:
        raise InputError(f"{asked_by} needs a token: run `hf auth login` or set HF_TOKEN")
    try:
        user = HfApi().whoami()
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            refusal = f"{constants.ENDPOINT} refuses the token (status {status})"
            raise InputError(f"{asked_by}: {refusal}: run `hf auth login` or set HF_TOKEN") from error
        trouble = "asks for fewer requests" if status == 429 else "does not answer as it should"
        raise InputError(f"{asked_by}: {constants.ENDPOINT} {trouble} (status {status}): try again later") from error
    except HTTPError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{asked_by}: {constants.ENDPOINT} cannot be reached: {reason}: is there a network?"
        ) from error
    if user["auth"].get("accessToken", {}).get("role") == "read":
        raise InputError(f"{asked_by} needs a token that may write, this one may only read: run `hf auth login`")
    return repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"


def push(folder: str | Path, repo_id: str, *, private: bool | None = None) -> str:
    """Uploads what a run leaves in `folder`, without its checkpoints, and returns the address of the repository.

    repo_id: "owner/name", as `check_token` returned it before training.
    private: for a new repository; None takes the default of its owner.
    An overloaded Hub and a broken connection are tried again after pauses. Raises NotPushed, which names the command
    that pushes later, when they last, when the Hub refuses, or when the README.md there was edited and would be lost.
    """
    if left := not_pushed(folder):
        print(f"not uploaded, since no run wrote it: {listed(left)}", flush=True)
    for pause in (*PAUSES, None):
        try:
            return _push(folder, repo_id, private)
        except HTTPError as error:  # a file that is missing here is none
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            reason = f"status {status}" if status else " ".join(str(error).split()) or type(error).__name__
            if pause is None or (status is not None and status < 500 and status not in (408, 429)):
                raise NotPushed(
                    f"{constants.ENDPOINT} did not take {repo_id} ({reason}). All of it is in {folder}; push it later: "
                    f"hf-replearn push {folder} --hub_model_id {repo_id}{' --hub_private_repo' * bool(private)}"
                ) from error
            warnings.warn(f"push to {repo_id}: {reason}; tried again in {pause} s", stacklevel=2)
            time.sleep(pause)


def pushed(folder: str | Path) -> list[str]:
    """The files of `folder` that a push takes: those that a run or its libraries write, the owner's license, and what
    README.md shows or links to."""
    folder = Path(folder)
    patterns = [*PUSHED, *_vocabularies(folder), *_linked(folder)]
    return [name for name in _files(folder) if any(_fits(name, pattern) for pattern in patterns)]


def not_pushed(folder: str | Path) -> list[str]:
    """The other files, but for what every run leaves and nobody shares."""
    going = set(pushed(folder))
    stays = [name for name in _files(folder) if name not in going]
    return [name for name in stays if not any(fnmatchcase(PurePosixPath(name).parts[0], known) for known in UNNAMED)]


def _push(folder: str | Path, repo_id: str, private: bool | None) -> str:
    api = HfApi()
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    names = pushed(folder)
    _keep_edits(api, folder, repo_id)
    with tempfile.TemporaryDirectory(prefix="hf_replearn_push_") as stage:
        _stage(Path(folder), Path(stage), names)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=stage,
            allow_patterns=[glob.escape(name) for name in names],
            commit_message="Encoder, report and card",
        )
    return str(url)


def _keep_edits(api: HfApi, folder: str | Path, repo_id: str) -> None:
    """Raises NotPushed where README.md was edited on the Hub in a way that the one of `folder` knows nothing of."""
    with tempfile.TemporaryDirectory(prefix="hf_replearn_readme_") as copy:
        try:
            api.hf_hub_download(repo_id, README, local_dir=copy)
            lost = edited_elsewhere(copy, folder)
        except EntryNotFoundError:
            return
        except InputError as error:
            raise NotPushed(f"{README} of {repo_id} on the Hub: {error}".replace(f"{copy}/", "")) from error
    if lost:
        raise NotPushed(
            f"{README} of {repo_id} was edited on the Hub, and {Path(folder, README)} lacks {len(lost)} of its lines, "
            f"such as {lost[0][:60]!r}: write them here too, and push again: hf-replearn push {folder} "
            f"--hub_model_id {repo_id}"
        )


def check_weights(folder: str | Path) -> None:
    """Raises InputError where the encoder in `folder` has lost its weights, or a part of them."""
    index = _values(Path(folder, "model.safetensors.index.json"))
    for name in sorted(set(index["weight_map"].values())) if index else ["model.safetensors"]:
        try:
            with safe_open(Path(folder, name), framework="numpy"):
                pass
        except (OSError, SafetensorError) as error:
            raise InputError(f"{Path(folder, name)} is missing or damaged, and nothing is pushed: {error}") from error


def _stage(folder: Path, stage: Path, names: list[str]) -> None:
    """The files as they are pushed: links to those of `folder`, and copies of those that tell its path or others."""
    known = {str(folder.resolve())} | local_paths(_values(folder / "recipe.yaml"))
    for name in names:
        place = stage / name
        place.parent.mkdir(parents=True, exist_ok=True)
        told = any(fnmatchcase(PurePosixPath(name).name, pattern) for pattern in CLEANED)
        if told and (text := _cleaned(folder / name, known)) is not None:
            place.write_text(text, encoding="utf-8", errors="surrogateescape")
        else:
            place.symlink_to((folder / name).resolve())


def _cleaned(path: Path, known: set[str]) -> str | None:
    """The text of a file without paths of this machine; None where it has none."""
    import yaml

    values = _values(path)
    if values is None:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        clean = without_paths(text, known, guess=False)
        return None if clean == text else clean
    clean = without_paths(values, known, guess=path.suffix == ".yaml")
    if clean == values:
        return None
    if path.suffix == ".yaml":
        return yaml.safe_dump(clean, sort_keys=False, allow_unicode=True)
    return json.dumps(clean, indent=2, ensure_ascii=False) + "\n"


def _values(path: Path) -> Any:
    """What a JSON or YAML file holds; None where it is no such file, or damaged: then its text is all there is."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        return {".json": json.loads, ".yaml": yaml.safe_load}.get(path.suffix, lambda text: None)(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None


def _files(folder: str | Path) -> Iterator[str]:
    """All files, by their names from `folder` on."""
    return (path.relative_to(folder).as_posix() for path in sorted(Path(folder).rglob("*")) if path.is_file())


def _fits(name: str, pattern: str) -> bool:
    """As fnmatch, part by part."""
    parts, patterns = PurePosixPath(name).parts, PurePosixPath(pattern).parts
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _vocabularies(folder: Path) -> list[str]:
    """The names under which the folder's kind of tokenizer writes its vocabulary."""
    import transformers

    config = _values(folder / "tokenizer_config.json")
    kind = config.get("tokenizer_class") if isinstance(config, dict) else None
    names = getattr(getattr(transformers, str(kind), None), "vocab_files_names", {})
    return [glob.escape(name) for name in names.values() if isinstance(name, str) and "/" not in name]


def _linked(folder: Path) -> list[str]:
    """The files of the folder, hidden ones apart, that its README.md shows or links to."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    links = re.findall(r"\]\(<?([^)\s>]+)", text) + re.findall(r"""(?:src|href)=["']([^"']+)""", text)
    inside = [PurePosixPath(link.partition("#")[0]) for link in links if not re.match(r"[a-z]+:|/|#", link)]
    return [glob.escape(str(link)) for link in inside if not any(part.startswith(".") for part in link.parts)]
