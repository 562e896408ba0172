"""k-means features (Coates, Lee & Ng 2011): an image is told by how near its patches are to centroids of patches.

    hf-replearn kmeans --dataset toy --channels 1 --patches 4 --components 64 --output_dir out/kmeans
    hf-replearn kmeans --dataset PATH_OR_HUB_ID --patches 6 --components 400 --output_dir out/mine
    hf-replearn kmeans --features features.npz --components 100 --output_dir out/codes
    python recipes/kmeans.py --config recipes/configs/kmeans/cifar10.yaml --output_dir out/cifar10

Patches are brought to one brightness and contrast, whitened (ZCA) and clustered. Each centroid tells of a patch how
much nearer than the mean distance it is, or 0 ("triangle"), which is summed over quarters of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.pretraining.recipe import FittedMethod, Method, WhitenedSettings, later, run, setting


@dataclass(kw_only=True)
class KMeansSettings(WhitenedSettings):
    components: int = setting(400, "centroids", section="model", at_least=2, at_most=65_536)
    activation: Literal["triangle", "hard"] = setting(
        "triangle",
        "triangle: how much nearer than the mean distance each centroid is, or 0; hard: 1 for the nearest",
        section="model",
    )
    passes: int = setting(50, "over the inputs, at most", section="training", at_least=1, at_most=100_000)
    tolerance: float = setting(
        1e-4, "it ends when the squared error falls by less than this share in a pass", section="training", at_least=0
    )


def fit(settings: KMeansSettings):
    from hf_replearn.methods.kmeans import KMeans

    return KMeans(settings.components, passes=settings.passes, tolerance=settings.tolerance)


METHOD = FittedMethod(
    command="kmeans",
    fit=fit,
    filters="centroids.",
    own_task=later("hf_replearn.methods.kmeans.showing_kmeans.own_task"),
    smaller=("squared error, as a share of the variance",),
    facts=Method(
        name="k-means features",
        summary="An image is told by how near it, or each of its patches, is to centroids that k-means finds; no "
        "labels are used.",
        paper="An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
        arxiv=None,
        bibtex="""\
@inproceedings{coates2011analysis,
  title     = {An Analysis of Single-Layer Networks in Unsupervised Feature Learning},
  author    = {Coates, Adam and Lee, Honglak and Ng, Andrew Y.},
  booktitle = {International Conference on Artificial Intelligence and Statistics},
  year      = {2011}
}""",
        model_class="hf_replearn.methods.kmeans.KMeansModel",
    ),
)


def main(settings: KMeansSettings, **given):
    """k-means features: how near patches are to centroids (Coates, Lee & Ng 2011)."""
    from hf_replearn.pretraining.fitted import fit_encoder

    return fit_encoder(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, KMeansSettings, prog="kmeans")
