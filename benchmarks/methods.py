"""Every method on images for the same images seen, beside raw pixels, principal components and random weights.

    python -m benchmarks.methods digits                  # about 2 CPU-minutes a method, three rates before
    python -m benchmarks.methods cifar10 --dataset FOLDER [--seeds 0 1 2] [--methods simclr byol]   # 10 CPU-minutes
    python -m benchmarks.methods gpu --dataset FOLDER    # CIFAR-10 on a GPU: a whole ResNet-18, half a minute a method

Each method trains one small ResNet-10 with AdamW and its settings in recipes/configs/<method>/toy_digits.yaml; what all
share is below. Its learning rate is the best of three in a part of the steps, by the kNN accuracy of a fifth of the
training images (never of the test images), and the sweep stands in the result. Then as many steps for all, and the
frozen features of all training and test images are judged. What is measured is written at once to
benchmarks/results/methods.json, and not measured again.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from benchmarks._machine import RESULTS, machine
from benchmarks.classical import kmeans_features
from hf_replearn.cli import COMMANDS
from hf_replearn.errors import TrainingError
from hf_replearn.evaluation.k_shot import k_shot
from hf_replearn.evaluation.knn import knn
from hf_replearn.evaluation.label_free import rankme
from hf_replearn.evaluation.linear_probe import linear_probe
from hf_replearn.pretraining.images import (
    build,
    labelled_rows,
    make_collator,
    make_trainer,
    open_images,
    training_arguments,
    try_once,
)
from hf_replearn.pretraining.recipe import ImageMethod
from hf_replearn.pretraining.start import fit_to_data
from hf_replearn.representation import Features, ImagePreprocessor, extract, pca
from hf_replearn.settings import from_values, read_yaml

ROOT = Path(__file__).parents[1]
RATES = (5e-4, 2e-3, 8e-3)
SWEEP = {"digits": 1 / 2, "cifar10": 1 / 10, "gpu": 1 / 10}  # of the steps
SHARED = {"use_cpu": True, "knn_steps": 0, "save_steps": 10**6, "logging_steps": 50}
DATA = {
    "digits": {"max_steps": 130},
    "cifar10": {
        "image_size": 32, "strength": 0.5, "min_scale": 0.2, "flip": 0.5, "stem": "imagenet", "max_steps": 800,
    },
    "gpu": {
        "image_size": 32, "strength": 0.5, "min_scale": 0.2, "flip": 0.5, "stem": "cifar", "backbone_args": None,
        "per_device_train_batch_size": 512, "dataloader_num_workers": 8, "use_cpu": False, "max_steps": 600,
    },
}  # fmt: skip


FLOAT32 = {("cifar10", "dino")}  # maps of its small crops are narrower than a stride: no gradient in bfloat16 on a CPU


def methods() -> dict[str, tuple[type, ImageMethod]]:
    """Command -> its settings and method, of those that train on images."""
    found = {}
    for command, (module, settings, _) in COMMANDS.items():
        recipe = importlib.import_module(f"hf_replearn.recipes.{module}") if module else None
        if isinstance(getattr(recipe, "METHOD", None), ImageMethod):
            found[command] = getattr(recipe, settings), recipe.METHOD
    return found


def train(command: str, data, changes: dict, *, seed: int) -> tuple[nn.Module, nn.Module, ImagePreprocessor, dict]:
    """The encoder that a method learns, the same network untrained, its preprocessing, and what the training took."""
    settings_class, method = methods()[command]
    config = ROOT / "recipes" / "configs" / command.replace("-", "_") / "toy_digits.yaml"
    with tempfile.TemporaryDirectory() as folder:
        values = read_yaml(str(config), settings_class) | SHARED | changes | {"output_dir": folder, "seed": seed}
        settings = from_values(settings_class, values)
        args = training_arguments(settings)
        settings, backbone = fit_to_data(settings, data, processes=1)
        rows = labelled_rows(data, method) if method.needs_labels else data.train
        collator = make_collator(settings, method, backbone, data, None)
        set_seed(seed)
        batch = settings.per_device_train_batch_size
        model = build(settings, method, backbone, batch=batch, device=args.device)
        try_once(model, collator, rows, named=command, bf16_on_cpu=args.bf16 and args.device.type == "cpu")
        untrained = copy.deepcopy(model.model.encoder)
        trainer = make_trainer(settings, args, model, collator, rows, batch=batch, given={})
        for callback in (ProgressCallback, PrinterCallback):
            trainer.pop_callback(callback)
        trainer.add_callback(NoCheckpoint())
        cpu, wall = time.process_time(), time.perf_counter()
        trainer.train()
        took = {"cpu_minutes": (time.process_time() - cpu) / 60, "minutes": (time.perf_counter() - wall) / 60}
        took |= {"images_seen": trainer.summary()["examples"], "loss": trainer.summary()["final_loss"]}
    preprocess = ImagePreprocessor(settings.image_size, backbone.mean, backbone.std)
    return model.model.encoder, untrained, preprocess, took


def keep(result: dict) -> None:
    """Writes what is known by now."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "methods.json").write_text(json.dumps(result | {"machine": machine()}, indent=2) + "\n")


