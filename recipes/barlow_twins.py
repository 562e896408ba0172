"""Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230): an encoder without negative pairs.

    accelerate launch recipes/barlow_twins.py --config recipes/configs/barlow_twins/toy_digits.yaml --output_dir out/toy
    hf-replearn barlow-twins --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/barlow_twins.py \\
        --config recipes/configs/barlow_twins/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hf_replearn.pretraining.recipe import ImageMethod, Method, ViewSettings, run, setting


@dataclass(kw_only=True)
class BarlowTwinsSettings(ViewSettings):
    projection_dim: int | None = setting(
        None,
        "width of z = g(h) and of the two hidden layers of g, the wider the better; "
        "none: 2048 up to 64 pixels, 8192 above (paper)",
        section="model",
        at_least=2,
        at_most=65_536,
    )
    redundancy: float = setting(
        0.0051,
        "weight of each correlation of two features beside the agreement of the views (paper: 0.0051)",
        section="model",
        at_least=0,
        at_most=1000,
    )
    loss_scale: float = setting(
        0.024,
        "factor on the loss: with LARS and SGD, the smaller, the slower norms and biases learn (authors: 0.024)",
        section="model",
        above=0,
        at_most=1000,
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 0.2 * batch / 256 (paper)", section="training", above=0, at_most=1000
    )

    BY_SIZE: ClassVar = ViewSettings.BY_SIZE | {"projection_dim": (2048, 8192)}
    RATE: ClassVar[float] = 0.2


METHOD = ImageMethod(
    command="barlow-twins",
    facts=Method(
        name="Barlow Twins",
        summary="Each feature of one view of an image is to correlate with the same feature of another view, and with "
        "no other feature; no labels and no negative pairs are used, and the head is thrown away.",
        paper="Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
        arxiv="2103.03230",
        bibtex="""\
@inproceedings{zbontar2021barlow,
  title     = {Barlow Twins: Self-Supervised Learning via Redundancy Reduction},
  author    = {Zbontar, Jure and Jing, Li and Misra, Ishan and LeCun, Yann and Deny, St{\\'e}phane},
  booktitle = {International Conference on Machine Learning},
  year      = {2021}
}""",
        model_class="hf_replearn.methods.barlow_twins.BarlowTwinsForPreTraining",
    ),
)


def main(settings: BarlowTwinsSettings, **given):
    """Barlow Twins: features of two views agree and do not repeat one another (arXiv:2103.03230)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, BarlowTwinsSettings, prog="barlow-twins")
