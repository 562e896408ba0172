"""The story of `finetune --task questions`: how well an encoder, fine-tuned, finds answers in contexts (SQuAD)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_FOR_QUESTION_ANSWERING_MAPPING

from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.labelled import balanced_subset
from hf_replearn.data.questions import QuestionData, load_questions
from hf_replearn.encoders.load import choose_length, load_processor, uses_token_types, with_dropout
from hf_replearn.errors import InputError
from hf_replearn.evaluation.questions import cut_windows
from hf_replearn.judging.answering import FOLD, AnswerTask, ways_to_answer
from hf_replearn.judging.arguments import training_arguments
from hf_replearn.judging.repeated import measure, tell_and_share
from hf_replearn.judging.task import name_of, task_of
from hf_replearn.settings import changed
from hf_replearn.sharing.results import check_sharing
from hf_replearn.training.folder import check_folder, claim_folder

USUAL_LENGTH = 384  # tokens of a window, as of BERT
# Settings of labelled tasks, which have no meaning here.
OTHERS = (
    "mode", "layers", "metrics", "positive_class", "label_column", "label_type", "text_columns", "image_column",
    "value_range", "channels", "max_undecodable",
)  # fmt: skip
MEASURES = {"exact_match": "Exact match", "f1": "F1"}
MEASURES_OF_V2 = {"f1_answerable": "F1 of answerable", "unanswerable": "Accuracy of unanswerable"}


def answer_questions(settings: Any) -> None:
    """Fine-tunes an encoder to find answers in contexts, beside baselines.

    settings: of `hf-replearn finetune --task questions`. Raises as `finetune_encoder`.
    """
    transformers.logging.set_verbosity_error()  # that a head is new is no news here
    transformers.logging.disable_progress_bar()

    # 1. Data and network. What can be wrong with the input is found out here, before anything is trained.
    if meaningless := [name for name in changed(settings) if name in OTHERS]:
        raise InputError(f"--{meaningless[0]} is of labelled tasks, and --task questions has none of it: leave it out")
    out = Path(settings.output_dir)
    args = training_arguments(settings, examples=1, seed=settings.seed)
    with args.main_process_first(desc="reading the data"):
        if args.process_index == 0:
            check_folder(settings, free=["seeds"])
            repo_id = check_sharing(settings)
        data = load_questions(settings.dataset, files=settings.files, config=settings.dataset_config)
    task, draws = open_task(settings, data)
    few = {draw: rows for draw, rows in draws.items() if draw[1] == settings.seed or len(rows) < len(data.train)}

    # 2. Measure: what is measured is on disk at once, and one run that fails takes no other with it
    measures = MEASURES | (MEASURES_OF_V2 if data.v2 else {})
    names = {metric: f"finetune_{task_of(settings)}_{metric}" for metric in measures}
    if args.process_index == 0:
        claim_folder(settings)
        print(data.taken, *data.notes, sep="\n", flush=True)
        write_skipped(out / "skipped_examples.txt", data.skipped)
    about = {"protocols": protocols(settings, names, data, task), "task": task_of(settings), "data": data.name}
    about |= {"names": names, "positive_class": None}
    encoder = name_of(settings)
    ways = ways_to_answer(task, encoder, draws, few)
    runs = measure(settings, ways, draws, metrics=list(names), about=about, write=args.process_index == 0)
    if args.process_index:
        return

    # 3. Report and share
    tell_and_share(settings, runs, encoder, about=about, repo_id=repo_id)


def open_task(settings: Any, data: QuestionData) -> tuple[AnswerTask, dict]:
    """The task, and {(share of the questions, seed): rows of train}. Raises InputError for a network that cannot do
    it, and for shares of the questions that are too small."""
    config, tokenizer = load_processor(settings.model, images=False)
    named = f"--model {settings.model}"
    if type(config) not in MODEL_FOR_QUESTION_ANSWERING_MAPPING:
        raise InputError(
            f"{named} is a {config.model_type}, of which transformers has no network that answers questions"
        )
    if not tokenizer.is_fast:
        raise InputError(f"{named} has a tokenizer that does not tell which characters a token is of")
    one_way = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    if data.v2 and one_way:
        raise InputError(
            f"{named} reads from left to right, so that its first token, which stands for no answer, knows nothing of "
            "the question; some of these questions have no answer: give an encoder that reads both ways"
        )
    length = choose_length(settings.max_length, config, tokenizer, usual=USUAL_LENGTH)
    about = {"max_length": length, "overlap": settings.overlap, "token_types": uses_token_types(config)}
    cut = partial(cut_windows, tokenizer=tokenizer, **about)
    cut(data.train.select(range(1)))  # whether windows can go on
    seeds = range(settings.seed, settings.seed + settings.seeds)
    alike = np.zeros(len(data.train), int)
    draws = {
        (share, seed): balanced_subset(alike, share, seed=seed)
        for share in sorted(set(settings.label_fraction))
        for seed in seeds
    }
    has = np.array([bool(answers) for answers in data.train["answers"][:]])
    contexts = np.array(data.train["context"][:])
    for (share, _), rows in draws.items():
        if not has[rows].any() or (data.v2 and (has[rows].all() or len(set(contexts[rows])) < 2)):
            raise InputError(
                f"--label_fraction {share:g} leaves {len(rows)} questions, of one kind or one context: raise it"
            )
    largest = max(map(len, draws.values()))
    return AnswerTask(settings, with_dropout(config, settings.dropout), tokenizer, data, largest, cut), draws


def protocols(settings: Any, names: dict[str, str], data: QuestionData, task: AnswerTask) -> dict[str, str]:
    """What each score means, in one sentence."""
    length, overlap = task.cut.keywords["max_length"], settings.overlap or task.cut.keywords["max_length"] // 3
    how = (
        f"after fine-tuning all weights on a random share of the questions (AdamW, learning rate "
        f"{settings.learning_rate:g}, batch {settings.per_device_train_batch_size}, {settings.num_train_epochs:g} "
        f"epochs, at least {settings.min_steps} steps, dropout {settings.dropout}), in windows of {length} tokens of "
        f"which neighbours share {overlap}, answers of at most {settings.max_answer_tokens} tokens"
    )
    if data.v2:
        how += (
            f"; no answer above a threshold that is chosen by F1 on {FOLD:.0%} of the contexts of those questions, "
            "which are not trained on"
        )
    seeds = "one seed" if settings.seeds == 1 else f"mean of {settings.seeds} seeds with the 95 % t interval over them"
    rows = "word overlap: rare words near those of the question" + "; no answer: none is ever given" * data.v2
    counts = f"{len(data.test):,} questions"
    measures = MEASURES | MEASURES_OF_V2
    return {
        name: f"{measures[metric]} on {data.test_source} of {data.name} ({counts}), the best over the right answers as "
        f"SQuAD's official script has it, in 0…1, {how}; {seeds}. {rows.capitalize()}."
        + "".join(f" {note[0].upper()}{note[1:]}." for note in data.notes)
        for metric, name in names.items()
    }
