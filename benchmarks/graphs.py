"""What vectors of nodes are worth: classes of nodes and links, for several seeds, beside what is known without
learning.

    python -m benchmarks.graphs --dataset path/to/cora.npz                       # DGI, 10 seeds
    python -m benchmarks.graphs --dataset path/to/cora.npz --method graphmae --seeds 5
    python -m benchmarks.graphs --dataset path/to/cora.npz --method deepwalk

Each method with its defaults, on one CPU thread; a seed is that of its weights or walks. Nodes: the graph's own split,
and 10 random ones, by vectors of all edges. Links: a split of the edges for each seed, by vectors of the training
edges. A method's results take the place of its earlier ones in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks._machine import RESULTS, machine, write_result
from hf_replearn.data.graphs import Graph, load_graph
from hf_replearn.evaluation.graphs import LINKS, NODES, hold_out_links, judge_graph
from hf_replearn.recipes.graph import METHODS, GraphRunSettings
from hf_replearn.settings import from_values

NAME = "graphs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="as of hf-replearn graph")
    parser.add_argument("--method", default="dgi", choices=[*METHODS, "none"], help="none: the baselines alone")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--skip_links", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    graph = load_graph(asked.dataset)
    print(graph.taken)
    path = RESULTS / f"{NAME}.json"
    result = json.loads(path.read_text()) if path.exists() else {"graph": graph.taken, "rows": {}}
    result["machine"] = machine()
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(asked.seeds):
        for task in [NODES] + [LINKS] * (not asked.skip_links):
            one_seed(graph, asked.method, task, seed, found)
        summary = {row: {name: mean_and_deviation(values) for name, values in of.items()} for row, of in found.items()}
        result["rows"] |= summary
        write_result(NAME, result)


def one_seed(graph: Graph, method: str, task: str, seed: int, found: dict[str, dict[str, list[float]]]) -> None:
    """Adds the scores of a seed to `found`: row -> metric -> values. Of nodes the baselines are measured once: but for
    the random GCN no seed changes them."""
    known, split = (graph, None) if task == NODES else hold_out_links(graph, seed=seed)
    rows: dict[str, np.ndarray] = {}
    if method != "none":
        begun = time.process_time()
        rows[method] = learn(known, method, seed)
        found.setdefault(method, {}).setdefault("cpu_seconds", []).append(time.process_time() - begun)
    judged = judge_graph(known, rows, tasks=[task], split=split, seed=seed, baselines=method == "none")
    for row, scores in judged.scores.items():
        for metric, value in scores.items():
            if not metric.endswith("_ci95"):
                found.setdefault(row, {}).setdefault(metric, []).append(value)
    print(f"seed {seed}, {task}: {judged.scores.get(method, '')}", flush=True)


def learn(graph: Graph, name: str, seed: int) -> np.ndarray:
    """The vectors of the nodes by a method with its defaults, (N, D)."""
    settings = from_values(
        GraphRunSettings, {"dataset": graph.name, "method": name, "output_dir": "-", "seed": seed, "use_cpu": True}
    )
    method = METHODS[name]
    examples = method.examples(settings, graph)
    fit = method.fit(settings, examples)
    state, done = fit.begin(examples, torch.Generator().manual_seed(seed * 1_000_003)), 0
    while done < fit.passes and not (done and fit.has_converged(state)):
        done += 1
        fit.go_on(state, examples, torch.Generator().manual_seed(seed * 1_000_003 + done))
    return fit.vectors(state, examples).numpy()


def mean_and_deviation(values: list[float]) -> dict[str, float | int]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "deviation": spread, "seeds": len(values)}


if __name__ == "__main__":
    main()
