"""VICReg (Bardes et al. 2022, arXiv:2105.04906): three terms, each with its own weight.

    accelerate launch recipes/vicreg.py --config recipes/configs/vicreg/toy_digits.yaml --output_dir out/digits
    hf-replearn vicreg --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/vicreg.py \\
        --config recipes/configs/vicreg/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hf_replearn.pretraining.recipe import ImageMethod, Method, ViewSettings, run, setting


@dataclass(kw_only=True)
class VICRegSettings(ViewSettings):
    projection_dim: int | None = setting(
        None,
        "width of z = g(h) and of the two hidden layers of g, the wider the better; "
        "none: 2048 up to 64 pixels, 8192 above (paper)",
        section="model",
        at_least=2,
        at_most=65_536,
    )
    invariance: float = setting(
        25.0, "weight of the views' agreement (paper: 25)", section="model", at_least=0, at_most=1e6
    )
    variance: float = setting(
        25.0,
        "weight of each feature's spread, which prevents collapse (paper: 25)",
        section="model",
        at_least=0,
        at_most=1e6,
    )
    covariance: float = setting(
        1.0, "weight of the features' independence (paper: 1)", section="model", at_least=0, at_most=1e6
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 0.2 * batch / 256 (paper)", section="training", above=0, at_most=1000
    )

    BY_SIZE: ClassVar = ViewSettings.BY_SIZE | {"projection_dim": (2048, 8192)}
    RATE: ClassVar[float] = 0.2


METHOD = ImageMethod(
    command="vicreg",
    facts=Method(
        name="VICReg",
        summary="Two views of an image get equal projections, while each feature keeps its spread over the images and "
        "no two features vary together; no labels and no negative pairs are used, and the head is thrown away.",
        paper="VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
        arxiv="2105.04906",
        bibtex="""\
@inproceedings{bardes2022vicreg,
  title     = {{VICReg}: Variance-Invariance-Covariance Regularization for Self-Supervised Learning},
  author    = {Bardes, Adrien and Ponce, Jean and LeCun, Yann},
  booktitle = {International Conference on Learning Representations},
  year      = {2022}
}""",
        model_class="hf_replearn.methods.vicreg.VICRegForPreTraining",
    ),
)


def main(settings: VICRegSettings, **given):
    """VICReg: views agree, features vary, and no two vary together (arXiv:2105.04906)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, VICRegSettings, prog="vicreg")
