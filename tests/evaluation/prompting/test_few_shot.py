"""Draws, prompts and choices of few-shot evaluation: by hand, and whatever the batch, order or number of processes."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from toy_tasks import CHOICES, FREE, LABELS, TARGET, make_model
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from hf_replearn.errors import InputError
from hf_replearn.evaluation.prompting import (
    Condition,
    Decoder,
    Examples,
    Score,
    conditions,
    few_shot,
    load_splits,
    load_task,
    read_documents,
)  # fmt: skip
from hf_replearn.evaluation.prompting.metrics import calibrate, choose, metrics_of, normalize
from hf_replearn.evaluation.prompting.probe import Probe
from hf_replearn.evaluation.prompting.prompts import Prompt, encode
from hf_replearn.evaluation.prompting.scoring import NotFinite
from hf_replearn.evaluation.prompting.summary import draw_curves, rows_of, spread, summarise, table
from hf_replearn.evaluation.prompting.tasks import Document, Extension
from hf_replearn.evaluation.statistics import mean_half_width


def load(folder, text: str, **extension):
    (folder / "toy.yaml").write_text(text)
    task = replace(load_task(folder / "toy.yaml"), replearn=Extension(**extension))
    rows, pool = load_splits(task)
    same = task.evaluation_split == task.shots_split
    return task, rows, Examples(task, pool, same_split=same), read_documents(task, rows)[0]


# ---- which examples


@pytest.mark.parametrize("draw", ["seed", "document"])
@pytest.mark.parametrize("balanced", [False, True])
def test_smaller_draws_are_the_beginning_of_larger_ones(folder, draw, balanced):
    _, _, examples, documents = load(folder, LABELS, draw=draw, balanced=balanced)
    for document in documents:
        largest = examples.draw(document, Condition(8, 1, 0))
        assert len(set(largest)) == 8
        assert all(examples.draw(document, Condition(k, 1, 0)) == largest[:k] for k in (0, 1, 3))
        if balanced:
            assert sum(examples.document(number).target for number in largest) == 4
    draws = {tuple(examples.draw(document, Condition(4, 1, 0))) for document in documents}
    assert len(draws) == (1 if draw == "seed" else len(documents))
    assert examples.draw(documents[0], Condition(4, 2, 0)) != examples.draw(documents[0], Condition(4, 1, 0))


def test_a_document_never_stands_in_its_own_prompt(folder):
    _, rows, examples, documents = load(folder, LABELS.replace("training_split: train\n", ""))
    assert examples.same_split
    for document in documents:
        assert set(examples.draw(document, Condition(9, 0, 0))) == set(range(10)) - {document.number}
    with pytest.raises(InputError, match="10 shots were asked for, 'test' has 9 examples besides document 0"):
        examples.draw(documents[0], Condition(10, 0, 0))
    copies = Examples(examples.task, [*rows, rows[0]], same_split=False)  # a copy of it in the other split
    assert not {0, 10} & set(copies.draw(documents[0], Condition(9, 0, 0)))


def test_first_n_takes_the_first(folder):
    task, _, examples, documents = load(folder, LABELS + "fewshot_config: {sampler: first_n}\n")
    assert examples.draw(documents[3], Condition(4, 7, 0)) == [0, 1, 2, 3]
    assert [c.seed for c in conditions(task, [1, 2], [5, 6], 1)] == [5, 5]


def test_conditions_are_only_what_can_differ(folder):
    task, *_ = load(folder, LABELS)
    found = conditions(task, [0, 1, 4], [3, 4], 2)
    assert found == [(0, 3, 0), (1, 3, 0), (1, 4, 0), (4, 3, 0), (4, 3, 1), (4, 4, 0), (4, 4, 1)]


# ---- what is asked


def by_hand(decoder, task, rows, examples, document, record) -> list[float]:
    """Log-likelihoods of a document's choices from texts put together here and one forward each."""
    context = "".join(
        f"{shot.text} {shot.choices[shot.target]}\n\n" for shot in map(examples.document, record["shots"])
    )
    found = []
    for choice in document.choices:
        start = decoder.tokenizer(context + document.text)["input_ids"]
        whole = decoder.tokenizer(f"{context}{document.text} {choice}")["input_ids"]
        logprobs = decoder.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        found.append(sum(logprobs[place - 1, whole[place]].item() for place in range(len(start), len(whole))))
    return found


