"""Multi-task learning: one trunk, a head for each task, beside each task alone with as many batches of it.

    hf-replearn multitask --init out/bert --tasks rte=path/to/rte mrpc=path/to/mrpc stsb=path/to/stsb \\
        --output_dir out/several
    hf-replearn multitask --init out/bert --tasks sst2=path/to/sst2 cola=path/to/cola --weighting pcgrad \\
        --output_dir out/two
    hf-replearn multitask --tasks 'left=pairs.parquet#left' 'right=pairs.parquet#right' --weighting uncertainty \\
        --output_dir out/pairs
    hf-replearn multitask --config recipes/configs/multitask/toy.yaml --output_dir out/toy

Texts, with the encoder of --init, or images, from --init or from random weights of a timm network. A step has a batch
of one task, and a task as many batches as its size to the power of one half says, or --shares; with gradnorm, pcgrad
and mgda, which compare the gradients of tasks, a step has a batch of each. Weights are uniform unless another way is
asked for: where all is well tuned, none of them is reliably better (Kurin et al. 2022, arXiv:2201.04122).

The trunk is left in the format of its library, each head with it in `heads/NAME`, as plain transformers load it
(AutoModelForSequenceClassification, AutoModelForImageClassification). GLUE's tasks, called by their names, have their
own metrics.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from hf_replearn.pretraining.recipe import Method, TaskMethod, TaskSettings, run


@dataclass(kw_only=True)
class MultiTaskSettings(TaskSettings):
    pass


METHOD = TaskMethod(
    command="multitask",
    facts=Method(
        name="multi-task learning",
        summary="One trunk learns several labelled tasks, each by a head of its own; what one task teaches, others may "
        "use.",
        paper="Multitask Learning",
        arxiv=None,
        bibtex="""\
@article{caruana1997multitask,
  title   = {Multitask Learning},
  author  = {Caruana, Rich},
  journal = {Machine Learning},
  volume  = {28},
  pages   = {41--75},
  year    = {1997}
}""",
        model_class="hf_replearn.methods.multitask.MultiTask",
    ),
)


def main(settings: MultiTaskSettings, **given):
    """Multi-task learning: one trunk, a head for each task, beside each task alone."""
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the libraries alone may take ten seconds to load
        print(f"learning {' '.join(settings.tasks)} …", flush=True)
    from hf_replearn.pretraining.tasks import learn_tasks

    return learn_tasks(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, MultiTaskSettings, prog="multitask")
