"""What vectors of words are worth: whether words lie as near as people say, and whether differences tell analogies;
beside vectors of the same width that count and do not learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_replearn.data.words import WordTask
from hf_replearn.encoders.words import EPSILON, WordVectors
from hf_replearn.errors import InputError
from hf_replearn.evaluation.sentences import resampled_spearman
from hf_replearn.evaluation.statistics import half_width, mean_half_width, stated

SMOOTHING = 0.75  # of how often a neighbour occurs, and ROOT of the singular values (Levy, Goldberg & Dagan 2015)
ROOT = 0.5
AT_ONCE = 256  # questions
SIMILARITY, ADD, MUL, KNOWN = "word_spearman", "analogy_add", "analogy_mul", "words_known"
COMPOSED, BY_PARTS = "words_composed", "word_parts_spearman"  # of words that have a vector by their parts alone


@dataclass(frozen=True)
class Outcome:
    """What was measured of one task.

    scores, properties: metric -> value, as in a report. known: (n,) whether all words of an item have a vector.
    found: metric -> (n,) float64 of all items: the cosine of a pair, NaN of one that is not known; or 1 for an analogy
    that was told, else 0. composed: (n,) whether the vector of one word of a pair at least, or of both, is composed.
    """

    scores: dict[str, float | None]
    properties: dict[str, float]
    known: np.ndarray
    found: dict[str, np.ndarray]
    composed: np.ndarray


def judge_words(words: WordVectors, task: WordTask, *, seed: int = 0) -> Outcome:
    """Scores of one task. Raises InputError where too few of its words have a vector."""
    return similarity(words, task, seed=seed) if task.scores is not None else analogies(words, task, seed=seed)


def places_of(words: WordVectors, task: WordTask) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the words of each item (n, 2 or 4), and whether all of them are known (n,)."""
    rows = [
        [words.places.get(word, words.places.get(word.lower(), -1)) for word in item]  # as `WordVectors.place`
        for item in task.words
    ]
    found = np.array(rows, dtype=np.int64)
    return found, (found >= 0).all(axis=1)


def similarity(words: WordVectors, task: WordTask, *, seed: int = 0) -> Outcome:
    """Spearman correlation of cosines with people's scores, over the pairs that are known; and, where some words have
    a vector that is composed of those of their parts, over these pairs as well.

    Raises InputError where the known ones are fewer than three, or all the same.
    """
    places, known = places_of(words, task)
    if known.sum() < 3:
        raise InputError(
            f"{task.name}: {known.sum()} of {len(known):,} pairs have two words with a vector, 3 are needed"
        )
    cosines = np.full(len(known), np.nan)
    x, y = (words.directions[places[known, side]].astype(np.float64) for side in (0, 1))
    cosines[known] = (x * y).sum(axis=1).round(7)
    more = cosines_by_parts(words, task, known)
    composed = ~np.isnan(more)
    if np.ptp(cosines[known]) == 0 or np.ptp(task.scores[known]) == 0:
        raise InputError(f"{task.name}: all pairs that are known have the same score or cosine, so none correlate")
    metric = f"{SIMILARITY}_{task.name}"
    scores = _correlation(metric, cosines[known], task.scores[known], seed=seed)
    properties, found = {f"{KNOWN}_{task.name}": float(known.mean())}, {metric: cosines}
    if words.ngrams is not None:
        properties[f"{COMPOSED}_{task.name}"] = float(composed.mean())
    if composed.any():
        there, metric = known | composed, f"{BY_PARTS}_{task.name}"
        found[metric] = np.where(composed, more, cosines)
        scores |= _correlation(metric, found[metric][there], task.scores[there], seed=seed)
    return Outcome(scores, properties, known, found, composed)


def _correlation(metric: str, cosines: np.ndarray, scores: np.ndarray, *, seed: int) -> dict[str, float]:
    from scipy.stats import spearmanr

    interval = stated(half_width(resampled_spearman(cosines, scores, seed=seed)), low=-1.0)
    return {metric: float(spearmanr(cosines, scores).statistic), f"{metric}_ci95": interval}


def cosines_by_parts(words: WordVectors, task: WordTask, known: np.ndarray) -> np.ndarray:
    """(n,) float64: of pairs that are not known, where each word has a vector, its own or composed; else NaN."""
    found = np.full(len(known), np.nan)
    for row in np.flatnonzero(~known) if words.ngrams is not None else []:
        if all(words.place(word) is not None or words.compose(word) is not None for word in task.words[row]):
            x, y = (words.direction(word).astype(np.float64) for word in task.words[row])
            found[row] = (x @ y).round(7)
    return found