@pytest.mark.parametrize("text", [LABELS, CHOICES], ids=["labels", "choices"])
@pytest.mark.parametrize("draw", ["seed", "document"])
@torch.inference_mode()
def test_records_are_what_a_plain_forward_says(decoder, folder, text, draw):
    task, rows, examples, documents = load(folder, text, draw=draw)
    records, bad = few_shot(decoder, task, rows, examples, documents, Condition(3, 0, 1))
    assert not bad and [record["document"] for record in records] == list(range(10))
    for document, record in zip(documents, records, strict=True):
        assert sorted(record["shots"]) == sorted(examples.draw(document, Condition(3, 0, 0)))
        expected = by_hand(decoder, task, rows, examples, document, record)
        assert record["logprobs"] == pytest.approx(expected, abs=1e-4)
        assert record["prediction"] == expected.index(max(expected))
        assert record["scores"]["acc"] == float(record["prediction"] == document.target)


@pytest.mark.parametrize("text", [CHOICES, TARGET, FREE], ids=["choices", "target", "free"])
@pytest.mark.parametrize("draw", ["seed", "document"])
def test_other_company_changes_nothing(gpt2, folder, text, draw):
    """Each document alone, or half of them in the reverse order, as another process or batch would have them."""
    task, rows, examples, documents = load(folder, text, draw=draw)
    condition = Condition(2, 1, 0)
    together, _ = few_shot(gpt2, task, rows, examples, documents, condition)
    for parts in ([[d] for d in documents], [documents[1::2][::-1], documents[::2]]):
        fresh = Examples(task, examples.rows, same_split=False)
        apart = [r for part in parts for r in few_shot(gpt2, task, rows, fresh, part, condition)[0]]
        for one, other in zip(together, sorted(apart, key=lambda r: r["document"]), strict=True):
            assert {k: one[k] for k in ("shots", "target")} == {k: other[k] for k in ("shots", "target")}
            assert one.get("prediction") == other.get("prediction")
            assert one.get("logprobs", []) == pytest.approx(other.get("logprobs", []), abs=1e-4)


def test_sampling_too_depends_on_the_document_alone(gpt2, folder):
    task, rows, examples, documents = load(folder, FREE.replace("until:", "do_sample: true, temperature: 0.9, until:"))
    together, _ = few_shot(gpt2, task, rows, examples, documents, Condition(2, 1, 0))
    apart = [few_shot(gpt2, task, rows, examples, [d], Condition(2, 1, 0))[0][0] for d in documents]
    assert [r["prediction"] for r in together] == [r["prediction"] for r in apart]
    greedy, *_ = few_shot(gpt2, load(folder, FREE)[0], rows, examples, documents, Condition(2, 1, 0))
    assert [r["prediction"] for r in together] != [r["prediction"] for r in greedy]
    assert all("." not in r["prediction"] for r in together)


def test_greedy_answers_are_those_of_generate(decoder, folder):
    task, rows, examples, documents = load(folder, FREE)
    records, _ = few_shot(decoder, task, rows, examples, documents, Condition(1, 0, 0))
    for document, record in zip(documents, records, strict=True):
        context = task.shot(examples.document(record["shots"][0])) + document.text
        ids = torch.tensor([decoder.tokenizer(context)["input_ids"]])
        made = decoder.model.generate(ids, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :]
        text = decoder.tokenizer.decode(made, skip_special_tokens=True)
        assert record["prediction"] == text.split(".")[0].strip()


