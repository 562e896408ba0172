"""Everything that is to be fast on a GPU, beside its rivals, on one GPU and in less than eight minutes.

    python -m benchmarks.gpu [TEXT] [--rows masked_lm views ...] [--minutes 8]
    python -m benchmarks.gpu --rows cifar10 --images CIFAR10      (the real run: four minutes, and its card)
    python -m benchmarks.gpu --dry_run                            (every row, tiny, on the CPU: does it run?)

TEXT is a folder, file or Hub id of documents, for the rows that compare seconds to a loss; the others take random
tokens. CIFAR10 is a dataset as the recipes read it. benchmarks/results/gpu_<device>.json is written anew after each
row; rows that it has and that are not measured now stay. A row for which there is no time left is left out, and named.

masked_lm, causal_lm  tokens/s of whole training steps, BERT-base and GPT-2 124M. The rival is transformers.Trainer in
                      bfloat16 with PyTorch's fused attention and fused AdamW; ours is the recipe with compiled blocks.
                      MFU counts what a side computes: ours has a vocabulary head at masked positions only.
..._seconds           the seconds after which ours has the rival's final loss on held-out text, the rival's rate being
                      the best of three. Compiled blocks are there from the row above. Ours is given a quarter of the
                      rival's time, then half, then all, until it gets there.
..._others            the same speeds under torch.compile of the rival's whole model, in float32 (TF32), of our blocks
                      not compiled, and with bfloat16 weights. Eight minutes have no room for these two rows.
documents             documents of a row that do not see each other, by FlexAttention and by PyTorch's with a mask.
views                 two views of each image of a batch that is on the device; every wait of the host is an error.
nt_xent               forward and backward of 8,192 images beside lightly's loss.
simclr_cifar          images/s of the recipe itself, beside lightly's example loop with 12 loader processes in bfloat16.
simclr_imagenet       ResNet-50, 224 pixels, JPEG files, both with 14 loader processes in bfloat16.
cifar10               SimCLR, ResNet-18, for four minutes: kNN and linear accuracy. (lightly's published kNN after 200
                      epochs, 87 minutes on an A6000, is 84.8 %.)
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import io
import json
import re
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import timm
import torch
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from benchmarks import _text, causal_lm, masked_lm
from benchmarks._machine import RESULTS, machine
from hf_replearn import architectures, augmentation
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.methods.simclr import SimCLRConfig, SimCLRForPreTraining, nt_xent
from hf_replearn.randomness import Place
from hf_replearn.recipes import simclr as recipe
from hf_replearn.settings import parse
from hf_replearn.training.throughput import peak_flops

SIDES = {"masked_lm": masked_lm.Sides, "causal_lm": causal_lm.Sides}
VOCABULARY = {"masked_lm": ("bert", 30_522), "causal_lm": ("gpt2", 50_257)}
RATES = (1e-4, 3e-4, 1e-3)  # of the rival, of which the best counts
NORMAL = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIEWS = {  # pixels: policy, images of which two views are made, ms before the whole batch was made at once (H200)
    32: (augmentation.simclr_cifar, 512, 13.0),
    224: (augmentation.simclr_imagenet, 256, 37.9),
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured. rows: of a batch of each text method, of `length` tokens. batches: images of a batch, by
    pixels. images: of the data set of 32 pixels."""

    size: str = "base"
    length: int = 512
    rows: dict[str, int] = field(default_factory=lambda: {"masked_lm": 64, "causal_lm": 32})
    documents: dict[int, int] = field(default_factory=lambda: {512: 64, 2048: 16})  # tokens of a row: rows
    steps: int = 25
    rounds: int = 3
    loss_seconds: float = 15.0
    evaluations: int = 12
    test_rows: int = 256
    batches: dict[int, int] = field(default_factory=lambda: {32: 512, 224: 256})
    images: int = 50_000
    image_steps: int = 600
    backbone: str = "resnet50"
    workers: dict[int, int] = field(default_factory=lambda: {32: 12, 224: 14})
    contrasted: int = 8192


TINY = Sizes(
    size="tiny",
    length=32,
    rows={"masked_lm": 4, "causal_lm": 4},
    documents={32: 4},
    steps=4,
    rounds=1,
    loss_seconds=0.2,
    evaluations=2,
    test_rows=8,
    batches={32: 4, 224: 2},
    images=20,
    image_steps=4,
    backbone="resnet10t",
    workers={32: 0, 224: 0},
    contrasted=64,
)


