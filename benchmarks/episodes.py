"""Learning from few examples on Omniglot: the 20 official one-shot runs, and episodes of alphabets held out.

    python -m benchmarks.episodes official --omniglot path/to/omniglot --output_dir out/episodes
    python -m benchmarks.episodes alphabets --omniglot path/to/omniglot --output_dir out/episodes --steps 3000
    python -m benchmarks.episodes alphabets … --methods maml anil reptile --steps 1000

The folder has the tables background*.parquet (image, alphabet, label) and one_shot*.parquet (image, run, part, label).
`official` trains ProtoNet and a plain classifier on all alphabets of the background, on as many images, and judges them
by the 20 runs, each of 20 characters of one alphabet that none of them has seen, with one image each. `alphabets` holds
alphabets out, and judges by episodes of five characters; rows of methods that are not asked for stay as they are in the
results. CPU seconds are those of one thread, with judging. Each run goes on where it was stopped; then its CPU seconds
are not all counted, and are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks._machine import RESULTS, machine

COMMON = {"group_by": "alphabet", "turned": True, "jitter": 1.0, "channels": 1, "use_cpu": True, "bf16": False}
COMMON |= {"beside": False}
OFFICIAL = COMMON | {"held_out": ("0",), "way": 20, "shots": 1, "queries": 4}
METHODS = ("protonet", "classifier")
ALPHABETS = COMMON | {"way": 5, "shots": 1, "queries": 5, "per_device_train_batch_size": 4, "test_episodes": 500}
ADAPTING = ("protonet", "fomaml", "maml", "anil", "reptile")
OWN = {"reptile": {"test_episodes": 150}}  # each takes 50 steps
POINTS = 20  # of a curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("official", "alphabets"))
    parser.add_argument("--omniglot", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--methods", nargs="+", choices=ADAPTING, default=ADAPTING[:2], help="of alphabets")
    asked = parser.parse_args()
    note(asked.part, official(asked) if asked.part == "official" else alphabets(asked))


def note(part: str, found: dict[str, Any]) -> None:
    """Adds one part to the results."""
    path = RESULTS / "episodes.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    results[part] = found | {"machine": machine()}
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results[part], indent=2))


def cpu_seconds() -> float:
    """Of this process and all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def learn(out: Path, **settings: Any) -> float | None:
    """Trains, and returns the CPU seconds of all of it; None where it went on."""
    from hf_replearn.recipes.episodes import EpisodesSettings
    from hf_replearn.recipes.episodes import main as episodes

    begun, new = cpu_seconds(), not list(out.glob("checkpoint-*"))
    episodes(EpisodesSettings(output_dir=str(out), **settings))
    return round(cpu_seconds() - begun, 1) if new else None


def official(asked: argparse.Namespace) -> dict[str, Any]:
    """Errors of the official runs in percent, with t intervals over them."""
    rows = {}
    for method in METHODS:
        out = Path(asked.output_dir, f"official_{method}")
        about = {"dataset": asked.omniglot, "files": ("background*",), "method": method, "max_steps": asked.steps}
        rows[method] = {"steps": asked.steps, "cpu_seconds": learn(out, **OFFICIAL, **about)} | errors(asked, str(out))
    rows["random weights"] = errors(asked, str(Path(asked.output_dir, "official_protonet")), trained=False)
    rows["raw pixels"] = errors(asked, None)
    return {"settings": {name: str(value) for name, value in OFFICIAL.items()}, "rows": rows}


def alphabets(asked: argparse.Namespace) -> dict[str, Any]:
    """Accuracies on episodes of five characters of the alphabets held out, as the runs report them: of each method as
    it adapts, beside the same start from random weights; and by the nearest mean of its features."""
    path = RESULTS / "episodes.json"
    rows = json.loads(path.read_text()).get("alphabets", {}).get("rows", {}) if path.exists() else {}
    for method in asked.methods:
        out = Path(asked.output_dir, f"alphabets_{method}")
        about = {"dataset": asked.omniglot, "files": ("background*",), "method": method, "max_steps": asked.steps}
        seconds = learn(out, **ALPHABETS | OWN.get(method, {}), **about)
        report = json.loads((out / "report.json").read_text())
        found = report["rows"][report["method"]["name"]]
        rows[method] = {"steps": asked.steps, "cpu_seconds": seconds} | OWN.get(method, {}) | found
        rows[method]["losses"] = losses(out)
        for row in ("random weights", "raw pixels"):
            scores = report["rows"][row]
            rows[method] |= {f"{name} of {row}": value for name, value in scores.items() if name.startswith("adapted")}
            rows[row] = {name: value for name, value in scores.items() if name.startswith("nearest_mean")}
    held_out = report["data"]["held_out"]
    return {"settings": {name: str(value) for name, value in ALPHABETS.items()}, "held_out": held_out, "rows": rows}


def losses(out: Path) -> dict[str, float]:
    """{step: the mean loss of the steps up to it} of a run."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    logged = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    size = max(1, len(logged) // POINTS)
    parts = [logged[first : first + size] for first in range(0, len(logged), size)]
    return {str(part[-1][0]): round(sum(loss for _, loss in part) / len(part), 4) for part in parts}


def errors(asked: argparse.Namespace, model: str | None, *, trained: bool = True) -> dict[str, float]:
    """Of an encoder, or of the images as they are: {measure: percent}, and half its 95 % interval over the runs."""
    from torch import nn

    from hf_replearn.data.episodes import load_runs
    from hf_replearn.encoders.encoder import find_encoder
    from hf_replearn.evaluation.episodes import scores_of
    from hf_replearn.representation import ImagePreprocessor, extract

    images, runs, *_ = load_runs(asked.omniglot, files=("one_shot*",))
    if model is None:
        x = extract(nn.Flatten(), images, preprocess=ImagePreprocessor(28, (0.5,), (0.5,))).x
    else:
        encoder = find_encoder(model, modality="image")
        encoder = encoder if trained else encoder.untrained()
        images = images.add_column("channels", [COMMON["channels"]] * len(images))
        x = extract(encoder.network.eval(), images, preprocess=encoder.preprocess).x
    found = {}
    for metric, value in scores_of(x, [runs]).items():
        name = metric.replace(f"@{runs.name}", "")
        found[name] = round(100 * (value if name.endswith("_ci95") else 1 - value), 2)
    return found


if __name__ == "__main__":
    main()
