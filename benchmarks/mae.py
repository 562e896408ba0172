"""A step of MAE at the shapes of ViT-base, against transformers' ViTMAEForPreTraining.

    python -m benchmarks.mae [--batch 4] [--rounds 5] [--threads 1]

Images of 224 pixels, patches of 16, 75 % of them hidden, decoder 512 x 8: the paper's. Both get the same images and the
same noise, thus the same masks, and AdamW, fused. A step is forward, backward and optimizer. Steps of all rows are
interleaved in one process, and the medians of their CPU times compared, so that other work on the machine hardly
counts. In float32, and under bfloat16 autocast, which our recipe uses where the CPU has it, transformers' Trainer only
if told.

On a CPU both are as fast: three quarters of a step in float32 are the same products of matrices, 7 % AdamW. Tried, not
kept, for 1 to 2 %: patches embedded only where they are seen, with the last block of the decoder for hidden patches
alone; and attention as two plain products, which is slower by as much.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from benchmarks._machine import machine, write_result
from hf_replearn.methods.mae import MAEConfig, MAEForPreTraining
from hf_replearn.training.optimizers import adamw

PATCHES = 196


def step_of(model: nn.Module, *, bf16: bool):
    """One step of a model on images and noise: the loss."""
    optimizer = adamw(model.train(), 1e-4, weight_decay=0.05)

    def step(images: torch.Tensor, noise: torch.Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(images, noise=noise).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    torch.manual_seed(0)
    theirs = ViTMAEForPreTraining(ViTMAEConfig(norm_pix_loss=True, layer_norm_eps=1e-6))
    ours = MAEForPreTraining(MAEConfig(backbone="vit_base_patch16_224"))
    models = {"transformers": theirs, "hf_replearn": ours}
    steps = {
        f"{name}, {kind}": step_of(model, bf16=kind == "bfloat16")
        for name, model in models.items()
        for kind in ("float32", "bfloat16")
    }
    seconds = {name: [] for name in steps}
    for round_ in range(told.rounds + 1):
        images, noise = torch.randn(told.batch, 3, 224, 224), torch.rand(told.batch, PATCHES)
        for name, step in steps.items():
            start = time.process_time()
            loss = step(images, noise)
            if round_:  # the first warms up
                seconds[name].append(time.process_time() - start)
                print(f"{name}: {seconds[name][-1]:.2f} s, loss {loss:.3f}", flush=True)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    times = {kind: median[f"transformers, {kind}"] / median[f"hf_replearn, {kind}"] for kind in ("float32", "bfloat16")}
    times["as each trains by default"] = median["transformers, float32"] / median["hf_replearn, bfloat16"]
    write_result(
        "mae",
        {
            "benchmark": "mae",
            "what": "CPU seconds of a step at ViT-base shapes, median; how many times faster ours is",
            "machine": machine(),
            "batch": told.batch,
            "rounds": told.rounds,
            "seconds": median,
            "times_faster": times,
        },
    )


if __name__ == "__main__":
    main()
