"""Which choice is taken, and what a free answer is worth."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting.scoring import Score
from hf_replearn.evaluation.prompting.tasks import Document, Task

# How log-likelihoods are compared by the accuracy of each name; acc, acc_norm, acc_bytes are lm-evaluation-harness's.
WAYS = {
    "acc": "sum", "acc_norm": "character", "acc_bytes": "byte", "acc_token": "token",
    "acc_answer_context": "answer_context",
}  # fmt: skip

MEANINGS = {  # its name in words, and what it is
    "acc": ("Accuracy", "the right choice is the likeliest"),
    "acc_norm": ("Accuracy per character", "the right choice has the largest log-likelihood per character"),
    "acc_bytes": ("Accuracy per byte", "the right choice has the largest log-likelihood per UTF-8 byte"),
    "acc_token": ("Accuracy per token", "the right choice has the largest log-likelihood per token"),
    "acc_answer_context": (
        "Accuracy beyond the answer context",
        "the right choice gains most log-likelihood over that behind the answer context alone",
    ),
    "acc_calibrated": ("Calibrated accuracy", "contextual calibration, Zhao et al. 2021"),
    "perplexity": ("Perplexity", "e to the mean negative log-likelihood of a whole target"),
    "exact_match": ("Exact match", "the answer is the target, but for white space around it"),
    "bleu": ("BLEU", "sacreBLEU's, of all documents together, 0 to 100"),
    "chrf": ("chrF", "sacreBLEU's chrF2, of all documents together, 0 to 100"),
}


def meaning(task: Task, metric: str) -> tuple[str, str]:
    """The name of a task's metric in words, and what it is."""
    if metric == "acc" and task.output_type == "loglikelihood":
        return "Accuracy", "greedy decoding gives the target"
    return MEANINGS[metric]


def normalize(
    scores: Sequence[Score], choices: Sequence[str], *, by: str, alone: Sequence[Score] | None = None
) -> list[float]:
    """Log-likelihoods of choices made comparable.

    by: sum; token, character or byte: divided by the length of the choice (of characters and bytes without the
        delimiter, as lm-evaluation-harness); answer_context: less ln P(choice | answer context), given as `alone`
        (Brown et al. 2020, section 2.4).
    """
    if by == "answer_context":
        return [score.logprob - prior.logprob for score, prior in zip(scores, alone, strict=True)]
    lengths = {
        "sum": [1] * len(scores),
        "token": [score.tokens for score in scores],
        "character": [len(choice) for choice in choices],
        "byte": [len(choice.encode()) for choice in choices],
    }[by]
    return [score.logprob / length for score, length in zip(scores, lengths, strict=True)]


def calibrate(logprobs: Sequence[float], content_free: Sequence[Sequence[float]]) -> list[float]:
    """ln of q = W p with W = diag(p_cf)^-1, up to a constant (Zhao et al. 2021, arXiv:2102.09690, equation 2).

    logprobs: of the choices (C,). content_free: the same for each content-free input; p_cf is the mean over these of
        the probabilities, normalised over the choices.
    """
    priors = [0.0] * len(logprobs)
    for values in content_free:
        chances = [math.exp(value - max(values)) for value in values]
        priors = [
            prior + chance / sum(chances) / len(content_free) for prior, chance in zip(priors, chances, strict=True)
        ]
    return [logprob - math.log(max(prior, 1e-30)) for logprob, prior in zip(logprobs, priors, strict=True)]


def choose(
    task: Task,
    document: Document,
    scores: Sequence[Score],
    *,
    alone: Sequence[Score] | None = None,
    content_free: Sequence[Sequence[Score]] | None = None,
) -> dict:
    """The number of the choice taken by the task's first metric, and {metric: 1.0 or 0.0}.

    The first of equally likely choices is taken, as in lm-evaluation-harness; `tied` tells that there were such.
    """

    def taken(values: list[float]) -> int:
        return values.index(max(values))

    names = dict.fromkeys(("acc", *task.metrics))
    values = {name: normalize(scores, document.choices, by=WAYS[name], alone=alone) for name in names}
    found = {name: taken(each) for name, each in values.items()}
    if content_free is not None:
        logprobs = [[score.logprob for score in some] for some in (scores, *content_free)]
        found["acc_calibrated"] = taken(calibrate(logprobs[0], logprobs[1:]))
    first = task.metrics[0]
    tied = {"tied": True} if values[first].count(max(values[first])) > 1 else {}
    return tied | {
        "prediction": found[first],
        "scores": {metric: float(choice == document.target) for metric, choice in found.items()},
    }


def exact_match(task: Task, prediction: str, target: str) -> float:
    """1.0 where the texts are equal but for white space around them, and what the task's metric_list lets pass."""
    options = next((entry for entry in task.metric_list if entry["metric"] == "exact_match"), {})
    texts = [prediction.strip(), target.strip()]
    if options.get("ignore_case"):
        texts = [text.lower() for text in texts]
    if options.get("ignore_punctuation"):
        texts = [re.sub(f"[{re.escape(string.punctuation)}]", "", text) for text in texts]
    return float(texts[0] == texts[1])


def metrics_of(task: Task, records: Sequence[dict]) -> dict[str, float]:
    """The value of each of the task's metrics over all records, and acc_calibrated; BLEU and chrF are of 0 … 100.

    Raises InputError without a record: of nothing there is no score.
    """
    if not records:
        raise InputError(f"task {task.task}: no document could be asked")
    means = {name: sum(record["scores"][name] for record in records) / len(records) for name in records[0]["scores"]}
    values = {name: means[name] for name in (*task.metrics, "acc_calibrated") if name in means}
    if "perplexity" in task.metrics:  # of a whole target, as lm-evaluation-harness
        values["perplexity"] = math.exp(-means["logprob"])
    if set(task.metrics) & {"bleu", "chrf"}:
        import sacrebleu

        predictions, targets = ([record[name] for record in records] for name in ("prediction", "target"))
        for name, corpus in (("bleu", sacrebleu.corpus_bleu), ("chrf", sacrebleu.corpus_chrf)):
            if name in task.metrics:
                values[name] = corpus(predictions, [targets]).score
    return {name: values[name] for name in (*task.metrics, "acc_calibrated") if name in values}
