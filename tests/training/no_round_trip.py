"""On a GPU the host never waits in a training step, of any method: found out with a pretended GPU."""

import copy
import importlib
import itertools
import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pretended_gpu import GPU, HostWaits, PretendedGPU
from small_runs import slow_where_like_others, small
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, TrainerCallback, TrainingArguments
from transformers.utils import ModelOutput

import hf_replearn.augmentation
from hf_replearn.cli import COMMANDS
from hf_replearn.errors import Preempted, TrainingError
from hf_replearn.settings import run
from hf_replearn.training import optimizers, verdict
from hf_replearn.training.callbacks import HeldOutLoss, SampleScores
from hf_replearn.training.optimizers import adamw, lars, muon, sgd
from hf_replearn.training.settings import PretrainingSettings
from hf_replearn.training.trainer import PretrainingTrainer

MODULES = {
    command: (importlib.import_module(f"hf_replearn.recipes.{module}"), settings)
    for command, (module, settings, *_) in COMMANDS.items()
    if module
}
TRAINED = ("images", "pixels", "texts")  # and not fitted in passes, on a CPU as on a GPU
METHODS = {
    command: kind for command, kind in MODULES.items() if getattr(vars(kind[0]).get("METHOD"), "STORY", None) in TRAINED
}


class Finished(Exception):
    """The training went to its end, and nobody wants to know what was learned."""


class OnThePretendedGPU(TrainerCallback):
    """Steps 2 and 3 are strict, and what lies between them."""

    def __init__(self, gpu):
        self.gpu = gpu

    def on_step_begin(self, args, state, control, **kwargs):
        self.gpu.strict = state.global_step in (1, 2)

    def on_step_end(self, args, state, control, **kwargs):
        self.gpu.strict = state.global_step == 2


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(verdict, "arrival", lambda device: SimpleNamespace(synchronize=lambda: None))
    return PretendedGPU(monkeypatch)


@pytest.fixture
def train_there(gpu, monkeypatch):
    """Trains on the pretended GPU, without saving."""
    train = PretrainingTrainer.train

    def train_there(trainer: PretrainingTrainer) -> None:
        monkeypatch.setitem(vars(trainer.args), "_setup_devices", GPU)
        monkeypatch.setattr(trainer.accelerator.state, "device", GPU)
        trainer.accelerator.dataloader_config.non_blocking = True  # as on a GPU
        trainer.args.save_strategy, trainer.args.logging_steps = "no", 100
        with gpu, torch.autograd.set_multithreading_enabled(False):
            gpu.take(trainer.model)
            train(trainer)

    return train_there


@pytest.fixture
def strictly(gpu, train_there, monkeypatch):
    """Whatever recipe trains does it there, in four steps, and ends then."""

    def train_strictly(trainer, **kwargs):
        for kind in (SampleScores, HeldOutLoss):
            trainer.pop_callback(kind)
        trainer.add_callback(OnThePretendedGPU(gpu))
        train_there(trainer)
        assert trainer.state.global_step == 4
        raise Finished

    monkeypatch.setattr(PretrainingTrainer, "train", train_strictly)
    monkeypatch.setattr(hf_replearn.augmentation, "draw_views", lambda images, views, path, aspect=None: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for label in ("dark", "light"):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 128, (16, 16, 3), dtype=np.uint8) + 127 * (label == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / label / f"{number}.png")
    words = rng.choice(["a", "the", "sea", "ship", "sails", "wind", "blows", "over", "far", "night"], (300, 12))
    (folder / "text").mkdir()
    for split, lines in (("train", words[:250]), ("validation", words[250:])):
        (folder / "text" / f"{split}.txt").write_text("\n\n".join(" ".join(line) + "." for line in lines))
    return folder


COMMON = ["--use_cpu", "--max_steps", "4", "--per_device_train_batch_size", "8", "--bf16", "false"]
TEXTS = ["--size", "tiny", "--vocab_size", "300", "--sequence_length", "32", "--eval_rows", "8", "--eval_steps", "0"]
TEXTS += ["--short_rows", "0.5"]


def train(command: str, data, out, *more: str) -> None:
    module, settings = METHODS[command]
    settings = vars(module)[settings]
    of_images = "image_size" in settings.__dataclass_fields__
    own, kind = ([*small(command, settings), "--knn_steps", "0"], "images") if of_images else (TEXTS, "text")
    given = [*COMMON, *own, "--dataset", str(data / kind), "--output_dir", str(out), *more]
    with pytest.raises(Finished):
        run(module.main, settings, given)


