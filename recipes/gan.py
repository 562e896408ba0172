"""A GAN (R3GAN, Huang et al. 2024, arXiv:2501.05441), and an encoder of what it generates; images of 8 to 128 pixels.

    accelerate launch recipes/gan.py --config recipes/configs/gan/toy_digits.yaml --output_dir out/digits
    hf-replearn gan --dataset PATH_OR_HUB_ID --image_size 32 --output_dir out/mine

A generator makes images of random numbers, and a discriminator tells them from real ones. Beside them the encoder, any
timm network, learns to tell of a generated image the numbers that it was made of: a latent regressor (Donahue et al.
2017 have it beside BiGAN), which never learns from a real image. The encoder is what is kept; generator, its running
mean, and discriminator are in `pretraining/`, for `hf_replearn.decode` and `hf_replearn.interpolate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class GANSettings(CropSettings):
    image_size: int = setting(
        32,
        "pixels of a generated image: 16, 24, 28, 32, 48, 64 or another that is halved until 4 to 7 are left",
        section="data",
        at_least=8,
        at_most=128,
    )
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
    latents: int = setting(
        64, "random numbers of which an image is generated", section="model", at_least=1, at_most=4096
    )
    width: int = setting(
        32,
        "channels of generator and discriminator at the image's size; at its halves twice as many, up to eight times",
        section="model",
        at_least=4,
        at_most=1024,
    )
    gamma: float = setting(
        0.1,
        "of R1 and R2, the penalties on the discriminator's gradient at real and at generated images; larger images "
        "need more",
        section="training",
        at_least=0,
        at_most=1000,
    )
    ema: float = setting(
        0.999,
        "decay of the running mean of the generator, which is the one that is kept; in early steps it is less",
        section="training",
        at_least=0,
        at_most=0.99999,
    )
    optimizer: Literal["adamw"] = setting(
        "adamw", "Adam, without momentum (paper: beta 0 and 0.99)", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak of all three networks; none: 5e-4", section="training", above=0, at_most=1000
    )
    per_device_train_batch_size: int | Literal["auto"] | None = setting(
        64,
        "images per process and step; none: 256, or the largest power of two that the data allow; auto: the largest "
        "that fits into memory too",
        section="training",
        at_least=2,
        at_most=1_000_000,
    )
    weight_decay: float = setting(0.0, "of weight matrices; norms and biases have none", section="training", at_least=0)

    BETAS: ClassVar[tuple[float, float]] = (0.0, 0.99)
    VIEWS: ClassVar[int] = 2

    def peak_learning_rate(self, batch: int) -> float:
        """The same for every batch."""
        return self.learning_rate or 5e-4


def real_images(settings: GANSettings, backbone, data, augment):
    """An image, and random numbers for a generated one."""
    from hf_replearn.methods.gan.collating_gan import DataCollatorForGAN
    from hf_replearn.methods.gan.modeling_gan import halvings
    from hf_replearn.pretraining.images import one_crop

    try:
        halvings(settings.image_size)
    except ValueError as error:
        raise InputError(f"--image_size {settings.image_size}: {error}") from error
    return one_crop(DataCollatorForGAN, settings, backbone, data, augment, latents=settings.latents)


METHOD = ImageMethod(
    command="gan",
    collator=real_images,
    codes=later("hf_replearn.methods.gan.showing_gan.codes"),
    own_task=later("hf_replearn.methods.gan.showing_gan.own_task"),
    pictures=later("hf_replearn.methods.gan.showing_gan.pictures"),
    facts=Method(
        name="GAN with a latent regressor",
        summary="A generator makes images of random numbers, a discriminator tells them from real ones, and the "
        "encoder learns to tell of a generated image the numbers that it was made of; no labels are used, and the "
        "encoder never learns from a real image, as that of BiGAN would.",
        paper="The GAN is dead; long live the GAN! A Modern Baseline GAN",
        arxiv="2501.05441",
        bibtex="""\
@inproceedings{huang2024gan,
  title     = {The {GAN} is dead; long live the {GAN}! {A} Modern Baseline {GAN}},
  author    = {Huang, Yiwen and Gokaslan, Aaron and Kuleshov, Volodymyr and Tompkin, James},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024}
}""",
        model_class="hf_replearn.methods.gan.GANForPreTraining",
    ),
)


def main(settings: GANSettings, **given):
    """A GAN, and an encoder of what it generates (R3GAN, arXiv:2501.05441)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, GANSettings, prog="gan")