def test_a_prompt_that_is_too_long_loses_whole_examples(tokenizer, folder):
    decoder = Decoder.of(make_model("gpt2", length=64), tokenizer)
    task, rows, examples, documents = load(folder, LABELS)
    records, bad = few_shot(decoder, task, rows, examples, documents, Condition(8, 0, 0))
    assert not bad
    for document, record in zip(documents, records, strict=True):
        kept = record["shots"]
        assert 0 < len(kept) < 8 and kept == examples.draw(document, Condition(8, 0, 0))[: len(kept)]
        for more, fits in ((0, True), (1, False)):  # one more would not have fitted
            shots = examples.draw(document, Condition(len(kept) + more, 0, 0))
            context = "".join(task.shot(examples.document(number)) for number in shots) + document.text
            assert (len(tokenizer(context + " positive")["input_ids"]) - 1 <= 64) == fits


def test_a_document_longer_than_the_model_is_named_and_the_others_are_asked(tokenizer, folder):
    decoder = Decoder.of(make_model("gpt2", length=32), tokenizer)
    task, rows, examples, _ = load(folder, LABELS)
    rows = [dict(row) for row in rows]
    rows[4]["text"] = "a very long and slow film " * 20
    documents, _ = read_documents(task, rows)
    records, bad = few_shot(decoder, task, rows, examples, documents, Condition(0, 0, 0))
    assert [record["document"] for record in records] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [entry["document"] for entry in bad] == [4]
    assert "task toy, document 4 takes" in bad[0]["reason"] and "there is room for 32" in bad[0]["reason"]


# ---- tokens at the boundary


def test_white_space_moves_to_the_continuation(tokenizer):
    (request,), apart = encode(tokenizer, [Prompt("Answer: ", ("two", "moon"))])
    assert request.context == tokenizer("Answer:")["input_ids"] and not apart
    assert request.continuations == [
        tokenizer(f"Answer: {w}")["input_ids"][len(request.context) :] for w in ("two", "moon")
    ]


def test_a_token_across_the_boundary_is_counted_and_encoded_apart(tokenizer):
    start, rest = "Answer: mo", "on"
    whole, context = tokenizer(start + rest)["input_ids"], tokenizer(start)["input_ids"]
    assert whole[: len(context)] != context  # the joint text has a token "moon"
    requests, apart = encode(tokenizer, [Prompt("Answer:", (" two",)), Prompt(start, (rest, " two"))])
    assert apart == [1]
    assert requests[1].context == context
    assert requests[1].continuations == [tokenizer(text)["input_ids"] for text in (rest, " two")]


def test_an_empty_context_is_the_beginning_of_text(tokenizer):
    (request,), _ = encode(tokenizer, [Prompt("", ("two",))])
    assert request.context == [tokenizer.bos_token_id] and request.continuations == [tokenizer("two")["input_ids"]]


# ---- which choice is taken


def test_normalisations_by_hand():
    scores, choices = [Score(-6.0, 3, False), Score(-5.0, 2, False)], ["déjà vu", "no"]
    assert normalize(scores, choices, by="sum") == [-6, -5]
    assert normalize(scores, choices, by="token") == [-2, -2.5]
    assert normalize(scores, choices, by="character") == [-6 / 7, -5 / 2]
    assert normalize(scores, choices, by="byte") == [-6 / 9, -5 / 2]
    alone = [Score(-5.5, 3, False), Score(-1.0, 2, False)]
    assert normalize(scores, choices, by="answer_context", alone=alone) == [-0.5, -4]


def test_calibration_by_hand():
    """Zhao et al. 2021: q = diag(p_cf)^-1 p."""
    p, free = [0.6, 0.3], [[0.4, 0.1], [0.3, 0.3]]
    prior = [(0.8 + 0.5) / 2, (0.2 + 0.5) / 2]
    found = calibrate([math.log(x) for x in p], [[math.log(x) for x in row] for row in free])
    assert found == pytest.approx([math.log(0.6 / prior[0]), math.log(0.3 / prior[1])])
    assert found.index(max(found)) == 0 or prior[0] / prior[1] > 2


