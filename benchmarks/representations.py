"""What the encoders that were trained here are worth, beside random weights, raw input and its principal components.

    python -m benchmarks.representations out/cifar10-small=path/to/cifar10 out/cifar10-small=path/to/fashion_mnist \\
        out/bert-mini=path/to/glue/sst2 out/bert-mini=path/to/glue/stsb [--suite full]

Each pair is one `hf-replearn evaluate --layers all --add_to_card`: its scores go into the card of the encoder, its page
to `out/evaluations/`, and scores, intervals, paired tests and the seconds of it all to the result, beside the pairs of
earlier calls.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._machine import RESULTS, machine, write_result

ROOT = Path(__file__).parents[1]
KEPT = ("rows", "properties", "layers", "comparisons", "protocols")  # no examples of the data


def evaluate(model: str, dataset: str, *, suite: str) -> dict:
    """What one evaluation measured, and how long it took."""
    out = Path("out", "evaluations", f"{Path(model).name}_{Path(dataset).name}")
    command = [sys.executable, str(ROOT / "recipes" / "evaluation.py"), "--model", model, "--dataset", dataset]
    command += ["--suite", suite, "--layers", "all", "--add_to_card", "--output_dir", str(out)]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    seconds = time.perf_counter() - start
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    task = {name: report["task"][name] for name in ("name", "train", "test")}
    facts = {"model": Path(model).name, "suite": suite, "data": task, "wall_seconds": round(seconds, 1)}
    return facts | {name: report[name] for name in KEPT} | {"machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", help="folder of an encoder = its dataset")
    parser.add_argument("--suite", choices=["quick", "full"], default="quick")
    options = parser.parse_args()
    path = RESULTS / "representations.json"
    known = json.loads(path.read_text(encoding="utf-8"))["evaluations"] if path.exists() else {}
    for pair in options.pairs:
        found = evaluate(*pair.split("=", 1), suite=options.suite)
        known[f"{found['model']} on {found['data']['name']}"] = found
        write_result("representations", {"evaluations": known})


if __name__ == "__main__":
    main()
