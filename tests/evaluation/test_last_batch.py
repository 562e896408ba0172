"""Fine-tuning a network with batch normalisation on a number of examples that leaves one for the last batch."""

import datasets
import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from hf_replearn.errors import InputError
from hf_replearn.evaluation.finetune import finetune


class Normalised(nn.Module):
    """Two classes by the sign of a number; batch normalisation of a vector, which cannot take one example."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
        self.sizes = []

    def forward(self, x, labels):
        if self.training:
            self.sizes.append(len(x))
        logits = self.layers(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def rows(count):
    values = torch.linspace(-1, 1, count).tolist()
    return datasets.Dataset.from_dict({"x": [[value] for value in values], "labels": [int(v > 0) for v in values]})


def collate(examples):
    return {name: torch.tensor([example[name] for example in examples]) for name in ("x", "labels")}


def finetuned(network, tmp_path, *, examples: int, test: int, batch: int):
    args = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=batch, per_device_eval_batch_size=batch, max_steps=6, use_cpu=True,
        remove_unused_columns=False, save_strategy="no", logging_strategy="no", report_to="none",
    )  # fmt: skip
    return finetune(network, rows(examples), rows(test), collate=collate, args=args)


@pytest.mark.parametrize(("examples", "sizes"), [(9, {4}), (10, {4, 2}), (3, {3})])
def test_no_batch_of_one_and_no_test_example_lost(examples, sizes, tmp_path):
    network = Normalised()
    predictions, labels = finetuned(network, tmp_path, examples=examples, test=5, batch=4)
    assert set(network.sizes) == sizes
    assert len(predictions) == len(labels) == 5


@pytest.mark.parametrize(("examples", "batch"), [(1, 4), (6, 1)])
def test_one_example_at_a_time_is_refused(examples, batch, tmp_path):
    with pytest.raises(InputError, match="the network has batch normalisation, which needs several examples at a time"):
        finetuned(Normalised(), tmp_path, examples=examples, test=5, batch=batch)
