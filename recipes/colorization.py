"""Colorization (Zhang et al. 2016, arXiv:1603.08511): which colours has this grey image?

    accelerate launch recipes/colorization.py --config recipes/configs/colorization/toy_scenes.yaml \\
        --output_dir out/scenes
    hf-replearn colorization --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/colorization.py \\
        --config recipes/configs/colorization/cifar10_resnet18.yaml --output_dir out/cifar10

The encoder takes one channel, the lightness of an image, L of CIE Lab; it is judged on it, and `evaluate` makes it of
whatever images it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class ColorizationSettings(CropSettings):
    min_scale: float = setting(
        0.2, "smallest crop, as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    objective: Literal["classes", "regression"] = setting(
        "classes",
        "classes: a distribution over 313 bins of colours; regression: the colour by squared error, which greys out "
        "(the paper's baseline)",
        section="model",
    )
    colour_stride: int = setting(
        4, "pixels, in a row, of a place whose colour is told (paper: 4)", section="model", at_least=1, at_most=64
    )
    uniform_share: float = setting(
        0.5,
        "lambda: how little rare colours are favoured in the gradient; 1: not at all (paper: 0.5)",
        section="training",
        above=0,
        at_most=1,
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "adamw", "AdamW with betas 0.9 and 0.99 (paper: Adam); LARS; or SGD with momentum 0.9", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 1e-3 * batch / 256", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        1e-3, "of weight matrices; norms and biases have none (paper: 1e-3)", section="training", at_least=0
    )

    BETAS: ClassVar = (0.9, 0.99)
    RATE: ClassVar[float] = 1e-3


def lightness_and_colours(settings: ColorizationSettings, backbone, data, augment):
    """The lightness of a crop of each image, and its colours."""
    from hf_replearn.methods.collating import DataCollatorForViews
    from hf_replearn.methods.colorization.collating_colorization import DataCollatorForColorization, count_colours
    from hf_replearn.pretraining.images import one_crop

    canvas = data.canvas(settings.image_size) or min(min(size) for size in data.sizes)
    look = DataCollatorForViews(None, (), (), canvas=canvas)
    prior, grey = count_colours(data.train, look, settings.colour_stride)
    if grey == 1:
        raise InputError(
            f"{data.name} has no colours to tell, all images looked at are grey: choose another method, as rotation"
        )
    data.notes.append(f"{grey:.1%} of the images are grey: they teach no colours")
    more = {"stride": settings.colour_stride, "prior": tuple(prior.tolist()), "share": settings.uniform_share}
    return one_crop(DataCollatorForColorization, settings, backbone, data, augment, **more)


METHOD = ImageMethod(
    command="colorization",
    collator=lightness_and_colours,
    own_task=later("hf_replearn.methods.colorization.showing_colorization.own_task"),
    pictures=later("hf_replearn.methods.colorization.showing_colorization.pictures"),
    stages=True,
    lightness=True,
    facts=Method(
        name="colorization",
        summary="The network sees the lightness of an image and tells its colours, for which it has to know what is in "
        "it; no labels are used, and the decoder of colours is thrown away.",
        paper="Colorful Image Colorization",
        arxiv="1603.08511",
        bibtex="""\
@inproceedings{zhang2016colorful,
  title     = {Colorful Image Colorization},
  author    = {Zhang, Richard and Isola, Phillip and Efros, Alexei A.},
  booktitle = {European Conference on Computer Vision},
  year      = {2016}
}""",
        model_class="hf_replearn.methods.colorization.ColorizationForPreTraining",
    ),
)


def main(settings: ColorizationSettings, **given):
    """Colorization: which colours has this grey image (arXiv:1603.08511)?"""
    from hf_replearn.pretraining.images import pretrain_images

    if settings.channels not in (None, 3):
        raise InputError(f"--channels {settings.channels}: colours to tell are of images of 3 channels: leave it out")
    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, ColorizationSettings, prog="colorization")
