"""MAE: loss and gradient are those of transformers' own, the encoder sees nothing of what is hidden."""

import math
from functools import partial

import pytest
import timm
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from hf_replearn.methods.collating import CROPS
from hf_replearn.methods.mae import MAEConfig, MAEForPreTraining, masked_error, targets
from hf_replearn.methods.mae.collating_mae import DataCollatorForMAE, with_holes
from hf_replearn.methods.mae.modeling_mae import chosen, patches_of, sin_cos
from hf_replearn.methods.mae.showing_mae import filled, guessed_statistics, own_task, pictures
from hf_replearn.randomness import Place
from hf_replearn.recipes.mae import MAESettings, main
from hf_replearn.settings import run

VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3}
DECODER = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 4}
N = 16  # patches


def network(**more) -> MAEForPreTraining:
    torch.manual_seed(0)
    arguments = VIT | more.pop("backbone_args", {})
    return MAEForPreTraining(MAEConfig(backbone="vit_tiny_patch16_224", backbone_args=arguments, **DECODER | more))


@pytest.fixture
def model():
    return network()


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(5, 3, 16, 16, generator=generator)
    return {"pixel_values": images, "noise": torch.rand(5, N, generator=generator)}


def in_our_names(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights, or gradients, of transformers' ViTMAEForPreTraining under the names that they have here."""
    ours = {}
    for name, value in theirs.items():
        for old, new in [
            ("vit.embeddings.cls_token", "model.encoder.cls_token"),
            ("vit.embeddings.position_embeddings", "model.encoder.pos_embed"),
            ("vit.embeddings.patch_embeddings.projection", "model.encoder.patch_embed.proj"),
            ("vit.layernorm", "model.encoder.norm"),
            ("vit.layers", "model.encoder.blocks"),
            ("decoder.decoder_layers", "decoder_blocks"),
            ("decoder.", ""),
            ("attention.o_proj", "attn.proj"),
            ("attention", "attn"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
        ]:
            name = name.replace(old, new)
        ours[name] = value
    for name in [name for name in ours if "q_proj" in name]:
        parts = [ours.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        ours[name.replace("q_proj", "qkv")] = torch.cat(parts)
    return ours


@pytest.mark.parametrize("normalized", [True, False])
def test_loss_and_gradient_are_those_of_transformers(normalized, views):
    theirs = ViTMAEForPreTraining(
        ViTMAEConfig(
            image_size=16, patch_size=4, hidden_size=48, num_hidden_layers=2, num_attention_heads=3,
            intermediate_size=192, decoder_intermediate_size=128, layer_norm_eps=1e-6, norm_pix_loss=normalized,
            **DECODER,
        )
    )  # fmt: skip
    ours = network(norm_pix_loss=normalized)
    with torch.no_grad():
        theirs.vit.embeddings.position_embeddings.copy_(ours.model.encoder.pos_embed)
        theirs.decoder.decoder_pos_embed[:, 1:] = ours.decoder_pos_embed
    weights = in_our_names(theirs.state_dict())
    weights["decoder_pos_embed"] = weights["decoder_pos_embed"][:, 1:]
    ours.load_state_dict(weights)
    expected, found = theirs(**views), ours(**views)
    assert found.loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)
    told = chosen(expected.logits, found.hidden)
    torch.testing.assert_close(found.predictions, told, atol=1e-5, rtol=1e-5)
    expected.loss.backward()
    found.loss.backward()
    gradients = {name: weight.grad for name, weight in theirs.named_parameters() if weight.grad is not None}
    trained = {name: weight.grad for name, weight in ours.named_parameters() if weight.grad is not None}
    assert trained.keys() == {name for name, weight in ours.named_parameters() if "pos_embed" not in name}
    for name, gradient in in_our_names(gradients).items():
        torch.testing.assert_close(trained[name], gradient, atol=1e-5, rtol=1e-5, msg=name)


def test_positions_are_sines_and_cosines_of_column_and_row():
    found = sin_cos((2, 3), 8)
    assert found.shape == (6, 8)
    for place, (row, column) in enumerate((row, column) for row in range(2) for column in range(3)):
        by_hand = [f(at * rate) for at in (column, row) for f in (math.sin, math.cos) for rate in (1, 1 / 100)]
        assert found[place].tolist() == pytest.approx(by_hand, abs=1e-7)


def test_zeros_cost_all_but_one_of_the_numbers_of_a_patch():
    patches = torch.rand(2, 6, 48)
    wanted = targets(patches, normalized=True)
    assert masked_error(torch.zeros_like(wanted), wanted).item() == pytest.approx(47 / 48, rel=1e-4)
    assert targets(patches, normalized=False) is patches


def test_patches_are_cut_and_put_back():
    images = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8).float()
    patches = patches_of(images, 4)
    assert torch.equal(patches[1, 2].view(4, 4, 3), images[1, :, 4:8, :4].permute(1, 2, 0))  # second row, first column
    order = torch.rand(2, 4).argsort(1)
    assert torch.equal(filled(torch.zeros_like(patches), order, chosen(patches, order)), patches)


def test_encoder_sees_nothing_of_hidden_patches(model, views):
    found = model(**views)
    kept = views["noise"].argsort(1)[:, : N // 4]
    assert torch.equal(kept.sort().values, torch.stack([torch.tensor(sorted(set(range(N)) - set(row))) for row in
                                                        found.hidden.tolist()]))  # fmt: skip
    other = with_holes(views["pixel_values"], found.hidden, 4)
    assert not torch.equal(other, views["pixel_values"])
    again = model(other, views["noise"])
    assert torch.equal(again.pooler_output, found.pooler_output)
    assert torch.equal(again.predictions, found.predictions)


@pytest.mark.parametrize("arguments", [{}, {"global_pool": "avg"}, {"reg_tokens": 2, "no_embed_class": True}], ids=str)
def test_encoder_that_sees_all_is_that_of_timm(arguments, views):
    model = network(backbone_args=arguments).eval()
    everything = torch.arange(N).expand(5, N)
    encoder = model.model.encoder
    tokens = model.encode(views["pixel_values"], everything)
    assert torch.equal(tokens, encoder.forward_features(views["pixel_values"]))
    assert torch.equal(encoder.forward_head(tokens, pre_logits=True), encoder(views["pixel_values"]))
    model(**views).loss.backward()
    unused = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not unused  # or several processes would wait for their gradients


def test_loss_is_of_hidden_patches_alone(model, views):
    """Pixels of patches seen are no targets: with no way from them to the decoder, they do not change the loss."""
    torch.nn.init.zeros_(model.decoder_embed.weight)
    loss = model(**views).loss
    seen = views["noise"].argsort(1)[:, : N // 4]
    changed = with_holes(views["pixel_values"], seen, 4)
    assert torch.equal(model(changed, views["noise"]).loss, loss)


def step(model, views, optimizer) -> float:
    optimizer.zero_grad()
    loss = model(**views).loss
    loss.backward()
    optimizer.step()
    return loss.item()


def test_noise_cannot_be_told(model):
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(40):
        images = torch.randn(8, 3, 16, 16, generator=generator)
        loss = step(model, {"pixel_values": images, "noise": torch.rand(8, N, generator=generator)}, optimizer)
    assert loss > 0.97 * 47 / 48


def test_eight_images_are_learnt_by_heart():
    arguments = {"embed_dim": 96, "depth": 1}  # g is wider than the 48 numbers of a patch
    model = network(backbone_args=arguments, decoder_hidden_size=64, decoder_num_hidden_layers=1)
    generator = torch.Generator().manual_seed(0)
    coarse, noise = torch.rand(8, 3, 4, 4, generator=generator), torch.rand(8, N, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bicubic")
    optimizer = torch.optim.Adam(model.parameters(), lr=1.5e-3)
    losses = [step(model, {"pixel_values": images, "noise": noise}, optimizer) for _ in range(320)]
    assert losses[-1] < 0.1


def collator(kept: int = 4) -> DataCollatorForMAE:
    policy = partial(CROPS, size=16, min_scale=0.5)
    return DataCollatorForMAE(policy, (0.5,) * 3, (0.5,) * 3, side=4, kept=kept)


def test_each_image_has_a_mask_of_its_own_that_its_place_decides():
    batch = {"pixel_values": torch.randint(256, (6, 3, 20, 20), dtype=torch.uint8)}
    views = collator().views(batch, Place(0, 3, 0))
    assert views["pixel_values"].shape == (6, 3, 16, 16) and views["noise"].shape == (6, N)
    assert len({tuple(row.argsort()[:4].tolist()) for row in views["noise"]}) > 3
    again, later = (collator().views(batch, Place(0, place, 0)) for place in (3, 4))
    assert torch.equal(again["noise"], views["noise"]) and not torch.equal(later["noise"], views["noise"])


def test_saved_weights_come_back_with_positions_that_stay(model, views, tmp_path):
    model.eval().save_pretrained(tmp_path)
    loaded = MAEForPreTraining.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(**views).loss, model(**views).loss)
    assert not loaded.model.encoder.pos_embed.requires_grad and not loaded.decoder_pos_embed.requires_grad
    assert isinstance(loaded.model.encoder, timm.models.vision_transformer.VisionTransformer)


class Batches(list):
    """As FixedBatches: its length is in images."""

    collator = collator()

    def __len__(self) -> int:
        return sum(len(views["pixel_values"]) for views in self)

    def few(self, count: int) -> dict[str, torch.Tensor]:
        return {name: value[:count] for name, value in self[0].items()}


def test_own_task_is_the_loss_beside_that_of_zeros(model, views):
    model.eval()
    with torch.no_grad():
        own = own_task(model, Batches([views]))
    assert own.rows["this run"]["mean squared error"] == pytest.approx(model(**views).loss.item(), rel=1e-5)
    chance = own.rows["chance: its own mean everywhere"]["mean squared error"]
    assert chance == pytest.approx(47 / 48, rel=1e-4)


def test_picture_guesses_what_it_was_not_told(model, views, tmp_path):
    """Mean and contrast of hidden patches are guessed from those seen: hidden pixels do not change them."""
    patches = patches_of(views["pixel_values"], 4)
    hidden = views["noise"].argsort(1)[:, 4:]
    guessed = guessed_statistics(patches, hidden, 4)
    other = guessed_statistics(filled(patches, hidden, torch.randn(5, 12, 48)), hidden, 4)
    assert all(torch.equal(one, two) for one, two in zip(guessed, other, strict=True))
    same = guessed_statistics(patches[:, :1].expand_as(patches), hidden, 4)  # where all patches are one, it is right
    torch.testing.assert_close(same[1], patches[:, :1].mean(-1, keepdim=True).expand(-1, 12, -1))
    with torch.no_grad():
        told = pictures(model.eval(), Batches([views]), tmp_path)
    assert set(told) == {"reconstructions.png"} and "not given" in told["reconstructions.png"]
    assert (tmp_path / "reconstructions.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "given, said",
    [
        (["--mask_ratio", "0"], "above 0"),
        (["--mask_ratio", "0.99"], "hides all"),
        (["--backbone", "resnet18"], "Vision Transformer"),
        (["--backbone_args", "{'patch_size': 4, 'global_pool': 'map'}"], "would not train its pooling"),
        (["--backbone_args", "{'patch_size': 4, 'patch_drop_rate': 0.5}"], "patch_drop_rate"),
        (["--decoder_hidden_size", "30"], "decoder_hidden_size 30"),
    ],
)
def test_what_cannot_be_hidden_is_refused_in_one_line(given, said, tmp_path, capsys):
    arguments = ["--dataset", "toy", "--image_size", "16", "--output_dir", str(tmp_path), "--use_cpu", *given]
    if "--backbone" not in given:
        arguments += ["--backbone", "vit_tiny_patch16_224"]
    if "--backbone_args" not in given and "resnet18" not in given:
        arguments += [
            "--max_steps",
            "1",
            "--backbone_args",
            "{'patch_size': 4, 'embed_dim': 48, 'depth': 1, 'num_heads': 3}",
        ]
    with pytest.raises(SystemExit) as end:
        run(main, MAESettings, arguments)
    error = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2 and said in error[-1] and "Traceback" not in "".join(error)
