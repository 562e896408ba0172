"""Our trainer and transformers.Trainer under the same blows: same bits at the end, refused, or silently other.

    python -m benchmarks.faults               # all trials
    python -m benchmarks.faults --share 0.1   # a tenth of them

A small network (dropout, AdamW) trains for 20 steps, saves every 4th and keeps two checkpoints. It is dealt a blow and
started again with the same command until it ends, at most three times. What comes out is one of

    same       exit code 0 and, bit for bit, the weights of a run that was left alone
    refused    it does not go on: an error, and work to do for somebody
    other      exit code 0 and other weights: the silent kind

In the cases of NaN the run must stop: "same" counts those that did, with a checkpoint left that is finite and verifies.
The recipes themselves, with real data, are under the same blows in tests/faults.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from benchmarks._machine import machine, write_result
from hf_replearn.training.checkpoints import MANIFEST, newest, problem
from hf_replearn.training.optimizers import adamw
from hf_replearn.training.trainer import PretrainingTrainer

STEPS, SAVE = 20, 4
FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
BAD = float("nan")
QUIET = {
    "per_device_train_batch_size": 16, "dataloader_drop_last": True, "remove_unused_columns": False,
    "report_to": "none", "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False,
}  # fmt: skip


class Config(PretrainedConfig):
    model_type = "faults"


class Model(PreTrainedModel):
    config_class = Config

    def __init__(self, config, width: int = 256):
        super().__init__(config)
        self.net = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.drop, self.out = nn.Dropout(0.1), nn.Linear(width, 10)
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
            nn.init.zeros_(module.bias)

    def forward(self, x=None, labels=None):
        logits = self.out(self.drop(self.net(x)))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class At(TrainerCallback):
    """do() before the optimizer's step of this number."""

    def __init__(self, step: int, do):
        self.step, self.do = step, do

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step:
            self.do(model)


def rows() -> list[dict]:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(160, 32, generator=draw), torch.randint(0, 10, (160,), generator=draw)
    return [{"x": x[i], "labels": y[i]} for i in range(160)]


def train(kind: str, out: Path, callbacks=()) -> None:
    torch.manual_seed(0)
    random.seed(0)
    args = TrainingArguments(
        str(out), max_steps=STEPS, save_steps=SAVE, save_total_limit=2, seed=1, logging_steps=1, **QUIET
    )
    common = {"model": Model(Config()), "args": args, "train_dataset": rows(), "callbacks": list(callbacks)}
    if kind == "ours":
        trainer = PretrainingTrainer(**common, make_optimizer=partial(adamw, lr=1e-3, weight_decay=0.0))
        found = newest(out)
    else:
        trainer, found = Trainer(**common), get_last_checkpoint(out) if out.exists() else None
    out.mkdir(exist_ok=True, parents=True)
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    if int(os.environ.get("RANK", 0)) == 0:
        state = sorted(trainer.model.state_dict().items())
        digest = hashlib.sha256(b"".join(value.numpy().tobytes() for _, value in state)).hexdigest()
        (out / "digest").write_text(digest)


