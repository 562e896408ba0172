"""The encoder in the format of others: a folder that plain timm and plain transformers load without our code, and for
texts sentence-transformers too."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import timm
import torch
from safetensors.torch import save
from timm.models.resnet import ResNet
from torch import nn
from transformers import AutoConfig, CLIPImageProcessor, PreTrainedModel

RGB = 3  # channels
UPSAMPLING = 4  # the stride of a ResNet's stem, which a folded stem undoes by its input's size


def export_timm(  # noqa: PLR0913 (each is a part of the format)
    encoder: nn.Module,
    folder: str | Path,
    *,
    architecture: str,
    arguments: dict | None = None,
    image_size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop_pct: float = 1.0,
    lightness: bool = False,
) -> nn.Module:
    """Writes `config.json` and `model.safetensors`; returns the network that was written.

    timm.create_model(f"local-dir:{folder}", pretrained=True), AutoModel.from_pretrained(folder) and
    AutoImageProcessor.from_pretrained(folder) read them, and timm's "hf-hub:" once pushed. The configuration is written
    by hand because timm's own writer records arguments that transformers then passes twice, and puts the input's size
    and normalisation where neither library looks.

    A ResNet with a CIFAR stem, which neither library can describe, is written as a ResNet they can (`fold_cifar_stem`);
    its input is then `UPSAMPLING` times larger, pixels repeated, which the folder's image processor does. It can do so
    only to images that are of `image_size` already: `trained_at` says how others are brought to it first.

    lightness: the one channel is the lightness of pictures (data/colours.py), which neither library makes of colours;
    the configuration says so, for whom it reads.
    """
    arguments, interpolation, trained_at = dict(arguments or {}), "bilinear", {}
    if isinstance(encoder, ResNet) and isinstance(encoder.maxpool, nn.Identity):
        encoder = fold_cifar_stem(encoder, architecture, arguments)
        arguments |= {"replace_stem_pool": True}
        trained_at = {"trained_at": {"image_size": image_size, "crop_pct": crop_pct}}
        image_size, interpolation, crop_pct = image_size * UPSAMPLING, "nearest", 1.0
    channels = arguments.get("in_chans", 3)
    pretrained_cfg = {
        "input_size": [channels, image_size, image_size],
        "fixed_input_size": "img_size" in arguments,
        "mean": list(mean),
        "std": list(std),
        "interpolation": interpolation,
        "crop_pct": crop_pct,
        "crop_mode": "center",
        "num_classes": 0,
        "first_conv": encoder.pretrained_cfg["first_conv"],
        "classifier": encoder.pretrained_cfg["classifier"],
    }
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": encoder.num_features,
        "pretrained_cfg": pretrained_cfg,
        **trained_at,
        **({"lightness": True} if lightness else {}),
    } | ({"model_args": arguments} if arguments else {})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    (folder / "model.safetensors").write_bytes(_aligned(save(weights, metadata={"format": "pt"})))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    encoder.pretrained_cfg = encoder.pretrained_cfg | pretrained_cfg
    return encoder


def _aligned(file: bytes) -> bytes:
    """The safetensors file with spaces after its header, so that its first float32 tensor starts at a multiple of 64.

    transformers leaves weights where the file is mapped into memory, and PyTorch's convolutions take another path, with
    another rounding, for weights off such a boundary.
    """
    size = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + size])
    first = min(tensor["data_offsets"][0] for tensor in header.values() if tensor.get("dtype") == "F32")
    padding = -(8 + size + first) % 64
    return (size + padding).to_bytes(8, "little") + file[8 : 8 + size] + b" " * padding + file[8 + size :]


@torch.no_grad()
def fold_cifar_stem(encoder: nn.Module, architecture: str, arguments: dict) -> nn.Module:
    """The same function as a ResNet with a CIFAR stem, by a ResNet whose stem timm can describe.

    The CIFAR stem is one 3x3 convolution of stride 1. timm's `replace_stem_pool` stem has two convolutions of stride 2,
    7x7 and 3x3, each with batch normalisation and ReLU. Given the image with every pixel repeated 4 x 4 times:

    - the first convolution copies pixels: output p of a dimension reads input 2p, or 2p + 2. It does so for each colour
      as +x and as -x, because ReLU keeps only one of the two: 2 * 2 offsets, 2 signs, C colours = 8 C of its channels;
    - the second, whose output i sees p = 2i - 1, 2i, 2i + 1, finds pixel i - 1 at (2i - 1, offset 0), pixel i at
      (2i, offset 0) and pixel i + 1 at (2i + 1, offset 2), and applies the 3x3 filter to them.

    Zero padding falls where the CIFAR stem has it, and the first batch normalisation is the identity, so both networks
    are equal up to the rounding of float32.
    """
    filters = encoder.conv1.weight  # (width, C, 3, 3)
    width, colours = filters.shape[:2]
    folded = timm.create_model(architecture, num_classes=0, **arguments, replace_stem_pool=True)
    copies = torch.zeros_like(folded.conv1.weight)  # (64, C, 7, 7)
    combine = torch.zeros_like(folded.maxpool[0].weight)  # (width, 64, 3, 3)
    channel = 0
    for below in (0, 1):
        for right in (0, 1):
            rows, columns = ([2] if below else [0, 1]), ([2] if right else [0, 1])
            for colour in range(colours):
                for sign in (1.0, -1.0):
                    copies[channel, colour, 3 + 2 * below, 3 + 2 * right] = sign
                    for row in rows:
                        combine[:, channel, row, columns] = sign * filters[:, colour, row, columns]
                    channel += 1
    state = {name: value for name, value in encoder.state_dict().items() if not name.startswith(("conv1.", "bn1."))}
    identity = copy.deepcopy(folded.bn1.state_dict())
    identity["weight"].fill_((1 + folded.bn1.eps) ** 0.5)
    state |= {f"bn1.{name}": value for name, value in identity.items()}
    state |= {f"maxpool.1.{name}": value for name, value in encoder.bn1.state_dict().items()}
    state |= {"conv1.weight": copies, "maxpool.0.weight": combine}
    folded.load_state_dict(state)
    return folded.train(encoder.training)


def export_own(
    f: PreTrainedModel,
    folder: str | Path,
    *,
    image_size: int,
    channels: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop_pct: float = 1.0,
) -> nn.Module:
    """Writes an encoder that is of no library, with the code that loads it, for AutoModel and AutoImageProcessor;
    returns its network.

    The image processor normalises; `trained_at` says how images are brought to their size before.
    """
    f.config.num_channels = channels
    f.config.trained_at = {"image_size": image_size, "crop_pct": crop_pct, "mean": list(mean), "std": list(std)}
    save_native(f, folder)
    CLIPImageProcessor(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        resample=2,  # bilinear
        image_mean=list(mean),
        image_std=list(std),
        do_convert_rgb=channels == RGB,
    ).save_pretrained(folder)
    return f.encoder


def save_native(model: PreTrainedModel, folder: str | Path) -> None:
    """`model.save_pretrained(folder)`, its weights readable by whom the other files are: safetensors makes them 600."""
    model.save_pretrained(folder)
    mode = Path(folder, "config.json").stat().st_mode
    for path in Path(folder).glob("*.safetensors"):
        path.chmod(mode)


def export_sentence_transformers(
    folder: str | Path, *, max_length: int, pooling: str = "mean", dense: nn.Linear | None = None
) -> None:
    """Makes the folder of a transformers encoder and its tokenizer one that sentence-transformers loads as well:
    `SentenceTransformer(folder).encode(texts)` is the encoder's last layer, pooled.

    max_length: tokens kept of a text. pooling: "mean" of all tokens, special ones included; "cls", the first; "last".
    dense: a linear map behind it.
    Writes `modules.json`, `sentence_bert_config.json`, `1_Pooling/config.json` and maybe `2_Dense`, with the names that
    all versions of the library understand.
    """
    folder = Path(folder)
    width = AutoConfig.from_pretrained(folder, trust_remote_code=False).hidden_size
    modes = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "last": "pooling_mode_lasttoken"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(
            (("Transformer", ""), ("Pooling", "1_Pooling"), *([("Dense", "2_Dense")] if dense is not None else []))
        )
    ]
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": width}
        | {name: mode == pooling for mode, name in modes.items()},
    }
    shutil.rmtree(folder / "2_Dense", ignore_errors=True)  # of an earlier end of the same run
    if dense is not None:
        files["2_Dense/config.json"] = {
            "in_features": dense.in_features,
            "out_features": dense.out_features,
            "bias": dense.bias is not None,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        (folder / "2_Dense").mkdir()
        weights = {f"linear.{name}": value.detach().cpu().contiguous() for name, value in dense.state_dict().items()}
        (folder / "2_Dense" / "model.safetensors").write_bytes(save(weights))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
