"""Losses of three steps, with blocks as they are written and compiled, of a model whose weights two processes share.

python compiled_parts.py RANK FILE: one of them; they meet in FILE. Prints the two losses and the number of graphs.
"""

import sys
from functools import partial

import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.utils import counters
from transformers import BertConfig

from hf_replearn.methods.masked_lm import MaskedLMConfig, MaskedLMForPreTraining
from hf_replearn.pretraining.compiling import compile_blocks
from hf_replearn.training.sharding import Layout, shard

SMALL = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def loss(rank: int, *, compiled: bool) -> float:
    torch.manual_seed(0)
    model = MaskedLMForPreTraining(MaskedLMConfig(encoder=BertConfig(**SMALL))).train()
    if compiled:
        given = nn.Module.compile
        nn.Module.compile = lambda module, **more: partial(given, module, backend="aot_eager")(**more)
        compile_blocks(model.model)
    layout = Layout(shards=2)
    shard(model, layout, layout.mesh(torch.device("cpu")))
    tokens = torch.randint(4, 128, (4, 32), generator=torch.Generator().manual_seed(rank))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        found = model(input_ids=tokens, positions=torch.arange(5).expand(4, -1), labels=tokens[:, :5]).loss
        found.backward()
        optimizer.step()
        optimizer.zero_grad()
    return found.item()


if __name__ == "__main__":
    rank = int(sys.argv[1])
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
    losses = [loss(rank, compiled=compiled) for compiled in (False, True)]
    print(*losses, counters["stats"]["unique_graphs"])
    dist.destroy_process_group()
