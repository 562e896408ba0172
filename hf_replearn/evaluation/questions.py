"""Answers to questions as spans of their contexts: windows, the best span of all windows, and when there is none.

As BERT on SQuAD (Devlin et al. 2019, section 4.2 and 4.3): a network gives each token a score to be the first of the
answer, and one to be the last.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from hf_replearn.errors import InputError
from hf_replearn.evaluation.finetune import LENGTH
from hf_replearn.metrics.squad import best_of

LONGEST_QUESTION = 64  # tokens, as of BERT
CHUNK = 500  # questions that are cut into windows at once
NOT_CONTEXT = (-1, -1)
CONTEXT = 1  # the number of the second text in what a tokenizer makes of a pair


@dataclass(frozen=True)
class Windows:
    """Questions, each with a part of its context, as a network reads them.

    rows:     input_ids, maybe token_type_ids, length, and start_positions and end_positions: the tokens of the answer
              where all of it is in the window, else that of `null`.
    question: (W,) the row of its question. null: (W,) the place of the token that stands for no answer.
    spans:    W arrays (T, 2): the characters of the context that each token is of; NOT_CONTEXT for others.
    cut:      how many questions were longer than there is room for.
    """

    rows: Dataset
    question: np.ndarray
    null: np.ndarray
    spans: list[np.ndarray]
    cut: int


@dataclass(frozen=True)
class Answers:
    """What a network says: the best span of each question (N,), and how far no answer is above it (N,)."""

    texts: list[str]
    odds: np.ndarray

    def beyond(self, threshold: float | None) -> list[str]:
        """The answers, "" where the odds are above the threshold; None: of questions that all have one."""
        if threshold is None:
            return self.texts
        return ["" if odds > threshold else text for text, odds in zip(self.texts, self.odds, strict=True)]


def cut_windows(
    questions: Dataset, tokenizer: Any, *, max_length: int, overlap: int | None = None, token_types: bool = True
) -> Windows:
    """Windows of at most `max_length` tokens, the question first, which together cover every token of each context.

    questions: the columns of `data.questions`. overlap: tokens that neighbouring windows share; None: a third of
    max_length. token_types: whether the network knows first and second texts apart.
    Raises InputError where no window can go on from the one before.
    """
    overlap = max_length // 3 if overlap is None else overlap
    longest = min(LONGEST_QUESTION, max_length // 2)
    room = max_length - longest - tokenizer.num_special_tokens_to_add(pair=True)
    if overlap >= room:
        raise InputError(
            f"--overlap {overlap} leaves no room to go on: windows of {max_length} tokens have {room} of the context "
            f"beside a question of {longest}: lower it, or raise --max_length"
        )
    found: dict[str, list] = {"input_ids": [], "start_positions": [], "end_positions": [], LENGTH: []}
    found |= {"token_type_ids": []} if token_types else {}
    numbers, nulls, spans, cut = [], [], [], 0
    for first in range(0, len(questions), CHUNK):
        rows = questions[first : first + CHUNK]
        asked, shortened = _shortened(rows["question"], tokenizer, longest)
        cut += shortened
        encoded = tokenizer(
            asked, rows["context"], truncation="only_second", max_length=max_length, stride=overlap,
            return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=token_types,
        )  # fmt: skip
        for window, number in enumerate(encoded["overflow_to_sample_mapping"]):
            ids = encoded["input_ids"][window]
            is_context = np.array([part == CONTEXT for part in encoded.sequence_ids(window)])
            characters = np.where(is_context[:, None], np.array(encoded["offset_mapping"][window]), NOT_CONTEXT)
            null = ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0
            answers, starts = rows["answers"][number], rows["starts"][number]
            known = answers and len(starts) and starts[0] >= 0
            place = _tokens(characters, starts[0], starts[0] + len(answers[0])) if known else None
            start, end = place or (null, null)
            values = [ids, start, end, len(ids)] + ([encoded["token_type_ids"][window]] if token_types else [])
            for column, value in zip(found, values, strict=True):
                found[column].append(value)
            numbers.append(first + number)
            nulls.append(null)
            spans.append(characters)
    return Windows(Dataset.from_dict(found), np.array(numbers), np.array(nulls), spans, cut)


def _shortened(questions: Sequence[str], tokenizer: Any, longest: int) -> tuple[list[str], int]:
    """Questions of so many tokens at most, without the spaces before them, and how many were longer."""
    questions = [question.lstrip() for question in questions]
    offsets = tokenizer(questions, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    ends = [known[longest - 1][1] if len(known) > longest else None for known in offsets]
    return [text[:end] for text, end in zip(questions, ends, strict=True)], sum(end is not None for end in ends)


def _tokens(characters: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """The first and last token of the characters start to end; None where the window does not hold all of them."""
    of_context = np.flatnonzero(characters[:, 0] >= 0)
    if not len(of_context) or characters[of_context[0], 0] > start or characters[of_context[-1], 1] < end:
        return None
    inside = of_context[(characters[of_context, 1] > start) & (characters[of_context, 0] < end)]
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def best_spans(
    first: np.ndarray, last: np.ndarray, is_context: np.ndarray, *, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each window the best sum of two scores of tokens of the context, not more than `longest` apart: scores,
    first and last tokens, (W,) each; minus infinity for a window without context. All spans are looked at.

    first, last: (W, T) scores of tokens. is_context: (W, T), one stretch in each row.
    """
    best = np.full(len(first), -np.inf)
    starts, ends = np.zeros(len(first), int), np.zeros(len(first), int)
    first, last = np.where(is_context, first, -np.inf), np.where(is_context, last, -np.inf)
    for apart in range(min(longest, first.shape[1])):
        sums = first[:, : first.shape[1] - apart] + last[:, apart:]
        place = sums.argmax(axis=1)
        score = sums[np.arange(len(sums)), place]
        better = score > best
        best[better], starts[better], ends[better] = score[better], place[better], place[better] + apart
    return best, starts, ends