@dataclass(frozen=True)
class Bench:
    """What is measured with. done: rows measured before."""

    sizes: Sizes
    device: str
    text: str | None
    images: str | None
    done: dict[str, dict]

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def clock(self) -> float:
        """Seconds, when the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()


# ---- text


def random_text(method: str, sizes: Sizes) -> _text.Text:
    """Rows of random tokens of a published vocabulary: what stands in them takes no time."""
    vocabulary = VOCABULARY[method][1] if sizes.size == "base" else 500
    names = [str(token) for token in range(vocabulary - 2)] + ["[MASK]", "[PAD]"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({name: token for token, name in enumerate(names)}, unk_token="0")),
        mask_token="[MASK]",
        pad_token="[PAD]",
    )
    rng, count = np.random.default_rng(0), sizes.steps * sizes.rows[method]
    train, test = (
        Dataset.from_dict(
            {"input_ids": rng.integers(0, vocabulary - 2, (n, sizes.length)), "length": np.full(n, sizes.length)}
        )
        for n in (count, sizes.test_rows)
    )
    special = torch.arange(architectures.padded(vocabulary)) >= vocabulary - 2
    return _text.Text("random tokens", tokenizer, train, test, special)


def makers(method: str, sides: _text.Sides, bench: Bench) -> tuple[Callable, Callable]:
    """The trainers of both sides, of a few steps: (**TrainingArguments), (**settings)."""
    sizes = bench.sizes
    both = {"use_cpu": not bench.on_gpu, "dataloader_num_workers": 4 if bench.on_gpu else 0, "seed": 0}
    reference = partial(
        sides.reference,
        **both,
        steps=sizes.steps,
        batch=sizes.rows[method],
        bf16=True,
        optim="adamw_torch_fused",
        learning_rate=3e-4,
    )
    ours = partial(
        sides.ours,
        **both,
        max_steps=sizes.steps,
        per_device_train_batch_size=sizes.rows[method],
        bf16=True,
        torch_compile=bench.on_gpu,
    )
    return reference, ours


def speed(method: str, bench: Bench, *, others: bool = False) -> dict:
    """Tokens/s and MFU of both sides. others: further ways, once each."""
    sizes = bench.sizes
    sides = SIDES[method](random_text(method, sizes), sizes.size, sizes.length)
    reference, ours = makers(method, sides, bench)
    trainers = {_text.REFERENCE: reference, _text.OURS: ours}
    if others:
        trainers |= {
            f"{_text.REFERENCE}, torch.compile": partial(reference, torch_compile=bench.on_gpu),
            f"{_text.REFERENCE}, float32": partial(reference, bf16=False),
            f"{_text.OURS}, not compiled": partial(ours, torch_compile=False),
            f"{_text.OURS}, bfloat16 weights": partial(ours, weights="bfloat16"),
        }
    tokens = sizes.rows[method] * sizes.length
    found = _text.throughput(trainers, tokens=tokens, rounds=1 if others else sizes.rounds, clock=bench.clock)
    native = reference(steps=1).model
    peak = peak_flops(torch.cuda.get_device_name()) if bench.on_gpu else None
    if peak:
        flops = partial(architectures.flops_per_token, native, length=sizes.length)
        rates = {name: rate for name, rate in found["tokens_per_second"].items() if not name.endswith("float32")}
        found["mfu"] = {name: rate * flops(predicted=_told(method, name)) / peak for name, rate in rates.items()}
    return {"parameters": native.num_parameters(), **found}


def _told(method: str, name: str) -> float:
    """The share of the tokens that goes through the vocabulary head."""
    return masked_lm.RATE if method == "masked_lm" and name.startswith(_text.OURS) else 1.0


def seconds_to_loss(method: str, bench: Bench) -> dict:
    """How much sooner ours has the rival's final loss on held-out text."""
    sizes, (architecture, vocabulary) = bench.sizes, VOCABULARY[method]
    text = _text.load_text(
        bench.text,
        architecture,
        vocab_size=vocabulary if sizes.size == "base" else 500,
        length=sizes.length,
        test_rows=sizes.test_rows,
    )
    sides = SIDES[method](text, sizes.size, sizes.length)
    reference, ours = makers(method, sides, bench)
    step = bench.done[method]["seconds_per_step"]
    train = partial(_text.train, evaluate=sides.evaluate, evaluations=sizes.evaluations, clock=bench.clock)

    def steps(name: str, share: float = 1.0) -> int:
        return max(4, round(share * sizes.loss_seconds / step[name]))

    tuning = {rate: train(reference(steps=steps(_text.REFERENCE), learning_rate=rate)) for rate in RATES}
    best = min(tuning, key=lambda rate: tuning[rate][-1]["loss"])
    target, curves = tuning[best][-1], {}
    took = None
    for share in (0.25, 0.5, 1.0):
        curves[share] = train(ours(max_steps=steps(_text.OURS, share)))
        took = _text.seconds_to(target["loss"], curves[share])
        if took is not None:
            break
    return {
        "ratio": target["seconds"] / took if took else 0.0,
        "seconds_to_the_reference_s_final_loss": {_text.REFERENCE: target["seconds"], _text.OURS: took},
        "reference_learning_rate": best,
        "tuning": {str(rate): points[-1]["loss"] for rate, points in tuning.items()},
        "curves": {_text.REFERENCE: tuning[best], **{f"{_text.OURS}, {x:g} of it": c for x, c in curves.items()}},
    }


