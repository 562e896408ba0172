"""Dictionary learning (Mairal, Bach, Ponce & Sapiro 2009): atoms such that few of them tell an image.

    hf-replearn dictionary --dataset toy --channels 1 --components 64 --penalty 0.3 --output_dir out/dictionary
    hf-replearn dictionary --dataset PATH_OR_HUB_ID --patches 12 --components 200 --output_dir out/mine
    hf-replearn dictionary --features features.npz --components 100 --output_dir out/codes
    python recipes/dictionary.py --config recipes/configs/dictionary/toy_digits.yaml --output_dir out/digits

A batch is coded by the lasso (FISTA), then every atom moves to where it tells the batches so far best. What is kept
codes by orthogonal matching pursuit, so many atoms at most; `hf-replearn sparse-coding --dictionary out/dictionary`
makes an encoder of the same atoms that codes by the lasso.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.pretraining.recipe import FittedMethod, Method, WhitenedSettings, later, run, setting


@dataclass(kw_only=True)
class DictionarySettings(WhitenedSettings):
    components: int = setting(100, "atoms", section="model", at_least=1, at_most=65_536)
    penalty: float = setting(
        1.0,
        "of the sum of magnitudes of a code, beside half the squared error: larger for fewer atoms",
        section="training",
        above=0,
    )
    codes: Literal["lasso", "omp", "threshold"] = setting(
        "omp",
        "lasso: least error and magnitudes; omp: --nonzeros atoms, one after the other; threshold: what correlations "
        "are above the penalty, without a search",
        section="model",
    )
    nonzeros: int = setting(5, "atoms of a code by omp", section="model", at_least=1, at_most=1000)
    tolerance: float = setting(
        1e-3, "how far from optimal a lasso code may be, as a share of the penalty", section="model", above=0
    )
    steps: int = setting(1000, "in search of a lasso code, at most", section="model", at_least=1, at_most=1_000_000)
    passes: int = setting(10, "over the inputs", section="training", at_least=1, at_most=100_000)
    batch_size: int = setting(256, "inputs of a step", section="training", at_least=1)


def fit(settings: DictionarySettings):
    from hf_replearn.methods.sparse_coding import LearntDictionary

    return LearntDictionary(settings.components, settings.penalty, settings.passes, batch=settings.batch_size)


METHOD = FittedMethod(
    command="dictionary",
    fit=fit,
    filters="atoms, from the one that tells most on.",
    own_task=later("hf_replearn.methods.sparse_coding.showing_sparse_coding.own_task"),
    smaller=("squared error, as a share of the squared length", "largest KKT residual, as a share of the penalty"),
    facts=Method(
        name="dictionary learning",
        summary="Atoms are learnt such that an image, or each of its patches, is a sum of few of them; no labels are "
        "used.",
        paper="Online Dictionary Learning for Sparse Coding",
        arxiv=None,
        bibtex="""\
@inproceedings{mairal2009online,
  title     = {Online Dictionary Learning for Sparse Coding},
  author    = {Mairal, Julien and Bach, Francis and Ponce, Jean and Sapiro, Guillermo},
  booktitle = {International Conference on Machine Learning},
  year      = {2009}
}""",
        model_class="hf_replearn.methods.sparse_coding.SparseCodingModel",
    ),
)


def main(settings: DictionarySettings, **given):
    """Dictionary learning: atoms of which few tell an image (Mairal et al. 2009)."""
    from hf_replearn.pretraining.fitted import fit_encoder

    return fit_encoder(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, DictionarySettings, prog="dictionary")