RUNS = [  # in which something else happens
    ("simclr", "--negatives", "16", "--on_nonfinite", "skip"),
    ("simclr", "--optimizer", "sgd", "--on_nonfinite", "skip"),
    ("moco", "--version", "2", "--queue_size", "40", "--on_nonfinite", "skip"),
    ("dino", "--local_crops", "2", "--centring", "sinkhorn"),
    ("masked-lm", "--whole_words", "--gradient_accumulation_steps", "2", "--on_nonfinite", "skip"),
    ("masked-lm", "--packing", "documents", "--optimizer", "adamw"),
    ("image-gpt", "--objective", "masked"),
    ("causal-lm", "--packing", "documents"),
    ("causal-lm", "--packing", "documents", "--architecture", "qwen3", "--gradient_checkpointing"),
]


ALL = [*((command,) for command in METHODS), *RUNS]


@pytest.mark.parametrize("run", slow_where_like_others(ALL), ids=" ".join)
@pytest.mark.usefixtures("strictly")
def test_no_step_of_any_method_waits(run, data, tmp_path):
    command, *more = run
    train(command, data, tmp_path / "out", *more)


def test_batches_go_to_a_gpu_without_waiting(tmp_path, monkeypatch):
    for there in (False, True):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda there=there: int(there))
        args = PretrainingSettings(output_dir=str(tmp_path), report_to="none").training_arguments()
        assert args.accelerator_config.non_blocking is there
        assert args.dataloader_pin_memory or not there


WAITING = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.any()),
    "print": lambda x: f"{x[0]:.3f}",
    "list": lambda x: x.tolist(),
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "mask": lambda x: x[x > 0],
    "set by a mask": lambda x: x.__setitem__(x > 0, 0.0),
    "index of the CPU": lambda x: x[torch.tensor([0, 1])],
    "copy to the CPU": lambda x: x.cpu(),
    "copy from the CPU": lambda x: torch.ones(3).to(GPU),
    "new numbers": lambda x: torch.tensor([1.0, 2.0], device=GPU),
    "new numbers of its kind": lambda x: x.new_tensor(3.0),
}


@pytest.mark.parametrize("what", WAITING)
def test_what_waits_is_found(what, monkeypatch):
    with PretendedGPU(monkeypatch) as gpu:
        x = torch.arange(4.0).to(GPU)
        WAITING[what](x)  # else it works
        gpu.strict = True
        with pytest.raises(HostWaits):
            WAITING[what](x)


def test_what_does_not_wait_is_as_on_the_cpu(monkeypatch):
    w = torch.randn(3, 4)
    here = nn.Linear(4, 3)
    there = copy.deepcopy(here)
    with PretendedGPU(monkeypatch) as gpu, torch.autograd.set_multithreading_enabled(False):
        gpu.take(there)
        gpu.strict = True
        for layer, x in ((here, w), (there, w.to(GPU, non_blocking=True))):
            y = layer(x)[x[:, 0].argsort()].where(x.sum(1, keepdim=True) > 0, 0.5)
            y.square().mean().backward()
            torch.optim.AdamW(layer.parameters(), fused=True).step()
        arrived = there.weight.detach().to("cpu", non_blocking=True)
    assert torch.equal(arrived, here.weight)


def test_tensors_of_both_devices_do_not_mix(monkeypatch):
    with PretendedGPU(monkeypatch), pytest.raises(RuntimeError, match="of the CPU and of the GPU together"):
        torch.ones(3).to(GPU) + torch.ones(3)


class Model(PreTrainedModel):
    """A student with batch normalisation, and a teacher that follows it."""

    config_class, accepts_loss_kwargs = PreTrainedConfig, False

    def __init__(self, config):
        super().__init__(config)
        self.student = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 8))
        self.teacher = nn.Linear(4, 8).requires_grad_(False)
        self.post_init()

    def forward(self, x):
        y = self.student(x)
        return ModelOutput(loss=(y - self.teacher(x)).square().mean(), pooler_output=y)

    @torch.no_grad()
    def after_step(self, progress):
        self.teacher.weight.add_(self.student[0].weight, alpha=0.1)


class Kept(TrainerCallback):
    """All weights, buffers and moments after each step, on the CPU."""

    def __init__(self):
        self.after = []

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        tensors = [x for _, x in sorted(model.state_dict().items())]
        tensors += [x for n, state in sorted(optimizer.state_dict()["state"].items()) for x in state.values()]
        self.after.append([getattr(x, "here", x).detach().clone() for x in tensors])


