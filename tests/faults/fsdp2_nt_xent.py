"""Two gloo processes write the loss and gradient of NT-Xent under fully_shard (FSDP2), and those of one process."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from hf_replearn.methods.simclr import nt_xent

out = Path(sys.argv[1])
images = torch.randn(16, 2, 12, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Linear(32, 8))


alone = network()
loss = nt_xent(alone(images), 0.2)
loss.backward()

dist.init_process_group("gloo")
rank, mesh = dist.get_rank(), init_device_mesh("cpu", (2,))
sharded = network()
for layer in (sharded[0], sharded[2]):
    fully_shard(layer, mesh=mesh)
fully_shard(sharded, mesh=mesh)
part = nt_xent(sharded(images[8 * rank : 8 * rank + 8]), 0.2, chunk=5)
part.backward()
shards = [tuple(parameter.to_local().shape) for parameter in sharded.parameters()]
gradient = torch.cat([parameter.grad.full_tensor().flatten() for parameter in sharded.parameters()])
norm = nn.utils.get_total_norm([parameter.grad for parameter in sharded.parameters()]).full_tensor()
mean = part.detach().clone()
dist.all_reduce(mean)
if rank == 0:
    print(shards)
    whole = torch.cat([parameter.grad.flatten() for parameter in alone.parameters()])
    torch.save({"loss": loss.detach(), "gradient": whole, "norm": whole.norm()}, out / "alone.pt")
    torch.save({"loss": mean / 2, "gradient": gradient, "norm": norm}, out / "sharded.pt")
dist.destroy_process_group()
