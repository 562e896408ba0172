"""Multi-Fashion: two garments in one picture, two tasks, by every way to weigh them, beside each task alone.

    python -m benchmarks.multitask PATH_OF_FASHION_MNIST [--steps 300] [--train 3000] [--test 1000]

As Lin et al. 2019 (arXiv:1912.12854): one garment at the top left, one 8 pixels further down and to the right of
36 x 36, the lighter one where both are, brought to 28 x 28. A small ResNet from random weights, `hf-replearn multitask`
as it is, with so many batches of 32 in all for every way. The accuracies, with intervals, are those of its reports.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks._machine import machine, write_result
from hf_replearn.data.decoding import picture_of
from hf_replearn.data.images import load_images
from hf_replearn.data.toy_tasks import pairs
from hf_replearn.recipes.multitask import MultiTaskSettings, main

WAYS = ("uniform", "uncertainty", "gradnorm", "pcgrad", "mgda")
SMALL = {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128]}


def make(source: str, folder: Path, *, train: int, test: int) -> None:
    """Parquet files of pictures with two garments each."""
    data, rng = load_images(source), np.random.default_rng(0)
    for split, rows, count in (("train", data.labelled, train), ("test", data.test, test)):
        some = rows.select(rng.permutation(len(rows))[: min(count, len(rows))])
        images = np.stack([np.asarray(picture_of(row).convert("L")) for row in some])
        made = pairs(images, np.array(some["label"][:]), data.label_names, shift=8, count=count, rng=rng)
        made.to_parquet(folder / f"{split}.parquet")


def learn(folder: Path, out: Path, way: str, steps: int) -> dict:
    """The rows of the report of one way; each task alone is learnt beside the first way only."""
    start = time.perf_counter()
    one_task = way in ("uniform", "uncertainty")
    run = main(
        MultiTaskSettings(
            tasks=(f"first={folder}#first", f"second={folder}#second"), weighting=way, backbone="resnet18",
            backbone_args=SMALL, image_size=28, dropout=None, learning_rate=2e-3, single_tasks=way == "uniform",
            baseline=way == "uniform",
            max_steps=steps if one_task else steps // 2, output_dir=str(out), use_cpu=True, bf16=False,
        )
    )  # fmt: skip
    rows = json.loads((Path(run) / "report.json").read_text())["rows"]
    return {"seconds": round(time.perf_counter() - start, 1), "rows": rows}


def benchmark() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--train", type=int, default=3_000)
    parser.add_argument("--test", type=int, default=1_000)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = Path(place, "multi_fashion")
        data.mkdir()
        make(told.source, data, train=told.train, test=told.test)
        found = {way: learn(data, Path(place, way), way, told.steps) for way in WAYS}
    about = {"batches": told.steps, "pictures": told.train, "test": told.test, "machine": machine()}
    write_result("multitask", {"ways": found, **about})


if __name__ == "__main__":
    benchmark()
