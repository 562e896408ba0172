"""The story of `finetune`: what an encoder is worth on a labelled task, fine-tuned or frozen, beside baselines."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import transformers

from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.labelled import load_labelled
from hf_replearn.encoders.encoder import read_inputs
from hf_replearn.encoders.load import channels_wanted, with_dropout
from hf_replearn.judging.arguments import training_arguments
from hf_replearn.judging.repeated import measure, protocols, tell_and_share
from hf_replearn.judging.task import (
    Task,
    check_settings,
    choose_layers,
    choose_metrics,
    choose_positive,
    draw_labels,
    name_of,
    network_of,
    task_of,
)
from hf_replearn.judging.ways import fine_tuning, plain_model, probing
from hf_replearn.metrics import GLUE
from hf_replearn.sharing.results import check_sharing
from hf_replearn.training.folder import check_folder, claim_folder


def finetune_encoder(settings: Any) -> None:
    """What an encoder is worth on a labelled task: fine-tuned, or frozen under a linear probe, beside baselines.

    settings: of `hf-replearn finetune`. Raises InputError for whatever the user has to mend, before anything is
    trained; TrainingError where of the encoder itself nothing could be measured.
    """
    transformers.logging.set_verbosity_error()  # that a head is new is no news here
    transformers.logging.disable_progress_bar()  # of the loading of weights; those of training stay

    # 1. Data. What can be wrong with the input is found out here, before anything is trained.
    check_settings(settings)
    out, name = Path(settings.output_dir), task_of(settings)
    args = training_arguments(settings, examples=1, seed=settings.seed)
    with args.main_process_first(desc="reading the data"):
        if args.process_index == 0:
            check_folder(settings, free=["seeds"])
            repo_id = check_sharing(settings)
        data = load_labelled(
            settings.dataset,
            files=settings.files,
            config=settings.dataset_config,
            text_columns=settings.text_columns,
            image_column=settings.image_column,
            label_column=settings.label_column,
            label_type=settings.label_type,
            max_undecodable=settings.max_undecodable,
            value_range=settings.value_range,
            channels=channels_wanted(settings.channels, [settings.model]),
            evaluate_on=("validation", "validation_matched", "test") if name in GLUE else ("test", "validation"),
        )
    images = data.inputs == ["image"]
    names = choose_metrics(settings, name, data)
    positive = choose_positive(settings, name, data, metrics=names)
    encoder = name_of(settings)

    # 2. The network's configuration, and its tokenizer or image processor
    auto, head = network_of(settings, data)
    modality = "image" if images else "text"
    config, collate = read_inputs(settings.model, modality=modality, max_length=settings.max_length, **head)
    config = with_dropout(config, settings.dropout if settings.mode == "full" else None)

    # 3. Labels: {(fraction, seed): rows of train}, the same draws for every network
    train, test, draws = draw_labels(settings, data)
    # Of all labels there is but one draw: what has no randomness of its own is measured on it once.
    few = {draw: rows for draw, rows in draws.items() if draw[1] == settings.seed or len(rows) < len(data.train)}

    # 4. Ways to learn the task, each with its draws
    layers = choose_layers(settings, auto, config, train, collate=collate)
    largest = max(map(len, draws.values()))
    task = Task(settings, auto, config, collate, train, test, list(names), positive, largest, layers)
    if args.process_index == 0:
        claim_folder(settings)
        print(data.taken, *data.notes, sep="\n", flush=True)
        write_skipped(out / "skipped_examples.txt", data.skipped)
    elif settings.mode == "linear":
        return  # probes are one process's work
    way, its_draws = (fine_tuning, draws) if settings.mode == "full" else (probing, few)
    ways = {encoder: (partial(way, task, pretrained=True), its_draws)}
    if settings.baseline:
        ways["random weights"] = partial(way, task, pretrained=False), its_draws
        ways["raw pixels" if images else "TF-IDF"] = partial(plain_model, task), few

    # 5. Measure: what is measured is on disk at once, and one run that fails takes no other with it
    about = {"protocols": protocols(settings, names, data), "task": name, "data": data.name, "names": names}
    about["positive_class"] = data.label_names[positive] if "f1" in names else None
    runs = measure(settings, ways, draws, metrics=list(names), about=about, write=args.process_index == 0)
    if args.process_index:
        return

    # 6. Report and share
    tell_and_share(settings, runs, encoder, about=about, repo_id=repo_id)
