"""LeJEPA (Balestriero and LeCun 2025, arXiv:2511.08544): two terms, one weight.

    accelerate launch recipes/sigreg.py --config recipes/configs/sigreg/toy_digits.yaml --output_dir out/digits
    hf-replearn sigreg --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/sigreg.py \\
        --config recipes/configs/sigreg/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.pretraining.recipe import ImageMethod, Method, ViewSettings, run, setting


@dataclass(kw_only=True)
class SIGRegSettings(ViewSettings):
    projection_hidden: int = setting(
        2048, "width of the two hidden layers of g", section="model", at_least=1, at_most=65_536
    )
    projection_dim: int = setting(
        128, "width of z = g(h) (authors: 16 to 128)", section="model", at_least=1, at_most=65_536
    )
    weight: float = setting(
        0.05,
        "share of SIGReg in the loss; the rest is the views' agreement (authors: 0.02 to 0.05)",
        section="model",
        at_least=0,
        at_most=1,
    )
    slices: int = setting(
        1024, "random directions a step that are compared with a Gaussian", section="model", at_least=1, at_most=100_000
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "adamw", "AdamW as the authors; LARS; or SGD", section="training"
    )
    learning_rate: float = setting(
        5e-4, "peak learning rate (authors: 5e-4 to 2e-3)", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        5e-4, "of weight matrices (authors: 5e-4 for ResNets, 5e-2 for ViTs)", section="training", at_least=0
    )


METHOD = ImageMethod(
    command="sigreg",
    facts=Method(
        name="LeJEPA",
        summary="Views of an image get equal projections, and the projections of all images are held to a standard "
        "Gaussian on random slices (SIGReg), with one weight between both; no labels and no negative pairs are used.",
        paper="LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics",
        arxiv="2511.08544",
        bibtex="""\
@misc{balestriero2025lejepa,
  title         = {{LeJEPA}: Provable and Scalable Self-Supervised Learning Without the Heuristics},
  author        = {Balestriero, Randall and LeCun, Yann},
  year          = {2025},
  eprint        = {2511.08544},
  archivePrefix = {arXiv}
}""",
        model_class="hf_replearn.methods.sigreg.SIGRegForPreTraining",
    ),
)


def main(settings: SIGRegSettings, **given):
    """LeJEPA: views agree, and their projections are a standard Gaussian (SIGReg) (arXiv:2511.08544)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, SIGRegSettings, prog="sigreg")
