"""VAE (Kingma and Welling 2014), beta-VAE (Higgins et al. 2017), beta-TCVAE (Chen et al. 2018): a few numbers of an
image, with as little in them as it takes to tell it.

    accelerate launch recipes/vae.py --config recipes/configs/vae/toy_digits.yaml --output_dir out/vae
    hf-replearn vae --dataset PATH_OR_HUB_ID --latents 10 --output_dir out/mine
    hf-replearn vae --dataset PATH_OR_HUB_ID --latents 10 --beta 4 --output_dir out/beta
    hf-replearn vae --dataset PATH_OR_HUB_ID --latents 10 --beta 6 --objective beta_tc --output_dir out/beta_tc

The encoder is any timm network, or `--backbone dense` of fully connected layers. What is kept is the encoder; the
latents and the decoder are in `pretraining/`, for `hf_replearn.decode` and `hf_replearn.interpolate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class VAESettings(CropSettings):
    min_scale: float = setting(
        1.0, "smallest crop, as a share of the image's area; 1: the whole", section="data", at_least=0.01, at_most=1
    )
    flip: float = setting(
        0.0, "probability of mirroring; 0 where left and right matter", section="data", at_least=0, at_most=1
    )
    latents: int = setting(10, "numbers of the code", section="model", at_least=1, at_most=1_000_000)
    likelihood: Literal["bernoulli", "gaussian"] = setting(
        "bernoulli",
        "of a pixel, given the latents: bernoulli, its level is a probability; gaussian, with one standard deviation "
        "that is learnt",
        section="model",
    )
    objective: Literal["beta", "beta_tc"] = setting(
        "beta",
        "what --beta weighs: beta, the whole KL; beta_tc, the part of it that is the total correlation of latents",
        section="training",
    )
    beta: float = setting(
        1.0,
        "weight of the KL to the prior, or of its part; 1: the VAE; more, and less of the image is in the code, in "
        "numbers more apart",
        section="training",
        at_least=0,
        at_most=100_000,
    )
    capacity: float | None = setting(
        None,
        "nats that the KL is to have, in place of --beta: its distance from them costs --gamma (Burgess et al. 2018: "
        "25, with --kl_warmup 1)",
        section="training",
        at_least=0,
    )
    gamma: float = setting(1000.0, "see --capacity", section="training", above=0)
    kl_warmup: float = setting(
        0.0,
        "share of the run in which the weight of the KL, or --capacity, rises from 0",
        section="training",
        at_least=0,
        at_most=1,
    )
    free_bits: float = setting(
        0.0,
        "nats of each latent below which its KL, in the mean of a batch, costs no less (Kingma et al. 2016)",
        section="training",
        at_least=0,
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "adamw", "AdamW (paper: Adam); LARS; or SGD with momentum 0.9", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 1e-3 * batch / 128, at most 2e-3", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(0.0, "of weight matrices; norms and biases have none", section="training", at_least=0)

    RATE: ClassVar[float] = 2e-3

    def peak_learning_rate(self, batch: int) -> float:
        return self.learning_rate or min(2e-3, self.RATE * batch / 256)


def drawn(settings: VAESettings, backbone, data, augment):
    """An image, and the noise of its latents."""
    from hf_replearn.methods.vae.collating_vae import DataCollatorForVAE
    from hf_replearn.pretraining.images import one_crop

    if settings.objective == "beta_tc" and data.stream is not None:
        raise InputError("--objective beta_tc weighs each image by how many there are, which of a stream is not known")
    about = {"latents": settings.latents, "images": len(data.train) if settings.objective == "beta_tc" else None}
    about |= {"checked": augment is not None and settings.likelihood == "bernoulli"}
    return one_crop(DataCollatorForVAE, settings, backbone, data, augment, **about)


METHOD = ImageMethod(
    command="vae",
    collator=drawn,
    codes=later("hf_replearn.methods.vae.showing_vae.codes"),
    own_task=later("hf_replearn.methods.vae.showing_vae.own_task"),
    pictures=later("hf_replearn.methods.vae.showing_vae.pictures"),
    facts=Method(
        name="VAE",
        summary="An image is told from a few latent numbers that the encoder gives with an uncertainty, and whose "
        "distance from noise that tells nothing has a price; no labels are used, and the decoder is thrown away.",
        paper="Auto-Encoding Variational Bayes",
        arxiv="1312.6114",
        bibtex="""\
@inproceedings{kingma2014auto,
  title     = {Auto-Encoding Variational {Bayes}},
  author    = {Kingma, Diederik P. and Welling, Max},
  booktitle = {International Conference on Learning Representations},
  year      = {2014}
}""",
        model_class="hf_replearn.methods.vae.VAEForPreTraining",
    ),
)


def check(settings: VAESettings) -> None:
    """Raises InputError for what does not go together."""
    if settings.capacity is None:
        return
    if settings.objective != "beta" or settings.beta != 1:
        raise InputError(
            f"--capacity {settings.capacity:g} is in place of --beta and --objective beta_tc: leave one of them out"
        )


def main(settings: VAESettings, **given):
    """VAE, beta-VAE or beta-TCVAE: an image is told from a few latent numbers (arXiv:1312.6114)."""
    from hf_replearn.pretraining.images import pretrain_images

    check(settings)
    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, VAESettings, prog="vae")
