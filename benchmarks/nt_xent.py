"""NT-Xent forward and backward: time and extra memory against lightly's NTXentLoss.

    python -m benchmarks.nt_xent [--images 8192] [--rounds 3] [--threads 1]

Every measurement is a process of its own, ours and lightly's in turn, so that the peak of resident memory is that of
one loss alone. Extra memory is that peak less what the process held, inputs and gradients included, before. Both losses
get the same inputs; values and gradients are compared once at a smaller size.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

TEMPERATURE, DIMENSIONS = 0.5, 128


def losses():
    """name -> function of two (N, P) halves, as each library is called."""
    import torch
    from lightly.loss import NTXentLoss

    from hf_replearn.methods.simclr import nt_xent

    theirs = NTXentLoss(temperature=TEMPERATURE)
    return {"hf_replearn": lambda a, b: nt_xent(torch.stack([a, b], dim=1), TEMPERATURE), "lightly": theirs}


def measure(name: str, images: int, threads: int) -> dict[str, float]:
    """CPU seconds, wall seconds and extra MiB of one forward and backward in this process, after a small warm-up."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    loss = losses()[name]
    halves = [torch.randn(images, DIMENSIONS, requires_grad=True) for _ in range(2)]
    for half in halves:
        half.grad = torch.zeros_like(half)
    loss(*(torch.randn(64, DIMENSIONS, requires_grad=True) for _ in range(2))).backward()
    before, cpu, wall = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), time.perf_counter()
    value = loss(*halves)
    value.backward()
    return {
        "cpu_seconds": time.process_time() - cpu,
        "wall_seconds": time.perf_counter() - wall,
        "extra_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "loss": value.item(),
    }


def agreement() -> dict[str, float]:
    """Largest relative difference of the loss and of the gradient at 512 images."""
    import torch

    results = []
    for loss in losses().values():
        torch.manual_seed(0)
        halves = [torch.randn(512, DIMENSIONS, requires_grad=True) for _ in range(2)]
        value = loss(*halves)
        value.backward()
        results.append((value.item(), torch.cat([half.grad for half in halves])))
    (ours, our_gradient), (theirs, their_gradient) = results
    gradient = ((our_gradient - their_gradient).abs().max() / their_gradient.abs().max()).item()
    return {"loss": abs(ours - theirs) / theirs, "gradient": gradient}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.images, args.threads)))
        return

    from benchmarks._machine import machine, write_result

    runs = {"hf_replearn": [], "lightly": []}
    for _ in range(args.rounds):
        for name, measured in runs.items():
            command = [sys.executable, "-m", "benchmarks.nt_xent", "--only", name]
            command += ["--images", str(args.images), "--threads", str(args.threads)]
            measured.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(name, measured[-1], flush=True)
    medians = {
        name: {key: statistics.median(run[key] for run in measured) for key in measured[0]}
        for name, measured in runs.items()
    }
    ours, theirs = medians["hf_replearn"], medians["lightly"]
    write_result(
        "nt_xent",
        {
            "ratio": {
                "time": theirs["cpu_seconds"] / ours["cpu_seconds"],
                "memory": theirs["extra_mib"] / ours["extra_mib"],
            },
            "required": {"time": 2, "memory": 10},
            "medians": medians,
            "relative_difference_at_512_images": agreement(),
            "setting": {
                "images": args.images,
                "dimensions": DIMENSIONS,
                "rounds": args.rounds,
                "threads": args.threads,
            },
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
