"""Is the fast way as good? kNN accuracy after the same images seen, ours against lightly's loop, over seeds.

    python -m benchmarks.simclr_quality --dataset cifar10 [--images 10000] [--epochs 6] [--seeds 6]

Both sides train the same network (a ResNet-10 of half the width) from initial weights of the same distribution, on
the same images in the same order, with the same optimizer, schedule, temperature and strength of augmentation. What
differs is what the libraries do: lightly's SimCLRTransform on PIL images, a forward pass a view, its NTXentLoss, in
float32; ours is the batched augmentation, one forward pass, our NT-Xent, channels_last, bfloat16 where the CPU has it.
The learning rate is tuned for lightly: every rate in --learning_rates is tried with the first seed, and lightly's best
one is used for both. Scores are weighted kNN (k = 20 and k = 200) on the test images.
"""

import argparse
import math
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
from scipy.stats import ttest_ind
from torch import nn

from benchmarks._machine import machine, write_result
from hf_replearn import augmentation
from hf_replearn.data.images import load_images, stack_images
from hf_replearn.evaluation.knn import knn
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.methods.simclr import SimCLRConfig, SimCLRForPreTraining
from hf_replearn.randomness import Place
from hf_replearn.representation import Features
from hf_replearn.training.optimizers import adamw
from hf_replearn.training.settings import has_bf16

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}
TEMPERATURE, STRENGTH = 0.5, 0.5


class Lightly:
    """lightly's parts, put together as in its example."""

    def __init__(self, seed: int):
        torch.manual_seed(seed)
        self.encoder = timm.create_model("resnet18", num_classes=0, **SMALL)
        self.model = nn.Sequential(self.encoder, SimCLRProjectionHead(256, 256, 128))
        self.transform = SimCLRTransform(input_size=32, cj_strength=STRENGTH, gaussian_blur=0.0)
        self.criterion = NTXentLoss(temperature=TEMPERATURE)

    def loss(self, pixels: torch.Tensor, step: int) -> torch.Tensor:
        views = [self.transform(Image.fromarray(image)) for image in pixels.permute(0, 2, 3, 1).numpy()]
        z0, z1 = (self.model(torch.stack([view[i] for view in views])) for i in (0, 1))
        return self.criterion(z0, z1)


class Ours:
    """The parts of recipes/simclr.py."""

    def __init__(self, seed: int):
        torch.manual_seed(seed)
        config = SimCLRConfig(backbone="resnet18", backbone_args=SMALL, temperature=TEMPERATURE)
        self.model = SimCLRForPreTraining(config).to(memory_format=torch.channels_last)
        self.encoder, self.seed = self.model.model.encoder, seed
        policy = partial(augmentation.simclr_cifar, size=32, strength=STRENGTH)
        self.collator = DataCollatorForViews(policy, MEAN, STD)

    def loss(self, pixels: torch.Tensor, step: int) -> torch.Tensor:
        batch = self.collator.views({"pixel_values": pixels}, Place(self.seed, step))
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")):
            return self.model(**batch).loss


def train(side, pixels: torch.Tensor, *, seed: int, epochs: int, batch: int, learning_rate: float) -> dict[str, float]:
    """Trains in place; returns the time it took."""
    optimizer = adamw(side.model, learning_rate, weight_decay=1e-4)
    per_epoch = len(pixels) // batch
    total = epochs * per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min((step + 1) / (0.1 * total), 1) * (1 + math.cos(math.pi * max(0, step / total - 0.1) / 0.9)) / 2
        ),
    )
    cpu, wall = time.process_time(), time.perf_counter()
    for step in range(total):
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        side.loss(pixels[order[place * batch : (place + 1) * batch]], step).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}


@torch.no_grad()
def score(encoder: nn.Module, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """kNN on the training images' features, for the test images."""
    encoder.eval()
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    features = [
        Features(torch.cat([encoder((chunk / 255 - mean) / std) for chunk in pixels.split(500)]), labels)
        for pixels, labels in parts
    ]
    return knn(*features, k=20) | knn(*features, k=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--images", type=int, default=10_000, help="of the training split")
    parser.add_argument("--test_images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--learning_rates", type=float, nargs="+", default=[2e-3, 4e-3, 8e-3])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    data = load_images(args.dataset)
    parts = []
    for split, count in ((data.train, args.images), (data.test, args.test_images)):
        rows = split.shuffle(seed=0).select(range(min(count, len(split))))
        parts.append((stack_images(list(rows), canvas=None)[0], torch.tensor(rows["label"][:])))

    def trial(side: type, seed: int, learning_rate: float) -> dict[str, float]:
        run = side(seed)
        took = train(run, parts[0][0], seed=seed, epochs=args.epochs, batch=args.batch, learning_rate=learning_rate)
        result = {"seed": seed, "learning_rate": learning_rate, **score(run.encoder, parts), **took}
        print(side.__name__, {key: round(value, 4) for key, value in result.items()}, flush=True)
        return result

    tuning = [trial(Lightly, 0, rate) for rate in args.learning_rates]
    best = max(tuning, key=lambda result: result["knn@20"])["learning_rate"]
    runs = {"lightly": [next(result for result in tuning if result["learning_rate"] == best)], "hf_replearn": []}
    for seed in range(args.seeds):
        runs["hf_replearn"].append(trial(Ours, seed, best))
        if seed:
            runs["lightly"].append(trial(Lightly, seed, best))

    summary = {
        name: {
            key: {"mean": np.mean(values), "std": statistics.stdev(values)}
            for key in ("knn@20", "knn@200", "cpu_seconds")
            if (values := [result[key] for result in results])
        }
        for name, results in runs.items()
    }
    difference = {
        key: summary["hf_replearn"][key]["mean"] - summary["lightly"][key]["mean"] for key in ("knn@20", "knn@200")
    }
    noise = {}
    for key in difference:
        samples = ([result[key] for result in results] for results in runs.values())
        interval = ttest_ind(*samples, equal_var=False).confidence_interval()
        noise[key] = float(interval.high - interval.low) / 2
    write_result(
        "simclr_quality",
        {
            "difference": difference,
            "difference_ci95": noise,
            "not_below_by_more_than_the_noise": all(difference[key] >= -noise[key] for key in difference),
            "cpu_time_ratio": summary["lightly"]["cpu_seconds"]["mean"] / summary["hf_replearn"]["cpu_seconds"]["mean"],
            "summary": summary,
            "runs": runs,
            "tuning": tuning,
            "setting": vars(args) | {"dataset": data.name},
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
