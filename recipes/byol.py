"""BYOL (Grill et al. 2020, arXiv:2006.07733): a teacher instead of negative pairs.

    accelerate launch recipes/byol.py --config recipes/configs/byol/toy_digits.yaml --output_dir out/digits
    hf-replearn byol --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/byol.py \\
        --config recipes/configs/byol/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hf_replearn.pretraining.recipe import ImageMethod, Method, ViewSettings, run, setting


@dataclass(kw_only=True)
class BYOLSettings(ViewSettings):
    projection_dim: int = setting(256, "width of z = g(h) (paper: 256)", section="model", at_least=2, at_most=65_536)
    projection_hidden: int = setting(
        4096, "width of the hidden layer of g (paper: 4096)", section="model", at_least=1, at_most=65_536
    )
    predictor_hidden: int = setting(
        4096, "width of the predictor's hidden layer (paper: 4096)", section="model", at_least=1, at_most=65_536
    )
    momentum: float = setting(
        0.99,
        "of the teacher at the start, rising to 1 (paper: 0.996 for 1000 epochs, 0.99 for 300)",
        section="model",
        at_least=0,
        at_most=1,
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 0.2 * batch / 256 (paper)", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        1.5e-6, "of weight matrices; norms and biases have none (paper: 1.5e-6)", section="training", at_least=0
    )

    RATE: ClassVar[float] = 0.2


METHOD = ImageMethod(
    command="byol",
    facts=Method(
        name="BYOL",
        summary="A student predicts the projection that a teacher, its own running mean, makes of another augmented "
        "view of the image; no labels or negative pairs are used, and heads and teacher are thrown away.",
        paper="Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning",
        arxiv="2006.07733",
        bibtex="""\
@inproceedings{grill2020bootstrap,
  title     = {Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning},
  author    = {Grill, Jean-Bastien and Strub, Florian and Altch{\\'e}, Florent and Tallec, Corentin and others},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2020}
}""",
        model_class="hf_replearn.methods.byol.BYOLForPreTraining",
    ),
)


def main(settings: BYOLSettings, **given):
    """BYOL: a student predicts its teacher's view of an image, without negative pairs (arXiv:2006.07733)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, BYOLSettings, prog="byol")
