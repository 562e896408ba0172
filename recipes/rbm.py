"""Restricted Boltzmann machines (Smolensky 1986; Hinton 2002), one on top of another (Hinton, Osindero & Teh 2006).

    hf-replearn rbm --dataset toy --channels 1 --components 100 --output_dir out/rbm
    hf-replearn rbm --dataset toy --channels 1 --lower_layers 100 --components 50 --output_dir out/dbn
    hf-replearn rbm --dataset PATH_OR_HUB_ID --patches 8 --components 200 --output_dir out/mine
    python recipes/rbm.py --config recipes/configs/rbm/toy_digits.yaml --output_dir out/digits

Visible units are what is seen, hidden ones explain it, and no two of one kind are connected. Weights follow the
difference between what the data and what the machine's own dreams make of the hidden units: contrastive divergence,
whose chains start at the data, or its persistent form, whose chains go on. Features are the probabilities of the hidden
units; several machines are a network of sigmoids, each layer trained on what the one below gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe import FittedMethod, Method, WhitenedSettings, later, run, setting


@dataclass(kw_only=True)
class RBMSettings(WhitenedSettings):
    components: int = setting(100, "hidden units of the uppermost machine", section="model", at_least=1, at_most=65_536)
    lower_layers: tuple[int, ...] = setting(
        (), "hidden units of machines below it, the lowest first", section="model", at_least=1, at_most=65_536
    )
    visible: Literal["binary", "gaussian"] | None = setting(
        None,
        "units that see: binary, on with a probability of 0 to 1; gaussian, of unit variance; none: binary for whole "
        "images, gaussian for patches and features, which are whitened",
        section="model",
    )
    sampling: Literal["cd", "pcd"] = setting(
        "cd", "cd: chains start at the data of each batch; pcd: they go on from batch to batch", section="training"
    )
    gibbs_steps: int = setting(1, "of a chain for each batch", section="training", at_least=1, at_most=10_000)
    passes: int = setting(60, "over the inputs, for each machine", section="training", at_least=1, at_most=100_000)
    learning_rate: float | None = setting(
        None, "none: 0.1 for binary units that see, 0.002 for gaussian ones", section="training", above=0, at_most=100
    )
    momentum: float = setting(0.5, "of the weights", section="training", at_least=0, at_most=0.999)
    weight_decay: float = setting(1e-4, "of the weights, not of biases", section="training", at_least=0)
    batch_size: int = setting(32, "inputs of a step, and chains", section="training", at_least=1)

    WHITENS_FEATURES: ClassVar[bool] = True
    RATES: ClassVar[dict[str, float]] = {"binary": 0.1, "gaussian": 0.002}

    def __post_init__(self):
        """What whole images are otherwise than patches and features."""
        if self.visible is None:
            whole = self.features is None and self.patches is None and self.contrast is None and not self.whiten
            self.visible = "binary" if whole else "gaussian"


def fit(settings: RBMSettings):
    from hf_replearn.methods.rbm import BoltzmannMachines

    return BoltzmannMachines(
        (*settings.lower_layers, settings.components),
        settings.visible,
        epochs=settings.passes,
        learning_rate=settings.learning_rate or settings.RATES[settings.visible],
        batch=settings.batch_size,
        sampling=settings.sampling,
        steps=settings.gibbs_steps,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


METHOD = FittedMethod(
    command="rbm",
    fit=fit,
    filters="weights of hidden units of the lowest machine.",
    own_task=later("hf_replearn.methods.rbm.showing_rbm.own_task"),
    smaller=("squared error, as a share of the variance",),
    facts=Method(
        name="RBM",
        summary="Hidden units explain what visible ones see, so that what the machine makes up is like the data; no "
        "labels are used.",
        paper="Training Products of Experts by Minimizing Contrastive Divergence",
        arxiv=None,
        bibtex="""\
@article{hinton2002training,
  title   = {Training Products of Experts by Minimizing Contrastive Divergence},
  author  = {Hinton, Geoffrey E.},
  journal = {Neural Computation},
  volume  = {14},
  number  = {8},
  pages   = {1771--1800},
  year    = {2002}
}""",
        model_class="hf_replearn.methods.rbm.RBMModel",
    ),
)


def main(settings: RBMSettings, **given):
    """Restricted Boltzmann machines, one on top of another (Hinton 2002)."""
    from hf_replearn.pretraining.fitted import fit_encoder

    return fit_encoder(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, RBMSettings, prog="rbm")
