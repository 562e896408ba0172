"""Settings and methods of vectors of words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import MOST_WORKERS, SharedRunSettings, setting


@dataclass(kw_only=True)
class WordSettings(SharedRunSettings):
    """What recipes have that learn a vector of each word of a text."""

    dataset: tuple[str, ...] = setting(
        ...,
        "a file or folder of parquet, arrow, json, csv, tsv or txt, a Hub id, or toy (Python's docs); several are one "
        "corpus",
        section="data",
    )
    files: tuple[str, ...] = setting(
        (), "files of the folder that are the data, such as '*.txt'; none: all of the one kind there is", section="data"
    )
    dataset_config: str | None = setting(None, "of a Hub dataset that has several", section="data")
    text_column: str | None = setting(None, "column of the documents; none: `text`, or the only one", section="data")
    streaming: bool = setting(
        False, "read documents when they are needed: once for the words, once for their numbers", section="data"
    )
    lowercase: bool = setting(True, "a word is the same with capitals and without", section="data")
    min_count: int = setting(5, "words that occur less often have no vector", section="data", at_least=1)
    vocab_size: int | None = setting(
        None, "words that have a vector at most, the most frequent ones; none: all", section="data", at_least=2
    )
    subwords: str | None = setting(
        None,
        "a word is the mean of a vector of its own and of one for each of its parts of so many characters, such as "
        "3-6: words that were never met have a vector too; none: of its own alone",
        section="model",
    )
    buckets: int | None = setting(
        None,
        "of --subwords: parts are told apart by a hash in so many buckets; none: 2,000,000",
        section="model",
        at_least=1,
        at_most=2**32,
    )
    dim: int = setting(100, "numbers of a vector", section="model", at_least=1, at_most=65_536)
    num_train_epochs: int = setting(5, "passes over the words", section="training", at_least=1)
    workers: int = setting(1, "threads that share the work", section="training", at_least=1, at_most=MOST_WORKERS)
    save_steps: int = setting(
        100, "stretches of about 260,000 words between two checkpoints", section="training", at_least=1
    )
    save_total_limit: int = setting(2, "checkpoints kept", section="training", at_least=1)
    resume: str = setting(
        "auto", "auto: go on from the newest good checkpoint; never; or a checkpoint folder", section="training"
    )
    allow_change: bool = setting(False, "go on although data or settings are others than before", section="training")
    analogies: tuple[str, ...] = setting(
        ("man,king,woman", "man,woman,uncle", "good,better,bad", "see,seen,go"),
        "for the report: A,B,C asks what is to C as B is to A; those with a word that is not known are left out",
        section="evaluation",
    )


@dataclass(frozen=True, kw_only=True)
class WordMethod(Trained):
    """What a method adds to the story of vectors of words, which `pretraining/words.py` tells.

    fit: (settings, number of stretches of the corpus, and as keywords) -> a fit in passes, see
         `methods.skipgram.NeighbourFit`, whose `parts` and `processes` these keywords are.
    """

    fit: Callable

    STORY: ClassVar[str] = "words"
