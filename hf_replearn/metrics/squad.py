"""Answers to questions, as SQuAD's official scripts score them."""

import collections
import re
import string
from collections.abc import Sequence

import datasets
import evaluate


def normalised(text: str) -> str:
    """Lower case, without punctuation (ASCII), articles and spaces that are too many."""
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer: str, right: str) -> float:
    """1.0 where both are the same after normalisation, else 0.0."""
    return float(normalised(answer) == normalised(right))


def word_f1(answer: str, right: str, *, v2: bool = False) -> float:
    """The harmonic mean of precision and recall of the words of an answer, as often as they occur.

    v2: of two texts one of which has no words, 1.0 where neither has; the script of v1.1 gives 0.0 there.
    """
    told, wanted = normalised(answer).split(), normalised(right).split()
    if v2 and not (told and wanted):
        return float(told == wanted)
    common = sum((collections.Counter(told) & collections.Counter(wanted)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(told), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def best_of(answer: str, right: Sequence[str], *, v2: bool = False) -> tuple[float, float]:
    """(exact match, F1) beside the right answer that each of them fits best.

    right: in v2, those without words do not count, and none at all means that no answer ("") is right.
    Raises ValueError for none in v1.1, whose questions all have one.
    """
    right = [text for text in right if normalised(text)] or [""] if v2 else list(right)
    if not right:
        raise ValueError("a question without a right answer is of SQuAD v2: give v2")
    return max(exact_match(answer, text) for text in right), max(word_f1(answer, text, v2=v2) for text in right)


class Squad(evaluate.Metric):
    """`exact_match` and `f1`: means over questions of the best over the right answers, in 0…1 (the official scripts of
    SQuAD print a hundred times as much).

    predictions: {"id", "prediction_text"}; references: {"id", "answers": {"text": [...], "answer_start": [...]}}, in
    any order. With the configuration "v2", "" says that there is no answer, which is right where there is none; then
    `f1_answerable` and `unanswerable` are of the questions that have one and that have none, if there are such.
    Sources: evaluate-v1.1.py (Rajpurkar et al. 2016) and evaluate-v2.0.py (2018).
    """

    def _info(self):
        if self.config_name not in ("default", "v1.1", "v2"):
            raise ValueError(f"the configuration is v1.1 or v2, not {self.config_name!r}")
        text, number = datasets.Value("string"), datasets.Value("int64")
        answers = {"text": datasets.List(text), "answer_start": datasets.List(number)}
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            features=datasets.Features(
                predictions={"id": text, "prediction_text": text}, references={"id": text, "answers": answers}
            ),
        )

    def _compute(self, predictions, references):
        v2, right = self.config_name == "v2", {row["id"]: row["answers"]["text"] for row in references}
        told = {row["id"]: row["prediction_text"] for row in predictions}
        if told.keys() != right.keys() or len(right) < len(references) or len(told) < len(predictions):
            raise ValueError("each question needs one prediction, by an id that no other has")
        return question_scores([told[name] for name in right], list(right.values()), v2=v2)


def question_scores(told: Sequence[str], right: Sequence[Sequence[str]], *, v2: bool) -> dict[str, float]:
    """`exact_match` and `f1` (v2: and those of each kind of question) of answers (N,) beside the right ones, in 0…1."""
    found = [best_of(answer, texts, v2=v2) for answer, texts in zip(told, right, strict=True)]
    scores = {name: mean([pair[place] for pair in found]) for place, name in enumerate(("exact_match", "f1"))}
    if v2:
        has = [any(map(normalised, texts)) for texts in right]
        kinds = {"f1_answerable": True, "unanswerable": False}
        of = {
            name: [f1 for (_, f1), one in zip(found, has, strict=True) if one == kind] for name, kind in kinds.items()
        }
        scores |= {name: mean(values) for name, values in of.items() if values}
    return scores


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
