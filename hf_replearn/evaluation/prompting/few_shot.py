"""Few-shot evaluation in the style of GPT-3 (Brown et al. 2020, arXiv:2005.14165): K examples, no gradient."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hf_replearn.encoders.load import longest_text
from hf_replearn.encoders.ours import refuse_checkpoint
from hf_replearn.encoders.weights import load_whole, refusing
from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting.generation import generate
from hf_replearn.evaluation.prompting.metrics import choose, exact_match
from hf_replearn.evaluation.prompting.prompts import Prompt, count_tokens, encode
from hf_replearn.evaluation.prompting.scoring import (
    NotFinite,
    Request,
    Score,
    check_decoder,
    score,
    why_not_packed,
)  # fmt: skip
from hf_replearn.evaluation.prompting.shots import balance, draw_order, reorder
from hf_replearn.evaluation.prompting.tasks import BadDocument, Document, Task

CONTENT_FREE = ("N/A", "", "[MASK]")  # of contextual calibration (Zhao et al. 2021, arXiv:2102.09690, section 5)


class Condition(NamedTuple):
    """K examples, which draw of them, and which order of these."""

    shots: int
    seed: int
    order: int


@dataclass(frozen=True)
class Decoder:
    """A causal language model with its tokenizer. length: tokens that it takes. packed: see `why_not_packed`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int
    packed: bool = True

    @classmethod
    def load(cls, name: str, *, dtype: str, device: torch.device | str = "cpu") -> Decoder:
        """From a folder or Hub id. dtype: "float32", "bfloat16" or "float16".

        Raises InputError for what is no causal language model; a masked one reads both ways and cannot be prompted.
        """
        refuse_checkpoint(name)
        with refusing(f"--model {name} could not be loaded"):
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
            kind = next(iter(config.architectures or ["a model without a head"]))
            if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
                raise InputError(
                    f"--model {name} is {kind}, prompting needs a causal language model such as GPT-2, Llama or Qwen"
                )
            tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model = load_whole(AutoModelForCausalLM, name, dtype=getattr(torch, dtype))
        largest, known = max(tokenizer.get_vocab().values(), default=-1), model.get_input_embeddings().num_embeddings
        if not 0 <= largest < known:
            raise InputError(
                f"--model {name}: its tokenizer numbers tokens up to {largest}, the model knows {known}: it is not the "
                "one that the model was trained with"
            )
        return cls.of(model.to(device), tokenizer)

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Decoder:
        """A model in memory. Says on stderr where prompts have to be run one by one.

        Raises InputError for a model that says NaN, or that reads what stands behind a word too.
        """
        check_decoder(model.eval())
        limits = (longest_text(model.config), tokenizer.model_max_length)
        length = min(limit for limit in limits if limit)
        reason = why_not_packed(model)
        if reason is not None:
            print(f"{type(model).__name__}: one prompt at a time, because {reason}", file=sys.stderr)
        return cls(model, tokenizer, length, packed=reason is None)

    def score(self, requests: Sequence[Request], progress: Callable[[int], object] = int) -> list[list[Score]]:
        return score(self.model, requests, packed=self.packed, progress=progress)


@dataclass
class Examples:
    """What examples are drawn from: the rows of a split, rendered when they are needed."""

    task: Task
    rows: Any
    same_split: bool  # as the documents that are asked about
    seen: dict[int, Document | None] = field(default_factory=dict)
    orders: dict[int, list[int]] = field(default_factory=dict)

    def document(self, number: int) -> Document | None:
        """None for a row that is no example: it has no right answer or cannot be rendered."""
        if number not in self.seen:
            try:
                self.seen[number] = self.task.document(self.rows[number], number)
            except BadDocument:
                self.seen[number] = None
        return self.seen[number]

    def draw(self, document: Document, condition: Condition) -> list[int]:
        """The numbers of the examples for this document. Those for a smaller K are the first of those for a larger.

        The document itself is never among them, nor a copy of it in the other split.
        Raises InputError where there are not so many examples.
        """
        shots: list[int] = []
        for number in self._order(condition.seed, document) if condition.shots else ():
            example = self.document(number)
            itself = self.same_split and number == document.number
            if example is None or itself or (example.text, example.answer) == (document.text, document.answer):
                continue
            shots.append(number)
            if len(shots) == condition.shots:
                return shots
        if condition.shots:
            raise InputError(
                f"task {self.task.task}: {condition.shots} shots were asked for, {self.task.shots_split!r} has "
                f"{len(shots)} examples besides document {document.number}"
            )
        return shots

    def _order(self, seed: int, document: Document) -> list[int]:
        """All rows, drawn by a hash of the task, the seed and, if each document has its own draw, the document."""
        if self.task.fewshot_config.get("sampler") == "first_n":
            return range(len(self.rows))
        key = (self.task.task, seed)
        if self.task.replearn.draw == "document":
            return self._balanced(draw_order(len(self.rows), *key, document.number).tolist())
        if seed not in self.orders:
            self.orders[seed] = self._balanced(draw_order(len(self.rows), *key).tolist())
        return self.orders[seed]

    def _balanced(self, order: list[int]) -> list[int]:
        if not self.task.replearn.balanced:
            return order
        examples = [self.document(number) for number in range(len(self.rows))]
        return balance(order, [example and example.answer for example in examples])


