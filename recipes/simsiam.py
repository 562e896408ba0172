"""SimSiam (Chen and He 2021, arXiv:2011.10566): no negative pairs, no teacher.

    accelerate launch recipes/simsiam.py --config recipes/configs/simsiam/toy_digits.yaml --output_dir out/digits
    hf-replearn simsiam --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/simsiam.py \\
        --config recipes/configs/simsiam/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe import ImageMethod, Method, ViewSettings, run, setting


@dataclass(kw_only=True)
class SimSiamSettings(ViewSettings):
    projection_dim: int = setting(
        2048,
        "width of z = g(h) and of the hidden layers of g (paper: 2048)",
        section="model",
        at_least=2,
        at_most=65_536,
    )
    projection_layers: int | None = setting(
        None, "of g; none: 2 up to 64 pixels (paper, CIFAR-10), 3 above", section="model", at_least=1, at_most=100
    )
    predictor_hidden: int = setting(
        512,
        "width of the predictor's hidden layer, narrower than z (paper: 512)",
        section="model",
        at_least=1,
        at_most=65_536,
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "sgd", "SGD with momentum 0.9 as in the paper; LARS; or AdamW", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 0.05 * batch / 256 (paper)", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        1e-4,
        "of weight matrices; collapse looms without it (paper: 1e-4; 5e-4 on CIFAR-10)",
        section="training",
        at_least=0,
    )

    BY_SIZE: ClassVar = ViewSettings.BY_SIZE | {"projection_layers": (2, 3)}
    RATE: ClassVar[float] = 0.05


METHOD = ImageMethod(
    command="simsiam",
    facts=Method(
        name="SimSiam",
        summary="A predictor tells the projection of one view of an image from that of another, which takes no "
        "gradient; no labels, negative pairs or teacher are used, and head and predictor are thrown away.",
        paper="Exploring Simple Siamese Representation Learning",
        arxiv="2011.10566",
        bibtex="""\
@inproceedings{chen2021exploring,
  title     = {Exploring Simple Siamese Representation Learning},
  author    = {Chen, Xinlei and He, Kaiming},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2021}
}""",
        model_class="hf_replearn.methods.simsiam.SimSiamForPreTraining",
    ),
)


def main(settings: SimSiamSettings, **given):
    """SimSiam: one view's projection is told from the other's, without negatives or a teacher (arXiv:2011.10566)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, SimSiamSettings, prog="simsiam")
