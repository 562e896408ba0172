"""Independent component analysis (Comon 1994; FastICA of Hyvärinen 1999): directions that tell as little of one another
as they can, and are as far from Gaussian as they can be.

    hf-replearn ica --dataset toy --channels 1 --components 16 --output_dir out/ica
    hf-replearn ica --dataset PATH_OR_HUB_ID --patches 8 --components 48 --output_dir out/mine
    hf-replearn ica --features features.npz --components 64 --output_dir out/codes
    python recipes/ica.py --config recipes/configs/ica/toy_digits.yaml --output_dir out/digits

The data are whitened by their principal components, then all directions are turned together until none moves (symmetric
FastICA, log cosh). Patches of photographs give edges, as the eye's first neurons see them (Bell & Sejnowski 1997).
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_replearn.pretraining.recipe import FittedMethod, FittedSettings, Method, later, run, setting


@dataclass(kw_only=True)
class ICASettings(FittedSettings):
    passes: int = setting(
        200, "over the data, at most; it ends when no direction moves", section="training", at_least=1, at_most=100_000
    )
    tolerance: float = setting(
        1e-4, "how far a direction may still move in a pass, as 1 - |cos|, at the end", section="training", above=0
    )


def fit(settings: ICASettings):
    from hf_replearn.methods.components import IndependentComponents

    return IndependentComponents(settings.components, passes=settings.passes, tolerance=settings.tolerance)


METHOD = FittedMethod(
    command="ica",
    fit=fit,
    filters="what a component adds to an image, from the least Gaussian on.",
    own_task=later("hf_replearn.methods.components.showing_components.own_task"),
    smaller=("share of the variance that is left",),
    facts=Method(
        name="ICA",
        summary="An image is told from components that are as independent of one another as they can be; no labels are "
        "used.",
        paper="Fast and Robust Fixed-Point Algorithms for Independent Component Analysis",
        arxiv=None,
        bibtex="""\
@article{hyvarinen1999fast,
  title   = {Fast and Robust Fixed-Point Algorithms for Independent Component Analysis},
  author  = {Hyv{\\"a}rinen, Aapo},
  journal = {IEEE Transactions on Neural Networks},
  volume  = {10},
  number  = {3},
  pages   = {626--634},
  year    = {1999}
}""",
        model_class="hf_replearn.methods.components.ComponentsModel",
    ),
)


def main(settings: ICASettings, **given):
    """Independent component analysis: directions that tell little of one another."""
    from hf_replearn.pretraining.fitted import fit_encoder

    return fit_encoder(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, ICASettings, prog="ica")
