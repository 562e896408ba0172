"""A whole SimCLR step, augmentation included, against the loop of lightly's own example.

    python -m benchmarks.simclr_step [--batch 128] [--rounds 5] [--threads 2]

ResNet-18 with the CIFAR stem, 32-pixel images, SGD for both. lightly's side is the loop of examples/pytorch/simclr.py
there (a forward pass for each view, float32) with its transform at CIFAR's settings on PIL images. Ours is what the
recipe runs: batched augmentation, both views in one pass, channels_last, bfloat16 where the CPU has it, chunked
NT-Xent. The steps of both are interleaved in one process; the medians of their wall times are compared. A third row is
lightly's loop under bfloat16 autocast, which its example does not use.
"""

import argparse
import statistics
import time
from functools import partial

import numpy as np
import timm
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from PIL import Image
from torch import nn

from benchmarks._machine import machine, write_result
from hf_replearn import augmentation
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.methods.simclr import SimCLRConfig, SimCLRForPreTraining
from hf_replearn.randomness import Place
from hf_replearn.training.settings import has_bf16

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(count: int) -> list[Image.Image]:
    """Smooth synthetic pictures of 32 pixels; what they show does not change the time of a step."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC) for pixels in noise]


def lightly_step(images: list[Image.Image], *, bf16: bool):
    """One step of lightly's example: transform, two forward passes, loss, backward, optimizer."""
    backbone = timm.create_model("resnet18", num_classes=0)
    backbone.conv1, backbone.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    model = nn.Sequential(backbone, SimCLRProjectionHead(512, 512, 128))
    transform = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
    criterion, optimizer = NTXentLoss(temperature=0.5), torch.optim.SGD(model.parameters(), lr=0.06)

    def step() -> float:
        views = [transform(image) for image in images]
        x0, x1 = (torch.stack([view[i] for view in views]) for i in (0, 1))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            z0, z1 = model(x0), model(x1)
        loss = criterion(z0.float(), z1.float())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def our_step(images: list[Image.Image], *, bf16: bool):
    """One step of recipes/simclr.py: views on the training device, joint forward pass, loss, backward, optimizer."""
    config = SimCLRConfig(backbone="resnet18", stem="cifar", temperature=0.5)
    model = SimCLRForPreTraining(config).to(memory_format=torch.channels_last)
    collator = DataCollatorForViews(partial(augmentation.simclr_cifar, size=32, strength=0.5), MEAN, STD)
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]).contiguous()
    optimizer, places = torch.optim.SGD(model.parameters(), lr=0.06), iter(range(10**9))

    def step() -> float:
        batch = collator.views({"pixel_values": pixels}, Place(0, next(places)))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    images, bf16 = pictures(args.batch), has_bf16("cpu")
    steps = {
        "hf_replearn": our_step(images, bf16=bf16),
        "lightly": lightly_step(images, bf16=False),
        "lightly, bf16 autocast": lightly_step(images, bf16=bf16),
    }
    seconds = {name: [] for name in steps}
    for turn in range(args.rounds + 1):  # the first warms up
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:
                seconds[name].append(time.perf_counter() - start)
                print(f"{name:24s} {seconds[name][-1]:.3f} s", flush=True)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    write_result(
        "simclr_step",
        {
            "ratio": medians["lightly"] / medians["hf_replearn"],
            "required": 1.9,
            "ratio_to_lightly_with_bf16": medians["lightly, bf16 autocast"] / medians["hf_replearn"],
            "seconds_per_step": medians,
            "image_pairs_per_second": {name: args.batch / value for name, value in medians.items()},
            "setting": {"batch": args.batch, "rounds": args.rounds, "threads": args.threads, "bf16": bf16},
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