def answer(windows: Windows, first: np.ndarray, last: np.ndarray, questions: Dataset, *, longest: int) -> Answers:
    """The best span over all windows of each question, and by how much its least likely "no answer" is above it.

    first, last: (W, T) logits of the windows, T as of the longest. Raises ArithmeticError where they are not finite.
    """
    real = np.arange(first.shape[1]) < np.array(windows.rows[LENGTH][:])[:, None]
    if not np.isfinite(np.where(real, first + last, 0.0)).all():
        raise ArithmeticError("some scores of tokens are not finite: the network has diverged, lower --learning_rate")
    is_context = np.zeros(first.shape, bool)
    for row, characters in enumerate(windows.spans):
        is_context[row, : len(characters)] = characters[:, 0] >= 0
    scores, starts, ends = best_spans(first, last, is_context, longest=longest)
    rows = np.arange(len(first))
    nulls = (first + last)[rows, windows.null]
    texts, best, null = [""] * len(questions), np.full(len(questions), -np.inf), np.full(len(questions), np.inf)
    contexts = questions["context"][:]
    for row, number in enumerate(windows.question):
        null[number] = min(null[number], nulls[row])
        if scores[row] > best[number]:
            begin, end = windows.spans[row][starts[row], 0], windows.spans[row][ends[row], 1]
            best[number], texts[number] = scores[row], contexts[number][begin:end].strip()
    return Answers(texts, np.where(np.isfinite(best), null - best, math.inf))


def choose_threshold(told: Answers, right: Sequence[Sequence[str]]) -> float:
    """The threshold of the odds above which "" is the answer, by which F1 is largest on these questions.

    They must not be those that are scored afterwards: `best_f1_thresh` of the official script is such an oracle.
    Raises InputError where all of them have an answer, or none has: then every threshold on one side is as good.
    """
    if len({bool(answers) for answers in right}) < 2:
        raise InputError(
            "the questions that the threshold of no answer is chosen by all have an answer, or none has: give more "
            "questions to train on"
        )
    order = np.argsort(told.odds, kind="stable")
    odds = told.odds[order]
    kept = np.array([best_of(told.texts[row], right[row], v2=True)[1] for row in order])
    silent = np.array([best_of("", right[row], v2=True)[1] for row in order])
    totals = np.append(0.0, np.cumsum(kept)) + silent.sum() - np.append(0.0, np.cumsum(silent))  # answer the first k
    between = np.concatenate([[odds[0] - 1], (odds[1:] + odds[:-1]) / 2, [odds[-1] + 1]])
    allowed = np.isfinite(between) & np.concatenate([[True], odds[1:] > odds[:-1], [True]])
    return float(between[allowed][totals[allowed].argmax()])


# ---- without a network

WORD = re.compile(r"\w+(?:[.,:'’-]\w+)*")
REACH, SPAN = 12, 4  # words around a place that count, and words of an answer


class WordOverlap:
    """Who cannot read: the stretch of up to four rare words, none of the question's, that is nearest to the question's
    words. A word counts by how few contexts have it. After the sliding window of Richardson et al. 2013."""

    def __init__(self, contexts: Sequence[str]):
        contexts = set(contexts)
        self.count = len(contexts)
        self.known = Counter(word for context in contexts for word in set(WORD.findall(context.lower())))

    def rarity(self, word: str) -> float:
        return math.log((1 + self.count) / (1 + self.known[word.lower()]))

    def answer(self, questions: Dataset) -> Answers:
        """The answers, whose odds of none are the larger the less of the question stands near."""
        found = [self._one(*asked) for asked in zip(questions["question"][:], questions["context"][:], strict=True)]
        return Answers([text for text, _ in found], np.array([-score for _, score in found]))

    def _one(self, question: str, context: str) -> tuple[str, float]:
        asked = set(WORD.findall(question.lower()))
        words = list(WORD.finditer(context))
        rare = np.array([self.rarity(word[0]) for word in words])
        shared = np.array([word[0].lower() in asked for word in words])
        free = ~shared & (rare >= np.median(rare)) if len(words) else shared
        if not free.any():
            return "", 0.0
        weights = np.where(shared, rare, 0.0)
        near = np.zeros(len(words))
        for apart in range(1, min(REACH, len(words) - 1) + 1):
            near[apart:] += weights[:-apart] / apart
            near[:-apart] += weights[apart:] / apart
        first = last = int(np.where(free, near, -1.0).argmax())
        while last - first < SPAN - 1 and last + 1 < len(words) and free[last + 1]:
            last += 1
        while last - first < SPAN - 1 and first > 0 and free[first - 1]:
            first -= 1
        return context[words[first].start() : words[last].end()], float(near[first : last + 1].max())
