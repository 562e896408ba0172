"""What an encoder is worth on a labelled task: fine-tuned, or frozen under a linear probe, beside honest baselines.

    accelerate launch recipes/finetune.py --model out/mine --dataset path/to/glue/sst2 --label_fraction 0.01,0.1,1 \\
        --output_dir out/mine_sst2
    hf-replearn finetune --model bert-base-uncased --dataset nyu-mll/glue --dataset_config cola --output_dir out/cola
    hf-replearn finetune --model out/mine --dataset stsb.csv --mode linear --layers all --output_dir out/stsb
    hf-replearn finetune --model out/digits --dataset toy --label_fraction 0.1 --output_dir out/digits_finetuned
    hf-replearn finetune --model out/mine --dataset path/to/glue/cola --layers all --output_dir out/mine_cola
    hf-replearn finetune --model out/mine --dataset squad.json --task questions --output_dir out/mine_squad

Texts and images, classes and numbers (regression). The tasks of GLUE are scored with their own metrics. Every network
stands beside the same one from random weights, trained in the same way on the same draws of labels.

On one CPU core, a BERT of 2 layers, 128 wide, takes about a minute for 633 steps of fine-tuning (a tenth of SST-2, 3
epochs), and the probes of all its layers with 1 %, 10 % and all of SST-2's 67,349 labels a minute and a half.

With `--task questions` the answer to a question is a part of its context: SQuAD v1.1 and v2, in SQuAD's own files or in
tables with the columns question, context and answers. Long contexts are read in windows that overlap; that a question
has no answer is said above a threshold which questions to train on decide, and which these are not trained on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from hf_replearn.settings import MOST_WORKERS, ExampleSettings, SharedRunSettings, run, setting


@dataclass(kw_only=True)
class FinetuneSettings(ExampleSettings, SharedRunSettings):
    model: str = setting(..., "folder or Hub id of an encoder: transformers or timm format", section="model")
    mode: Literal["full", "linear"] = setting(
        "full", "full: all weights are trained; linear: a probe on frozen features", section="model"
    )
    layers: str = setting(
        "last",
        "what is judged. last: the network as it is made; N: layer N (0: before the first block) under a linear "
        "classifier of its pooled features, with the blocks below it frozen (linear) or trained (full); all: the "
        "network, and each layer so",
        section="model",
    )
    dropout: float | None = setting(
        0.1,
        "full mode: every dropout rate of the configuration; none: as it is",
        section="model",
        at_least=0,
        at_most=1,
    )
    baseline: bool = setting(
        True, "the same network from random weights beside it, and TF-IDF or raw pixels", section="model"
    )
    label_fraction: tuple[float, ...] = setting(
        (1.0,), "share of the labels, balanced over classes, or several", section="data", above=0, at_most=1
    )
    task: Literal["labels", "questions"] = setting(
        "labels",
        "labels: a class or number an example; questions: a part of its context answers each (SQuAD)",
        section="data",
    )
    overlap: int | None = setting(
        None,
        "of --task questions: tokens that neighbouring windows of a long context share; none: a third of --max_length, "
        "which is 384 there where the model can take it",
        section="data",
        at_least=1,
        at_most=1_000_000,
    )
    max_answer_tokens: int = setting(
        30, "of --task questions: tokens of an answer at most", section="data", at_least=1, at_most=10_000
    )
    metrics: str | None = setting(
        None, "with commas; none: GLUE's for its tasks, else accuracy, or pearson,spearman", section="data"
    )
    positive_class: str | None = setting(
        None, "the class that f1 is of; none: GLUE's (equivalent, duplicate), or 1 of 0 and 1", section="data"
    )
    seeds: int = setting(
        3,
        "repetitions, each with its draw of labels, fresh weights and order of the data; more can join a finished run",
        section="training",
        at_least=1,
        at_most=1000,
    )
    num_train_epochs: float = setting(3.0, "passes over the labelled examples", section="training", above=0)
    min_steps: int = setting(200, "steps at least, however few examples there are", section="training", at_least=1)
    per_device_train_batch_size: int = setting(
        32, "examples per process and step", section="training", at_least=1, at_most=1_000_000
    )
    learning_rate: float = setting(
        5e-5,
        "peak of AdamW's (BERT: 2e-5 to 5e-5; small networks need up to 3e-4)",
        section="training",
        at_least=0,
        at_most=1000,
    )
    weight_decay: float = setting(0.01, "of weight matrices", section="training", at_least=0)
    warmup_steps: float = setting(
        0.1, "linear warm-up before linear decay: steps, or a share of all below 1", section="training", at_least=0
    )
    bf16: bool | None = setting(None, "bfloat16 autocast; none: where the hardware is faster so", section="training")
    dataloader_num_workers: int = setting(
        0, "processes that load examples", section="training", at_least=0, at_most=MOST_WORKERS
    )
    add_to_card: bool = setting(False, "add the scores to the report and card of --model, a folder", section="run")


def main(settings: FinetuneSettings) -> None:
    """What an encoder is worth on a labelled task: fine-tuned, or frozen under a linear probe, beside baselines."""
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the libraries alone may take ten seconds to load
        print(f"learning on {settings.dataset} …", flush=True)
    if settings.task == "questions":
        from hf_replearn.judging.questions import answer_questions

        answer_questions(settings)
        return
    from hf_replearn.judging.finetune import finetune_encoder

    finetune_encoder(settings)


if __name__ == "__main__":
    run(main, FinetuneSettings, prog="finetune")
