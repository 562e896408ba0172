"""CLIP's and SigLIP's losses: time and extra memory against the plain form, and pairs a second of a dual encoder on two
processes.

    python -m benchmarks.clip_loss [--pairs 8192] [--rounds 3] [--batch 1024] [--forms clip "plain clip"]

The plain form holds the logits of all pairs, as open_clip does without its `local_loss` in each process. Every
measurement is a process of its own, all forms in turn, so that the peak of resident memory is that of one loss alone.
Extra memory is that peak less what the process held, inputs and gradients included, before. Then two processes (gloo,
one thread each) take steps of a small dual encoder together, of `--batch` pairs in all: pairs a second of wall time,
and of the CPU time of one of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

NUMBERS = 128  # of a projection
FORMS = ("clip", "plain clip", "siglip", "plain siglip")
STEPS = 3


def losses() -> dict[str, Callable]:
    """form -> function of images and texts (B, P), logarithm of the scale, and bias."""
    import torch
    import torch.distributed as dist
    from torch.nn.functional import cross_entropy, logsigmoid, normalize

    from hf_replearn.methods.clip import clip_loss, siglip_loss
    from hf_replearn.methods.trunk import gather

    def logits(images, texts, scale):
        images, texts = (gather(normalize(part, dim=1)) for part in (images, texts))
        return scale.exp() * images @ texts.T

    def plain_clip(images, texts, scale, bias):
        every = logits(images, texts, scale)
        right = torch.arange(len(every))
        return (cross_entropy(every, right) + cross_entropy(every.T, right)) / 2

    def plain_siglip(images, texts, scale, bias):
        every = logits(images, texts, scale) + bias
        return -logsigmoid((2 * torch.eye(len(every)) - 1) * every).sum() / len(every)

    assert not dist.is_initialized() or dist.get_world_size() == 2
    return {
        "clip": lambda images, texts, scale, bias: clip_loss(images, texts, scale),
        "siglip": siglip_loss,
        "plain clip": plain_clip,
        "plain siglip": plain_siglip,
    }


def peak() -> float:
    """MiB of resident memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_loss(form: str, pairs: int) -> dict[str, float]:
    """CPU seconds and extra MiB of one forward and backward in this process, after a small warm-up."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    loss = losses()[form]
    numbers = [torch.tensor(value, requires_grad=True) for value in (2.66, -10.0)]
    sides = [torch.randn(pairs, NUMBERS, requires_grad=True) for _ in range(2)]
    for side in sides:
        side.grad = torch.zeros_like(side)
    loss(*(torch.randn(64, NUMBERS, requires_grad=True) for _ in range(2)), *numbers).backward()
    before, cpu = peak(), time.process_time()
    value = loss(*sides, *numbers)
    value.backward()
    return {"cpu_seconds": time.process_time() - cpu, "extra_mib": peak() - before, "loss": value.item()}


def of_step(form: str, batch: int, rank: int, store: str) -> dict[str, float]:
    """Pairs a second of a dual encoder, one of two processes, and what of it the loss takes."""
    import timm
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from transformers import CLIPTextConfig, CLIPTextModel

    from hf_replearn.encoders.dual_encoder import DualEncoder

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    image = timm.create_model("resnet10t", num_classes=0, channels=(32, 64, 128, 128), stem_width=16, output_stride=16)
    small = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = CLIPTextModel(
        CLIPTextConfig(vocab_size=512, max_position_embeddings=16, bos_token_id=1, eos_token_id=3, **small)
    )
    towers = {"image": {"features": 128, "pooling": "own"}, "text": {"features": 128, "pooling": "own"}}
    encoder = DualEncoder(image, text, towers | {"projection_dim": NUMBERS}, log_scale=2.66)
    encoder.bias.requires_grad_("siglip" in form)
    loss, own = losses()[form], batch // 2

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, pixels, tokens, mask):
            vectors = self.encoder.image(pixels), self.encoder.text(tokens, mask)
            return loss(*vectors, self.encoder.log_scale, self.encoder.bias)

    model = DistributedDataParallel(Both())
    tokens = torch.randint(4, 512, (own, 12))
    tokens[:, -1] = 3
    given = torch.randn(own, 3, 32, 32), tokens, torch.ones_like(tokens)
    model(*given).backward()
    dist.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(STEPS):
        model(*given).backward()
    dist.barrier()
    return {
        "pairs_per_second": STEPS * batch / (time.perf_counter() - wall),
        "pairs_per_cpu_second": STEPS * own / (time.process_time() - cpu),
        "peak_mib": peak(),
    }


def started(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.clip_loss", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen) -> dict[str, float]:
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a measurement ended with {process.returncode}")
    return json.loads(printed.splitlines()[-1])


def together(form: str, batch: int) -> dict[str, float]:
    """What the first of two processes measured."""
    with tempfile.TemporaryDirectory() as folder:
        how = ["--only", form, "--batch", str(batch), "--store", f"{folder}/store"]
        processes = [started(*how, "--rank", str(rank)) for rank in (0, 1)]
        return [result(process) for process in processes][0]


def medians(runs: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    return {
        form: {key: statistics.median(run[key] for run in measured) for key in measured[0]}
        for form, measured in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        measured = (
            of_loss(args.only, args.pairs)
            if args.rank is None
            else of_step(args.only, args.batch, args.rank, args.store)
        )
        print(json.dumps(measured))
        return

    from benchmarks._machine import machine, write_result

    alone: dict[str, list[dict]] = {form: [] for form in args.forms}
    halves: dict[str, list[dict]] = {form: [] for form in args.forms}
    both: dict[str, list[dict]] = {form: [] for form in args.forms}
    for _ in range(args.rounds):
        for form in args.forms:
            alone[form].append(result(started("--only", form, "--pairs", str(args.pairs))))
            halves[form].append(result(started("--only", form, "--pairs", str(args.pairs // 2))))
            both[form].append(together(form, args.batch))
            print(form, alone[form][-1], both[form][-1], flush=True)
    write_result(
        "clip_loss",
        {
            "loss": medians(alone),
            "loss_of_half_as_many": medians(halves),
            "two_processes": medians(both),
            "setting": {"pairs": args.pairs, "batch": args.batch, "numbers": NUMBERS, "rounds": args.rounds},
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
