"""Ways to answer questions: each gives (rows of train that may be learnt from, seed) -> {metric: score}."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForQuestionAnswering, set_seed

from hf_replearn.data.questions import QuestionData, held_groups
from hf_replearn.encoders.load import load_network
from hf_replearn.evaluation.finetune import fit
from hf_replearn.evaluation.questions import Answers, Windows, WordOverlap, answer, choose_threshold
from hf_replearn.files import write_whole
from hf_replearn.judging.arguments import training_arguments
from hf_replearn.metrics.squad import question_scores
from hf_replearn.sharing.export import save_native
from hf_replearn.sharing.finetuned import SHOWN

FOLD = 0.1  # of the contexts to train on, by which the threshold of no answer is chosen
PREDICTIONS = "predictions.json"  # {id: answer}, as the official script reads it
EXAMPLES = 12


@dataclass(frozen=True)
class Collate:
    """Windows -> the batch of a transformers model: padded to the longest."""

    processor: Any

    def __call__(self, rows: list[dict]) -> Any:
        read = [{name: row[name] for name in ("input_ids", "token_type_ids") if name in row} for row in rows]
        batch = self.processor.pad(read, return_tensors="pt")
        for name in ("start_positions", "end_positions"):
            batch[name] = torch.tensor([row[name] for row in rows])
        return batch


@dataclass(frozen=True)
class AnswerTask:
    """Questions as every way to answer them meets them.

    largest: questions in the largest draw. cut: how windows are cut, `cut_windows` without the questions.
    """

    settings: Any
    config: Any
    tokenizer: Any
    data: QuestionData
    largest: int
    cut: Callable[..., Windows]

    @cached_property
    def test(self) -> Windows:
        return self.cut(self.data.test)

    def scores(self, told: list[str]) -> dict[str, float]:
        return question_scores(told, self.data.test["answers"][:], v2=self.data.v2)


def answering(task: AnswerTask, *, pretrained: bool) -> Callable:
    """All weights are trained, from the checkpoint or from random ones; the first network with the most questions is
    kept, with its answers."""
    settings, data = task.settings, task.data
    longest = settings.max_answer_tokens

    def learn(rows, *, seed: int) -> dict[str, float]:
        set_seed(seed)
        network = load_network(AutoModelForQuestionAnswering, settings.model, task.config, pretrained=pretrained)
        questions, fold = data.train.select(rows), None
        if data.v2:
            contexts = np.unique(questions["context"][:], return_inverse=True)[1]
            held = held_groups(contexts, FOLD, seed=seed)
            questions, fold = questions.select(np.flatnonzero(~held)), questions.select(np.flatnonzero(held))
        windows = task.cut(questions)
        args = training_arguments(settings, examples=len(windows.rows), seed=seed)
        trainer = fit(network, windows.rows, collate=Collate(task.tokenizer), args=args)

        def answers(windows: Windows, of: Any) -> Answers:
            first, last = trainer.predict(windows.rows).predictions[:2]
            return answer(windows, first, last, of, longest=longest)

        threshold = None if fold is None else choose_threshold(answers(task.cut(fold), fold), fold["answers"][:])
        told = answers(task.test, data.test).beyond(threshold)
        if pretrained and seed == settings.seed and len(rows) == task.largest and args.process_index == 0:
            keep(task, network, told, threshold)
        return task.scores(told)

    return learn


def keep(task: AnswerTask, network: torch.nn.Module, told: list[str], threshold: float | None) -> None:
    """Saves the network, what it answers, and some of it beside its questions."""
    out, test = Path(task.settings.output_dir), task.data.test
    save_native(network, out / "model")
    task.tokenizer.save_pretrained(out / "model")
    predictions = dict(zip(test["id"][:], told, strict=True))
    write_whole(out / PREDICTIONS, json.dumps(predictions, indent=1, ensure_ascii=False) + "\n")
    places = np.linspace(0, len(test) - 1, min(EXAMPLES, len(test))).astype(int).tolist()
    examples = [
        {"question": test[n]["question"], "right": list(dict.fromkeys(test[n]["answers"])), "told": told[n]}
        for n in places
    ]
    shown = {"no_answer_threshold": threshold, "examples": examples}
    write_whole(out / SHOWN, json.dumps(shown, indent=1, ensure_ascii=False) + "\n")


def word_overlap(task: AnswerTask) -> Callable:
    """Without a network: rare words near those of the question; of v2, with a threshold from the questions to learn."""

    def learn(rows, *, seed: int) -> dict[str, float]:
        questions = task.data.train.select(rows)
        known = WordOverlap(questions["context"][:])
        threshold = choose_threshold(known.answer(questions), questions["answers"][:]) if task.data.v2 else None
        return task.scores(known.answer(task.data.test).beyond(threshold))

    return learn


def silent(task: AnswerTask) -> Callable:
    """Who always says that there is no answer."""
    return lambda rows, seed: task.scores([""] * len(task.data.test))


def ways_to_answer(task: AnswerTask, encoder: str, draws: dict, few: dict) -> dict[str, tuple[Callable, dict]]:
    """{row: (way, its draws)}; few: those of what has no randomness of its own."""
    ways = {encoder: (partial(answering, task, pretrained=True), draws)}
    if task.settings.baseline:
        ways["random weights"] = partial(answering, task, pretrained=False), draws
        ways["word overlap"] = partial(word_overlap, task), few
        if task.data.v2:
            ways["no answer"] = partial(silent, task), few
    return ways
