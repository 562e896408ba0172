"""When blocks are compiled, and with which attention. What is compiled is tested in a process of its own."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from transformers import BertConfig, GPT2Config, Qwen3Config

from hf_replearn.architectures import attention_implementation
from hf_replearn.pretraining import compiling
from hf_replearn.pretraining.compiling import Length, pays, settle_compile
from hf_replearn.recipes.causal_lm import METHOD, CausalLMSettings

GPU = torch.device("cuda")
H100 = 989e12
# BERT-base, 64 rows of 512 tokens: 32,768 x 6 x 110 million
BASE = Length(steps=1, seconds=None, flops=2.2e13, peak=H100, blocks=12)


@pytest.mark.slow
def test_compiled_blocks():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [*command, str(Path(__file__).parent / "compiled_blocks.py")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-5000:]


@pytest.mark.slow
def test_blocks_whose_weights_two_processes_share(tmp_path):
    """FSDP2: the losses of blocks that are not compiled, and one graph for all."""
    file = Path(__file__).parent / "compiled_parts.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(file), str(rank), str(tmp_path / "store")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        plain, compiled, graphs = process.communicate(timeout=300)[0].split()[-3:]
        assert process.returncode == 0 and graphs == "1"
        assert float(compiled) == pytest.approx(float(plain), rel=1e-6)


def test_the_rule_by_hand():
    """A step of 89 ms saves 36 ms: 40 s are back after 1,124 steps. What is small takes 1 ms a block all the same."""
    assert BASE.step == pytest.approx(0.0890, abs=1e-4)
    assert [pays(replace(BASE, steps=steps), kinds=1)[0] for steps in (1_120, 1_130)] == [False, True]
    assert [pays(replace(BASE, steps=steps), kinds=2)[0] for steps in (2_240, 2_260)] == [False, True]
    small = replace(BASE, flops=1e9, blocks=4)
    assert small.step == 4e-3
    assert [pays(replace(small, steps=steps), kinds=1)[0] for steps in (24_900, 25_100)] == [False, True]
    timed = replace(BASE, steps=10**9)
    assert [pays(replace(timed, seconds=seconds), kinds=1)[0] for seconds in (99, 101)] == [False, True]
    assert replace(BASE, peak=None).step > BASE.step
    assert pays(replace(BASE, steps=1_000), kinds=1)[1] == (
        "of some 1,000 steps of 0.089 s it would save about 36 s, and take 40 s to compile (rough estimates)"
    )


def settled(folder, capsys, monkeypatch, *, device: str = "cuda", **settings) -> tuple[bool, str]:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    settings = CausalLMSettings(dataset="toy", output_dir=str(folder), **settings)
    args = SimpleNamespace(
        device=torch.device(device), process_index=0, world_size=1, gradient_accumulation_steps=2,
        max_steps=settings.max_steps, num_train_epochs=settings.num_train_epochs, per_device_train_batch_size=32,
    )  # fmt: skip
    config = GPT2Config(vocab_size=50304)
    chosen = settle_compile(settings, args, METHOD, config, range(640_000)).torch_compile
    return chosen, capsys.readouterr().out


def test_auto_is_settled_and_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(compiling, "_missing", lambda: None)
    assert settled(tmp_path, capsys, monkeypatch, device="cpu") == (False, "")
    chosen, said = settled(tmp_path, capsys, monkeypatch)
    assert chosen is True and said.startswith("--torch_compile true: of some 10,000 steps of 0.0")
    chosen, said = settled(tmp_path, capsys, monkeypatch, max_steps=100)
    assert chosen is False and said.startswith("--torch_compile false: of some 100 steps")
    assert settled(tmp_path, capsys, monkeypatch, max_minutes=1.0)[0] is False
    for given in (True, False):
        assert settled(tmp_path, capsys, monkeypatch, torch_compile=given) == (given, "")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"torch_compile": False}))
    assert settled(tmp_path, capsys, monkeypatch) == (False, "")  # as the run began
    (tmp_path / "recipe.yaml").unlink()
    monkeypatch.setattr(compiling, "_missing", lambda: "a C compiler")
    assert settled(tmp_path, capsys, monkeypatch) == (False, "--torch_compile false: it needs a C compiler\n")


def test_which_attention_keeps_documents_apart():
    """FlexAttention for long rows on a GPU, where transformers has it, without dropout; on a CPU all is as it was."""
    bert = BertConfig(attention_probs_dropout_prob=0.0)
    known = {"bf16": True, "length": 512}
    assert attention_implementation(GPU, **known, apart=bert) == "flex_attention"
    assert attention_implementation(GPU, **known, apart=Qwen3Config()) == "flex_attention"
    assert attention_implementation(GPU, **known) == "sdpa"
    assert attention_implementation(GPU, bf16=True, apart=bert, length=256) == "sdpa"
    assert attention_implementation(GPU, **known, apart=BertConfig()) == "sdpa"  # its dropout is 0.1
    assert attention_implementation(GPU, **known, apart=GPT2Config(attn_pdrop=0.0)) == "sdpa"
    assert attention_implementation(torch.device("cpu"), **known, apart=bert) == "eager"
    assert attention_implementation(torch.device("cpu"), bf16=False, apart=bert, length=512) == "sdpa"