def documents(bench: Bench) -> dict:
    """Tokens/s of masked_lm where each row holds about four documents of any length, by attention."""
    result = {"ratio": {}, "tokens_per_second": {}}
    ways = ["sdpa", "flex_attention"] if bench.on_gpu else ["sdpa"]  # of which a CPU has no backward pass
    for length, rows in bench.sizes.documents.items():
        sizes = replace(bench.sizes, length=length, rows={"masked_lm": rows})
        text, rng = random_text("masked_lm", sizes), np.random.default_rng(0)
        numbers = (rng.random((len(text.train), length)) < 3 / length).cumsum(1)
        train = text.train.add_column("documents", list(numbers))
        sides = masked_lm.Sides(
            _text.Text(text.name, text.tokenizer, train, text.test, text.special), sizes.size, length
        )
        _, ours = makers("masked_lm", sides, replace(bench, sizes=sizes))
        for way in ways:
            trainer, pace = ours(packing="documents", attention=way), _text.Pace(bench.clock)
            trainer.add_callback(pace)
            trainer.train()
            result["tokens_per_second"][f"{length} tokens, {way}"] = rows * length / pace.seconds
        rates = [result["tokens_per_second"][f"{length} tokens, {way}"] for way in ways]
        result["ratio"][f"{length} tokens"] = rates[-1] / rates[0]
    return result


# ---- images


def views(bench: Bench) -> dict:
    """Milliseconds for two normalised views of each image of a batch that is on the device."""
    result = {"ratio": {}, "ms": {}, "ms_until_the_host_goes_on": {}, "peak_gib": {}}
    for pixels, (policy, images, earlier) in VIEWS.items():
        images = images if bench.on_gpu else 4
        batch = {"pixel_values": torch.randint(256, (images, 3, pixels, pixels), dtype=torch.uint8).to(bench.device)}
        collator = DataCollatorForViews(partial(policy, size=pixels), *NORMAL)
        for name, compiled in (("eager", False), ("compiled", True)):
            make = replace(collator, compiled=compiled).views
            row = f"{images} x 2 at {pixels} px, {name}"
            result["ms"][row], result["ms_until_the_host_goes_on"][row] = milliseconds(make, batch, bench)
            result["ratio"][row] = earlier / result["ms"][row]
            if bench.on_gpu:
                result["peak_gib"][row] = torch.cuda.max_memory_allocated() / 2**30
            print(f"{row:32s} {result['ms'][row]:.2f} ms", flush=True)
    return result


def milliseconds(make: Callable, batch: dict, bench: Bench) -> list[float]:
    """Of one call among ten in a row, medians: until the device is done, until the host goes on."""
    rounds, calls, warm = (20, 10, 5) if bench.on_gpu else (1, 1, 1)
    for step in range(warm):  # compiles, and fills the caches of memory
        make(batch, Place(0, step))
    took, went_on = [], []
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for first in range(rounds):
        start = bench.clock()
        if bench.on_gpu:
            torch.cuda.set_sync_debug_mode("error")
        for step in range(calls):
            make(batch, Place(0, first * calls + step))
        went_on.append(1000 * (time.perf_counter() - start) / calls)
        if bench.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
        took.append(1000 * (bench.clock() - start) / calls)
    return [statistics.median(took), statistics.median(went_on)]


