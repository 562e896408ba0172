"""Rotation (Gidaris et al. 2018, arXiv:1803.07728): by how many quarter turns was an image turned?

    accelerate launch recipes/rotation.py --config recipes/configs/rotation/toy_digits.yaml --output_dir out/digits
    hf-replearn rotation --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/rotation.py \\
        --config recipes/configs/rotation/cifar10_resnet18.yaml --output_dir out/cifar10

It learns nothing from images without an up and a down, such as cells: the loss then stays at ln 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class RotationSettings(CropSettings):
    min_scale: float = setting(
        0.5, "smallest crop, as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "sgd", "SGD with momentum 0.9 (paper); AdamW; or LARS", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 0.2 * batch / 256 (paper)", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        5e-4, "of weight matrices; norms and biases have none (paper: 5e-4)", section="training", at_least=0
    )

    VIEWS: ClassVar[int] = 4
    RATE: ClassVar[float] = 0.2


def four_turns(settings: RotationSettings, backbone, data, augment):
    """A crop of each image, and its turns."""
    from hf_replearn.methods.rotation.collating_rotation import DataCollatorForRotation
    from hf_replearn.pretraining.images import one_crop

    return one_crop(DataCollatorForRotation, settings, backbone, data, augment)


METHOD = ImageMethod(
    command="rotation",
    collator=four_turns,
    own_task=later("hf_replearn.methods.rotation.showing_rotation.own_task"),
    stages=True,
    facts=Method(
        name="rotation",
        summary="The network tells by how many quarter turns an image was turned, for which it has to know what is in "
        "it; no labels are used, and the classifier of turns is thrown away.",
        paper="Unsupervised Representation Learning by Predicting Image Rotations",
        arxiv="1803.07728",
        bibtex="""\
@inproceedings{gidaris2018unsupervised,
  title     = {Unsupervised Representation Learning by Predicting Image Rotations},
  author    = {Gidaris, Spyros and Singh, Praveer and Komodakis, Nikos},
  booktitle = {International Conference on Learning Representations},
  year      = {2018}
}""",
        model_class="hf_replearn.methods.rotation.RotationForPreTraining",
    ),
)


def main(settings: RotationSettings, **given):
    """Rotation: by how many quarter turns was an image turned (arXiv:1803.07728)?"""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, RotationSettings, prog="rotation")
