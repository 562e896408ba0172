"""Every method with its weights in parts (FSDP2), in two gloo processes, beside one process that has them whole.

Both processes are forked once, and all is looked at in them.
"""

import copy
import importlib
import multiprocessing
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import small_runs
import timm
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from transformers import BertConfig, GPT2Config, LlamaConfig, Qwen3Config

from hf_replearn.architectures import hidden_matrices
from hf_replearn.cli import COMMANDS
from hf_replearn.errors import InputError
from hf_replearn.methods.causal_lm import CausalLMConfig, CausalLMForPreTraining
from hf_replearn.methods.masked_lm import MaskedLMConfig, MaskedLMForPreTraining
from hf_replearn.pretraining import images
from hf_replearn.pretraining.recipe import ImageMethod
from hf_replearn.randomness import Place
from hf_replearn.settings import parse
from hf_replearn.training.launch import check_devices
from hf_replearn.training.optimizers import adamw, lars, leave_out, muon, sgd
from hf_replearn.training.sharded_checkpoints import (
    load_sharded_optimizer,
    load_sharded_weights,
    load_whole_optimizer,
    load_whole_weights,
    save_sharded,
)
from hf_replearn.training.sharding import (
    Layout,
    Sharded,
    asked_layout,
    blocks,
    same_gradients,
    shard,
    total_norm,
    whole,
    without_weights,
)
from hf_replearn.training.tensor_parallel import split_matrices

