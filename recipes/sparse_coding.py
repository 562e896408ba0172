"""Sparse coding (Olshausen & Field 1996): an image is told as a sum of few atoms of a dictionary.

    hf-replearn sparse-coding --dataset toy --channels 1 --components 64 --penalty 0.3 --output_dir out/codes
    hf-replearn sparse-coding --dataset PATH_OR_HUB_ID --dictionary out/dictionary --output_dir out/mine
    python recipes/sparse_coding.py --config recipes/configs/sparse_coding/cifar10.yaml --output_dir out/cifar10

A code minimises half the squared error and the sum of its magnitudes times the penalty, which FISTA does up to a
measured distance from optimal. The dictionary is that of a run of `dictionary` or of this command, or learnt first, as
`hf-replearn dictionary` does it. On whitened patches of photographs its atoms are edges of every place, direction and
width, as the cells of the first visual area prefer them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import FittedMethod, Method, WhitenedSettings, later, run, setting
from hf_replearn.settings import changed

OF_THE_DICTIONARY = ("components", "patches", "contrast", "whiten", "channels", "image_size")


@dataclass(kw_only=True)
class SparseCodingSettings(WhitenedSettings):
    dictionary: str | None = setting(
        None, "folder that `dictionary` or `sparse-coding` left; none: one is learnt", section="model"
    )
    components: int = setting(100, "atoms", section="model", at_least=1, at_most=65_536)
    penalty: float = setting(
        1.0,
        "of the sum of magnitudes of a code, beside half the squared error: larger for fewer atoms",
        section="model",
        above=0,
    )
    tolerance: float = setting(
        1e-3, "how far from optimal a code may be, as a share of the penalty", section="model", above=0
    )
    steps: int = setting(1000, "in search of a code, at most", section="model", at_least=1, at_most=1_000_000)
    passes: int = setting(10, "over the inputs, to learn", section="training", at_least=1, at_most=100_000)
    batch_size: int = setting(256, "inputs of a step, to learn", section="training", at_least=1)

    codes = "lasso"  # which is what sparse coding is
    nonzeros = 1


def fit(settings: SparseCodingSettings):
    from hf_replearn.methods.sparse_coding import GivenDictionary, LearntDictionary

    if settings.dictionary is not None:
        weights = open_dictionary(settings.dictionary).state_dict()
        return GivenDictionary({name: weight.clone() for name, weight in weights.items()})
    return LearntDictionary(settings.components, settings.penalty, settings.passes, batch=settings.batch_size)


METHOD = FittedMethod(
    command="sparse-coding",
    fit=fit,
    filters="atoms, from the one that tells most on.",
    own_task=later("hf_replearn.methods.sparse_coding.showing_sparse_coding.own_task"),
    smaller=("squared error, as a share of the squared length", "largest KKT residual, as a share of the penalty"),
    facts=Method(
        name="sparse coding",
        summary="An image, or each of its patches, is told as a sum of few atoms of a dictionary; no labels are used.",
        paper="Emergence of simple-cell receptive field properties by learning a sparse code for natural images",
        arxiv=None,
        bibtex="""\
@article{olshausen1996emergence,
  title   = {Emergence of simple-cell receptive field properties by learning a sparse code for natural images},
  author  = {Olshausen, Bruno A. and Field, David J.},
  journal = {Nature},
  volume  = {381},
  pages   = {607--609},
  year    = {1996}
}""",
        model_class="hf_replearn.methods.sparse_coding.SparseCodingModel",
    ),
)


def open_dictionary(folder: str):
    """The model that a run left. Raises InputError for what is none of a dictionary."""
    from hf_replearn.encoders.weights import refusing
    from hf_replearn.methods.sparse_coding import SparseCodingModel

    with refusing(f"--dictionary {folder} is not the folder of a dictionary"):
        from transformers import AutoConfig

        kind = AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type
        if kind != SparseCodingModel.config_class.model_type:
            raise InputError(f"--dictionary {folder} is of {kind}: give what `dictionary` or `sparse-coding` left")
        return SparseCodingModel.from_pretrained(folder, trust_remote_code=False)


def as_the_dictionary(settings: SparseCodingSettings) -> SparseCodingSettings:
    """The settings with what a dictionary that is given decides. Raises InputError where they say otherwise."""
    config = open_dictionary(settings.dictionary).config
    decided = {
        "components": config.components,
        "patches": config.patch_size,
        "contrast": config.contrast,
        "whiten": config.whitened,
        "channels": config.num_channels if config.num_channels != 3 else None,
        "image_size": config.image_size,
    }
    given = changed(settings)
    for name in OF_THE_DICTIONARY:
        if name in given and getattr(settings, name) != decided[name]:
            raise InputError(
                f"--{name} {getattr(settings, name)}: {settings.dictionary} has {decided[name]}: leave it out"
            )
    if settings.features is not None and config.image_size is not None:
        raise InputError(f"--dictionary {settings.dictionary} is of images, and --features are none: give --dataset")
    if settings.features is None and config.image_size is None:
        raise InputError(f"--dictionary {settings.dictionary} is of features: give --features, of the same encoder")
    decided |= {"channels": None, "image_size": None} if config.image_size is None else {}
    return replace(settings, **decided)


def main(settings: SparseCodingSettings, **given):
    """Sparse coding: an image is told as a sum of few atoms (Olshausen & Field 1996)."""
    from hf_replearn.pretraining.fitted import fit_encoder

    if settings.dictionary is not None:
        settings = as_the_dictionary(settings)
    return fit_encoder(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, SparseCodingSettings, prog="sparse_coding")