def read_documents(task: Task, rows: Any, *, limit: int | None = None) -> tuple[list[Document], list[dict]]:
    """The documents to ask about, and {"document", "reason"} for each that cannot be asked.

    limit: so many of them, drawn by a hash of the task, in the order of the file.
    """
    numbers = range(len(rows))
    if limit is not None and limit < len(rows):
        numbers = np.sort(draw_order(len(rows), task.task, "limit")[:limit]).tolist()
    documents, bad = [], []
    for number in numbers:
        try:
            documents.append(task.document(rows[number], number))
        except BadDocument as error:
            bad.append({"document": number, "reason": str(error)})
    return documents, bad


def count_copies(task: Task, rows: Any, documents: Sequence[Document], pool: Any) -> int:
    """How many of the documents stand among the examples of another split too, the same in every column that is read.

    rows: of the split of the documents. None stands in its own prompt; but the model may have been trained on all.
    """
    named = set().union(*task.columns(rows.column_names).values())
    columns = sorted(named & set(rows.column_names) & set(pool.column_names))
    if not columns:
        return 0

    def contents(data: Any) -> list[str]:
        return list(map(repr, zip(*(data[column][:] for column in columns), strict=True)))

    examples, asked = set(contents(pool)), contents(rows)
    return sum(asked[document.number] in examples for document in documents)


def conditions(task: Task, shots: Sequence[int], seeds: Sequence[int], orders: int) -> list[Condition]:
    """Every K with every draw and order; one where these make no difference."""
    draws = seeds[:1] if task.fewshot_config.get("sampler") == "first_n" else seeds
    return [
        Condition(k, seed, order)
        for k in shots
        for seed in (draws if k else seeds[:1])
        for order in range(orders if k > 1 else 1)
    ]


def few_shot(
    decoder: Decoder,
    task: Task,
    rows: Any,
    examples: Examples,
    documents: Sequence[Document],
    condition: Condition,
    *,
    progress: Callable[[int], object] = int,
) -> tuple[list[dict], list[dict]]:
    """Asks every document. Returns a record for each, and {"document", "reason"} for those longer than the model.

    rows: of the split of the documents. progress: is told how many more documents are done.
    Raises NotFinite, which names the document, where the model says NaN or infinity: that is no score.
    A record has the numbers of the shots in their order (fewer than asked for where more do not fit, whole ones are
    left out), the prediction, the target and the scores; of choices and targets also their log-likelihoods in nats and
    numbers of tokens, and whether a continuation had to be encoded apart.
    """
    asked = _Asked(decoder, task, rows, examples, condition, progress)
    prompts, requests, apart, bad = asked.fitting(documents)
    documents = [document for document in documents if document.number in prompts]
    shots = {document.number: prompts[document.number] for document in documents}
    if task.output_type == "generate_until":
        found = asked.generate(documents, requests, shots)
    else:
        found = asked.scores(documents, requests, shots)
    progress(len(bad))
    for record, document in zip(found, documents, strict=True):
        record |= {"encoded_apart": True} if document.number in apart else {}
    return found, bad