@torch.inference_mode()
def test_calibration_takes_the_prior_of_documents_without_content(gpt2, folder):
    task, rows, examples, documents = load(folder, LABELS, calibration=True)
    records, _ = few_shot(gpt2, task, rows, examples, documents, Condition(2, 0, 0))
    priors = []
    for nothing in ("N/A", "", "[MASK]"):
        document = task.document({"text": nothing, "label": 0, "other": nothing}, 0)
        logprobs = torch.tensor(by_hand(gpt2, task, rows, examples, document, records[0]))
        priors.append(logprobs.softmax(-1))
    prior = torch.stack(priors).mean(0)
    for record in records:
        chosen = (torch.tensor(record["logprobs"]).exp() / prior).argmax().item()
        assert record["scores"]["acc_calibrated"] == float(chosen == record["target"])


@torch.inference_mode()
def test_gpt3s_answer_context(gpt2, folder):
    task, rows, examples, documents = load(folder, CHOICES, normalization="answer_context", answer_context="Answer:")
    records, _ = few_shot(gpt2, task, rows, examples, documents, Condition(1, 0, 0))
    for document, record in zip(documents, records, strict=True):
        bare = replace(document, text="Answer:")
        alone = by_hand(gpt2, task, rows, examples, bare, {"shots": []})
        values = [a - b for a, b in zip(record["logprobs"], alone, strict=True)]
        assert record["prediction"] == values.index(max(values))


# ---- what comes out


def test_corpus_metrics_are_sacrebleus(gpt2, folder):
    import sacrebleu

    task, *_ = load(folder, FREE)
    records = [
        {"prediction": p, "target": t, "scores": {"exact_match": float(p == t)}}
        for p, t in (("the red house by the river", "the red house at the river"), ("a dog", "a dog"))
    ]
    found = metrics_of(task, records)
    assert found["exact_match"] == 0.5
    predictions, targets = zip(*((r["prediction"], r["target"]) for r in records), strict=True)
    assert found["bleu"] == sacrebleu.corpus_bleu(predictions, [targets]).score
    assert found["chrf"] == sacrebleu.corpus_chrf(predictions, [targets]).score


def test_perplexity_is_of_whole_targets(folder):
    task, *_ = load(folder, TARGET + "metric_list: [{metric: acc}, {metric: perplexity}]\n")
    records = [{"scores": {"acc": 1.0, "logprob": -1.0}}, {"scores": {"acc": 0.0, "logprob": -3.0}}]
    assert metrics_of(task, records) == {"acc": 0.5, "perplexity": pytest.approx(math.exp(2))}


def test_spread_by_hand():
    values = {Condition(4, 0, 0): 0.5, Condition(4, 0, 1): 0.75, Condition(4, 1, 0): 0.25, Condition(4, 1, 1): 0.25}
    scores = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]]).double().numpy()
    found = spread(values, scores)
    assert found["test_se"] == pytest.approx(torch.tensor([1, 0.5, 0.25, 0]).std().item() / 2)
    assert found["draw_sd"] == pytest.approx(torch.tensor([0.625, 0.25]).std().item())
    assert found["order_sd"] == pytest.approx(((0.125**2 * 2 + 0) / 2) ** 0.5)
    outcomes = torch.tensor([[1, 1, 0.5, 0], [1, 0, 0, 0]]).double().numpy()  # of each draw, over its orders
    assert found.get("mean_ci95") == mean_half_width(outcomes)


