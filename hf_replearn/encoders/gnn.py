"""Networks on graphs in a folder that torch_geometric loads: `config.json` with its class and arguments, and
`model.safetensors` with the names that it gives the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


def write_network(kind: str, arguments: dict[str, Any], weights: dict[str, Tensor], folder: Path) -> None:
    """kind: the class of torch_geometric.nn. arguments: what it is made with.

    getattr(torch_geometric.nn, config["class"])(**config["arguments"]).load_state_dict(load_file("model.safetensors"))
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps({"class": kind, "arguments": arguments}, indent=2) + "\n")
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # safetensors makes it 600
