"""Compiled blocks, and FlexAttention. Run by test_compiling.py in a process of its own.

Blocks are taken as graphs here that run by PyTorch's own kernels, which needs no C++ compiler; transformers compiles
the masks of FlexAttention, which does."""

import importlib
import json
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.utils import counters
from transformers import BertConfig, GPT2Config, LlamaConfig, ModernBertConfig, Qwen2Config, Qwen3Config, RobertaConfig

from hf_replearn.methods.causal_lm import CausalLMConfig, CausalLMForPreTraining, DataCollatorForCausalLM
from hf_replearn.methods.masked_lm import HEADS, MaskedLMConfig, MaskedLMForPreTraining
from hf_replearn.pretraining import compiling
from hf_replearn.pretraining.compiling import compile_blocks, uncompiled
from hf_replearn.settings import run
from hf_replearn.training.trainer import PretrainingTrainer

LAYERS, LENGTH = 12, 32  # more blocks than graphs of one function that PyTorch keeps
SMALL = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 64, "max_position_embeddings": 80, "pad_token_id": 0}
DECODER = SMALL | {"num_key_value_heads": 2}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CONFIGS = {
    "bert": BertConfig(**SMALL, **STILL),
    "roberta": RobertaConfig(**SMALL, **STILL),
    "modernbert": ModernBertConfig(**SMALL, local_attention=8),
    "gpt2": GPT2Config(
        vocab_size=128, n_embd=32, n_layer=LAYERS, n_head=2, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    ),
    "llama": LlamaConfig(**DECODER),
    "qwen2": Qwen2Config(**DECODER),
    "qwen3": Qwen3Config(**DECODER, head_dim=16, tie_word_embeddings=True),
}
KINDS = {"modernbert": 3}  # the first, which has no norm before its attention, and those of two kinds of attention


@pytest.fixture(autouse=True)
def by_the_kernels_of_pytorch(monkeypatch):
    """One graph a block, or an error."""
    torch._dynamo.reset()
    counters.clear()
    given = partial(nn.Module.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(nn.Module, "compile", lambda module, **more: given(module, **more))


def model_of(name: str, attention: str = "sdpa") -> nn.Module:
    torch.manual_seed(0)
    if name in HEADS:
        config = MaskedLMConfig(encoder=CONFIGS[name], attn_implementation=attention)
        return MaskedLMForPreTraining(config).train()
    return CausalLMForPreTraining(CausalLMConfig(decoder=CONFIGS[name], attn_implementation=attention)).train()


def batch_of(name: str, *, rows: int = 4, cut: int | None = None) -> dict[str, torch.Tensor]:
    """cut: where the second document of each row begins."""
    tokens = torch.randint(4, 128, (rows, LENGTH), generator=torch.Generator().manual_seed(rows))
    batch = {"input_ids": tokens, "length": torch.full((rows,), LENGTH)}
    batch |= {} if cut is None else {"documents": (torch.arange(LENGTH) >= cut).long().expand(rows, -1)}
    if name not in HEADS:
        return DataCollatorForCausalLM().views(batch)
    places = torch.arange(0, LENGTH, 6).expand(rows, -1)
    del batch["length"]
    return batch | {"positions": places, "labels": tokens.gather(1, places)}


def loss_and_gradients(model: nn.Module, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return [loss.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_gradients_are_those_of_blocks_that_are_not_compiled(name, checkpointing):
    """One graph for all blocks that are alike, for each of two shapes, and none for shapes in `uncompiled()`."""
    model = model_of(name)
    if checkpointing:
        model.model.gradient_checkpointing_enable()
    batches = [batch_of(name), batch_of(name, rows=2)]
    plain, names = [loss_and_gradients(model, batch) for batch in batches], set(model.state_dict())
    compile_blocks(model)
    for _ in range(2):
        for batch, expected in zip(batches, plain, strict=True):
            for one, other in zip(loss_and_gradients(model, batch), expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 2 * KINDS.get(name, 1)
    with uncompiled(), torch.no_grad():
        model.eval()(**batch_of(name, rows=3))
    assert counters["stats"]["unique_graphs"] == 2 * KINDS.get(name, 1)
    assert set(model.state_dict()) == names


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("name", ["bert", "roberta", "modernbert", "llama", "qwen2", "qwen3"])
def test_documents_are_kept_apart_by_flex_attention(name):
    """As by PyTorch's fused attention, and whatever stands in the other document. A CPU has no backward pass of it."""
    losses, hidden = {}, []
    for attention in ("sdpa", "flex_attention"):
        model = model_of(name, attention).eval()
        with torch.no_grad():
            losses[attention] = [model(**batch_of(name, cut=cut)).loss for cut in (12, 20)]
    for one, other in zip(*losses.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    hook = model.model.base_model.register_forward_hook(lambda module, given, out: hidden.append(out[0]))
    for token in (5, 6):
        batch = batch_of(name, cut=12)
        batch["input_ids"][:, 12:] = token
        with torch.no_grad():
            model(**batch)
    hook.remove()
    torch.testing.assert_close(hidden[0][:, :12], hidden[1][:, :12], rtol=0, atol=1e-6)
    assert (hidden[0][:, 12:] - hidden[1][:, 12:]).abs().max() > 1e-3
    graphs = counters["stats"]["unique_graphs"]
    compile_blocks(model)
    with torch.no_grad():
        for cut, expected in ((12, losses["sdpa"][0]), (20, losses["sdpa"][1]), (9, None)):
            loss = model(**batch_of(name, cut=cut)).loss
            assert expected is None or loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert counters["stats"]["unique_graphs"] - graphs == KINDS.get(name, 1)  # none anew where documents end elsewhere


TINY = ["--dataset", "toy", "--size", "tiny", "--vocab_size", "1000", "--sequence_length", "32", "--use_cpu"]
TINY += ["--per_device_train_batch_size", "8", "--max_steps", "6", "--eval_rows", "20", "--bf16", "false"]
TINY += ["--short_rows", "0.5", "--dropout", "0.1", "--save_steps", "2", "--eval_steps", "2", "--torch_compile", "true"]


@pytest.mark.parametrize(("name", "settings"), [("masked_lm", "MaskedLMSettings"), ("causal_lm", "CausalLMSettings")])
def test_a_compiled_run_goes_on_to_the_same_bits(name, settings, tmp_path, monkeypatch):
    """Of two shapes, evaluated in between, and exported with the names that plain transformers knows."""
    module = importlib.import_module(f"hf_replearn.recipes.{name}")
    settings = getattr(module, settings)
    step = PretrainingTrainer.training_step

    def interrupted(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise RuntimeError("killed")
        return step(self, *args, **kwargs)

    run(module.main, settings, [*TINY, "--output_dir", str(tmp_path / "whole")])
    assert counters["stats"]["unique_graphs"] == 2  # nothing for held-out rows or samples
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(PretrainingTrainer, "training_step", interrupted)
        run(module.main, settings, [*TINY, "--output_dir", str(tmp_path / "parts")])
    run(module.main, settings, [*TINY, "--output_dir", str(tmp_path / "parts")])
    whole, parts = (load_file(tmp_path / folder / "model.safetensors") for folder in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    assert not any("_orig_mod" in key for key in whole)
    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert report["said"] and report["training"]["held_out"]["this model"] > 0


def test_blocks_are_found():
    for name in CONFIGS:
        assert len(compiling.blocks(model_of(name))) == LAYERS
