"""Autoencoder (Hinton and Salakhutdinov 2006; denoising: Vincent et al. 2010): an image made again of a few numbers.

    accelerate launch recipes/autoencoder.py --config recipes/configs/autoencoder/toy_digits.yaml --output_dir out/ae
    hf-replearn autoencoder --dataset PATH_OR_HUB_ID --code 32 --output_dir out/mine
    hf-replearn autoencoder --dataset PATH_OR_HUB_ID --code 32 --noise 0.25 --output_dir out/denoising
    hf-replearn autoencoder --dataset PATH_OR_HUB_ID --code 16 --linear --output_dir out/linear

The encoder is any timm network, or `--backbone dense` of fully connected layers; `--linear` is one linear map to the
code and one back, which finds what PCA finds. What is kept is the encoder; the code and the decoder are in
`pretraining/`, for `hf_replearn.decode` and `hf_replearn.interpolate`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class AutoencoderSettings(CropSettings):
    min_scale: float = setting(
        1.0,
        "smallest crop, as a share of the image's area; 1: the whole",
        section="data",
        at_least=0.01,
        at_most=1,
    )
    flip: float = setting(
        0.0, "probability of mirroring; 0 where left and right matter", section="data", at_least=0, at_most=1
    )
    noise: float = setting(
        0.0,
        "what the encoder sees is noisy, what the decoder is to make is not: share of pixels set to 0, or standard "
        "deviation of what is added to levels from 0 to 1; 0: no noise",
        section="data",
        at_least=0,
        at_most=10,
    )
    corruption: Literal["masking", "gaussian"] = setting(
        "masking", "of --noise: masking, pixels are set to 0; gaussian, noise is added", section="data"
    )
    code: int = setting(
        32, "numbers of the code, of which the image is made again", section="model", at_least=1, at_most=1_000_000
    )
    linear: bool = setting(False, "encoder and decoder are one linear map each, as in PCA", section="model")
    tied: bool = setting(False, "with --linear: the decoder's matrix is the encoder's, transposed", section="model")
    l2: float = setting(
        0.0,
        "with --linear: times the squares of both matrices, in the loss; it makes the code's numbers principal "
        "components, up to rotations among those of one variance",
        section="training",
        at_least=0,
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "adamw", "AdamW; LARS; or SGD with momentum 0.9", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 1e-3 * batch / 128, at most 2e-3", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(0.0, "of weight matrices; norms and biases have none", section="training", at_least=0)

    RATE: ClassVar[float] = 2e-3

    def peak_learning_rate(self, batch: int) -> float:
        return self.learning_rate or min(2e-3, self.RATE * batch / 256)


def noisy(settings: AutoencoderSettings, backbone, data, augment):
    """An image, and what the encoder sees of it."""
    from hf_replearn.methods.autoencoder.collating_autoencoder import DataCollatorForAutoencoder
    from hf_replearn.pretraining.images import one_crop

    about = {"corruption": settings.corruption, "noise": settings.noise}
    return one_crop(DataCollatorForAutoencoder, settings, backbone, data, augment, **about)


METHOD = ImageMethod(
    command="autoencoder",
    collator=noisy,
    codes=later("hf_replearn.methods.autoencoder.showing_autoencoder.codes"),
    own_task=later("hf_replearn.methods.autoencoder.showing_autoencoder.own_task"),
    pictures=later("hf_replearn.methods.autoencoder.showing_autoencoder.pictures"),
    facts=Method(
        name="autoencoder",
        summary="An image is made again of a few numbers, its code; no labels are used, and the decoder is thrown "
        "away.",
        paper="Reducing the Dimensionality of Data with Neural Networks",
        arxiv=None,
        bibtex="""\
@article{hinton2006reducing,
  title   = {Reducing the Dimensionality of Data with Neural Networks},
  author  = {Hinton, Geoffrey E. and Salakhutdinov, Ruslan R.},
  journal = {Science},
  volume  = {313},
  number  = {5786},
  pages   = {504--507},
  year    = {2006}
}""",
        model_class="hf_replearn.methods.autoencoder.AutoencoderForPreTraining",
    ),
)


def checked(settings: AutoencoderSettings) -> AutoencoderSettings:
    """The settings with the network of a linear autoencoder. Raises InputError for what does not go together."""
    if not settings.linear:
        for name in ("tied", "l2"):
            if getattr(settings, name):
                raise InputError(f"--{name} {getattr(settings, name)} is of linear autoencoders: say --linear too")
    if settings.corruption == "masking" and settings.noise >= 1:
        raise InputError(f"--noise {settings.noise}: with --corruption masking, a share of the pixels below 1")
    if not settings.linear:
        return settings
    own = {"widths": [settings.code], "activation": "none"}
    if settings.backbone not in (None, "dense") or settings.backbone_args not in (None, own):
        raise InputError(f"--linear has one linear map, and no --backbone {settings.backbone}: leave one of them out")
    return replace(settings, backbone="dense", backbone_args=own)


def main(settings: AutoencoderSettings, **given):
    """Autoencoder: an image is made again of a few numbers (Hinton and Salakhutdinov 2006)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(checked(settings), METHOD, **given)


if __name__ == "__main__":
    run(main, AutoencoderSettings, prog="autoencoder")
