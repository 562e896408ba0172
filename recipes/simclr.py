"""SimCLR (Chen et al. 2020, arXiv:2002.05709): from unlabelled images to an encoder that anyone can load.

    accelerate launch recipes/simclr.py --config recipes/configs/simclr/toy_digits.yaml --output_dir out/digits
    hf-replearn simclr --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/simclr.py \\
        --config recipes/configs/simclr/imagenet_resnet50.yaml --output_dir out/imagenet

The digits take two minutes on two CPU cores. What was measured, on which hardware and for how long: model_cards/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe import ContrastiveSettings, ImageMethod, Method, run, setting


@dataclass(kw_only=True)
class SimCLRSettings(ContrastiveSettings):
    projection_dim: int = setting(128, "width of z = g(h)", section="model", at_least=2, at_most=65_536)
    projection_layers: int = setting(2, "of g; 3 in SimCLR v2", section="model", at_least=1, at_most=100)
    temperature: float | None = setting(
        None,
        "of the loss; none: 0.5 up to 64 pixels (paper, CIFAR-10), 0.1 above (ImageNet)",
        section="model",
        at_least=0.025,
        at_most=1000,
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: by --learning_rate_rule", section="training", above=0, at_most=1000
    )
    learning_rate_rule: Literal["linear", "sqrt"] = setting(
        "linear",
        "0.3 * batch / 256, or 0.075 * sqrt(batch) for batches below 4096 (paper, appendix B.1)",
        section="training",
    )

    BY_SIZE: ClassVar = ContrastiveSettings.BY_SIZE | {"temperature": (0.5, 0.1)}

    def peak_learning_rate(self, batch: int) -> float:
        """For a batch of so many images over all processes, by the rule."""
        if self.learning_rate_rule == "sqrt":
            return self.learning_rate or 0.075 * batch**0.5
        return super().peak_learning_rate(batch)


METHOD = ImageMethod(
    command="simclr",
    facts=Method(
        name="SimCLR",
        summary="Two augmented views of an image attract in the space of a projection head, and views of other "
        "images repel; no labels are used, and the head is thrown away.",
        paper="A Simple Framework for Contrastive Learning of Visual Representations",
        arxiv="2002.05709",
        bibtex="""\
@inproceedings{chen2020simple,
  title     = {A Simple Framework for Contrastive Learning of Visual Representations},
  author    = {Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey},
  booktitle = {International Conference on Machine Learning},
  year      = {2020}
}""",
        model_class="hf_replearn.methods.simclr.SimCLRForPreTraining",
    ),
)


def main(settings: SimCLRSettings, **given):
    """SimCLR: learn an encoder from unlabelled images by contrasting two views of each (arXiv:2002.05709)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, SimCLRSettings, prog="simclr")
