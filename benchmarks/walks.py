"""How fast random walks are drawn, on one CPU core: of Cora, and of a large random graph.

    python -m benchmarks.walks --dataset path/to/cora.npz

Times are CPU seconds of the process, so that others at work on the machine do not count.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.sparse import csr_matrix

from benchmarks._machine import machine, write_result
from hf_replearn.data.graphs import load_graph
from hf_replearn.methods.walks import Neighbours, Walks

NODES, EDGES, STEPS, LENGTH = 10**6, 10**7, 10**7, 41  # of the random graph, and nodes of a walk
BIASES = {"uniform (DeepWalk)": (1.0, 1.0), "node2vec, p 0.25, q 4": (0.25, 4.0), "node2vec, p 4, q 0.25": (4.0, 0.25)}


def seconds(walks: Walks, stretches: int) -> float:
    """CPU seconds of this process for so many stretches of walks, after one in which is computed what is so once."""
    walks.rows(0)
    start = time.process_time()
    for number in range(stretches):
        walks.rows(number)
    return time.process_time() - start


def random_graph() -> Neighbours:
    """A million nodes, ten million edges between any two of them, each leading both ways."""
    ends = np.random.default_rng(0).integers(0, NODES, (EDGES, 2))
    ways = np.concatenate([ends, ends[:, ::-1]])
    lists = csr_matrix((np.ones(len(ways), dtype=np.int8), (ways[:, 0], ways[:, 1])), shape=(NODES, NODES))
    lists.sort_indices()
    return Neighbours(lists.indptr.astype(np.int64), lists.indices.astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="cora.npz")
    torch.set_num_threads(1)
    graph = load_graph(parser.parse_args().dataset)
    lists = graph.adjacency
    cora = Neighbours(lists.indptr.astype(np.int64), lists.indices.astype(np.int64))
    large = random_graph()
    found = {}
    for name, (p, q) in BIASES.items():
        walks = Walks(cora, passes=80, length=40, seed=0, p=p, q=q)
        many = Walks(large, passes=1, length=LENGTH, seed=0, p=p, q=q)
        stretches = -(-STEPS // (many.size * (LENGTH - 1)))
        found[name] = {
            f"{graph.name}: 80 walks of 40 from each of {len(graph):,} nodes": seconds(walks, len(walks)),
            f"random graph of {NODES:,} nodes and {EDGES:,} edges: {STEPS:,} steps": seconds(many, stretches),
        }
        print(name, found[name], flush=True)
    write_result("walks", {"machine": machine(), "unit": "CPU seconds, one thread", "seconds": found})


if __name__ == "__main__":
    main()
