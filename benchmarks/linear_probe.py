"""The linear probe over ten costs, ours together and scikit-learn's one after the other; and the suite's time.

    python -m benchmarks.linear_probe [--quick] [--threads 1]

Synthetic features of 10 classes: Gaussian classes plus noise whose spectrum decays as 1/i, mixed at random, as features
of networks are correlated. Both minimise the same objective on the same centred and scaled features; the accuracies on
5,000 test examples are compared for every cost. Times are processor seconds of the process, on the same threads; each
fit of scikit-learn starts from zero, at its default tolerance. Its default solver (lbfgs) stops early on such features,
far above the minimum at large costs, where its accuracies are lower too; newton-cg comes closer. Of both, the seconds,
the largest excess over the lowest objective found and the differences in accuracy are shown. Besides, the wall time of
all that `hf-replearn evaluate --suite full` measures for one encoder's 10,000 x 512 features and 5,000 test examples.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import threadpoolctl
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks._machine import machine, write_result
from hf_replearn.evaluation.label_free import label_free
from hf_replearn.evaluation.linear_probe import COSTS
from hf_replearn.evaluation.projection import pca_map, tsne_map
from hf_replearn.evaluation.softmax_regression import centre_and_scale, softmax_regression
from hf_replearn.evaluation.suite import Protocol, judge, outcomes
from hf_replearn.representation import Features

CLASSES, TEST = 10, 5000


def features(n: int, width: int, *, seed: int) -> Features:
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(0)) / width**0.5
    centres = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(1))
    spectrum = (torch.arange(width) + 1.0) ** -0.5
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    x = (0.25 * centres[labels] + torch.randn(n, width, generator=rng)) * spectrum
    return Features(x @ mixing, labels)


def processor_seconds(work) -> tuple[float, object]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def objective(x: torch.Tensor, labels: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """½|W|² + C Σ cross-entropy of the classifiers w (P, K, D), b (P, K) of all costs: (P,)."""
    fit = torch.nn.functional.cross_entropy
    losses = [fit(x.double() @ v.T.double() + c.double(), labels, reduction="sum") for v, c in zip(w, b, strict=True)]
    return (0.5 * w.double().square().sum(dim=(1, 2)) + torch.tensor(COSTS) * torch.stack(losses)).numpy()


def right(scores: torch.Tensor, labels: torch.Tensor) -> float:
    return (scores.argmax(dim=1) == labels).double().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="5,000 examples of 128 features, and 1,000 for the suite")
    parser.add_argument("--threads", type=int, default=1, help="for both sides")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threadpoolctl.threadpool_limits(options.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    n, width = (5000, 128) if options.quick else (50_000, 512)
    train, test = features(n, width, seed=2), features(TEST, width, seed=3)
    x, [test_x] = centre_and_scale(train.x[None], test.x)
    softmax_regression(x[:, :500], train.labels[None, :500], torch.tensor([1.0]), CLASSES)  # warm up

    ours, (w, b) = processor_seconds(lambda: softmax_regression(x, train.labels[None], torch.tensor(COSTS), CLASSES))
    print(f"ours, all {len(COSTS)} costs: {ours:.1f} s", flush=True)
    found = {"ours": (w[0], b[0], [ours])}
    for solver in ("newton-cg", "lbfgs"):
        models, seconds = [], []
        for cost in COSTS:
            model = LogisticRegression(C=cost, max_iter=1000, solver=solver)
            spent, _ = processor_seconds(lambda model=model: model.fit(x[0].numpy(), train.labels.numpy()))
            seconds.append(spent)
            models.append(model)
            print(f"{solver}, C = {cost:8.3f}: {spent:6.1f} s", flush=True)
        weights = torch.stack([torch.from_numpy(model.coef_) for model in models])
        found[solver] = weights, torch.stack([torch.from_numpy(model.intercept_) for model in models]), seconds
    objectives = {name: objective(x[0], train.labels, *weights) for name, (*weights, _) in found.items()}
    lowest = np.min(list(objectives.values()), axis=0)
    accuracies = {
        name: [right(test_x @ v.T.float() + c.float(), test.labels) for v, c in zip(*weights, strict=True)]
        for name, (*weights, _) in found.items()
    }
    difference = {name: 100 * np.abs(np.subtract(accuracies["ours"], values)) for name, values in accuracies.items()}
    spent = {name: sum(seconds) for name, (*_, seconds) in found.items()}

    wall, processor = time.perf_counter(), time.process_time()
    count, tested = (1000, 500) if options.quick else (10_000, TEST)
    few, held = features(count, width, seed=4), features(tested, width, seed=5)
    protocol = Protocol(shots=(1, 2, 4, 8, 16, 32, 64), draws=20, neighbours=(20, 200), queries=2000)
    judge(held, outcomes(few, held, protocol=protocol))
    label_free(held)
    some = held[torch.arange(min(2000, tested))]
    pca_map(some), tsne_map(some)
    suite_seconds, suite_wall = time.process_time() - processor, time.perf_counter() - wall

    result = {
        "benchmark": "linear_probe",
        "quick": options.quick,
        "train": n,
        "features": width,
        "costs": len(COSTS),
        "ratio": round(spent["lbfgs"] / ours, 1),
        "ratio_to_newton-cg": round(spent["newton-cg"] / ours, 1),
        "seconds": {name: round(value, 1) for name, value in spent.items()},
        "seconds_by_cost": {
            name: {f"{cost:g}": round(value, 1) for cost, value in zip(COSTS, seconds, strict=True)}
            for name, (*_, seconds) in found.items()
            if name != "ours"
        },
        "largest_excess_over_the_minimum": {
            name: float(f"{(values / lowest - 1).max():.2g}") for name, values in objectives.items()
        },
        "accuracy_difference_points": {
            name: {"max": round(values.max(), 3), "mean": round(values.mean(), 3)}
            for name, values in difference.items()
            if name != "ours"
        },
        "best_accuracy": {name: max(values) for name, values in accuracies.items()},
        "suite": {
            "train": 10_000,
            "test": TEST,
            "processor_seconds": round(suite_seconds, 1),
            "wall_seconds": round(suite_wall, 1),
        },
        "threads": options.threads,
        "machine": machine(),
    }
    print(
        ", ".join(f"{name} {value:.1f} s" for name, value in spent.items())
        + f" for all costs; suite {suite_wall:.1f} s"
    )
    write_result("linear_probe_quick" if options.quick else "linear_probe", result)


if __name__ == "__main__":
    main()
