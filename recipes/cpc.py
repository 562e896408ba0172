"""CPC (van den Oord et al. 2018, arXiv:1807.03748; version 2, Hénaff et al. 2020, arXiv:1905.09272): from the patches
above, which of all patches of a batch is the one further below?

    accelerate launch recipes/cpc.py --config recipes/configs/cpc/toy_digits.yaml --output_dir out/digits
    hf-replearn cpc --dataset PATH_OR_HUB_ID --backbone resnet50 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/cpc.py \\
        --config recipes/configs/cpc/imagenet_resnet50.yaml --output_dir out/imagenet

A patch is seen by itself: batch normalisation, which tells of others in its batch, is refused, and ResNets by name get
layer normalisation. Only patches that share no pixel with the context are told. The wrong answers are all other patches
of the same process's batch, those of the same image too. The loss begins at ln N of N patches: it falls with a smaller
batch without anything being learnt.

This recipe reads images; cpc_audio.py has the same objective on sounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class CPCSettings(CropSettings):
    min_scale: float = setting(
        0.5, "smallest crop, as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    patch_size: int | None = setting(
        None, "pixels of a patch; none: 16 up to 64 pixels of the image, 64 above", section="data", at_least=8
    )
    stride: int | None = setting(
        None,
        "pixels from one patch to the next; none: 8 up to 64 pixels of the image, 32 above",
        section="data",
        at_least=1,
    )
    colours: Literal["drop", "keep"] = setting(
        "drop", "drop: one channel of each patch stays, others are noise (version 2); or keep", section="data"
    )
    directions: Literal["one", "two", "four"] = setting(
        "four",
        "of prediction: one, downwards; two, also upwards; four, also left and right (version 2)",
        section="model",
    )
    farthest: int = setting(5, "rows ahead that are told, at most", section="model", at_least=1, at_most=100)
    context_layers: int = setting(
        5, "residual blocks of a context network; each sees one row more", section="model", at_least=1, at_most=100
    )
    context_hidden: int = setting(256, "width inside of these blocks", section="model", at_least=1, at_most=65_536)
    projection_dim: int = setting(
        64, "width in which patches are compared", section="model", at_least=2, at_most=65_536
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "adamw", "AdamW; SGD with momentum 0.9; or LARS", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 0.001 * batch / 256", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        1e-4, "of weight matrices; norms and biases have none", section="training", at_least=0
    )

    BY_SIZE: ClassVar = {"patch_size": (16, 64), "stride": (8, 32)}
    VIEWS: ClassVar[int] = 3  # overlapping patches have about so many pixels as three images
    RATE: ClassVar[float] = 1e-3
    RESNET_ARGS: ClassVar = {"norm_layer": "groupnorm1"}  # one group: all channels and places of a patch


def grid_of_patches(settings: CPCSettings, backbone, data, augment):
    """A crop of each image, and a grid of patches of it."""
    from hf_replearn.errors import InputError
    from hf_replearn.methods.cpc.collating_cpc import DataCollatorForCPC, rows_of
    from hf_replearn.pretraining.images import one_crop

    side, stride = settings.patch_size, settings.stride
    rows_of(settings.image_size, side=side, stride=stride)
    if settings.farthest * stride < side:
        raise InputError(
            f"--farthest {settings.farthest}: patches of {side} pixels, {stride} from one to the next, overlap for "
            f"{-(-side // stride) - 1} rows: say {-(-side // stride)} or more"
        )
    given = {"side": side, "stride": stride, "one_channel": settings.colours == "drop"}
    return one_crop(DataCollatorForCPC, settings, backbone, data, augment, **given)


METHOD = ImageMethod(
    command="cpc",
    collator=grid_of_patches,
    own_task=later("hf_replearn.methods.cpc.showing_cpc.own_task"),
    pictures=later("hf_replearn.methods.cpc.showing_cpc.pictures"),
    stages=True,
    facts=Method(
        name="CPC",
        summary="From a part of an image the network tells which of many patches lies further on; no labels are used, "
        "and the context networks that tell it are thrown away.",
        paper="Representation Learning with Contrastive Predictive Coding",
        arxiv="1807.03748",
        bibtex="""\
@article{oord2018representation,
  title   = {Representation Learning with Contrastive Predictive Coding},
  author  = {van den Oord, Aaron and Li, Yazhe and Vinyals, Oriol},
  journal = {arXiv preprint arXiv:1807.03748},
  year    = {2018}
}
@inproceedings{henaff2020data,
  title     = {Data-Efficient Image Recognition with Contrastive Predictive Coding},
  author    = {H{\\'e}naff, Olivier J. and Srinivas, Aravind and De Fauw, Jeffrey and Razavi, Ali and Doersch, Carl and
               Eslami, S. M. Ali and van den Oord, Aaron},
  booktitle = {International Conference on Machine Learning},
  year      = {2020}
}""",
        model_class="hf_replearn.methods.cpc.CPCForPreTraining",
    ),
)


def main(settings: CPCSettings, **given):
    """CPC: from the patches above, which of all is the one further below (arXiv:1807.03748)?"""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, CPCSettings, prog="cpc")