def analogies(words: WordVectors, task: WordTask, *, seed: int = 0) -> Outcome:
    """How many questions are told, by 3CosAdd (Mikolov et al. 2013) and 3CosMul (Levy & Goldberg 2014).

    Over all questions, where one with a word that is not known counts as not told; over those that are known; and by
    3CosAdd over the known ones of each category. Raises InputError where no question is known.
    """
    places, known = places_of(words, task)
    if not known.any():
        raise InputError(f"{task.name}: of none of its {len(known):,} questions all words have a vector")
    right = {ADD: np.zeros(len(known)), MUL: np.zeros(len(known))}
    for rows in np.array_split(np.flatnonzero(known), -(-known.sum() // AT_ONCE)):
        add, mul = _told(words.directions, places[rows, :3])
        right[ADD][rows], right[MUL][rows] = add == places[rows, 3], mul == places[rows, 3]
    scores: dict[str, float | None] = {}
    for way, told in right.items():
        for name, part in {"all": np.ones(len(known), dtype=bool), "known": known}.items():
            metric = f"{way}_{task.name}@{name}"
            scores |= {metric: float(told[part].mean()), f"{metric}_ci95": mean_half_width(told[part], seed=seed)}
    kinds = np.array(task.categories)
    for kind in dict.fromkeys(task.categories):
        part = known & (kinds == kind)
        if part.any() and len(set(task.categories)) > 1:
            scores[f"{ADD}_{task.name}@{kind}"] = float(right[ADD][part].mean())
    found = {f"{way}_{task.name}@all": told for way, told in right.items()}
    share = {f"{KNOWN}_{task.name}": float(known.mean())}
    return Outcome(scores, share, known, found, np.zeros(len(known), dtype=bool))


def _told(directions: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row of the word that is told for each of some questions a, b, c (n, 3), by addition and multiplication."""
    a, b, c = (directions[asked[:, place]] @ directions.T for place in range(3))  # (n, V) each
    add = b - a + c
    mul = (b + 1) / 2 * ((c + 1) / 2) / ((a + 1) / 2 + EPSILON)
    for similar in (add, mul):
        np.put_along_axis(similar, asked, -np.inf, axis=1)
    return add.argmax(axis=1), mul.argmax(axis=1)


def protocols(task: WordTask) -> dict[str, str]:
    """What every score of a task means."""
    count = len(task.words)
    if task.scores is not None:
        found = {
            f"{SIMILARITY}_{task.name}": f"Spearman correlation of the cosine of two words' vectors with people's "
            f"scores of {task.name}, over those of its {count:,} pairs both words of which have a vector of their own; "
            "interval by bootstrap over pairs.",
            f"{BY_PARTS}_{task.name}": f"The same of {task.name}, and also over pairs with a word whose vector is "
            "composed of those of its parts (subwords).",
            f"{COMPOSED}_{task.name}": f"Share of the pairs of {task.name} with such a word.",
        }
    else:
        asked = f"of the {count:,} analogies of {task.name}: all, where one with a word without a vector counts as "
        asked += "wrong; known, of which all four words have one"
        found = {
            f"{ADD}_{task.name}": f"Share {asked}; and the known ones of each category. Told is the word nearest to "
            "b - a + c, each of length 1 (3CosAdd), but for the three.",
            f"{MUL}_{task.name}": f"Share {asked}. Told is the word with the largest product of cosines with b and c, "
            f"divided by that with a, each brought to 0…1, {EPSILON} added below (3CosMul), but for the three.",
        }
    known = f"Share of the items of {task.name} all words of which have a vector of their own."
    return found | {f"{KNOWN}_{task.name}": known}


def random_words(words: WordVectors, *, seed: int = 0) -> WordVectors:
    """The same words with directions at random."""
    drawn = np.random.default_rng(seed).standard_normal(words.vectors.shape).astype(np.float32)
    return WordVectors(words.words, drawn)


def ppmi_svd(ids: np.ndarray, words: WordVectors, *, window: int, seed: int = 0) -> WordVectors:
    """Vectors that count: positive pointwise mutual information of words and their neighbours, and its largest singular
    vectors times the root of their values (Levy, Goldberg & Dagan 2015), as wide as those of `words`.

    ids: words of documents by their rows, -1 after each document. window: neighbours on each side, of which the one at
    distance d counts 1 - (d - 1) / window, as word2vec draws them.
    """
    from sklearn.utils.extmath import randomized_svd

    counts = neighbours(ids, len(words.words), window=window)
    total, of_word = counts.sum(), np.asarray(counts.sum(axis=1)).ravel()
    smooth = of_word**SMOOTHING
    counts = counts.tocoo()
    told = counts.data * total / np.maximum(of_word[counts.row], 1e-12)
    told = np.log(told / total / (smooth[counts.col] / smooth.sum()))
    counts.data = np.maximum(told, 0).astype(np.float32)
    information = counts.tocsr()
    information.eliminate_zeros()
    width = min(words.vectors.shape[1], len(words.words) - 1)
    u, values, _ = randomized_svd(information, width, n_iter=4, random_state=seed)
    return WordVectors(words.words, (u * values**ROOT).astype(np.float32))


def neighbours(ids: np.ndarray, vocabulary: int, *, window: int, size: int = 2**21):
    """(V, V) sparse: how often each word is a neighbour of each, by weight; a symmetric scipy.sparse.csr_matrix.

    size: numbers at a time.
    """
    from scipy.sparse import coo_matrix, csr_matrix

    total = csr_matrix((vocabulary, vocabulary), dtype=np.float64)
    for first in range(0, len(ids), size):
        part = np.asarray(ids[first : first + size + window], dtype=np.int64)
        rows = np.cumsum(part < 0)
        rows, places, part = rows[part >= 0], np.flatnonzero(part >= 0), part[part >= 0]
        for distance in range(1, window + 1):
            left, right = part[:-distance], part[distance:]
            kept = (rows[:-distance] == rows[distance:]) & (places[:-distance] < size)
            weight = np.full(kept.sum(), 1 - (distance - 1) / window)
            total = total + coo_matrix((weight, (left[kept], right[kept])), shape=total.shape).tocsr()
    return total + total.T
