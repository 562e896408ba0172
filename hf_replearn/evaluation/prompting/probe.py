"""The bridge to representation learning: what a linear probe of the frozen features makes of the same K examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hf_replearn.evaluation.k_shot import COST
from hf_replearn.evaluation.prompting.few_shot import Decoder, Examples
from hf_replearn.evaluation.prompting.prompts import before_texts
from hf_replearn.evaluation.prompting.scoring import NotFinite
from hf_replearn.evaluation.prompting.tasks import Document, Task
from hf_replearn.evaluation.softmax_regression import centre_and_scale, softmax_regression


def can_be_probed(task: Task) -> bool:
    """Whether every document has the same choices: labels, which a classifier can learn."""
    return isinstance(task.doc_to_choice, list)


class Probe:
    """Features of the texts of a task: the mean over tokens of the last layer, each text computed once."""

    def __init__(self, decoder: Decoder, task: Task, examples: Examples, documents: Sequence[Document]):
        self.decoder, self.task, self.examples = decoder, task, examples
        self.documents = {document.number: document for document in documents}
        self.features: dict[str, Tensor] = {}

    def records(self, prompted: Sequence[dict]) -> list[dict]:
        """What a logistic regression on the very examples that stood in each document's prompt says, as records.

        As `k_shot`: centred, one scale, one fixed cost, so that no example is needed to choose it.
        """
        by_shots: dict[tuple, list[dict]] = {}
        for record in prompted:
            by_shots.setdefault(tuple(sorted(record["shots"])), []).append(record)
        found = []
        for shots, records in by_shots.items():
            test = torch.stack([self._features(self.documents[record["document"]].text) for record in records])
            examples = [self.examples.document(number) for number in shots]
            train = torch.stack([self._features(example.text) for example in examples])
            classes, labels = torch.tensor([example.target for example in examples]).unique(return_inverse=True)
            predictions = classes.repeat(len(records))
            if len(classes) > 1:
                x, [test] = centre_and_scale(train[None], test)
                w, b = softmax_regression(x, labels[None], torch.tensor([COST]), len(classes))
                predictions = classes[(test @ w[0, 0].T + b[0, 0]).argmax(dim=1)]
            for record, prediction in zip(records, predictions.tolist(), strict=False):
                right = float(prediction == record["target"])
                found.append(record | {"prediction": prediction, "scores": {"acc": right}})
        return sorted(found, key=lambda record: record["document"])

    @torch.inference_mode()
    def _features(self, text: str) -> Tensor:
        if text not in self.features:
            model, tokenizer = self.decoder.model, self.decoder.tokenizer
            ids: Any = tokenizer(text, truncation=True, max_length=self.decoder.length)["input_ids"]
            states = model.base_model(torch.tensor([ids or before_texts(tokenizer) or [0]], device=model.device))
            features = states.last_hidden_state[0].float().mean(dim=0).cpu()
            if not features.isfinite().all():
                raise NotFinite(f"the features of {text[:60]!r} are NaN or infinite")
            self.features[text] = features
        return self.features[text]
