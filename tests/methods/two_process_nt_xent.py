"""Two gloo processes write the loss and gradient of NT-Xent under DistributedDataParallel, and those of one process."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hf_replearn.methods.simclr import nt_xent

TEMPERATURE = 0.2
out = Path(sys.argv[1])
images = torch.randn(16, 2, 12, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 8))


def gradient(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


alone = network()
loss = nt_xent(alone(images), TEMPERATURE)  # no process group yet: this is one process
loss.backward()

dist.init_process_group("gloo")
rank = dist.get_rank()
mine = images[8 * rank : 8 * rank + 8]
together = DistributedDataParallel(network())
part = nt_xent(together(mine), TEMPERATURE, chunk=5)
part.backward()
mean = part.detach().clone()
dist.all_reduce(mean)

shortcut = DistributedDataParallel(network())
z = nn.functional.normalize(shortcut(mine), dim=-1)
everyone = [torch.empty_like(z) for _ in range(2)]
dist.all_gather(everyone, z.detach())
everyone[rank] = z
everyone = torch.cat(everyone).flatten(0, 1)
logits = z.flatten(0, 1) @ everyone.T / TEMPERATURE
rows = torch.arange(16)
logits = logits.masked_fill(torch.eye(32, dtype=torch.bool)[16 * rank : 16 * rank + 16], -torch.inf)
nn.functional.cross_entropy(logits, (rows ^ 1) + 16 * rank).backward()

if rank == 0:
    torch.save({"loss": loss.detach(), "gradient": gradient(alone)}, out / "alone.pt")
    torch.save({"loss": mean / 2, "gradient": gradient(together)}, out / "together.pt")
    torch.save({"gradient": gradient(shortcut)}, out / "shortcut.pt")
dist.destroy_process_group()