ROWS = 8  # of one batch; each process has half of them
VIT = ["--backbone", "vit_tiny_patch16_224", "--image_size", "16", "--per_device_train_batch_size", "4", "--use_cpu"]
VIT += ["--backbone_args", "{'img_size': 16, 'patch_size': 8, 'embed_dim': 24, 'depth': 2, 'num_heads': 2}"]
WIDTHS = ("projection_dim", "projection_hidden", "predictor_hidden", "head_hidden", "prototypes", "slices")
OWN = {"cpc": ["--context_layers", "1", "--context_hidden", "16"]}  # of four networks, one a direction
RESNET = ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16]}"]
RESNET += ["--stem", "imagenet"]
HALVES = [slice(0, ROWS // 2), slice(ROWS // 2, ROWS)]
OF_A_PROCESS = {"cpc"}  # methods whose negatives are those of one process, so that more would be another loss
GRID = Layout(shards=1, tensor=2)
ENCODER = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
ENCODER |= {"intermediate_size": 24, "max_position_embeddings": 16}
TOKENS = torch.randint(5, 40, (ROWS, 12), generator=torch.Generator().manual_seed(0))
METHODS = {
    module: getattr(importlib.import_module(f"hf_replearn.recipes.{module}"), "METHOD", None)
    for module, _, _ in COMMANDS.values()
    if module
}
TENSOR_PARALLEL = {"llama tp": "llama", "qwen3 tp": "qwen3"}
RUNS: dict[str, tuple[nn.Module, dict[str, Tensor]]] = {}
IMAGES = {
    module: method
    for module, method in METHODS.items()
    if isinstance(method, ImageMethod) and not getattr(method.model_class, "needs_whole_weights", False)
}
TEXTS = {
    "bert": partial(MaskedLMForPreTraining, MaskedLMConfig(encoder=BertConfig(**ENCODER))),
    "gpt2": partial(
        CausalLMForPreTraining, CausalLMConfig(decoder=GPT2Config(vocab_size=40, n_layer=2, n_embd=16, n_head=2))
    ),
    "gpt2 recomputed": partial(
        CausalLMForPreTraining,
        CausalLMConfig(
            decoder=GPT2Config(
                vocab_size=40, n_layer=2, n_embd=16, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
            )
        ),
    ),
    "llama": partial(CausalLMForPreTraining, CausalLMConfig(decoder=LlamaConfig(**ENCODER, tie_word_embeddings=False))),
    "qwen3": partial(
        CausalLMForPreTraining, CausalLMConfig(decoder=Qwen3Config(**ENCODER, head_dim=8, num_key_value_heads=2))
    ),
}


ALL = [*TEXTS, *IMAGES, *TENSOR_PARALLEL]
LIKE_OTHERS = {name.replace("-", "_") for name in small_runs.LIKE_OTHERS}
LIKE_OTHERS |= {"rotation", "context_prediction", "gpt2 recomputed", "qwen3", "qwen3 tp"}


class ReadyToTrain(Exception):
    """A recipe has come to its training."""


@pytest.fixture(scope="module", autouse=True)
def wanted(request) -> list[str]:
    """The models that the selected tests ask for."""
    of_tests = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    return [name for name in ALL if any(told is not None and told.params.get("name") == name for told in of_tests)]


@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory, wanted) -> None:
    """What the recipe of each method on images makes of coloured noise: its model, and a batch."""
    folder = tmp_path_factory.mktemp("images")
    pixels = torch.randint(0, 256, (2 * ROWS, 20, 20, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for number, image in enumerate(pixels.numpy()):
        path = folder / "train" / f"class_{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    def stop(settings, args, model, collator, rows, **more):
        views = collator.views(collator([rows[row] for row in range(ROWS)]), Place(0, 0, 0, 0, 1))
        RUNS[settings.output_dir.rpartition("/")[2]] = model.eval(), views
        raise ReadyToTrain

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(images, "make_trainer", stop)
        for name in IMAGES.keys() & wanted:
            kind = next(settings for module, settings, _ in COMMANDS.values() if module == name)
            module = importlib.import_module(f"hf_replearn.recipes.{name}")
            fields = vars(module)[kind].__dataclass_fields__
            narrow = [part for field in WIDTHS if field in fields for part in (f"--{field}", "16")]
            for larger in (
                [],
                *([*RESNET, "--image_size", size] for size in ("32", "132")),
            ):  # of which methods have patches that cannot be had of a few pixels
                given = [
                    *VIT,
                    *narrow,
                    *larger,
                    *OWN.get(name, ()),
                    "--dataset",
                    str(folder),
                    "--output_dir",
                    str(folder / name),
                ]
                with suppress(ReadyToTrain, *([] if "132" in larger else [InputError])):
                    module.main(parse(vars(module)[kind], given))
                if name in RUNS:
                    break
    assert RUNS.keys() == IMAGES.keys() & wanted


def build(name: str) -> nn.Module:
    """The model in evaluation mode, in which no row depends on another but through the loss."""
    torch.manual_seed(1)
    name = TENSOR_PARALLEL.get(name, name)
    if name in TEXTS:
        model = TEXTS[name]().eval()
        if name == "gpt2 recomputed":
            model.train().model.gradient_checkpointing_enable()
        return model
    return copy.deepcopy(RUNS[name][0])


def batch(name: str, rows: slice) -> dict[str, Tensor]:
    """Some rows of what one process has as a batch."""
    if name not in IMAGES:
        told = {"positions": torch.arange(4).repeat(ROWS, 1), "labels": TOKENS[:, :4]}
        given = {"input_ids": TOKENS} | (told if name == "bert" else {"labels": TOKENS})
    else:
        given = RUNS[name][1]
    return {key: value[rows] for key, value in given.items()}


def in_parts_of(model: nn.Module, layout: Layout, **more) -> DeviceMesh:
    mesh = layout.mesh(torch.device("cpu"))
    shard(model, layout, mesh, **more)
    return mesh


def optimizer_of(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """Muon with AdamW for texts, LARS and SGD for images."""
    if name in TENSOR_PARALLEL:
        return adamw(model, 1e-2, weight_decay=0.1)
    if name in TEXTS:
        return muon(model, 1e-2, matrices=hidden_matrices(model.model), muon_lr=1e-2, weight_decay=0.1)
    return (lars if name == next(iter(IMAGES)) else sgd)(model, 1e-2, weight_decay=0.1)


def numbers(model: nn.Module) -> list[Tensor]:
    """All weights of a model that may be in parts."""
    with torch.no_grad():
        return [p.full_tensor() if isinstance(p, DTensor) else p.detach().clone() for p in model.parameters()]


def study(name: str, rows: slice, folder: Path, layout: Layout | None = None) -> dict:
    """Loss and gradients of a batch, and the weights after two steps; how a checkpoint of it is read again."""
    model = build(name)
    empty = without_weights(model)
    if layout is not None:
        mesh = in_parts_of(model, layout)
        assert all(isinstance(p, DTensor) for p in model.parameters())
    called = Sharded(model) if layout is not None else model
    optimizer, found = optimizer_of(name, model), {}
    for step in range(2):
        parts = [rows] if layout is not None or name not in OF_A_PROCESS else HALVES
        loss = torch.stack([called(**batch(name, part)).loss for part in parts]).mean()
        loss.backward()
        if layout is not None:
            same_gradients(model, mesh)
        if step == 0:
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            found["gradients"] = [g.full_tensor() if isinstance(g, DTensor) else g.clone() for g in gradients]
            found["norm"] = [total_norm(gradients)]
            found["loss"] = [loss.detach().clone()]
        optimizer.step()
        optimizer.zero_grad()
        if hasattr(model, "after_step"):
            model.after_step(0.5)
    found["weights"] = numbers(model)
    if layout is not None:
        checkpoint = folder / name
        found["whole"], found["read"] = look_at_checkpoints(name, model, empty, optimizer, checkpoint, layout)
        found["left out"] = left_out(name, called, rows, optimizer)
        found["bfloat16"] = [in_bfloat16(name, rows)] if name == "llama" else found["loss"]
    return found


def look_at_checkpoints(name: str, model, empty, optimizer, folder: Path, layout) -> tuple[list[Tensor], list[bool]]:
    """The weights of the whole model; and whether a checkpoint is read again with the same bits, in parts and whole."""
    save_sharded(folder, model, optimizer)
    dist.barrier()
    together = whole(model, empty)
    again = build(name)
    in_parts_of(again, layout)
    resumed = optimizer_of(name, again)
    load_sharded_weights(folder, again)
    load_sharded_optimizer(folder, again, resumed)
    same = equal_bits((model, optimizer), (again, resumed))
    if layout.tensor == 1:  # and as a run saves that is not in parts
        write_whole(together, optimizer, folder / "whole")
        again = build(name)
        in_parts_of(again, layout)
        resumed = optimizer_of(name, again)
        load_whole_weights(folder / "whole", again)
        load_whole_optimizer(folder / "whole", again, resumed)
        same += equal_bits((model, optimizer), (again, resumed))
    return [] if together is None else list(together.state_dict().values()), same


def equal_bits(one: tuple[nn.Module, torch.optim.Optimizer], other: tuple) -> list[bool]:
    """Whether weights, buffers and state of two models and their optimizers are the same, tensor by tensor."""
    (model, optimizer), (again, resumed) = one, other
    same = [torch.equal(a, b) for a, b in zip(numbers(again), numbers(model), strict=True)]
    same += [torch.equal(a, b) for a, b in zip(again.buffers(), model.buffers(), strict=True)]
    kept, read = (o.state_dict()["state"] for o in (optimizer, resumed))
    assert kept.keys() == read.keys()
    for number in kept:
        for key, value in kept[number].items():
            value, also = (x.to_local() if isinstance(x, DTensor) else x for x in (value, read[number][key]))
            same.append(torch.equal(value, also))
    return same


def write_whole(model: nn.Module | None, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    saved = optimizer.state_dict()
    state = {
        number: {key: x.full_tensor() if isinstance(x, DTensor) else x for key, x in kept.items()}
        for number, kept in saved["state"].items()
    }
    if model is not None:
        model.save_pretrained(folder)
        torch.save({**saved, "state": state}, folder / "optimizer.pt")
    dist.barrier()


def left_out(name: str, called: nn.Module, rows: slice, optimizer: torch.optim.Optimizer) -> list[bool]:
    """Whether weights stay the same bits in a step that must change nothing, as it is told to a GPU."""
    model = called.module
    before = numbers(model)
    called(**batch(name, rows)).loss.backward()
    leave_out(optimizer, torch.ones(()))
    optimizer.step()
    return [torch.equal(a, b) for a, b in zip(numbers(model), before, strict=True)]


def in_bfloat16(name: str, rows: slice) -> Tensor:
    """The loss under autocast, the weights of blocks gathered in bfloat16."""
    model = build(name)
    in_parts_of(model, Layout(shards=2), travels=torch.bfloat16)
    loss = Sharded(model, partial(torch.autocast, "cpu", torch.bfloat16))(**batch(name, rows)).loss
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.grad is not None)
    return loss.detach().float()


def one_of_two(rank: int, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rows = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    found = {
        name: study(name, slice(None), folder, GRID)
        if name in TENSOR_PARALLEL
        else study(name, rows, folder, Layout(shards=2))
        for name in names
    }
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def in_parts(tmp_path_factory, wanted) -> list[dict]:
    """What each of two processes found, by model."""
    folder, fork = tmp_path_factory.mktemp("parts"), multiprocessing.get_context("fork")
    processes = [fork.Process(target=one_of_two, args=(rank, folder, wanted), daemon=True) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def differ(some: list[Tensor], others: list[Tensor]) -> float:
    """The largest difference, as a share of the largest number."""
    some, others = (torch.cat([x.flatten() for x in tensors]) for tensors in (some, others))
    return float((some - others).abs().max() / others.abs().max())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_OTHERS else name for name in ALL]
)
def test_parts_train_as_the_whole_does(name, in_parts, tmp_path):
    alone = study(name, slice(None), tmp_path)
    mean = torch.stack([found[name]["loss"][0] for found in in_parts]).mean()
    assert differ([mean], alone["loss"]) < 1e-5
    for found in in_parts:
        for what, most in {"gradients": 1e-5, "norm": 1e-5, "weights": 1e-5 if name in IMAGES else 1e-3}.items():
            assert differ(found[name][what], alone[what]) < most, what
        assert len(found[name]["read"]) > 10 and all(found[name]["read"])
        assert all(found[name]["left out"])
        assert differ(found[name]["bfloat16"], found[name]["loss"]) < 2e-2
    state = build(name).state_dict()
    together = dict(zip(state, in_parts[0][name]["whole"], strict=True))
    model = build(name)
    model.load_state_dict(together)
    assert all(torch.equal(a, b) for a, b in zip(numbers(model), in_parts[0][name]["weights"], strict=True))
    assert in_parts[1][name]["whole"] == []


def profile(monkeypatch, **told: str) -> None:
    """As the launcher tells a process what fsdp2.yaml says, and what differs from it."""
    names = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}
    for name, value in (names | told).items():
        monkeypatch.setenv(name, value)


def sizes(replicate: int, parts: int, **more: int) -> dict[str, str]:
    told = {"DP_REPLICATE": replicate, "DP_SHARD": parts, **more}
    told = {f"PARALLELISM_CONFIG_{name}_SIZE": str(size) for name, size in told.items()}
    return {"ACCELERATE_USE_PARALLELISM_CONFIG": "true", **told}


def test_what_a_profile_asks_for(monkeypatch):
    assert asked_layout(2) is None
    profile(monkeypatch, FSDP_RESHARD_AFTER_FORWARD="false")
    assert asked_layout(8) == Layout(1, 8, reshard=False)
    assert asked_layout(1) is None  # nobody to share with
    profile(monkeypatch, FSDP_RESHARD_AFTER_FORWARD="true", **sizes(2, 8))
    assert asked_layout(16) == Layout(2, 8)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (sizes(2, 4), "shares the weights among 2 x 4 processes, and 4 were started"),
        (sizes(3, 0), "dp_shard_size must be at least 1"),
        (sizes(1, 2, CP=2), "sequences are not split"),
        ({"FSDP_VERSION": "1"}, "fsdp_version: 1"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params: true"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "fsdp_cpu_ram_efficient_loading: true"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "fsdp_activation_checkpointing: true"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "fsdp_auto_wrap_policy: SIZE_BASED_WRAP"),
        ({"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}, "fsdp_state_dict_type: FULL_STATE_DICT"),
        ({"ACCELERATE_USE_FSDP": "false", **sizes(2, 2)}, "needs distributed_type FSDP"),
    ],
)
def test_what_a_profile_may_not_ask_for(told, message, monkeypatch):
    profile(monkeypatch, **told)
    with pytest.raises(InputError, match=message):
        asked_layout(4)


def test_blocks_of_networks():
    names = {"bert": "BertLayer", "gpt2": "GPT2Block", "llama": "LlamaDecoderLayer"}
    for name, kind in names.items():
        assert [type(block).__name__ for block in blocks(build(name))] == [kind] * 2
    vit = timm.create_model("vit_tiny_patch16_224", depth=3)
    assert blocks(nn.Sequential(nn.Linear(3, 3), vit)) == list(vit.blocks)
    resnet = timm.create_model("resnet10t")
    assert [len(blocks(stage)) for stage in (resnet, resnet.layer1)] == [4, 0]


def test_a_network_without_blocks_is_refused():
    flat = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(InputError, match="0 blocks, so that sharding .* ddp.yaml"):
        shard(flat, Layout(shards=2), None)


def test_a_loss_that_needs_whole_weights_is_refused():
    model = METHODS["gan"].model_class
    with pytest.raises(InputError, match="gradients of gradients, .* take the profile ddp.yaml"):
        shard(model(model.config_class(backbone="test_vit")), Layout(shards=2), None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt2", "GPT2LMHeadModel has no plan for tensor parallelism in transformers: take the profile fsdp2.yaml"),
        ("bert", "BertForMaskedLM has no plan"),
        ("llama", "num_attention_heads is 2, which 3 processes cannot share: lower tp_size"),
    ],
)
def test_what_cannot_be_split(name, message):
    class Three:
        """Processes that need not be there, for they are never asked."""

        def size(self) -> int:
            return 3

    with pytest.raises(InputError, match=message):
        split_matrices(build(name), Three())


def several(rank: int, folder: Path, world: int, layout: Layout) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    share = world // layout.tensor
    rows = slice(rank // layout.tensor * ROWS // share, (rank // layout.tensor + 1) * ROWS // share)
    name = "llama tp" if layout.tensor > 1 else "bert"
    torch.save(study(name, rows, folder, layout), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("layout", [Layout(2, 2), Layout(1, 4), Layout(1, 2, tensor=2)], ids=str)
def test_four_processes(layout, tmp_path):
    """HSDP, FSDP2 of four, FSDP2 with tensor parallelism; what one of them has saved is read by two and by one."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=several, args=(rank, tmp_path, 4, layout), daemon=True) for rank in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * 4
    name = "llama tp" if layout.tensor > 1 else "bert"
    alone = study(name, slice(None), tmp_path)
    for rank in range(4):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for what, most in {"gradients": 1e-5, "norm": 1e-5, "weights": 1e-3}.items():
            assert differ(found[what], alone[what]) < most, what
        assert all(found["read"]) and all(found["left out"])
    model = build(name)
    load_sharded_weights(tmp_path / name, model)
    assert all(torch.equal(a, b) for a, b in zip(numbers(model), found["weights"], strict=True))
    optimizer = optimizer_of(name, model)
    load_sharded_optimizer(tmp_path / name, model, optimizer)
    assert len(optimizer.state_dict()["state"]) == len(list(model.parameters()))


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    check_devices(use_cpu=True)
    with pytest.raises(InputError, match="8 processes were asked for on this machine, which has 2 GPU"):
        check_devices(use_cpu=False)
