"""SimCSE, pairs and TSDAE: losses by loops and by sentence-transformers, what is never a negative, dropout as the only
difference of two views, what is taken out of a text, and a decoder that shares the encoder's weights."""

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import nn
from transformers import BertConfig, GPT2Config, ModernBertConfig, PreTrainedTokenizerFast, RobertaConfig

from hf_replearn.data.tokenization import train_tokenizer
from hf_replearn.methods.sentences import (
    DataCollatorForDenoising,
    DataCollatorForSentences,
    SentencesConfig,
    SentencesForPreTraining,
    in_batch_loss,
    pool,
)
from hf_replearn.randomness import Place

SMALL = {"vocab_size": 320, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 32, "max_position_embeddings": 64, "pad_token_id": 0, "initializer_range": 0.2}
TEXTS = ["a ship sails over the sea", "the wind blows", "far at night the sea is far", "a ship", "over the wind"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer("bert", TEXTS * 3, vocab_size=300)


def model(objective: str, *, dropout: float = 0.1, **more) -> SentencesForPreTraining:
    torch.manual_seed(0)
    encoder = BertConfig(**SMALL, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return SentencesForPreTraining(SentencesConfig(encoder=encoder, objective=objective, **more))


def by_loops(z: torch.Tensor, texts: list[list[str]], temperature: float, *, symmetric: bool) -> float:
    """Row by row, candidate by candidate."""
    z = nn.functional.normalize(z, dim=-1)

    def one_way(query: int, partner: int, others: list[int]) -> float:
        total = 0.0
        for row, own in enumerate(texts):
            exponents = []
            for column in others:
                for other, theirs in enumerate(texts):
                    if column == partner and other == row:
                        continue
                    if theirs[column] in (own[query], own[partner]):
                        continue
                    if column == partner and theirs[query] == own[query]:
                        continue
                    exponents.append(math.exp(float(z[row, query] @ z[other, column]) / temperature))
            right = math.exp(float(z[row, query] @ z[row, partner]) / temperature)
            total -= math.log(right / (right + sum(exponents)))
        return total / len(texts)

    loss = one_way(0, 1, [1, 2] if len(texts[0]) == 3 else [1])
    return (loss + one_way(1, 0, [0])) / 2 if symmetric else loss


ROWS = [["a", "b", "n"], ["c", "d", "b"], ["a", "e", "m"], ["d", "f", "a"], ["g", "b", "k"], ["h", "h", "q"]]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_the_loss_by_loops(count, symmetric):
    """Texts that stand in several rows, as first, as partner, as hard negative: none is a negative of its like."""
    z = torch.randn(6, count, 5, generator=torch.Generator().manual_seed(0))
    rows = [row[:count] for row in ROWS]
    numbers = torch.tensor([[ord(text) for text in row] for row in rows])
    loss = in_batch_loss(z, numbers, temperature=0.1, symmetric=symmetric)
    assert float(loss) == pytest.approx(by_loops(z, rows, 0.1, symmetric=symmetric), rel=1e-4)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = in_batch_loss(z[order], numbers[order], temperature=0.1, symmetric=symmetric)
    torch.testing.assert_close(permuted, loss)


@pytest.mark.parametrize(
    ("count", "symmetric", "directions"),
    [(2, False, ["query_to_doc"]), (3, False, ["query_to_doc"]), (2, True, ["query_to_doc", "doc_to_query"])],
)
def test_the_loss_of_different_texts_is_that_of_sentence_transformers(count, symmetric, directions):
    z = torch.randn(7, count, 5, generator=torch.Generator().manual_seed(1))
    theirs = MultipleNegativesRankingLoss(
        nn.Identity(),
        scale=20.0,
        directions=tuple(directions),
        partition_mode="per_direction" if symmetric else "joint",
    )
    expected = theirs.compute_loss_from_embeddings(list(z.unbind(1)), None)
    texts = torch.arange(7 * count).reshape(7, count)
    torch.testing.assert_close(in_batch_loss(z, texts, temperature=0.05, symmetric=symmetric), expected)


def test_a_batch_of_one_text_has_nothing_to_tell():
    z = torch.randn(5, 2, 4).requires_grad_()
    loss = in_batch_loss(z, torch.full((5, 2), 7), temperature=0.05)
    loss.backward()
    assert float(loss.detach()) == 0 and float(z.grad.abs().max()) == 0


@pytest.mark.parametrize("symmetric", [False, True])
def test_two_processes_equal_one(difference_of_two_processes, symmetric):
    """Equal texts stand in both halves."""

    def loss(projections, labels):
        texts = torch.stack([labels, 100 + torch.arange(len(labels)) + 50 * labels], dim=1)
        return in_batch_loss(projections, texts, temperature=0.2, symmetric=symmetric)

    value, gradient = difference_of_two_processes(loss)
    assert value < 1e-5 and gradient < 1e-4


def test_two_views_differ_by_dropout_alone(tokenizer):
    collator = DataCollatorForSentences(tokenizer, 16, count=2)
    batch = collator.views(collator([{"text": text} for text in TEXTS]), Place(0, 0))
    assert batch["input_ids"].shape[:2] == batch["labels"].shape == (5, 2)
    trained = model("simcse", head=True)
    views = trained.train()(**batch).pooler_output
    assert not torch.isclose(views[:, 0], views[:, 1]).all(1).any()
    views = trained.eval()(**batch).pooler_output
    assert torch.equal(views[:, 0], views[:, 1])
    views = model("simcse", dropout=0.0).train()(**batch).pooler_output
    assert torch.equal(views[:, 0], views[:, 1])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_vector_does_not_depend_on_its_batch(tokenizer, pooling):
    collator, trained = DataCollatorForSentences(tokenizer, 16), model("pairs", pooling=pooling).eval()
    rows = [{"text": text} for text in TEXTS]
    together = trained(**collator(rows), return_loss=False).pooler_output
    alone = torch.cat([trained(**collator([row]), return_loss=False).pooler_output for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_pooling():
    states, mask = torch.arange(12.0).reshape(1, 4, 3), torch.tensor([[1, 1, 0, 0]])
    assert pool(states, mask, "cls").tolist() == [[0, 1, 2]]
    assert pool(states, mask, "mean").tolist() == [[1.5, 2.5, 3.5]]


def test_texts_are_cut_and_numbered_by_what_they_say(tokenizer):
    rows = [{"text": TEXTS[0], "partner": TEXTS[1]}, {"text": TEXTS[1], "partner": TEXTS[0]}]
    batch = DataCollatorForSentences(tokenizer, 5, columns=("text", "partner"))(rows)
    assert batch["input_ids"].shape == (2, 2, 5) and batch["labels"][0, 0] == batch["labels"][1, 1] > 0
    assert batch["labels"][0, 0] != batch["labels"][0, 1]


def test_what_is_taken_out_of_a_text(tokenizer):
    """At the rate that is told, and not at its complement; what is left keeps its order, frame and one token."""
    collator = DataCollatorForDenoising(tokenizer, 40, delete=0.6)
    text = "a ship sails over the sea far at night the wind blows"
    batch = collator([{"text": text}] * 400 + [{"text": "a"}])
    views = collator.views(batch, Place(0, 3))
    inner = int(batch["attention_mask"][0].sum()) - 2
    left = views["attention_mask"].sum(1) - 2
    assert float(left[:-1].float().mean()) / inner == pytest.approx(0.4, abs=0.02)
    assert int(left.min()) >= 1 and int(left[-1]) == 1
    whole, some = views["whole"][0].tolist(), views["input_ids"][0][views["attention_mask"][0].bool()].tolist()
    places = iter(whole)
    assert all(token in places for token in some)  # a subsequence
    assert (some[0], some[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert views["input_ids"][views["attention_mask"] == 0].unique().tolist() in ([], [tokenizer.pad_token_id])
    torch.testing.assert_close(collator.views(batch, Place(0, 3))["input_ids"], views["input_ids"])
    assert not torch.equal(collator.views(batch, Place(0, 4))["attention_mask"], views["attention_mask"])
    nothing = DataCollatorForDenoising(tokenizer, 40, delete=0.0)
    assert torch.equal(nothing.views(batch, Place(0, 0))["input_ids"], batch["input_ids"])


@pytest.fixture
def denoised(tokenizer) -> dict[str, torch.Tensor]:
    """A batch of TSDAE."""
    collator = DataCollatorForDenoising(tokenizer, 16)
    return collator.views(collator([{"text": text} for text in TEXTS]), Place(0, 0))


def test_the_decoder_is_the_encoder_with_a_look_at_one_vector(denoised, tmp_path):
    trained, batch = model("tsdae").eval(), denoised
    own, decoder = trained.model, trained.decoder
    theirs = dict(decoder.base_model.named_parameters(remove_duplicate=False))
    assert all(theirs[name] is weight for name, weight in own.named_parameters())
    assert decoder.get_output_embeddings().weight is own.get_input_embeddings().weight
    mask = batch["whole_mask"]
    told = decoder(
        input_ids=batch["whole"],
        attention_mask=mask,
        encoder_hidden_states=trained(**batch).pooler_output[:, None],
        labels=batch["whole"].masked_fill(mask == 0, -100),
    ).loss
    torch.testing.assert_close(trained(**batch).loss, told)
    trained.save_pretrained(tmp_path)
    again = SentencesForPreTraining.from_pretrained(tmp_path).eval()
    assert torch.equal(again(**batch).loss, trained(**batch).loss)
    assert again.decoder.get_output_embeddings().weight is again.model.get_input_embeddings().weight


def test_the_decoder_sees_no_later_token_and_of_the_text_nothing_but_the_vector(denoised):
    trained, batch = model("tsdae").eval(), denoised
    vector = trained(**batch).pooler_output[:, None]
    later = batch["whole"].clone()
    later[:, 3:] = 7
    about = {"attention_mask": torch.ones_like(later), "use_cache": False}
    found, changed = (
        trained.decoder(input_ids=ids, encoder_hidden_states=vector, **about).logits for ids in (batch["whole"], later)
    )
    torch.testing.assert_close(found[:, :3], changed[:, :3])
    other = trained.decoder(input_ids=batch["whole"], encoder_hidden_states=vector.roll(1, 0), **about).logits
    assert float((found - other).abs().max()) > 1e-4


def test_tsdae_of_another_network():
    torch.manual_seed(0)
    trained = SentencesForPreTraining(SentencesConfig(encoder=RobertaConfig(**SMALL), objective="tsdae"))
    ids = torch.randint(5, 300, (3, 6))
    mask = torch.ones_like(ids)
    loss = trained(ids, mask, whole=ids, whole_mask=mask).loss
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(320), rel=0.4)
    assert all(weight.grad is not None for weight in trained.model.parameters())


SMALLEST = {"vocab_size": 64, "num_attention_heads": 2, "hidden_size": 16, "num_hidden_layers": 1, "pad_token_id": 0}


@pytest.mark.parametrize(
    "encoder",
    [ModernBertConfig(**SMALLEST, intermediate_size=32), GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2)],
    ids=["modernbert", "gpt2"],
)
def test_a_network_without_such_a_decoder_is_refused(encoder):
    with pytest.raises(ValueError, match=f"no decoder like a {encoder.model_type}"):
        SentencesForPreTraining(SentencesConfig(encoder=encoder, objective="tsdae"))
