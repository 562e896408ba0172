"""word2vec (Mikolov et al. 2013): vectors of words, by which a word tells the words around it, or they tell it.

    hf-replearn word2vec --dataset toy --num_train_epochs 40 --output_dir out/toy
    hf-replearn word2vec --dataset PATH_OR_HUB_ID --dim 100 --window 5 --output_dir out/words
    hf-replearn word2vec --dataset PATH_OR_HUB_ID --model cbow --output_dir out/cbow
    hf-replearn word2vec --dataset PATH_OR_HUB_ID --subwords 3-6 --output_dir out/parts
    python recipes/word2vec.py --config recipes/configs/word2vec/novels.yaml --dataset PATH --output_dir out/novels

Negative sampling, with windows and subsampling of frequent words as in word2vec.c; negatives are shared by 32 words, a
row of a table moves at most 0.25 at once, and CBOW has its true gradient. The result is a folder that
sentence-transformers and model2vec load, with words.txt in word2vec's text format:

    hf_replearn.nearest("out/words", "king")
    hf_replearn.analogy("out/words", "man", "king", "woman")

With --subwords a word is, as in fastText (Bojanowski et al. 2017, arXiv:1607.04606), the mean of a vector of its own
and of those of its parts, so that words that were never met have one too: in `hf_replearn.nearest`, `.encode` and
`hf-replearn evaluate`; other libraries get the words of the text. Under torchrun several processes share the tables
and end with the bits that as many threads do. On one machine threads (--workers) cost less, for they send no
gradients, and two are hardly faster than one.

About a million words a second on a CPU core, after they were cut into words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.pretraining.recipe import Method, WordMethod, WordSettings, run, setting

RATES = {"skipgram": 0.025, "cbow": 0.1}
BLOCK = 2048  # words at a time: with more it is faster, and learns a little less


@dataclass(kw_only=True)
class Word2VecSettings(WordSettings):
    model: Literal["skipgram", "cbow"] = setting(
        "skipgram",
        "skipgram: a word tells those around it; cbow: those around it tell a word, from their mean",
        section="model",
    )
    window: int = setting(5, "words on each side at most", section="training", at_least=1, at_most=1000)
    negatives: int = setting(
        5, "words that each neighbour is told apart from", section="training", at_least=1, at_most=10_000
    )
    subsample: float = setting(
        1e-4,
        "share of all words above which a word is left out at times, and nearer words come into its window; 0: never",
        section="training",
        at_least=0,
        at_most=1,
    )
    learning_rate: float | None = setting(
        None, "at the start; none: 0.025, and 0.1 of cbow", section="training", above=0, at_most=10
    )


def fit(settings: Word2VecSettings, stretches: int, **more):
    from hf_replearn.methods.skipgram import NeighbourFit

    return NeighbourFit(
        settings.dim,
        settings.window,
        settings.negatives,
        epochs=settings.num_train_epochs,
        stretches=stretches,
        rate=settings.learning_rate or RATES[settings.model],
        mean=settings.model == "cbow",
        subsample=settings.subsample,
        block=BLOCK,
        workers=settings.workers,
        **more,
    )


METHOD = WordMethod(
    command="word2vec",
    fit=fit,
    facts=Method(
        name="word2vec",
        summary="A word tells the words around it from among others that are drawn at random, by its vector; no labels "
        "are used.",
        paper="Distributed Representations of Words and Phrases and their Compositionality",
        arxiv="1310.4546",
        bibtex="""\
@inproceedings{mikolov2013distributed,
  title     = {Distributed Representations of Words and Phrases and their Compositionality},
  author    = {Mikolov, Tomas and Sutskever, Ilya and Chen, Kai and Corrado, Greg S. and Dean, Jeff},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2013}
}""",
        model_class="hf_replearn.encoders.words.WordVectors",
    ),
)


def main(settings: Word2VecSettings, **given):
    """word2vec: vectors of words, by which a word tells the words around it."""
    from hf_replearn.pretraining.words import learn_vectors

    return learn_vectors(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, Word2VecSettings, prog="word2vec")
