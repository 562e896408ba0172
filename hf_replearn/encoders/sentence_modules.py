"""What a folder for sentence-transformers says of its texts: how they are cut and pooled, and what comes after."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn

from hf_replearn.encoders.weights import refusing
from hf_replearn.errors import InputError

MODES = {  # its name, of old and new versions -> ours
    "cls": "cls", "cls_token": "cls", "mean": "mean", "mean_tokens": "mean", "max": "max", "max_tokens": "max",
    "lasttoken": "last", "weightedmean": "weightedmean", "weightedmean_tokens": "weightedmean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
}  # fmt: skip
ORDER = ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "last")  # of old versions, where several are marked


@dataclass(frozen=True)
class SentenceModules:
    """What follows the network in a folder for sentence-transformers, and what comes before it.

    pooling:    as `pool` understands it. kinds: names of the modules after it, such as Dense, Normalize.
    after:      these modules, (B, D) -> (B, D'); None where there are none.
    max_length: tokens kept of a text, where the folder says so. lowercase: whether capitals are lost.
    prompt:     what is put before each text.
    """

    pooling: str
    kinds: tuple[str, ...] = ()
    after: nn.Module | None = None
    max_length: int | None = None
    lowercase: bool = False
    prompt: str = ""

    def in_words(self) -> str:
        return ", ".join([self.pooling, *self.kinds])


def read_sentence_modules(checkpoint: str, *, named: str | None = None) -> SentenceModules | None:
    """What a folder or Hub id says; None where it is none for sentence-transformers. named: what messages begin with.

    Raises InputError, which names `--pooling`, for modules and ways of pooling that are not known here.
    """
    way_on = f"{named or f'--model {checkpoint}'}: its modules for sentence-transformers cannot be followed (or give "
    way_on += "--pooling)"
    with refusing(way_on):
        modules = _read(checkpoint, "modules.json")
        if modules is None:
            return None
        listed = [(module["type"].rpartition(".")[2], module["path"]) for module in modules]
        if [kind for kind, _ in listed[:2]] != ["Transformer", "Pooling"]:
            raise InputError(f"{way_on}: they begin with {', '.join(kind for kind, _ in listed[:2])}")
        told = _read(checkpoint, f"{listed[1][1]}/config.json") or {}
        further = [(kind, path) for kind, path in listed[2:] if kind != "Dropout"]  # which does nothing in evaluation
        unknown = [kind for kind, _ in further if kind not in ("Dense", "Normalize")]
        if unknown:
            raise InputError(f"{way_on}: there is a {unknown[0]}")
        after = [_dense(checkpoint, path) if kind == "Dense" else Normalize() for kind, path in further]
        about = _read(checkpoint, f"{listed[0][1]}/sentence_bert_config.json".lstrip("/")) or {}
        prompts = _read(checkpoint, "config_sentence_transformers.json") or {}
        prompt = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name")) or ""
        if prompt and not told.get("include_prompt", True):
            raise InputError(f"{way_on}: tokens of its prompt {prompt!r} are left out of the pooling")
        return SentenceModules(
            pooling=_mode(told),
            kinds=tuple(kind for kind, _ in further),
            after=nn.Sequential(*after) if after else None,
            max_length=about.get("max_seq_length"),
            lowercase=bool(about.get("do_lower_case")),
            prompt=prompt,
        )


class Dense(nn.Module):
    """A linear map, a function of each number, and maybe the input added."""

    def __init__(self, linear: nn.Linear, activation: nn.Module, residual: nn.Module | None):
        super().__init__()
        self.linear, self.activation, self.residual = linear, activation, residual

    def forward(self, x: Tensor) -> Tensor:
        found = self.activation(self.linear(x))
        return found if self.residual is None else found + self.residual(x)


class Normalize(nn.Module):
    """(B, D) at unit length."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(x, dim=-1)


def _mode(told: dict[str, Any]) -> str:
    """How its Pooling pools, in our words."""
    old = [name.removeprefix("pooling_mode_") for name in told if told[name] is True and name.startswith("pooling_")]
    modes = told.get("pooling_mode", old) or "mean"
    ours = [MODES[mode] for mode in ([modes] if isinstance(modes, str) else modes)]
    return "+".join(ours if "pooling_mode" in told else sorted(ours, key=ORDER.index))


def _dense(checkpoint: str, path: str) -> Dense:
    told = _read(checkpoint, f"{path}/config.json")
    d, d_out, bias = told["in_features"], told["out_features"], told.get("bias", True)
    function = told.get("activation_function", "torch.nn.modules.activation.Tanh")
    place, _, name = function.rpartition(".")
    kinds = (nn.modules.activation, nn.modules.linear)
    kind = next((getattr(module, name) for module in kinds if module.__name__ == place and hasattr(module, name)), None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise InputError(f"{checkpoint}/{path} has an activation {function!r}, which is none of torch")
    shape_changes = bool(told.get("use_residual")) and d != d_out
    same = nn.Identity() if told.get("use_residual") else None
    made = Dense(nn.Linear(d, d_out, bias=bias), kind(), nn.Linear(d, d_out, bias=False) if shape_changes else same)
    made.load_state_dict(_weights(checkpoint, path))
    return made.float()


def _weights(checkpoint: str, path: str) -> dict[str, Tensor]:
    found = _file(checkpoint, f"{path}/model.safetensors")
    if found is not None:
        return load_file(found)
    found = _file(checkpoint, f"{path}/pytorch_model.bin")
    if found is None:
        raise InputError(f"{checkpoint}/{path} has no weights")
    return torch.load(found, map_location="cpu", weights_only=True)


def _read(checkpoint: str, name: str) -> Any:
    """What a JSON file says; None where there is none."""
    found = _file(checkpoint, name)
    return None if found is None else json.loads(found.read_text(encoding="utf-8"))


def _file(checkpoint: str, name: str) -> Path | None:
    """A file of a folder, or of a repository of the Hub; None where it has none of that name."""
    if Path(checkpoint).is_dir():
        path = Path(checkpoint, name)
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(checkpoint, name))
    except (EntryNotFoundError, RepositoryNotFoundError, HFValidationError):  # of a Hub id that is none, others say so
        return None