class NoCheckpoint(TrainerCallback):
    """Nothing of a benchmark is gone on with."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = False


def sweep(command: str, data, changes: dict, *, steps: int) -> dict[str, float]:
    """Rate -> kNN accuracy of a fifth of the training images by the others, after so many steps."""
    found = {}
    rows = data.labelled.shuffle(seed=1).select(range(min(len(data.labelled), 10_000)))
    for rate in RATES:
        short = changes | {"learning_rate": rate, "max_steps": steps}
        try:
            encoder, _, preprocess, _ = train(command, data, short, seed=0)
            features, fifth = extract(encoder, rows, preprocess=preprocess), len(rows) // 5
            found[f"{rate:g}"] = knn(features[torch.arange(fifth, len(rows))], features[torch.arange(fifth)], k=20)[
                "knn@20"
            ]
        except TrainingError as error:  # a rate that diverges is a result too
            found[f"{rate:g}"] = 0.0
            print(f"{command} at {rate:g}: {error}", flush=True)
    return found


def scores(train: Features, test: Features) -> dict[str, float]:
    """What stands in the table."""
    found = k_shot(train, test, shots=(1, 8), draws=20, seed=0) | knn(train, test, k=20)
    found |= linear_probe(train, test, seed=0)
    kept = ("k_shot@1", "k_shot@1_ci95", "k_shot@8", "k_shot@8_ci95", "knn@20", "linear")
    return {name: round(found[name], 4) for name in kept if name in found} | {"rankme": round(rankme(test.x), 1)}


def baselines(data, preprocess: ImagePreprocessor, untrained: nn.Module) -> dict[str, dict[str, float]]:
    """What a method must beat."""
    parts = data.labelled, data.test
    pixels = [extract(nn.Flatten(), part, preprocess=preprocess) for part in parts]
    return {
        "raw pixels": scores(*pixels),
        "PCA-64": scores(*pca(pixels[0], *pixels, components=64)),
        "random weights": scores(*(extract(untrained, part, preprocess=preprocess) for part in parts)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--dataset", help="folder of CIFAR-10")
    parser.add_argument("--methods", nargs="*", help="commands; left out: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    path = RESULTS / "methods.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    table = result.setdefault(given.data, {"settings": DATA[given.data], "rates": {}, "rows": {}})
    dataset = given.dataset or ("toy" if given.data == "digits" else parser.error("cifar10 needs --dataset"))
    shared = DATA[given.data] | {"dataset": dataset}
    settings_class, _ = methods()["simclr"]
    data = open_images(from_values(settings_class, {"dataset": dataset, "output_dir": "unused"}))
    if given.data == "cifar10" and "k-means features" not in table.setdefault("baselines", {}):
        table["baselines"]["k-means features"] = scores(*kmeans_features(data))  # Coates, Lee & Ng 2011
        keep(result)
    for command in given.methods if given.methods is not None else methods():
        changes = shared | ({"bf16": False} if (given.data, command) in FLOAT32 else {})
        if command not in table["rates"]:
            steps = round(changes["max_steps"] * SWEEP[given.data])
            table["rates"][command] = sweep(command, data, changes, steps=steps)
            keep(result)
        rates = table["rates"][command]
        rate = float(max(rates, key=rates.get))
        for seed in given.seeds:
            rows = table["rows"].setdefault(command, {})
            if str(seed) in rows:
                continue
            encoder, untrained, preprocess, took = train(command, data, changes | {"learning_rate": rate}, seed=seed)
            if "raw pixels" not in table.setdefault("baselines", {}):
                table["baselines"] |= baselines(data, preprocess, untrained)
            features = [extract(encoder, part, preprocess=preprocess) for part in (data.labelled, data.test)]
            rows[str(seed)] = {name: round(value, 4) for name, value in took.items()} | scores(*features)
            keep(result)
            print(command, seed, rows[str(seed)], flush=True)
    print(as_table(table))


def as_table(table: dict) -> str:
    """Markdown, the best kNN first: means over seeds, with their standard deviation where there are several."""
    lines = [(f"*{name}*", [row]) for name, row in table["baselines"].items()]
    lines += [(command, list(seeds.values())) for command, seeds in table["rows"].items()]
    names = {"k_shot@1": "1 label a class", "k_shot@8": "8 labels", "knn@20": "kNN", "linear": "linear"}
    names["rankme"] = "RankMe"
    text = [f"| | {' | '.join(names.values())} |", "|---" * (len(names) + 1) + "|"]
    for name, runs in sorted(lines, key=lambda line: -np.mean([run["knn@20"] for run in line[1]])):
        cells = []
        for key in names:
            values, digits = [run[key] for run in runs], 1 if key == "rankme" else 3
            spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(runs) > 1 else ""
            cells.append(f"{np.mean(values):.{digits}f}{spread}")
        text.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(text)


if __name__ == "__main__":
    main()