def start(kind: str, out: Path, *, processes: int = 1, callbacks=()) -> list[int]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    ids = []
    for rank in range(processes):
        if (process := os.fork()) == 0:
            code = 1
            try:
                log = os.open(f"{out}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
                os.dup2(log, 1)
                os.dup2(log, 2)
                if processes > 1:
                    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1"}
                    os.environ.update({name: str(value) for name, value in (told | {"MASTER_PORT": port}).items()})
                train(kind, out, callbacks)
                code = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(code)
        ids.append(process)
    return ids


def wait(ids: list[int], *, seconds: float = 300) -> list[int]:
    """Exit codes; what still runs when the time is up is killed, as a launcher does."""
    until, codes = time.monotonic() + seconds, {}
    while len(codes) < len(ids):
        for process in set(ids) - codes.keys():
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                codes[process] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
    return [codes[process] for process in ids]


def outcome(kind: str, out: Path, reference: str, *, processes: int = 1) -> str:
    """Of starting it again with the same command, up to three times."""
    for _ in range(3):
        if not any(wait(start(kind, out, processes=processes))):
            return "same" if (out / "digest").read_text() == reference else "other"
    return "refused"


def killed(kind, out, reference, rng, *, seconds: float, processes: int = 1, only: int | None = None) -> str | None:
    """SIGKILL at a random moment, to all processes or one; None when it had ended before."""
    ids = start(kind, out, processes=processes)
    time.sleep(rng.uniform(0.05, 1.0) * seconds)
    if only is None:
        for process in ids:
            os.kill(process, signal.SIGKILL)
        wait(ids)
    else:
        os.kill(ids[only], signal.SIGKILL)
        wait(ids, seconds=60)
    return None if (out / "digest").exists() else outcome(kind, out, reference, processes=processes)


def harmed(kind, out, reference, harm, whole: Path) -> str:
    """The newest checkpoint of a finished run is harmed, and the run, without its last steps, goes on."""
    shutil.copytree(whole, out)
    (out / "digest").unlink()
    shutil.rmtree(out / f"checkpoint-{STEPS}")
    harm(out / f"checkpoint-{STEPS - SAVE}")
    return outcome(kind, out, reference)


def flip(rng: random.Random, checkpoint: Path) -> None:
    path = checkpoint / rng.choice(
        sorted(path.name for path in checkpoint.iterdir() if path.name != "training_args.bin")
    )
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(name: str, share: float, checkpoint: Path) -> None:
    os.truncate(checkpoint / name, int(share * (checkpoint / name).stat().st_size))


def not_finite(kind, out, step: int) -> str:
    """A parameter's NaN at one step stands for a loss of NaN: whatever it touches is NaN."""

    def poison(model):
        model.register_forward_hook(lambda module, given, made: made | {"loss": made["loss"] * BAD})

    stopped = any(wait(start(kind, out, callbacks=[At(step, poison)])))
    left = [path for path in out.glob("checkpoint-*") if path.is_dir()]
    finite = all(x.isfinite().all() for path in left for x in load_file(path / "model.safetensors").values())
    return "same" if stopped and finite and (kind == "stock" or not any(map(problem, left))) else "other"


def full_disk(kind, out, reference, step: int, size: int) -> str:
    """From a step on no file can grow beyond `size` bytes; then there is room again."""
    limit = lambda model: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    wait(start(kind, out, callbacks=[At(step, limit)]))
    return outcome(kind, out, reference)


def cost_of_sealing(folder: Path) -> dict:
    """What sealing adds to a save, for a network of 25 million parameters that saves every 40th step: medians of five.

    A thread seals while the training goes on; the training waits for what is not done when the next save begins.
    """
    seconds: dict[str, list[float]] = {}

    def timed(name: str):
        def method(self, *args):
            begin = time.perf_counter()
            result = getattr(PretrainingTrainer, name)(self, *args)
            seconds.setdefault(name, []).append(time.perf_counter() - begin)
            return result

        return method

    names = ("_save_checkpoint", "_start_sealing", "_finish_sealing", "_seal", "training_step")
    kind = type("Timed", (PretrainingTrainer,), {name: timed(name) for name in names})
    args = TrainingArguments(str(folder), max_steps=200, save_steps=40, save_total_limit=2, **QUIET)
    kind(
        Model(Config(), width=5000),
        args,
        train_dataset=rows(),
        make_optimizer=partial(adamw, lr=1e-3, weight_decay=0.0),
    ).train()
    median = {name: statistics.median(seconds[name]) for name in names}
    waited = median["_start_sealing"] + median["_finish_sealing"]
    return {
        "save_seconds": round(median["_save_checkpoint"], 4),
        "training_waits_seconds": round(waited, 6),
        "share_of_a_save": round(waited / median["_save_checkpoint"], 5),
        "seconds_in_the_thread": round(median["_seal"], 3),
        "bytes": sum(path.stat().st_size for path in (folder / "checkpoint-200").iterdir()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of all trials")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then what is done is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder, until = Path(tempfile.mkdtemp(prefix="faults_")), time.monotonic() + 60 * given.minutes
    count = lambda number: max(1, round(given.share * number))  # noqa: E731
    reference, whole, seconds = {}, {}, {}
    for kind in ("ours", "stock"):
        for processes in (1, 2):
            out = folder / f"{kind}_whole_{processes}"
            begin = time.monotonic()
            assert not any(wait(start(kind, out, processes=processes))), Path(f"{out}.log").read_text()
            seconds[processes] = time.monotonic() - begin
            reference[kind, processes], whole[kind] = (
                (out / "digest").read_text(),
                out if processes == 1 else whole[kind],
            )
    size = (whole["ours"] / f"checkpoint-{STEPS}" / "optimizer.pt").stat().st_size // 2
    table: dict[str, dict[str, Counter]] = {}

    def trial(case: str, number: int, run) -> None:
        """Both trainers under the same blow, one after the other."""
        for kind in ("ours", "stock"):
            if time.monotonic() > until:
                return
            out = folder / f"{kind}_{case}_{number}".replace(" ", "_")
            result = run(kind, out, reference[kind, 1], random.Random(f"{case}{number}"))
            if result is not None:
                table.setdefault(case, {"ours": Counter(), "stock": Counter()})[kind][result] += 1
            shutil.rmtree(out, ignore_errors=True)
        print(
            case,
            number,
            {kind: dict(found) for kind, found in table.get(case, {}).items()},
            file=sys.stderr,
            flush=True,
        )

    cases = [
        ("SIGKILL at random", count(100), lambda k, o, r, g, i: killed(k, o, r, g, seconds=seconds[1])),
        ("one bit flipped", count(200), lambda k, o, r, g, i: harmed(k, o, r, partial(flip, g), whole[k])),
    ]
    cases += [(f"cut to {share:.0%}", len(FILES), partial(_cut_file, share, whole)) for share in (0.5, 0.0, 0.99)]
    cases += [
        ("file deleted", len(FILES), partial(_delete_file, whole)),
        ("NaN in one step", 5, lambda k, o, r, g, i: not_finite(k, o, (1, 4, 9, 13, 19)[i])),
        ("disk full", count(20), lambda k, o, r, g, i: full_disk(k, o, r, g.randrange(5, STEPS - 1), size)),
        (
            "two processes, SIGKILL",
            count(30),
            lambda k, o, r, g, i: killed(k, o, reference[k, 2], g, seconds=seconds[2], processes=2),
        ),
        (
            "one of two killed",
            count(20),
            lambda k, o, r, g, i: killed(k, o, reference[k, 2], g, seconds=seconds[2], processes=2, only=i % 2),
        ),
    ]
    done = Counter()
    while any(done[name] < number for name, number, _ in cases) and time.monotonic() < until:  # in turns
        for name, number, run in cases:
            if done[name] < number:
                trial(name, done[name], partial(_numbered, run, done[name]))
                done[name] += 1
    checkpoint, rng, noticed = whole["ours"] / f"checkpoint-{STEPS}", random.Random(0), 0
    for _ in range(1000):
        path = checkpoint / rng.choice([*FILES, MANIFEST])
        good = path.read_bytes()
        flipped = bytearray(good)
        flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        noticed += problem(checkpoint) is not None
        path.write_bytes(good)
    result = {"machine": machine(), "share_of_trials": given.share, "cases": table}
    result |= {"single_bits_noticed_of_1000": noticed, "sealing": cost_of_sealing(folder / "cost")}
    print(_shown(table))
    write_result("faults", json.loads(json.dumps(result)))
    shutil.rmtree(folder)


def _numbered(run, number, kind, out, reference, rng):
    return run(kind, out, reference, rng, number)


def _cut_file(share, whole, kind, out, reference, rng, number):
    return harmed(kind, out, reference, partial(cut, FILES[number], share), whole[kind])


def _delete_file(whole, kind, out, reference, rng, number):
    return harmed(kind, out, reference, lambda checkpoint: (checkpoint / FILES[number]).unlink(), whole[kind])


def _shown(table: dict) -> str:
    lines = ["| blow | hf_replearn | transformers.Trainer |", "| --- | --- | --- |"]
    for case, found in table.items():
        cells = (", ".join(f"{n} {what}" for what, n in sorted(found[kind].items())) for kind in ("ours", "stock"))
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
