"""Inpainting (Pathak et al. 2016, arXiv:1604.07379): what is in the part of an image that is hidden?

    accelerate launch recipes/inpainting.py --config recipes/configs/inpainting/toy_digits.yaml --output_dir out/digits
    hf-replearn inpainting --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/inpainting.py \\
        --config recipes/configs/inpainting/cifar10_resnet18.yaml --output_dir out/cifar10
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class InpaintingSettings(CropSettings):
    min_scale: float = setting(
        0.2, "smallest crop, as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    mask: Literal["centre", "blocks", "region"] = setting(
        "region",
        "what is hidden: centre, always a square in the middle; blocks, squares anywhere; region, of any shape, which "
        "the paper takes for features",
        section="data",
    )
    hidden_share: float = setting(0.25, "share of the pixels that is hidden", section="data", above=0, at_most=1)
    overlap: int | None = setting(
        None,
        "pixels around what is hidden that are to be told too; none: 1 up to 64 pixels, 7 above (paper)",
        section="model",
        at_least=0,
        at_most=1000,
    )
    overlap_weight: float = setting(
        10.0, "of their error, in units of that of hidden pixels (paper: 10)", section="model", at_least=0, at_most=1000
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "adamw", "AdamW (paper: Adam); LARS; or SGD with momentum 0.9", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 1e-3 * batch / 256", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        1e-4, "of weight matrices; norms and biases have none", section="training", at_least=0
    )

    BY_SIZE: ClassVar = {"overlap": (1, 7)}
    RATE: ClassVar[float] = 1e-3


def holes(settings: InpaintingSettings, backbone, data, augment):
    """A crop of each image, and what of it is hidden."""
    from hf_replearn.methods.inpainting.collating_inpainting import DataCollatorForInpainting, hides_some
    from hf_replearn.pretraining.images import one_crop

    if not hides_some(settings.mask, settings.image_size, settings.hidden_share):
        raise InputError(
            f"--hidden_share {settings.hidden_share}: of {settings.image_size} x {settings.image_size} pixels, --mask "
            f"{settings.mask} then hides {'nothing' if settings.hidden_share < 0.5 else 'everything'}"
        )
    about = {"mask": settings.mask, "share": settings.hidden_share}
    return one_crop(DataCollatorForInpainting, settings, backbone, data, augment, **about)


METHOD = ImageMethod(
    command="inpainting",
    collator=holes,
    own_task=later("hf_replearn.methods.inpainting.showing_inpainting.own_task"),
    pictures=later("hf_replearn.methods.inpainting.showing_inpainting.pictures"),
    stages=True,
    facts=Method(
        name="inpainting",
        summary="A part of an image is hidden, and a decoder tells it from the encoder's view of the rest, for which "
        "it has to know what is in the image; no labels are used, and the decoder is thrown away.",
        paper="Context Encoders: Feature Learning by Inpainting",
        arxiv="1604.07379",
        bibtex="""\
@inproceedings{pathak2016context,
  title     = {Context Encoders: Feature Learning by Inpainting},
  author    = {Pathak, Deepak and Kr{\\"a}henb{\\"u}hl, Philipp and Donahue, Jeff and Darrell, Trevor and others},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year      = {2016}
}""",
        model_class="hf_replearn.methods.inpainting.InpaintingForPreTraining",
    ),
)


def main(settings: InpaintingSettings, **given):
    """Inpainting: what is in the part of an image that is hidden (arXiv:1604.07379)?"""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, InpaintingSettings, prog="inpainting")