def test_intervals_stay_on_the_scale_and_are_none_where_they_would_say_nothing():
    """Two draws far apart: a t interval of two is 12.7 standard errors wide, 0.475 ± 1.6."""
    conditions = [Condition(4, 0, 0), Condition(4, 1, 0)]
    scores = torch.tensor([[1.0] * 12 + [0.0] * 28, [1.0] * 26 + [0.0] * 14]).numpy()
    found = spread({c: float(row.mean()) for c, row in zip(conditions, scores, strict=True)}, scores)
    assert 0.05 < found["mean_ci95"] < 0.5
    nothing = torch.full((2, 40), torch.nan).numpy()  # a score of all documents together
    assert "mean_ci95" not in spread({conditions[0]: 1.0, conditions[1]: 30.0}, nothing, scale=(0, 100))
    three = {Condition(4, seed, 0): value for seed, value in enumerate((20.0, 22.0, 24.0))}
    found = spread(three, torch.full((3, 40), torch.nan).numpy(), scale=(0, 100))
    assert found["mean_ci95"] == pytest.approx(4.302653 * 2 / 3**0.5, rel=1e-5)


def test_curves_do_not_leave_the_scale():
    points = {k: {"mean": 0.05, "mean_ci95": 0.2} for k in (0, 1)}
    [panel] = draw_curves({"toy": {"acc": points}}).axes
    assert min(path.vertices[:, 1].min() for band in panel.collections for path in band.get_paths()) == 0


def test_the_probe_learns_from_the_same_examples(gpt2, folder):
    """With as many dimensions as examples a probe is right on those that it saw; with one it says its label."""
    task, rows, examples, documents = load(folder, LABELS.replace("test_split: test", "test_split: train"))
    runs = {}
    probe = Probe(gpt2, task, examples, documents)
    for shots in (1, 14):
        asked = [{"document": d.number, "shots": list(range(shots)), "target": d.target} for d in documents]
        runs[Condition(shots, 0, 0)] = probe.records(asked)
    one, all_of_them = (metrics_of(task, records)["acc"] for records in runs.values())
    assert one == sum(d.target == documents[0].target for d in documents) / len(documents)
    assert all_of_them > 0.9


def test_tables_curves_and_rows(gpt2, folder):
    task, rows, examples, documents = load(folder, LABELS)
    runs = {c: few_shot(gpt2, task, rows, examples, documents, c)[0] for c in conditions(task, [0, 2], [0, 1], 2)}
    summary = {"toy": summarise(task, runs)}
    assert set(summary["toy"]["acc"]) == {0, 2} and {"draw_sd", "order_sd", "test_se"} <= set(summary["toy"]["acc"][2])
    assert "toy, acc" in table(summary) and f"{summary['toy']['acc'][2]['mean']:.3f}" in table(summary)
    assert summary["toy"]["acc"][2]["chance"] == 1 / len(documents[0].choices)
    [panel] = draw_curves(summary).axes
    assert [line.get_label() for line in panel.lines] == ["prompt", "linear probe", "chance"]
    assert set(rows_of(task, summary)[""]) == {"prompt_toy@0", "prompt_toy@0_ci95", "prompt_toy@2", "prompt_toy@2_ci95"}


# ---- numbers that are none