@dataclass
class _Asked:
    """One condition of one task."""

    decoder: Decoder
    task: Task
    rows: Any
    examples: Examples
    condition: Condition
    progress: Callable[[int], object] = int

    def context(self, document: Document, shots: Sequence[int], row: Any) -> str:
        shown = (self.task.shot(self.examples.document(number)) for number in shots)
        return self.task.describe(row, document.number) + "".join(shown) + document.text

    def prompt(self, document: Document, shots: Sequence[int]) -> Prompt:
        context = self.context(document, shots, self.rows[document.number])
        return Prompt(context, continuations(self.task, document))

    def ordered(self, shots: list[int]) -> list[int]:
        """Order 0 is that of the draw."""
        condition = self.condition
        if not condition.order:
            return shots
        return reorder(shots, self.task.task, condition.seed, "order", condition.order)

    def fitting(self, documents: Sequence[Document]) -> tuple[dict, dict, set, list[dict]]:
        """{document: shots}, {document: Request}, documents encoded apart, and those that do not fit without shots."""
        made = self.decoder.length
        if self.task.output_type == "generate_until":
            made -= self.task.generation["max_gen_toks"]
        drawn = {document.number: self.examples.draw(document, self.condition) for document in documents}
        shots, requests, apart, bad = {}, {}, set(), []
        todo = list(documents)
        while todo:
            orders = [self.ordered(drawn[document.number]) for document in todo]
            found, odd = encode(
                self.decoder.tokenizer,
                [self.prompt(document, order) for document, order in zip(todo, orders, strict=True)],
            )
            again = []
            for number, (document, order, request) in enumerate(zip(todo, orders, found, strict=True)):
                if reason := _cannot_be_told(request, document):
                    reason = f"task {self.task.task}, document {document.number}: {reason}"
                    bad.append({"document": document.number, "reason": reason})
                elif request.longest <= made:
                    shots[document.number], requests[document.number] = order, request
                    apart |= {document.number} if number in odd else set()
                elif drawn[document.number]:
                    drawn[document.number] = self._fewer(drawn[document.number], request.longest - made)
                    again.append(document)
                else:
                    reason = f"document {document.number} takes {request.longest} tokens without any example"
                    reason = f"task {self.task.task}, {reason}, there is room for {made}"
                    bad.append({"document": document.number, "reason": reason})
            todo = again
        return shots, requests, apart, bad

    def _fewer(self, shots: list[int], excess: int) -> list[int]:
        """Without the last of the draw that surely have to go: two tokens an example may come and go with merges."""
        kept = list(shots)
        while excess > 0 and kept:
            text = self.task.shot(self.examples.document(kept.pop()))
            excess -= count_tokens(self.decoder.tokenizer, text) + 2
        return kept

    def scores(self, documents: Sequence[Document], requests: dict, shots: dict) -> list[dict]:
        """Records of choices, or of targets."""
        free, extra = self._content_free(documents, shots)
        keys = [tuple(shots[document.number]) for document in documents] + [key for key, _ in free]
        asked = [requests[document.number] for document in documents] + extra
        told = _by_shots(self.decoder, asked, keys, self.progress)
        self._check_finite(asked, told, [d.number for d in documents] + ["without content"] * len(extra))
        alone = self._without_question(documents)
        priors: dict = {}
        for (key, _), scores in zip(free, told[len(documents) :], strict=True):
            priors.setdefault(key, []).append(scores)
        records = []
        for document, scores in zip(documents, told, strict=False):
            continued = [tuple(tokens) for tokens in requests[document.number].continuations]
            scores = [scores[continued.index(tokens)] for tokens in continued]  # what is the same is as likely
            record = {"document": document.number, "shots": shots[document.number], "target": document.target}
            record |= {"same_tokens": True} if len(set(continued)) < len(set(document.choices or ("",))) else {}
            record |= {"logprobs": [s.logprob for s in scores], "tokens": [s.tokens for s in scores]}
            if self.task.output_type == "loglikelihood":
                record |= {"scores": {"acc": float(scores[0].greedy), "logprob": scores[0].logprob}}
            else:
                content_free = priors.get(tuple(shots[document.number]))
                record |= choose(
                    self.task, document, scores, alone=alone.get(document.choices), content_free=content_free
                )
            records.append(record)
        return records

    def generate(self, documents: Sequence[Document], requests: dict, shots: dict) -> list[dict]:
        """Records of free answers."""
        keys = [tuple(shots[document.number]) for document in documents]
        texts: dict[int, str] = {}
        for group in _groups(keys):
            chosen = [documents[place] for place in group]
            contexts = [requests[document.number].context for document in chosen]
            noise = [(self.task.task, self.condition.seed, document.number) for document in chosen]
            model, tokenizer = self.decoder.model, self.decoder.tokenizer
            how = {"packed": self.decoder.packed, **self.task.generation}
            try:
                made = generate(model, tokenizer, contexts, keys=noise, progress=self.progress, **how)
            except NotFinite as error:
                raise self._not_finite(f"in documents {chosen[0].number} to {chosen[-1].number}", error) from error
            texts |= dict(zip((document.number for document in chosen), made, strict=True))
        return [
            {
                "document": document.number,
                "shots": shots[document.number],
                "target": document.target,
                "prediction": texts[document.number].strip(),
                "scores": {"exact_match": exact_match(self.task, texts[document.number], document.target)},
            }
            for document in documents
        ]

    def _check_finite(self, requests: Sequence[Request], told: Sequence[Sequence[Score]], names: Sequence) -> None:
        """Raises NotFinite, which names the first request that is NaN by itself: in a row it makes its neighbours so.

        names: of the requests.
        """
        odd = [n for n, scores in enumerate(told) if not all(math.isfinite(found.logprob) for found in scores)]
        for number in odd:
            [alone] = score(self.decoder.model, [requests[number]], packed=False)
            for choice, found in enumerate(alone):
                if not math.isfinite(found.logprob):
                    what = f"the log-likelihood of choice {choice} is {found.logprob}"
                    raise self._not_finite(f"document {names[number]}", NotFinite(what))
        if odd:
            what = f"log-likelihoods of {len(odd)} documents in a row are NaN"
            raise self._not_finite(f"document {names[odd[0]]}", NotFinite(what))

    def _not_finite(self, where: str, error: Exception) -> NotFinite:
        return NotFinite(
            f"task {self.task.task}, {self.condition.shots} examples, {where}: {error}, so that there is no score: the "
            "model has diverged, or --dtype float16 overflows: take another checkpoint or --dtype float32"
        )

    def _content_free(self, documents: Sequence[Document], shots: dict) -> tuple[list, list[Request]]:
        """For each distinct choice of shots, the requests of contextual calibration."""
        if not self.task.replearn.calibration:
            return [], []
        free, prompts = [], []
        for document in documents:
            key, row = tuple(shots[document.number]), self.rows[document.number]
            if key in {key for key, _ in free}:
                continue
            for nothing in CONTENT_FREE:
                empty = {name: nothing if isinstance(value, str) else value for name, value in row.items()}
                text = self.task.document(empty | self._answer_of(document), document.number).text
                free.append((key, nothing))
                context = self.context(replace(document, text=text), key, empty)
                prompts.append(Prompt(context, continuations(self.task, document)))
        return free, encode(self.decoder.tokenizer, prompts)[0]

    def _answer_of(self, document: Document) -> dict[str, Any]:
        """The column of the right answer, which stays when a document loses its content."""
        column = self.task.doc_to_target
        row = self.rows[document.number]
        return {column: row[column]} if isinstance(column, str) and column in row else {}

    def _without_question(self, documents: Sequence[Document]) -> dict[tuple[str, ...], list[Score]]:
        """Choices -> their scores behind `answer_context` alone, where the normalisation needs them."""
        if self.task.replearn.normalization != "answer_context":
            return {}
        different = {document.choices: continuations(self.task, document) for document in documents}
        prompts = [Prompt(self.task.replearn.answer_context, texts) for texts in different.values()]
        asked = encode(self.decoder.tokenizer, prompts)[0]
        found = self.decoder.score(asked)
        self._check_finite(asked, found, ["without a question"] * len(asked))
        return dict(zip(different, found, strict=True))


