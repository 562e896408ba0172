"""Context prediction (Doersch et al. 2015, arXiv:1505.05192): at which of eight places beside a patch was another cut?

    accelerate launch recipes/context_prediction.py --config recipes/configs/context_prediction/toy_digits.yaml \\
        --output_dir out/digits
    hf-replearn context-prediction --dataset PATH_OR_HUB_ID --backbone resnet50 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/context_prediction.py \\
        --config recipes/configs/context_prediction/imagenet_resnet50.yaml --output_dir out/imagenet

The network could tell a place without knowing what is shown: by a line that goes on at the edge, which gap and jitter
prevent; by the colours that a lens shifts towards the rim, which --colours takes; by brightness and pixelation, against
which are --standardize and --low_resolution. Each is a setting. Images from about 130 pixels; smaller ones are enlarged
where --image_size says so. It learns nothing from noise or textures: the loss then stays at ln 8, 2.079.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class ContextPredictionSettings(CropSettings):
    min_scale: float = setting(
        0.5, "smallest crop, as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    patch_size: int | None = setting(
        None, "pixels of a patch; none: as many as 3 x 3 of them and their gaps allow", section="data", at_least=32
    )
    gap: int | None = setting(
        None, "pixels between patches; none: half of a patch (paper: 48 of 96)", section="data", at_least=0
    )
    jitter: int | None = setting(
        None,
        "pixels by which a patch is moved, at most, either way; none: 7 of 96 (paper)",
        section="data",
        at_least=0,
    )
    colours: Literal["drop", "project", "keep"] = setting(
        "drop",
        "drop: one channel of each patch stays, others are noise; project: green and magenta are taken out; or keep",
        section="data",
    )
    low_resolution: float = setting(
        0.33, "share of patches brought to fewer pixels and back (paper: some)", section="data", at_least=0, at_most=1
    )
    standardize: bool = setting(True, "each patch has a mean of 0 and a deviation of 1", section="data")
    head_hidden: int = setting(4096, "width of the two hidden layers of g", section="model", at_least=2, at_most=65_536)
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "sgd", "SGD with momentum 0.9; AdamW; or LARS", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 0.1 * batch / 256", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        1e-4, "of weight matrices; norms and biases have none", section="training", at_least=0
    )

    RATE: ClassVar[float] = 0.1


def nine_patches(settings: ContextPredictionSettings, backbone, data, augment):
    """A crop of each image, and a patch of it with its eight neighbours."""
    from hf_replearn.errors import InputError
    from hf_replearn.methods.context_prediction.collating_context_prediction import (
        DataCollatorForContextPrediction,
        find_grid,
    )
    from hf_replearn.pretraining.images import one_crop

    if settings.colours == "project" and backbone.channels != 3:
        raise InputError(f"--colours project is of RGB, and these images have {backbone.channels} channel(s): say keep")
    given = {name: getattr(settings, name) for name in ("colours", "low_resolution", "standardize")}
    grid = find_grid(settings.image_size, side=settings.patch_size, gap=settings.gap, jitter=settings.jitter)
    return one_crop(DataCollatorForContextPrediction, settings, backbone, data, augment, grid=grid, **given)


METHOD = ImageMethod(
    command="context-prediction",
    collator=nine_patches,
    own_task=later("hf_replearn.methods.context_prediction.showing_context_prediction.own_task"),
    pictures=later("hf_replearn.methods.context_prediction.showing_context_prediction.pictures"),
    stages=True,
    facts=Method(
        name="context prediction",
        summary="Of two patches of an image the network tells how they lie to one another, for which it has to know "
        "the parts of things; no labels are used, and the classifier of places is thrown away.",
        paper="Unsupervised Visual Representation Learning by Context Prediction",
        arxiv="1505.05192",
        bibtex="""\
@inproceedings{doersch2015unsupervised,
  title     = {Unsupervised Visual Representation Learning by Context Prediction},
  author    = {Doersch, Carl and Gupta, Abhinav and Efros, Alexei A.},
  booktitle = {IEEE International Conference on Computer Vision},
  year      = {2015}
}""",
        model_class="hf_replearn.methods.context_prediction.ContextPredictionForPreTraining",
    ),
)


def main(settings: ContextPredictionSettings, **given):
    """Context prediction: at which of eight places beside a patch was another cut (arXiv:1505.05192)?"""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, ContextPredictionSettings, prog="context_prediction")
