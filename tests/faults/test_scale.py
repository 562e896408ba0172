"""FSDP2 and gradient checkpointing, as far as they go without a GPU.

Through Trainer and accelerate FSDP2 needs a GPU (on the CPU they silently take DistributedDataParallel). What is tested
here is the objective under torch's own fully_shard over gloo: its gather across processes, its gradient, and the norm
that the guard against NaN looks at.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.utils import FullyShardedDataParallelPlugin
from transformers import BertConfig, GPT2Config

from hf_replearn.methods.causal_lm import CausalLMConfig, CausalLMForPreTraining
from hf_replearn.methods.masked_lm import MaskedLMConfig, MaskedLMForPreTraining

ROOT = Path(__file__).parents[2]


def test_the_loss_across_processes_under_fully_shard(tmp_path):
    script = Path(__file__).with_name("fsdp2_nt_xent.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script, tmp_path]
    run = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "(16, 12)" in run.stdout  # of 32 rows: each process holds a half
    alone, sharded = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("alone", "sharded"))
    for name in alone:
        assert (sharded[name] - alone[name]).abs().max() / alone[name].abs().max() < 1e-6, name


def test_the_profile_of_fsdp2_is_understood():
    """Its settings are those of accelerate's plugin; nothing of it would be ignored."""
    profile = yaml.safe_load((ROOT / "recipes" / "accelerate" / "fsdp2.yaml").read_text())["fsdp_config"]
    fields = {name.removeprefix("fsdp_"): value for name, value in profile.items()}
    assert fields.keys() <= FullyShardedDataParallelPlugin.__dataclass_fields__.keys() | {"version"}
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=fields["version"],
        auto_wrap_policy=fields["auto_wrap_policy"],
        reshard_after_forward=fields["reshard_after_forward"],
        state_dict_type=fields["state_dict_type"],
        cpu_ram_efficient_loading=fields["cpu_ram_efficient_loading"],
    )
    assert plugin.fsdp_version == 2 and plugin.state_dict_type.name == "FULL_STATE_DICT"


SIZE = {"vocab_size": 64, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_gradient_checkpointing_changes_no_gradient(kind):
    tokens = torch.randint(0, 64, (3, 16))
    if kind == "masked":
        model = MaskedLMForPreTraining(MaskedLMConfig(encoder=BertConfig(**SIZE, hidden_dropout_prob=0.0)))
        positions = torch.arange(4).repeat(3, 1)
        batch = {"input_ids": tokens, "positions": positions, "labels": tokens[:, :4]}
    else:
        config = GPT2Config(vocab_size=64, n_layer=2, n_embd=32, n_head=2, n_positions=16)
        model = CausalLMForPreTraining(CausalLMConfig(decoder=config))
        batch = {"input_ids": tokens, "labels": tokens}
    model.train()

    def gradients():
        model.zero_grad()
        torch.manual_seed(0)
        model(**batch).loss.backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients()
    model.model.gradient_checkpointing_enable()
    assert model.model.is_gradient_checkpointing
    calls = 0
    layer = next(module for name, module in model.named_modules() if name.endswith((".layer.0", ".h.0")))

    def counted(*_):
        nonlocal calls
        calls += 1

    next(module for module in layer.modules() if not list(module.children())).register_forward_pre_hook(counted)
    for one, other in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    assert calls == 2  # forwards, and again for the backward pass
