"""The comparisons of this folder on one GPU, at BERT-base and GPT-2 (124M) size: tokens/s, MFU, seconds to a loss.

    python -m benchmarks.gpu TOKENS [--minutes 8] [--methods masked_lm causal_lm simclr views]
    python -m benchmarks.gpu --methods views                                  (the views alone, about a minute)
    python -m benchmarks.gpu TOKENS --device cpu --size tiny --batch 8 --length 64 --minutes 0.2     (does it run?)

TOKENS is a file of token ids, .npy or raw uint16 (.bin), of any tokenizer; its last rows are held out. Rival and ours
are those of benchmarks.masked_lm and benchmarks.causal_lm, but on a GPU the rival has bfloat16 too; its rate in float32
is another row, and with --compile ours under torch.compile. First the speed of each, a few steps in turn. Then each
trains as many steps as the minutes have room for, its learning rate falling to zero at the end, and the seconds are
compared after which the loss is the rival's final one. MFU counts what a side computes: ours has a vocabulary head at
masked positions only. SimCLR runs against lightly's parts in images/s, both with loader processes and bfloat16. Views
are timed without a loader or a network, in eager mode and compiled, on a GPU with every wait of the host an error.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

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
from benchmarks._machine import machine, write_result
from hf_replearn import architectures, augmentation
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.methods.simclr import SimCLRConfig, SimCLRForPreTraining
from hf_replearn.randomness import Place
from hf_replearn.training.throughput import peak_flops

SIDES = {"masked_lm": masked_lm.Sides, "causal_lm": causal_lm.Sides}
FLOAT32 = f"{_text.REFERENCE}, float32"
COMPILED = f"{_text.OURS}, compiled"


def read_tokens(path: Path, *, length: int, test_rows: int) -> _text.Text:
    """Rows of a file of token ids, and a tokenizer that knows how many there are, a mask and a padding token."""
    tokens = np.load(path, mmap_mode="r") if path.suffix == ".npy" else np.memmap(path, np.uint16, mode="r")
    rows = np.array(tokens[: len(tokens) // length * length], np.int32).reshape(-1, length)
    if len(rows) < 2 * test_rows:
        raise SystemExit(f"{path} holds {len(rows)} rows of {length} tokens; {test_rows} are held out")
    names = [str(token) for token in range(int(rows.max()) + 1)] + ["[MASK]", "[PAD]"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({name: token for token, name in enumerate(names)}, unk_token="0")),
        mask_token="[MASK]",
        pad_token="[PAD]",
    )
    train, test = (
        Dataset.from_dict({"input_ids": part, "length": np.full(len(part), length)})
        for part in (rows[:-test_rows], rows[-test_rows:])
    )
    special = torch.arange(architectures.padded(len(names))) >= len(names) - 2
    return _text.Text(path.name, tokenizer, train, test, special)


def language_model(method: str, args: argparse.Namespace, clock: Callable[[], float]) -> dict:
    """Tokens/s and MFU of both sides, and their seconds to the rival's final loss."""
    text = read_tokens(args.tokens, length=args.length, test_rows=args.test_rows)
    sides = SIDES[method](text, args.size, args.length)
    both = {"use_cpu": args.device == "cpu", "dataloader_num_workers": args.workers, "seed": 0}
    rate = args.reference_learning_rate
    reference = partial(sides.reference, **both, batch=args.batch, bf16=True, learning_rate=rate)
    rates = {"learning_rate": args.learning_rate} if args.learning_rate else {}
    ours = partial(sides.ours, **both, per_device_train_batch_size=args.batch, **rates)
    trainers = {
        _text.REFERENCE: partial(reference, steps=args.speed_steps),
        FLOAT32: partial(reference, steps=args.speed_steps, bf16=False),
        _text.OURS: partial(ours, max_steps=args.speed_steps),
    }
    if args.compile:
        trainers[COMPILED] = partial(ours, max_steps=args.speed_steps, torch_compile=True)
    speed = _text.throughput(trainers, tokens=args.batch * args.length, rounds=args.rounds, clock=clock)

    def flops(name: str) -> float:
        hidden = masked_lm.RATE if method == "masked_lm" and name.startswith(_text.OURS) else 1.0
        return architectures.flops_per_token(native, length=args.length, predicted=hidden)

    native = reference(steps=1).model
    if args.device == "cuda" and (peak := peak_flops(torch.cuda.get_device_name())):
        rates = speed["tokens_per_second"]
        speed["mfu"] = {name: rates[name] * flops(name) / peak for name in rates if name != FLOAT32}
    steps = {name: max(2, int(60 * args.minutes / seconds)) for name, seconds in speed["seconds_per_step"].items()}
    best = COMPILED if args.compile else _text.OURS
    makers = {
        _text.REFERENCE: partial(reference, steps=steps[_text.REFERENCE]),
        _text.OURS: partial(ours, max_steps=steps[best], torch_compile=args.compile),
    }
    curves = {
        name: _text.train(make(), sides.evaluate, evaluations=args.evaluations, clock=clock)
        for name, make in makers.items()
    }
    target = curves[_text.REFERENCE][-1]["loss"]
    took = {name: _text.seconds_to(target, points) for name, points in curves.items()}
    return {
        "parameters": native.num_parameters(),
        "throughput": speed,
        "seconds_to_the_reference_s_final_loss": took,
        "ratio": took[_text.REFERENCE] / took[_text.OURS] if took[_text.OURS] else 0.0,
        "curves": curves,
    }


