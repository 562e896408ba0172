"""What an evaluation has computed, on disk as it comes, so that a second start goes on from there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hf_replearn.representation import Features


class Kept:
    """A folder of results, each under a key of all that it depends on: with other features it is another file."""

    def __init__(self, folder: Path):
        self.folder = folder

    def once(
        self, key: str, compute: Callable[[], tuple[dict[str, Tensor], dict[str, Any]]]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `compute` gives, tensors and facts that JSON can hold, or gave when it was called under this key."""
        path = self.folder / f"{key}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                names, facts = json.loads(file.metadata()["facts"])
                return {name: file.get_tensor(name) for name in names}, facts
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            pass  # not there, or cut short: it is computed
        tensors, facts = compute()
        self.folder.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(tensors, partial, metadata={"facts": json.dumps([list(tensors), facts])})
        partial.replace(path)
        return tensors, facts

    def forget(self) -> None:
        """Removes all of it: the report holds what is worth keeping."""
        shutil.rmtree(self.folder, ignore_errors=True)


def key_of(*parts: Any) -> str:
    """Of the values of features and tensors, and of whatever else has a `repr` that says all of it."""
    digest = hashlib.sha256()
    for part in parts:
        for value in (part.x, part.labels) if isinstance(part, Features) else (part,):
            if isinstance(value, Tensor):
                digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.contiguous().view(-1).view(torch.uint8).numpy())
            else:
                digest.update(repr(value).encode())
            digest.update(b"|")
    return digest.hexdigest()[:32]
