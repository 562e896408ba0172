"""LeJEPA (Balestriero and LeCun 2025, arXiv:2511.08544): views agree, and their projections are a standard Gaussian.

B images of this process, N images of all processes, V views, P projected features, S slices, K = 17 knots
"""

import torch
from torch import Tensor, nn

from hf_replearn.methods.trunk import ImageEncoder, Projector, TwoViewsForPreTraining, gather

from .configuration_sigreg import SIGRegConfig


def sigreg(projections: Tensor, slices: Tensor) -> Tensor:
    """SIGReg with the statistic of Epps and Pulley: how far projections are from N(0, I), mean over V views, S slices.

    Of each slice x = <projection, direction> over the N images of all processes
    N * integral of |mean of exp(itx) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt, by the trapezoidal rule with 17 knots on
    [0, 3], doubled, as in the authors' minimal example. A sample of the Gaussian itself scores 1.0525 on average,
    whatever N, and not 0; all projections at the origin score 0.402 N.
    Computed in float32 whatever the autocast.

    projections: (B, V, P), the same B in every process. slices: (P, S), columns of length 1, the same in every process.
    """
    with torch.autocast(projections.device.type, enabled=False):
        knots = torch.linspace(0, 3, 17, device=projections.device)
        gaussian = (-knots.square() / 2).exp()  # its characteristic function, and the weight of the integral
        weights = 2 * torch.trapezoid(torch.eye(17, device=knots.device), knots) * gaussian
        angles = (projections.float() @ slices).unsqueeze(-1) * knots  # (B, V, S, K)
        means = torch.stack([angles.cos().mean(0), angles.sin().mean(0)])  # (2, V, S, K)
        processes = gather(means[None])
        cosines, sines = processes.mean(0)
        distance = (cosines - gaussian).square() + sines.square()
        return len(projections) * len(processes) * (distance @ weights).mean()


def lejepa(projections: Tensor, slices: Tensor, weight: float) -> Tensor:
    """(1 - weight) * squared distance of the views from their mean + weight * SIGReg (the paper's Algorithm 2).

    The distance is a mean over images, views and features. Shapes as in `sigreg`.
    """
    views = projections.float()
    distance = (views - views.mean(1, keepdim=True)).square().mean()
    return (1 - weight) * distance + weight * sigreg(projections, slices)


def draw_slices(features: int, count: int, *, seed: int) -> Tensor:
    """Random directions, (features, count), columns of length 1: a function of the seed, whatever the device."""
    drawn = torch.randn(features, count, generator=torch.Generator().manual_seed(seed))
    return nn.functional.normalize(drawn, dim=0)


class SIGRegModel(ImageEncoder):
    config_class = SIGRegConfig


class SIGRegForPreTraining(TwoViewsForPreTraining):
    """Encoder f and projection head g under the loss of LeJEPA.

    slices_seed: of the slices of the next loss, drawn with the weights and one more after each loss: the same in every
    process, and in a resumed run.
    """

    config_class = SIGRegConfig

    def __init__(self, config: SIGRegConfig):
        super().__init__(config)
        self.register_buffer("slices_seed", torch.randint(2**31, ()))
        self.known_seed: int | None = None  # the same as the host knows it: to ask a GPU for it is to wait for it
        self.register_load_state_dict_post_hook(lambda model, _: model.after_undone_step())

    def make_projection(self, features: int) -> nn.Module:
        """Two hidden layers, as in the authors' minimal example."""
        return Projector(features, self.config.projection_hidden, self.config.projection_dim, layers=3)

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss () of a whole batch from its projections (B, V, P), with new slices each time."""
        seed = int(self.slices_seed) if self.known_seed is None else self.known_seed
        slices = draw_slices(projections.shape[-1], self.config.slices, seed=seed)
        if self.training:
            self.known_seed = seed + 1
            self.slices_seed.fill_(self.known_seed)
        slices = slices.pin_memory() if projections.device.type == "cuda" else slices
        return lejepa(projections, slices.to(projections.device, non_blocking=True), self.config.weight)

    def after_undone_step(self) -> None:
        """The buffers are as before a step, or those of a checkpoint."""
        self.known_seed = None


__all__ = ["SIGRegForPreTraining", "SIGRegModel", "draw_slices", "lejepa", "sigreg"]