def simclr(args: argparse.Namespace, clock: Callable[[], float]) -> dict:
    """Images/s of whole SimCLR steps with the images' decoding, ours and lightly's, in turn."""
    backbone, pixels = ("resnet18", 32) if args.size == "tiny" else ("resnet50", 224)
    noise = np.random.default_rng(0).integers(0, 256, (8 * args.batch, 6, 6, 3), dtype=np.uint8)
    files = [jpeg(Image.fromarray(small).resize((pixels, pixels), Image.Resampling.BICUBIC)) for small in noise]
    make = {"lightly": lightly_losses, _text.OURS: our_losses}
    speed = {name: [] for name in make}
    for _ in range(args.rounds):
        for name, losses in make.items():
            parameters, steps = losses(files, backbone, pixels, args)
            optimizer = torch.optim.SGD(parameters, lr=0.06)
            ends = []
            for loss in steps:
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                ends.append(clock())
            speed[name].append(args.batch * (len(ends) - 3) / (ends[-1] - ends[2]))
            print(f"{name:24s} {speed[name][-1]:.1f} images/s", flush=True)
    medians = {name: statistics.median(rates) for name, rates in speed.items()}
    return {
        "ratio": medians[_text.OURS] / medians["lightly"],
        "images_per_second": medians,
        "setting": {"backbone": backbone, "pixels": pixels},
    }


VIEWS = {  # pixels: policy, images of which two views are made, ms before the whole batch was made at once (H200)
    32: (augmentation.simclr_cifar, 512, 13.0),
    224: (augmentation.simclr_imagenet, 256, 37.9),
}