def test_free_answers_of_nan_are_no_answers(tokenizer, folder):
    model = make_model("gpt2")
    decoder = Decoder.of(model, tokenizer)
    task, rows, examples, documents = load(folder, FREE)
    model.transformer.h[1].mlp.c_proj.bias.data[3] = math.nan  # it breaks after it was tried
    with pytest.raises(InputError, match=r"task toy, 1 examples, in documents 0 to 9: the logits of the next token"):
        few_shot(decoder, task, rows, examples, documents, Condition(1, 0, 0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_that_says_nan_is_refused_when_it_is_tried(tokenizer, value):
    model = make_model("gpt2")
    model.transformer.ln_f.bias.data[0] = value
    with pytest.raises(InputError, match="logits are NaN or infinite .* --dtype float32"):
        Decoder.of(model, tokenizer)


def test_a_probe_of_nan_has_no_score(tokenizer, folder):
    model = make_model("gpt2")
    decoder = Decoder.of(model, tokenizer)
    task, _, examples, documents = load(folder, LABELS)
    model.transformer.ln_f.bias.data[0] = math.inf
    with pytest.raises(NotFinite, match="the features of 'Review"):
        Probe(decoder, task, examples, documents).records([{"document": 0, "shots": [0, 1], "target": 0}])


def test_no_document_is_no_score(folder):
    task, *_ = load(folder, LABELS)
    with pytest.raises(InputError, match="no document could be asked"):
        metrics_of(task, [])


def test_equally_likely_choices_are_marked_and_the_first_is_taken(folder):
    """As lm-evaluation-harness takes it: numpy's argmax."""
    task, _, _, documents = load(folder, CHOICES)
    found = choose(task, documents[0], [Score(-2.0, 1, False), Score(-2.0, 2, False), Score(-3.0, 1, False)])
    assert found["prediction"] == 0 and found["tied"]
    assert "tied" not in choose(
        task, documents[0], [Score(-2.0, 1, False), Score(-3.0, 2, False), Score(-3.0, 1, False)]
    )


def test_choices_of_the_same_tokens_are_equally_likely(gpt2, folder):
    words = Tokenizer(models.WordLevel({"[UNK]": 1, "film": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    decoder = Decoder.of(gpt2.model, PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]"))
    task, rows, examples, documents = load(folder, LABELS)
    records, _ = few_shot(decoder, task, rows, examples, documents, Condition(0, 0, 0))
    for record in records:
        assert record["same_tokens"] and record["tied"] and len(set(record["logprobs"])) == 1


def test_each_accuracy_is_of_what_its_name_says(folder):
    """The sum prefers the first choice, the mean over tokens the second, over characters the third."""
    task, *_ = load(folder, CHOICES, normalization="token")
    task = replace(task, metric_list=[{"metric": "acc"}, {"metric": "acc_norm"}])
    document = Document(0, "", ("ab", "abc", "abcdefghij"), 0)
    scores = [Score(-4.0, 1, False), Score(-5.0, 4, False), Score(-6.0, 1, False)]
    taken = {n: choose(task, replace(document, target=n), scores)["scores"] for n in range(3)}
    assert task.metrics == ["acc_token", "acc", "acc_norm"]
    assert [taken[n]["acc"] for n in range(3)] == [1, 0, 0]
    assert [taken[n]["acc_token"] for n in range(3)] == [0, 1, 0]
    assert [taken[n]["acc_norm"] for n in range(3)] == [0, 0, 1]
    assert choose(task, document, scores)["prediction"] == 1  # what the table shows first


# ---- models


def test_a_masked_language_model_is_refused(tokenizer, tmp_path):
    config = BertConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="BertForMaskedLM, prompting needs a causal language model"):
        Decoder.load(str(tmp_path), dtype="float32")
    with pytest.raises(InputError, match="could not be loaded"):
        Decoder.load(str(tmp_path / "nothing"), dtype="float32")


@pytest.mark.parametrize(
    ("lost", "message"),
    [("h.1.", "lacks 12 of the"), ("lm_head", "lacks 1 of the"), (None, "layer"), ("", "could not be loaded")],
    ids=["a layer", "the head", "a layer too many", "a file cut short"],
)
def test_a_checkpoint_that_lacks_weights_is_refused(tokenizer, tmp_path, lost, message):
    model = make_model("gpt2")
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.config.tie_word_embeddings = lost != "lm_head"
    if lost is None:
        model.config.n_layer = 1
    kept = {name: tensor for name, tensor in weights.items() if not lost or lost not in name}
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    if lost == "":
        (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match=message) as error:
        Decoder.load(str(tmp_path), dtype="float32")
    assert "\n" not in str(error.value) and "--model" in str(error.value)