def contrast(bench: Bench) -> dict:
    """Milliseconds and extra memory of NT-Xent, forward and backward, ours and lightly's in turn."""
    from lightly.loss import NTXentLoss

    theirs, count = NTXentLoss(temperature=0.5), bench.sizes.contrasted
    losses = {"lightly": theirs, _text.OURS: lambda a, b: nt_xent(torch.stack([a, b], dim=1), 0.5)}
    halves = [torch.randn(count, 128, device=bench.device, requires_grad=True) for _ in range(2)]
    took, extra = {name: [] for name in losses}, {}
    for _ in range(3 + 10 * bench.on_gpu):
        for name, loss in losses.items():
            if bench.on_gpu:
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            start = bench.clock()
            loss(*halves).backward()
            took[name].append(1000 * (bench.clock() - start))
            if bench.on_gpu:
                extra[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
    ms = {name: statistics.median(times) for name, times in took.items()}
    ratio = {"time": ms["lightly"] / ms[_text.OURS]}
    ratio |= {"memory": extra["lightly"] / extra[_text.OURS]} if extra else {}
    return {"ratio": ratio, "ms": ms, "extra_mib": extra}


Losses = tuple[list[nn.Parameter], Iterator[torch.Tensor]]


def image_files(count: int, pixels: int, kind: str) -> list[bytes]:
    """Encoded smooth pictures; what they show does not change the time of a step."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    found = []
    for small in noise:
        file = io.BytesIO()
        Image.fromarray(small).resize((pixels, pixels), Image.Resampling.BICUBIC).save(file, kind)
        found.append(file.getvalue())
    return found


def lightly_losses(files: list[bytes], backbone: str, pixels: int, bench: Bench) -> Losses:
    """lightly's example: its transform in the loader's processes, a forward pass a view; in bfloat16, channels last."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    encoder = timm.create_model(backbone, num_classes=0)
    if pixels == 32:
        encoder.conv1, encoder.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    width = encoder.num_features
    model = nn.Sequential(encoder, SimCLRProjectionHead(width, width, 128))
    model = model.to(bench.device, memory_format=torch.channels_last)
    policy = {"cj_strength": 0.5, "gaussian_blur": 0.0} if pixels == 32 else {}
    transform, criterion = SimCLRTransform(input_size=pixels, **policy), NTXentLoss(temperature=0.5)

    def collate(batch: list[bytes]) -> list[torch.Tensor]:
        made = (transform(Image.open(io.BytesIO(file)).convert("RGB")) for file in batch)
        return [torch.stack(view) for view in zip(*made, strict=True)]

    def losses() -> Iterator[torch.Tensor]:
        for batch in loader_of(files, pixels, collate, bench):
            with torch.autocast(bench.device, torch.bfloat16):
                z0, z1 = (
                    model(view.to(bench.device, non_blocking=True, memory_format=torch.channels_last)) for view in batch
                )
            yield criterion(z0.float(), z1.float())

    return list(model.parameters()), losses()


def our_losses(files: list[bytes], backbone: str, pixels: int, bench: Bench) -> Losses:
    """The recipe's parts: decoding in the loader's processes, views on the device, one forward pass."""
    model = SimCLRForPreTraining(SimCLRConfig(backbone=backbone, temperature=0.5)).to(memory_format=torch.channels_last)
    model = model.to(bench.device).train()
    policy = partial(augmentation.simclr_imagenet, size=pixels)
    collator = DataCollatorForViews(policy, *NORMAL)
    rows = [{"image": {"bytes": file, "path": None}} for file in files]

    def losses() -> Iterator[torch.Tensor]:
        for step, batch in enumerate(loader_of(rows, pixels, collator, bench)):
            batch = {name: column.to(bench.device, non_blocking=True) for name, column in batch.items()}
            made = collator.views(batch, Place(0, step))
            with torch.autocast(bench.device, torch.bfloat16):
                loss = model(**made).loss
            yield loss

    return list(model.parameters()), losses()


def loader_of(rows: list, pixels: int, collate: Callable, bench: Bench) -> DataLoader:
    return DataLoader(
        rows,
        batch_size=bench.sizes.batches[pixels],
        num_workers=bench.sizes.workers[pixels],
        collate_fn=collate,
        pin_memory=bench.on_gpu,
    )


def images_per_second(losses: Callable[..., Losses], files: list[bytes], backbone: str, pixels: int, bench: Bench):
    """Of whole steps, from the end of the third to the end of the last."""
    parameters, steps = losses(files, backbone, pixels, bench)
    optimizer, ends = torch.optim.SGD(parameters, lr=0.06), []
    for loss in steps:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        ends.append(bench.clock())
    return bench.sizes.batches[pixels] * (len(ends) - 3) / (ends[-1] - ends[2])


def simclr_imagenet(bench: Bench) -> dict:
    """Images/s with the decoding of JPEG files, ours and lightly's in turn."""
    pixels, sides = 224, {"lightly": lightly_losses, _text.OURS: our_losses}
    files = image_files((24 if bench.on_gpu else 4) * bench.sizes.batches[pixels], pixels, "JPEG")
    found = {name: [] for name in sides}
    for _ in range(min(2, bench.sizes.rounds)):
        for name, losses in sides.items():
            found[name].append(images_per_second(losses, files, bench.sizes.backbone, pixels, bench))
            print(f"{name:24s} {found[name][-1]:.1f} images/s", flush=True)
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    return {"ratio": medians[_text.OURS] / medians["lightly"], "images_per_second": medians}


def simclr_cifar(bench: Bench) -> dict:
    """Images/s of the recipe, by its own log without the first lines, and of lightly's loop."""
    sizes = bench.sizes
    files = image_files(sizes.images, 32, "PNG")
    theirs = images_per_second(lightly_losses, files[: 40 * sizes.batches[32]], "resnet18", 32, bench)
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset.from_dict({"image": [{"bytes": file, "path": None} for file in files]})
        data = data.cast_column("image", datasets.Image(decode=False))
        Path(folder, "data").mkdir()
        data.to_parquet(Path(folder, "data", "train.parquet"))
        given = ["--dataset", f"{folder}/data", "--output_dir", f"{folder}/out", "--max_steps", str(sizes.image_steps)]
        given += ["--logging_steps", str(max(1, sizes.image_steps // 12)), "--save_steps", "1000000", "--bf16", "true"]
        recipe.main(parse(recipe.SimCLRSettings, [*given, *_cifar(bench)]))
        log = [json.loads(line) for line in Path(folder, "out", "log.jsonl").read_text().splitlines()]
    rates = [line["examples_per_second"] for line in log if "examples_per_second" in line][2:]
    medians = {"lightly": theirs, _text.OURS: statistics.median(rates)}
    lines = {"slowest_line_of_the_log": min(rates), "fastest_line_of_the_log": max(rates)}
    return {"ratio": medians[_text.OURS] / medians["lightly"], "images_per_second": medians, **lines}


def _cifar(bench: Bench) -> list[str]:
    """What the recipe is told for images of 32 pixels."""
    given = ["--backbone", "resnet18", "--stem", "cifar", "--augmentation", "cifar", "--strength", "0.5"]
    given += ["--image_size", "32", "--per_device_train_batch_size", str(bench.sizes.batches[32])]
    given += ["--dataloader_num_workers", str(bench.sizes.workers[32]), "--temperature", "0.5"]
    return given + (["--torch_compile"] if bench.on_gpu else ["--use_cpu", "--knn_steps", "0"])


def cifar10(bench: Bench) -> dict:
    """The real run: as many epochs as four minutes hold. What is left of it is in out/cifar10_gpu, its card too."""
    out = Path("out", "cifar10_gpu")
    given = ["--dataset", bench.images or "cifar10", "--output_dir", str(out), "--max_minutes", "4", "--warmup_steps"]
    given += ["0.05", "--optimizer", "lars", "--learning_rate", "1.0", "--weight_decay", "1e-4"]
    settings = parse(recipe.SimCLRSettings, [*given, *_cifar(bench)])
    if not bench.on_gpu:
        return {"settings_are_valid": settings.max_minutes == 4}
    recipe.main(settings)
    report = json.loads((out / "report.json").read_text())
    trained = {name: report["training"][name] for name in ("steps", "examples", "seconds", "examples_per_second")}
    return {"scores": report["rows"], "training": trained}


# ---- rows


@dataclass(frozen=True)
class Row:
    """measure: Bench -> what was found. seconds: that it takes on an H100, about. aim: of its ratio, or in words."""

    measure: Callable[[Bench], dict]
    seconds: float
    aim: object
    needs: str = ""  # a package, `text`, or `images`


ROWS = {
    "nt_xent": Row(contrast, 10, {"time": 5, "memory": 50}, "lightly"),
    "views": Row(views, 35, {"ms at 32 px": 2, "ms at 224 px": 8}),
    "masked_lm": Row(partial(speed, "masked_lm"), 60, {"ratio": 2.0, "mfu": 0.4}),
    "causal_lm": Row(partial(speed, "causal_lm"), 60, {"ratio": 2.0, "mfu": 0.4}),
    "simclr_cifar": Row(simclr_cifar, 60, {"ratio": 2, "images_per_second": 20_000}, "lightly"),
    "masked_lm_seconds": Row(partial(seconds_to_loss, "masked_lm"), 65, {"ratio": 3}, "text"),
    "causal_lm_seconds": Row(partial(seconds_to_loss, "causal_lm"), 65, {"ratio": 3}, "text"),
    "simclr_imagenet": Row(simclr_imagenet, 50, {"ratio": 1.5}, "lightly"),
    "documents": Row(documents, 60, "FlexAttention where it is faster"),
    "masked_lm_others": Row(partial(speed, "masked_lm", others=True), 90, "for comparison"),
    "causal_lm_others": Row(partial(speed, "causal_lm", others=True), 90, "for comparison"),
    "cifar10": Row(cifar10, 300, "lightly's kNN after 200 epochs: 84.8 %", "images"),
}
TABLE = [name for name, row in ROWS.items() if row.needs != "images"]


def why_not(name: str, bench: Bench, *, left: float) -> str | None:
    """Why a row is not measured."""
    row = ROWS[name]
    if row.needs == "text" and bench.text is None:
        return "it needs TEXT"
    if row.needs == "text" and name.removesuffix("_seconds") not in bench.done:
        return f"it needs the row {name.removesuffix('_seconds')} first"
    if row.needs == "images" and bench.images is None and bench.on_gpu:
        return "it needs --images"
    if row.needs == "lightly" and importlib.util.find_spec("lightly") is None:
        return "lightly is not installed"
    return f"it takes {row.seconds:.0f} s, and {max(left, 0):.0f} s are left" if left < row.seconds else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", help="documents: a folder, a file, a Hub id or toy")
    parser.add_argument("--images", help="CIFAR-10, for the row cifar10")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=TABLE)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/gpu_<device>.json; a dry run: none")
    parser.add_argument("--dry_run", action="store_true", help="tiny, on the CPU; the numbers say nothing")
    args = parser.parse_args()
    if not args.dry_run and not torch.cuda.is_available():
        raise SystemExit("there is no GPU: give --dry_run to see whether it runs")
    end, device = time.perf_counter() + 60 * args.minutes, "cpu" if args.dry_run else "cuda"
    name = "cpu" if args.dry_run else torch.cuda.get_device_name()
    output = args.output or RESULTS / f"gpu_{re.sub(r'[^a-z0-9]+', '_', name.lower())}.json"
    result = {"gpu": name, "rows": {}}
    if output.exists() and not args.dry_run:
        result["rows"] = json.loads(output.read_text())["rows"]
    sizes = TINY if args.dry_run else Sizes()
    bench = Bench(sizes, device, args.text, args.images, result["rows"])
    if bench.on_gpu:
        torch.backends.fp32_precision = "tf32"  # what float32 rows use of it, as Trainer sets it
    failed = []
    for row in args.rows:
        if reason := why_not(row, bench, left=end - time.perf_counter()):
            print(f"{row}: left out: {reason}", flush=True)
            continue
        print(f"{row}:", flush=True)
        start = time.perf_counter()
        try:
            found = ROWS[row].measure(bench)
        except Exception:  # the other rows are worth having
            traceback.print_exc()
            failed.append(row)
            continue
        took = round(time.perf_counter() - start, 1)
        about = {"aim": ROWS[row].aim, "seconds": took, "setting": asdict(sizes), "machine": machine()}
        result["rows"][row] = {**found, **about}
        if not args.dry_run or args.output:
            output.write_text(json.dumps(result, indent=2) + "\n")
        gc.collect()
        if bench.on_gpu:
            torch.cuda.empty_cache()
    print(json.dumps({row: found.get("ratio") for row, found in result["rows"].items()}), flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