def views(args: argparse.Namespace, clock: Callable[[], float]) -> dict:
    """Milliseconds for two normalised views of each image of a batch that is on the device."""
    result = {"ratio": {}, "ms": {}, "ms_until_the_host_goes_on": {}, "peak_gib": {}}
    for pixels, (policy, images, earlier) in VIEWS.items():
        if args.size == "tiny":
            images = 8
        batch = {"pixel_values": torch.randint(256, (images, 3, pixels, pixels), dtype=torch.uint8).to(args.device)}
        collator = DataCollatorForViews(partial(policy, size=pixels), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        for name, compiled in (("eager", False), ("compiled", True)):
            make = replace(collator, compiled=compiled).views
            row = f"{images} x 2 at {pixels} px, {name}"
            result["ms"][row], result["ms_until_the_host_goes_on"][row] = milliseconds(make, batch, args, clock)
            result["ratio"][row] = earlier / result["ms"][row]
            if args.device == "cuda":
                result["peak_gib"][row] = torch.cuda.max_memory_allocated() / 2**30
            print(f"{row:32s} {result['ms'][row]:.2f} ms", flush=True)
    return result


def milliseconds(make: Callable, batch: dict, args: argparse.Namespace, clock: Callable[[], float]) -> list[float]:
    """Of one call among ten in a row, medians: until the device is done, until the host goes on."""
    rounds, calls = (3, 1) if args.size == "tiny" else (20, 10)
    for step in range(5):  # compiles, and fills the caches of memory
        make(batch, Place(0, step))
    took, went_on = [], []
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for first in range(rounds):
        start = clock()
        if args.device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        for step in range(calls):
            make(batch, Place(0, first * calls + step))
        went_on.append(1000 * (time.perf_counter() - start) / calls)
        if args.device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        took.append(1000 * (clock() - start) / calls)
    return [statistics.median(took), statistics.median(went_on)]


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


Losses = tuple[list[nn.Parameter], Iterator[torch.Tensor]]


def lightly_losses(files: list[bytes], backbone: str, pixels: int, args: argparse.Namespace) -> Losses:
    """lightly's example: its transform in the loader's processes, a forward pass a view."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    encoder = timm.create_model(backbone, num_classes=0)
    width = encoder.num_features
    model = nn.Sequential(encoder, SimCLRProjectionHead(width, width, 128)).to(args.device)
    transform, criterion = SimCLRTransform(input_size=pixels), NTXentLoss(temperature=0.1)

    def collate(batch: list[bytes]) -> list[torch.Tensor]:
        views = (transform(Image.open(io.BytesIO(file)).convert("RGB")) for file in batch)
        return [torch.stack(view) for view in zip(*views, strict=True)]

    loader = DataLoader(
        files,
        batch_size=args.batch,
        num_workers=args.workers,
        collate_fn=collate,
        pin_memory=args.device == "cuda",
    )

    def losses() -> Iterator[torch.Tensor]:
        for views in loader:
            with torch.autocast(args.device, torch.bfloat16):
                z0, z1 = (model(view.to(args.device, non_blocking=True)) for view in views)
            yield criterion(z0.float(), z1.float())

    return list(model.parameters()), losses()


def our_losses(files: list[bytes], backbone: str, pixels: int, args: argparse.Namespace) -> Losses:
    """The recipe's parts: stacking in the loader's processes, views on the device, one forward pass."""
    model = SimCLRForPreTraining(SimCLRConfig(backbone=backbone, temperature=0.1)).to(memory_format=torch.channels_last)
    model = model.to(args.device).train()
    policy = partial(augmentation.simclr_imagenet, size=pixels)
    collator = DataCollatorForViews(policy, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    loader = DataLoader(
        [{"image": {"bytes": file, "path": None}} for file in files],
        batch_size=args.batch,
        num_workers=args.workers,
        collate_fn=collator,
        pin_memory=args.device == "cuda",
    )

    def losses() -> Iterator[torch.Tensor]:
        for step, batch in enumerate(loader):
            batch = {name: column.to(args.device, non_blocking=True) for name, column in batch.items()}
            views = collator.views(batch, Place(0, step))
            with torch.autocast(args.device, torch.bfloat16):
                loss = model(**views).loss
            yield loss

    return list(model.parameters()), losses()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", type=Path, nargs="?", help="not needed for images")
    parser.add_argument(
        "--methods", nargs="+", choices=[*SIDES, "simclr", "views"], default=[*SIDES, "simclr", "views"]
    )
    parser.add_argument("--minutes", type=float, default=8, help="of each of the two runs of a language model")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", default="base", help="of hf_replearn.architectures")
    parser.add_argument("--length", type=int, default=512, help="tokens of a row")
    parser.add_argument("--batch", type=int, default=64, help="rows, or images")
    parser.add_argument("--test_rows", type=int, default=256)
    parser.add_argument("--learning_rate", type=float, help="of our AdamW; none: the recipe's")
    parser.add_argument("--reference_learning_rate", type=float, default=3e-4)
    parser.add_argument("--workers", type=int, default=4, help="loader processes")
    parser.add_argument("--speed_steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="ours under torch.compile")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU: give --device cpu to see whether it runs")
    if args.tokens is None and not SIDES.keys().isdisjoint(args.methods):
        raise SystemExit("a language model needs TOKENS, a file of token ids")
    torch.backends.fp32_precision = "tf32"  # what float32 rows use of the GPU, as Trainer sets it

    def clock() -> float:
        if args.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    methods = {name: partial(language_model, name) for name in SIDES} | {"simclr": simclr, "views": views}
    results = {name: methods[name](args, clock) for name in args.methods}
    setting = {**vars(args), "tokens": args.tokens and args.tokens.name}
    ratios = {name: result["ratio"] for name, result in results.items()}
    result = {"ratio": ratios, "results": results, "setting": setting, "machine": machine()}
    if args.device == "cuda":
        write_result("gpu" if len(results) == len(methods) else "_".join(["gpu", *results]), result)
    else:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
