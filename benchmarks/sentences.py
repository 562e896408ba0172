"""What sentence encoders of some minutes on a CPU core are worth on STS-B's validation pairs, and the curves.

    python -m benchmarks.sentences --glue path/to/glue --minutes 22 --output_dir out/benchmark
    python -m benchmarks.sentences --glue path/to/glue --objectives simcse tsdae --init out/bert --steps 1000 \\
        --output_dir out/benchmark

From random weights, or from the encoder --init: pairs that people say mean the same or follow from one another (MNLI's
validation, RTE, MRPC), and, with `--objectives`, SimCSE and TSDAE on the sentences of these tasks. Whatever shares a
sentence with a pair of STS-B's validation, whose news are partly MRPC's, is left out. No pair of STS-B is trained on.
Runs of objectives that are not asked for stay as they are in the results.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks._machine import RESULTS, machine, write_result

PAIRS = {  # task -> splits, columns, the label of those that belong together
    "mnli": (("validation",), "premise", "hypothesis", 0),
    "rte": (("train", "validation"), "sentence1", "sentence2", 0),
    "mrpc": (("train", "validation"), "sentence1", "sentence2", 1),
}
USUAL = ["--pooling", "mean", "--learning_rate", "3e-4", "--sequence_length", "32", "--eval_steps", "100"]
USUAL += ["--num_train_epochs", "1000", "--language", "en"]
RANDOM = ["--vocab_size", "16384", "--lowercase", "true", "--whiten", "240"]  # of a start from random weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue", required=True, type=Path, help="a folder of GLUE's tasks, each with parquet files")
    parser.add_argument("--minutes", type=float, default=20, help="of each training")
    parser.add_argument("--steps", type=int, help="of each training, instead of minutes")
    parser.add_argument("--init", help="an encoder to start from, as of hf-replearn sentences")
    parser.add_argument("--whiten", default="96", help="numbers that are kept of its vectors")
    parser.add_argument("--objectives", nargs="+", default=["pairs"], choices=("pairs", "simcse", "tsdae"))
    parser.add_argument("--output_dir", required=True, type=Path)
    asked = parser.parse_args()
    asked.output_dir.mkdir(parents=True, exist_ok=True)
    (texts, pairs), path = write_data(asked.glue, asked.output_dir), RESULTS / "sentences.json"
    found = json.loads(path.read_text())["runs"] if path.exists() else {}
    start = RANDOM if asked.init is None else ["--init", asked.init, "--whiten", asked.whiten]
    end = ["--max_minutes", str(asked.minutes)] if asked.steps is None else ["--max_steps", str(asked.steps)]
    for objective in asked.objectives:
        data, out = pairs if objective == "pairs" else texts, asked.output_dir / f"{objective}-nli"
        about = ["--objective", objective, *(["--symmetric", "true"] if objective == "pairs" else ["--unit", "row"])]
        given = ["--dataset", str(data), *end, "--sts", str(asked.glue / "stsb")]
        found[objective] = run(["sentences", *about, *given, *start, *USUAL], out=out)
        report = json.loads((out / "report.json").read_text())
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        found[objective] |= {
            "rows": report["rows"],
            "curve": {entry["step"]: entry["sts_spearman"] for entry in log if "sts_spearman" in entry},
        }
        write_result("sentences", {"machine": machine(), "runs": found})


def run(command: list[str], out: Path) -> dict:
    """Starts a command, which goes on where it was; returns it and the CPU seconds that it took, in all its starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = [sys.executable, "-m", "hf_replearn", *command, "--use_cpu", "--output_dir", str(out)]
    subprocess.run(start, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    kept = out.with_name(f"{out.name}.cpu_seconds")  # of all its starts
    used += float(kept.read_text()) if kept.exists() else 0.0
    kept.write_text(str(used))
    return {"command": " ".join(["hf-replearn", *map(last_part, command)]), "cpu_seconds": round(used)}


def last_part(argument: str) -> str:
    """Of a path, what may be told."""
    return Path(argument).name if argument.startswith("/") else argument


def write_data(glue: Path, out: Path) -> tuple[Path, Path]:
    """Files of single sentences and of pairs, without those of STS-B's validation."""
    from datasets import Dataset

    def rows(task: str, split: str) -> Dataset:
        return Dataset.from_parquet(str(glue / task / f"{split}.parquet"))

    tested = rows("stsb", "validation")
    forbidden = {key(text) for name in ("sentence1", "sentence2") for text in tested[name][:]}
    pairs, texts, left_out = [], {}, 0
    for task, (splits, first, second, label) in PAIRS.items():
        for split in splits:
            for row in rows(task, split):
                both = row[first], row[second]
                if forbidden & set(map(key, both)):
                    left_out += 1
                    continue
                texts |= dict.fromkeys(both)
                if row["label"] == label:
                    pairs.append(both)
    print(f"{len(pairs):,} pairs, {len(texts):,} sentences; left out: {left_out} rows with one of STS-B's validation")
    files = out / "texts.csv", out / "pairs.csv"
    for path, head, content in zip(files, (["text"], ["one", "other"]), ([[t] for t in texts], pairs), strict=True):
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *content])
    return files


def key(text: str) -> str:
    """A sentence whatever its capitals, marks and spaces."""
    return "".join(character for character in text.lower() if character.isalnum())


if __name__ == "__main__":
    main()