def muon_and_adamw(model, lr, weight_decay):
    matrices = [model.student[0].weight, model.student[2].weight]
    return muon(model, lr, matrices=matrices, muon_lr=lr, weight_decay=weight_decay)


def run_with_nan(folder, optimizer, step: int | None, *, max_skipped: int, **more):
    """A run of five steps whose images are NaN in one of them, and what is kept after each."""

    def views(batch, place):
        return {"x": batch["x"] * (float("nan") if place.step + 1 == step else 1.0)}

    torch.manual_seed(0)
    args = TrainingArguments(
        output_dir=str(folder), max_steps=5, per_device_train_batch_size=8, remove_unused_columns=False, use_cpu=True,
        report_to="none", disable_tqdm=True, save_strategy="no", logging_nan_inf_filter=False,
    )  # fmt: skip
    data = list(torch.randn(64, 4, generator=torch.Generator().manual_seed(3)))
    trainer = PretrainingTrainer(
        model=Model(PreTrainedConfig()), args=args, train_dataset=data, views=views, max_skipped=max_skipped,
        data_collator=lambda rows: {"x": torch.stack(rows)},
        make_optimizer=partial(optimizer, lr=1e-2, weight_decay=0.1), callbacks=[kept := Kept()], **more,
    )  # fmt: skip
    return trainer, kept.after


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("optimizer", [adamw, lars, sgd, muon_and_adamw])
@pytest.mark.parametrize("step", [1, 3])
def test_a_step_that_is_not_finite_changes_nothing_there(optimizer, step, train_there, tmp_path, monkeypatch):
    """Weights, running statistics, teacher and the optimizer's moments are those before it; the host hears later."""
    monkeypatch.setattr(optimizers, "has_bf16", lambda device: False)
    here, after_here = run_with_nan(tmp_path, optimizer, step, max_skipped=1)
    with pytest.warns(UserWarning, match=f"step {step}: the loss"):
        here.train()
    trainer, after = run_with_nan(tmp_path, optimizer, step, max_skipped=1)
    start = [x.detach().clone() for _, x in sorted(trainer.model.state_dict().items())]
    with pytest.warns(
        UserWarning, match=rf"step {step}: the loss .*\(loss nan; .*Rows of its batch: (\d+, ){{7}}\d+\. It"
    ):
        train_there(trainer)
    assert all(x.isfinite().all() for tensors in after for x in tensors)
    if step == 1:
        assert same(after[0][: len(start)], start) and not any(x.any() for x in after[0][len(start) :])
    else:
        assert same(after[step - 1], after[step - 2])
    weights = [tensors[: len(start)] for tensors in [start, *after]]
    moved = [not torch.equal(one[0], other[0]) for one, other in itertools.pairwise(weights)]
    assert moved == [n + 1 != step for n in range(5)]
    assert [log["step"] for log in trainer.state.log_history if "skipped_steps" in log] == [step]  # in the next step
    for one, other in zip(after[-1][: len(start)], after_here[-1][: len(start)], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("step", [3, 5])
def test_where_it_must_not_be_the_run_ends_and_the_weights_are_good(step, train_there, tmp_path):
    trainer, after = run_with_nan(tmp_path, adamw, step, max_skipped=0)
    with pytest.raises(TrainingError, match=f"step {step}: the loss or its gradient is not finite"):
        train_there(trainer)
    assert len(after) == step  # the next one had begun
    assert all(x.here.isfinite().all() for x in trainer.model.parameters())


def test_a_signal_is_met_a_step_later_there(train_there, tmp_path, monkeypatch):
    monkeypatch.setattr(PretrainingTrainer, "_save_checkpoint", lambda trainer, model, trial: None)
    trainer, after = run_with_nan(tmp_path, adamw, None, max_skipped=0)

    class Told(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            trainer.signals.received = signal.SIGTERM if state.global_step == 1 else trainer.signals.received

    trainer.add_callback(Told())
    with pytest.raises(Preempted, match="stopped and saved after step 3 of 5"):
        train_there(trainer)


def test_a_time_budget_ends_there_too(train_there, tmp_path, monkeypatch):
    monkeypatch.setattr(PretrainingTrainer, "_save_checkpoint", lambda trainer, model, trial: None)
    monkeypatch.setattr(PretrainingTrainer, "seconds_trained", lambda trainer: 20.0 * (trainer.state.global_step + 1))
    trainer, after = run_with_nan(tmp_path, adamw, None, max_skipped=0, max_minutes=1.0)
    train_there(trainer)
    assert len(after) == 4 and trainer.spent == 1.0  # spent after the third, which is known in the fourth
