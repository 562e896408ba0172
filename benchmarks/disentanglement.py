"""beta-TCVAE on sprites, by its command, in minutes of a CPU core, over seeds: how far apart its latents keep what
images are made of, beside as many principal components, the network from random weights, the factors, and these turned.

    python -m benchmarks.disentanglement [--seeds 0 1 2] [--config sprites_beta_tc] [--steps N]

MIG, SAP and modularity of 10,000 images of the test split, SAP judged on 5,000 others; seconds of the processor of all
that the command does, without the probes of labels. Two of the five factors cannot be had: a square and an ellipse look
the same after a quarter and a half turn, and no single latent tells a shape. 64 pixels a side and convolutions leave
time for a few hundred steps, which is far too short. Of the same network, 150 seconds each, the whole KL at 4 times its
price had a MIG of 0.10, and the total correlation at 15 times 0.15.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks._machine import machine, write_result
from hf_replearn.cli import main as command
from hf_replearn.evaluation.disentanglement import mig, modularity, mutual_information, sap
from hf_replearn.judging.disentanglement import describe, encoded, find_encoders, floors, open_factored
from hf_replearn.recipes.disentanglement import DisentanglementSettings

CONFIGS = Path(__file__).parents[1] / "recipes" / "configs" / "vae"


def judged(folder: Path) -> dict[str, dict]:
    """row -> scores, of the latents of a run and of what stands beside them."""
    settings = DisentanglementSettings(model=(str(folder),), dataset="sprites", output_dir=str(folder / "factors"))
    images = open_factored(settings)
    report = describe(settings, images)
    encoders = find_encoders(settings, images)
    codes = {row: encoded(settings, report, row, encoder, images) for row, encoder in encoders.items()}
    codes |= floors(settings, report, images, widths=[next(iter(codes.values())).shape[1]])
    rows = {}
    for row, found in codes.items():
        train, test = images.coded(found)
        told = mutual_information(train) / train.factors.entropies
        best = dict(zip(train.factors.names, told.max(0).round(4).tolist(), strict=True))
        rows[row] = {"mig": mig(train), "sap": sap(train, test), "modularity": modularity(train), "told of": best}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--config", default="sprites_beta_tc")
    parser.add_argument("--steps", type=int, help="in place of those of the configuration")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config, runs = CONFIGS / f"{options.config}.yaml", {}
    more = [] if options.steps is None else ["--max_steps", str(options.steps)]
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as place:
            folder, began = Path(place, "latents"), time.process_time()
            told = ["vae", "--config", str(config), "--seed", str(seed), "--output_dir", str(folder)]
            command([*told, *more, "--use_cpu", "--label_type", "ignored"])
            seconds = time.process_time() - began
            own = json.loads((folder / "report.json").read_text())["own_task"]["rows"]["this run"]
            runs[seed] = {"CPU seconds": seconds, "own task": own, "rows": judged(folder)}
        print(seed, {row: round(scores["mig"], 3) for row, scores in runs[seed]["rows"].items()}, flush=True)
    scores = [next(iter(run["rows"].values()))["mig"] for run in runs.values()]
    result = {"machine": machine(), "config": config.read_text(), "steps": options.steps, "seeds": runs}
    result["mig"] = {"mean": statistics.mean(scores), "least": min(scores), "most": max(scores)}
    write_result("disentanglement", result)


if __name__ == "__main__":
    main()
