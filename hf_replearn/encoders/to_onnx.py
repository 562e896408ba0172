"""An encoder with its pooling as an ONNX file, which runs without PyTorch.

B examples, T tokens, D features
"""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hf_replearn.encoders.encoder import Encoder
from hf_replearn.encoders.pooling import ALWAYS_FULL
from hf_replearn.errors import InputError

NEEDED = ("onnx", "onnxscript", "onnxruntime")
LARGEST = 2**30  # bytes of weights in one file; beyond, they lie beside it, since protobuf takes 2 GiB at most
CLOSE = 1e-4  # of the largest feature: what the file may differ from PyTorch by


def check_onnx() -> None:
    """Raises InputError where the libraries are missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"--format onnx needs {', '.join(missing)}: pip install 'hf-replearn[onnx]'")


def export_onnx(encoder: Encoder, file: Path) -> float:
    """Writes the encoder as one file, and returns the largest difference to PyTorch, as a share of the largest feature.

    Its inputs are those that `encoder.preprocess` makes: `pixel_values` (B, C, H, W), or `input_ids`, `attention_mask`
    and maybe `token_type_ids` (B, T); its output `features` (B, D). B and T are free.
    Raises InputError where the encoder cannot be written, or the file gives other features.
    """
    rows = _examples(encoder)
    encoder.try_on(rows)
    if getattr(encoder.network, "unpadded", False) or getattr(encoder.config, "model_type", None) in ALWAYS_FULL:
        raise InputError(f"{encoder.named} does not ignore padding, which a file for batches of texts needs")
    made = [_inputs(encoder, some) for some in (rows, rows[:1])]
    network = _ByName(encoder.network, list(made[0])).eval()
    free = {0: "batch", 1: "tokens"} if encoder.modality == "text" else {0: "batch"}
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    with _in_one_line(f"{encoder.named} cannot be written as ONNX by torch {torch.__version__}"):
        torch.onnx.export(
            network, tuple(made[0].values()), file, input_names=list(made[0]), output_names=["features"],
            dynamic_shapes=((free,) * len(made[0]),), dynamo=True, external_data=size > LARGEST, verbose=False,
        )  # fmt: skip
    return max(_difference(network, file, inputs, named=encoder.named) for inputs in made)


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """The exporter without its log and warnings, which tell of all that it tries; of an error the innermost cause."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # torch.export raises whatever the network's code provokes in it
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise InputError(f"{what}: {said[:200]}") from error
    finally:
        logging.disable(logging.NOTSET)


class _ByName(nn.Module):
    """A network that takes a mapping, by tensors in a fixed order."""

    def __init__(self, network: nn.Module, names: list[str]):
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.network(dict(zip(self.names, tensors, strict=True)))


def _examples(encoder: Encoder) -> list[dict]:
    """A few pictures of noise, or texts of several lengths, for the shapes of their tensors."""
    if encoder.modality == "text":
        return [{"text": " ".join(["one two three"] * times)} for times in (1, 2, 4)]
    rng = np.random.default_rng(0)
    channels, files = encoder.preprocess.channels, [io.BytesIO() for _ in range(3)]
    for file in files:
        np.save(file, rng.integers(0, 256, (96, 96, channels), dtype=np.uint8))
    return [{"image": {"bytes": file.getvalue(), "path": None}, "channels": None} for file in files]


def _inputs(encoder: Encoder, rows: list[dict]) -> dict[str, Tensor]:
    """What the processor makes by itself: numbers of first and second texts only where its tokenizer gives them, since
    of single texts they say nothing."""
    made = dict(encoder.preprocess(rows))
    if encoder.modality == "text" and "token_type_ids" not in encoder.preprocess.processor.model_input_names:
        made.pop("token_type_ids", None)
    return made


@torch.no_grad()
def _difference(network: nn.Module, file: Path, inputs: dict[str, Tensor], *, named: str) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [found] = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    expected = network(*inputs.values()).numpy()
    share = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not share <= CLOSE:
        raise InputError(f"{named}: its ONNX file gives features that differ by {share:.1e} of the largest one")
    return share
