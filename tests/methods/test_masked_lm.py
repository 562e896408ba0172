"""Which tokens are hidden and how; the loss against transformers' own on the full logits; no look across documents."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModelForMaskedLM,
    BertConfig,
    CamembertConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from hf_replearn.methods.masked_lm import HEADS, DataCollatorForMaskedLM, MaskedLMConfig, MaskedLMForPreTraining
from hf_replearn.randomness import Place

VOCABULARY, LENGTH, PAD, CLS, SEP, MASK = 128, 32, 0, 1, 2, 3
SPECIAL = torch.arange(VOCABULARY) < 4
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 64, "max_position_embeddings": 80, "pad_token_id": PAD}
CONFIGS = {
    "bert": BertConfig(**SMALL),
    "roberta": RobertaConfig(**SMALL),
    "xlm-roberta": XLMRobertaConfig(**SMALL),
    "camembert": CamembertConfig(**SMALL),
    "modernbert": ModernBertConfig(**SMALL | {"num_hidden_layers": 4, "local_attention": 8}),
}


def batch_of(rows: int, *, padded: int = 0) -> dict[str, torch.Tensor]:
    tokens = torch.randint(4, VOCABULARY, (rows, LENGTH), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[:, -1] = CLS, SEP
    if padded:
        tokens[0, -padded:] = PAD
    lengths = (tokens != PAD).sum(1)
    return collator()([{"input_ids": row, "length": length} for row, length in zip(tokens, lengths, strict=True)])


def collator(**settings) -> DataCollatorForMaskedLM:
    return DataCollatorForMaskedLM(mask_token_id=MASK, special=SPECIAL, **settings)


def test_exactly_the_share_of_each_row_is_hidden_and_80_10_10():
    batch = batch_of(2000)
    views = collator().views(batch, Place(0, 0))
    assert views["positions"].shape == (2000, 5)  # round(0.15 * 32); of 30 ordinary tokens round(4.5) = 4
    chosen = views["labels"] != -100
    assert (chosen.sum(1) == 4).all()
    where = torch.zeros(2000, LENGTH, dtype=torch.bool).scatter(1, views["positions"], chosen)
    assert torch.equal(batch["input_ids"][~where], views["input_ids"][~where])
    assert not SPECIAL[batch["input_ids"][where]].any()
    assert torch.equal(batch["input_ids"].gather(1, views["positions"])[chosen], views["labels"][chosen])
    shown = views["input_ids"].gather(1, views["positions"])[chosen]
    told = views["labels"][chosen]
    masked, kept = (shown == MASK).float().mean(), (shown == told).float().mean()
    assert masked == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1 + 0.1 / 124, abs=0.015)
    assert not SPECIAL[shown[shown != MASK]].any()
    assert where[:, 1:-1].float().mean(0).sub(4 / 30).abs().max() < 0.03  # every place as likely


def test_dynamic_masks_change_and_fixed_ones_do_not():
    batch = batch_of(8)
    positions = [collator().views(batch, Place(0, step))["positions"] for step in (0, 1, 0)]
    assert torch.equal(positions[0], positions[2])
    assert not torch.equal(positions[0], positions[1])
    fixed = collator(dynamic=False)
    backwards = {name: value.flip(0) for name, value in batch.items()}
    a, b = fixed.views(batch, Place(0, 0)), fixed.views(backwards, Place(0, 5))
    assert all(torch.equal(a[name], b[name].flip(0)) for name in a)


def test_the_masks_do_not_depend_on_how_many_processes_share_the_batch():
    batch = batch_of(8)
    whole = collator().views(batch, Place(3, 9))
    halves = [
        collator().views(
            {name: value[4 * rank : 4 * rank + 4] for name, value in batch.items()}, Place(3, 9, 0, rank, 2)
        )
        for rank in (0, 1)
    ]
    for name in whole:
        assert torch.equal(whole[name], torch.cat([half[name] for half in halves]))


def test_padding_is_never_hidden_and_masked_out():
    batch = batch_of(4, padded=30)  # one ordinary token is left in row 0
    views = collator().views(batch, Place(0, 0))
    assert (views["labels"][0] != -100).sum() == 1
    assert views["attention_mask"].sum(1).tolist() == [2, 32, 32, 32]
    assert collator().targets(batch) == 1 + 4 + 4 + 4
    assert "attention_mask" not in collator().views(batch_of(4), Place(0, 0))


def test_words_are_hidden_whole_or_not_at_all():
    starts = torch.arange(VOCABULARY) % 3 != 0
    batch = batch_of(500)
    views = collator(starts_word=starts, rate=0.3).views(batch, Place(0, 0))
    hidden = torch.zeros(500, LENGTH, dtype=torch.bool).scatter(1, views["positions"], views["labels"] != -100)
    for tokens, gone in zip(batch["input_ids"], hidden, strict=True):
        words = (starts[tokens] | SPECIAL[tokens]).long().cumsum(0)
        for word in words.unique():
            assert gone[(words == word) & ~SPECIAL[tokens]].unique().numel() <= 1
    assert 0.2 < hidden[:, 1:-1].float().mean() <= 0.3


@pytest.mark.parametrize("architecture", HEADS)
def test_the_loss_is_that_of_the_native_model_on_all_positions(architecture):
    torch.manual_seed(0)
    model = MaskedLMForPreTraining(MaskedLMConfig(encoder=CONFIGS[architecture])).eval()
    batch = batch_of(4, padded=5)
    views = collator().views(batch, Place(0, 0))
    loss = model(**views).loss
    labels = torch.full_like(batch["input_ids"], -100).scatter(1, views["positions"], views["labels"])
    native = AutoModelForMaskedLM.from_config(CONFIGS[architecture]).eval()
    native.load_state_dict(model.model.state_dict())
    logits = native(views["input_ids"], attention_mask=views["attention_mask"]).logits
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for (name, ours), plain in zip(model.model.named_parameters(), native.parameters(), strict=True):
        if plain.grad is not None:
            torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", HEADS)
def test_documents_of_a_row_are_as_if_alone(architecture, attention):
    """Neither through the attention, local attention included, nor through the positions."""
    torch.manual_seed(0)
    config = MaskedLMConfig(encoder=CONFIGS[architecture])
    config._attn_implementation = attention
    model = MaskedLMForPreTraining(config).eval()
    assert model.model.config._attn_implementation == attention
    tokens = batch_of(2)["input_ids"]
    documents = torch.tensor([[0] * 12 + [1] * 20, [0] * 20 + [1] * 12])
    attention_mask, positions = model._apart(documents)
    together = model.model.base_model(tokens, attention_mask=attention_mask, position_ids=positions)[0]
    for row, cut in ((0, 12), (1, 20)):
        for part in (slice(0, cut), slice(cut, None)):
            alone = model.model.base_model(tokens[row : row + 1, part])[0][0]
            torch.testing.assert_close(together[row, part], alone, rtol=1e-4, atol=1e-5)


def test_an_unknown_head_lists_the_known_ones():
    from transformers import XLMConfig

    with pytest.raises(ValueError, match="supported: bert, roberta"):
        MaskedLMForPreTraining(MaskedLMConfig(encoder=XLMConfig(vocab_size=50, emb_dim=16, n_layers=1, n_heads=2)))


def test_a_saved_model_loads_with_its_objective_and_natively(tmp_path):
    model = MaskedLMForPreTraining(MaskedLMConfig(encoder=CONFIGS["modernbert"])).eval()
    views = collator().views(batch_of(2), Place(0, 0))
    with torch.no_grad():
        loss = model(**views).loss
        model.save_pretrained(tmp_path / "both")
        again = MaskedLMForPreTraining.from_pretrained(tmp_path / "both").eval()
        assert torch.equal(again(**views).loss, loss)
    model.model.save_pretrained(tmp_path / "native")
    native = AutoModelForMaskedLM.from_pretrained(tmp_path / "native")
    assert all(torch.equal(a, b) for a, b in zip(native.parameters(), model.parameters(), strict=True))


def test_fixed_masks_of_another_seed_are_others():
    batch = batch_of(4)
    fixed = collator(dynamic=False)
    assert not torch.equal(fixed.views(batch)["positions"], replace(fixed, seed=1).views(batch)["positions"])
