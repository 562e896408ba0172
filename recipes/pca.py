"""Principal component analysis (Pearson 1901, Hotelling 1933): the directions in which the data vary most.

    hf-replearn pca --dataset toy --channels 1 --components 16 --output_dir out/pca
    hf-replearn pca --dataset PATH_OR_HUB_ID --components 64 --output_dir out/mine
    hf-replearn pca --features features.npz --components 64 --whiten true --output_dir out/codes
    python recipes/pca.py --config recipes/configs/pca/toy_digits.yaml --output_dir out/digits

It is the best linear autoencoder: of all codes of so many numbers that are linear in the data, it leaves the smallest
squared error. One pass over data of any number of examples, whose covariance is summed in float64. Seconds for 50,000
images of 32 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_replearn.pretraining.recipe import FittedMethod, FittedSettings, Method, later, run, setting


@dataclass(kw_only=True)
class PCASettings(FittedSettings):
    whiten: bool = setting(False, "every number of a code gets a variance of 1", section="model")


def fit(settings: PCASettings):
    from hf_replearn.methods.components import PrincipalComponents

    return PrincipalComponents(settings.components, whiten=settings.whiten)


METHOD = FittedMethod(
    command="pca",
    fit=fit,
    filters="principal components, from the one of most variance on.",
    own_task=later("hf_replearn.methods.components.showing_components.own_task"),
    smaller=("share of the variance that is left",),
    facts=Method(
        name="PCA",
        summary="An image is told from its components along the directions in which images vary most; no labels are "
        "used.",
        paper="Analysis of a complex of statistical variables into principal components",
        arxiv=None,
        bibtex="""\
@article{hotelling1933analysis,
  title   = {Analysis of a complex of statistical variables into principal components},
  author  = {Hotelling, Harold},
  journal = {Journal of Educational Psychology},
  volume  = {24},
  pages   = {417--441},
  year    = {1933}
}""",
        model_class="hf_replearn.methods.components.ComponentsModel",
    ),
)


def main(settings: PCASettings, **given):
    """Principal component analysis: the directions in which the data vary most."""
    from hf_replearn.pretraining.fitted import fit_encoder

    return fit_encoder(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, PCASettings, prog="pca")