def continuations(task: Task, document: Document) -> tuple[str, ...]:
    """What is scored behind a prompt, as lm-evaluation-harness has it: a lone target comes without the delimiter."""
    if document.choices is not None:
        return tuple(task.target_delimiter + choice for choice in document.choices)
    return (document.target,) if task.output_type == "loglikelihood" else (task.target_delimiter + document.target,)


def _cannot_be_told(request: Request, document: Document) -> str | None:
    """Why the model cannot say how likely the document's choices or target are, or None."""
    for number, tokens in enumerate(request.continuations):
        if not tokens:
            what = "target" if document.choices is None else f"choice {number}"
            return f"its {what} has no token in this tokenizer"
    return None


def _groups(keys: Sequence[tuple]) -> list[list[int]]:
    """Places with the same shots; those that share theirs with no other are one group."""
    together: dict[tuple, list[int]] = {}
    for place, key in enumerate(keys):
        together.setdefault(key, []).append(place)
    alone = [places[0] for places in together.values() if len(places) == 1]
    return [places for places in together.values() if len(places) > 1] + ([alone] if alone else [])


def _by_shots(
    decoder: Decoder, requests: Sequence[Request], keys: Sequence[tuple], progress: Callable[[int], object] = int
) -> list[list[Score]]:
    """Scores in the order of the requests, computed for those with the same shots together."""
    found: dict[int, list[Score]] = {}
    for group in _groups(keys):
        found |= dict(zip(group, decoder.score([requests[place] for place in group], progress), strict=True))
    return [found[place] for place in range(len(requests))]
