"""Image GPT: colours keep their numbers, no pixel sees a later one, the native model is the one that was trained."""

import hashlib
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, BertConfig, ImageGPTConfig, ImageGPTForCausalImageModeling

from hf_replearn.encoders.encoder import find_encoder
from hf_replearn.errors import InputError
from hf_replearn.methods.image_gpt import ImageGPTForPreTraining, ImageGPTPretrainingConfig, Layers, fit_palette
from hf_replearn.methods.image_gpt.showing_image_gpt import frequencies, go_on, own_task, pictures
from hf_replearn.pretraining.pixels import OneView
from hf_replearn.randomness import Place
from hf_replearn.recipes import export, image_gpt
from hf_replearn.settings import run

SIDE, COLOURS = 4, 5
NAMED = torch.tensor([[0, 0, 0], [255, 255, 255], [200, 30, 30], [30, 200, 30], [30, 30, 200]], dtype=torch.uint8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    shape = {"n_positions": SIDE**2, "n_embd": 16, "n_layer": 2, "n_head": 2}
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = ImageGPTForPreTraining(
        ImageGPTPretrainingConfig(decoder=ImageGPTConfig(vocab_size=COLOURS + 1, **shape, **off))
    )
    model.model.palette.copy_(NAMED / 127.5 - 1)
    return model


def drawn(count: int, seed: int = 0) -> torch.Tensor:
    """Images of the palette's colours, (count, 3, SIDE, SIDE), black at -1 and white at 1."""
    numbers = torch.randint(COLOURS, (count, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))
    return (NAMED[numbers] / 127.5 - 1).permute(0, 3, 1, 2)


def test_a_palette_of_all_colours_is_these_colours():
    pixels = NAMED[torch.randint(COLOURS, (500,))]
    palette = (fit_palette(torch.cat([pixels, NAMED]), COLOURS) + 1) * 127.5
    assert sorted(palette.round().int().tolist()) == sorted(NAMED.int().tolist())


def test_every_colour_of_a_palette_is_the_nearest_of_some_pixels():
    """Nine in ten pixels are nearly black: no cluster stays there without pixels of its own."""
    dark = torch.randint(3, (5000, 3), dtype=torch.uint8)
    bright = torch.randint(256, (500, 3), dtype=torch.uint8)
    pixels = torch.cat([dark, bright])
    palette = fit_palette(pixels, 64)
    nearest = torch.cdist(pixels / 127.5 - 1, palette).argmin(1)
    assert len(nearest.unique()) == 64
    assert torch.equal(palette, fit_palette(pixels, 64))


def test_a_palette_larger_than_the_colours_of_the_data_is_refused():
    with pytest.raises(
        InputError, match="--colours 6: these images have 5 different colours: say --colours 5 or fewer"
    ):
        fit_palette(NAMED.repeat(9, 1), 6)


def test_colours_keep_their_numbers(model):
    tokens = torch.randint(COLOURS, (3, SIDE**2))
    images = model.model.colours(tokens)
    assert torch.equal(model.model.tokens(images * 2 - 1), tokens)
    assert torch.equal(images[0, :, 1, 2], NAMED[tokens[0, SIDE + 2]] / 255)  # row by row
    with torch.autocast("cpu", torch.bfloat16):
        near = NAMED[tokens[:, 0]][:, :, None, None].expand(-1, 3, SIDE, SIDE) / 127.5 - 1
        assert torch.equal(model.model.tokens(near)[:, 0], tokens[:, 0])


def test_a_head_of_zeros_costs_ln_k(model):
    torch.nn.init.zeros_(model.model.network.lm_head.weight)
    assert model(drawn(3)).loss.item() == pytest.approx(math.log(COLOURS))


def test_the_loss_is_that_of_the_native_model_for_pixels_after_the_start(model):
    images = drawn(3)
    tokens = model.model.tokens(images)
    start = torch.full((3, 1), COLOURS)
    logits = model.model.network(torch.cat([start, tokens[:, :-1]], 1), use_cache=False).logits.double().log_softmax(-1)
    by_hand = -sum(logits[i, t, tokens[i, t]].item() for i in range(3) for t in range(SIDE**2)) / (3 * SIDE**2)
    assert model(images).loss.item() == pytest.approx(by_hand, rel=1e-5)


def test_fused_attention_is_that_of_transformers(model):
    native = ImageGPTForCausalImageModeling(model.config.decoder).eval()
    native.load_state_dict(model.model.network.state_dict())
    tokens = model.model.started(model.model.tokens(drawn(3)))
    ours, theirs = (network(tokens, use_cache=False).logits for network in (model.model.network, native))
    assert torch.allclose(ours, theirs, atol=1e-5)
    (ours.square().mean() + theirs.square().mean()).backward()
    for name, weight in native.named_parameters():
        assert torch.allclose(weight.grad, model.model.network.get_parameter(name).grad, atol=1e-5), name
    made = (
        network.generate(tokens[:, :5], max_length=SIDE**2 + 1, top_k=0) for network in (model.model.network, native)
    )
    assert torch.equal(*made)  # token by token, from keys and values that are kept


@pytest.mark.parametrize("changed", [0, 6, 15])
def test_no_pixel_sees_a_later_one(model, changed):
    """Of position t the state depends on pixels before t, bit for bit."""
    tokens = model.model.tokens(drawn(2))
    others = tokens.clone()
    others[:, changed] = (others[:, changed] + 1) % COLOURS
    with torch.no_grad():
        for one, other in zip(model.model.states(tokens), model.model.states(others), strict=True):
            assert torch.equal(one[:, : changed + 1], other[:, : changed + 1])
            assert changed == SIDE**2 - 1 or not torch.equal(one[:, changed + 1], other[:, changed + 1])


def test_features_are_the_mean_of_the_layer_in_the_middle(model):
    images = drawn(2)
    split = Layers(model.model)
    layers = split(images).split(split.widths, dim=1)
    assert len(layers) == 3
    assert torch.equal(layers[1], model.model(images))
    assert torch.equal(layers[1], model(images, return_loss=False).pooler_output)


def train(model, images_of, *, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(images_of(step)).loss
        loss.backward()
        optimizer.step()
    return loss.item()


def test_eight_images_are_learnt_by_heart(model):
    """All but the pixel that tells one from another: of eight images, ln 8 for each whole image."""
    assert train(model, lambda step: drawn(8), steps=200) < 1.3 * math.log(8) / SIDE**2


def test_noise_stays_at_the_frequencies_of_its_colours(model):
    train(model, lambda step: drawn(64, seed=step), steps=30)
    with torch.no_grad():
        assert model(drawn(256, seed=1000)).loss.item() > math.log(COLOURS) - 0.01


def test_frequencies_are_those_of_counting():
    known = torch.tensor([[0, 1, 0, 0], [0, 1, 1, 0]])  # two images of 2 x 2
    told = torch.tensor([[0, 1, 1, 1]])
    found = frequencies(known, told, colours=2)
    zero, one = (5 + 1) / 10, (3 + 1) / 10
    assert found["frequency of colours (unigram)"] == pytest.approx(-(math.log(zero) + 3 * math.log(one)) / 4)
    first = {0: (3 + 1) / 6, 1: (1 + 1) / 6}  # rows begin with 0, 0, 0, 1
    after = {0: {1: (2 + 1) / 5}, 1: {1: (0 + 1) / 3}}  # 0 is followed by 1, 0, 1; 1 by 0
    bigram = -(math.log(first[0]) + math.log(after[0][1]) + math.log(first[1]) + math.log(after[1][1])) / 4
    assert found["after the pixel to the left (bigram)"] == pytest.approx(bigram)


def test_own_task_and_pictures(model, tmp_path):
    model.eval()
    with torch.no_grad():
        own = own_task(model, [drawn(6)], [drawn(4, 1), drawn(2, 2)])
        drawing = pictures(model, drawn(3), tmp_path)
    with torch.no_grad():
        losses = [model(drawn(4, 1)).loss.item(), model(drawn(2, 2)).loss.item()]
    assert own.rows["this run"]["nats per pixel"] == pytest.approx((4 * losses[0] + 2 * losses[1]) / 6, rel=1e-5)
    assert own.rows["chance"]["nats per pixel"] == pytest.approx(math.log(COLOURS))
    assert [(tmp_path / name).stat().st_size > 5000 for name in drawing] == [True]


def test_what_is_given_stays_and_colours_follow_their_probabilities(model):
    """A head that always says colour 3 draws it for each further pixel."""
    network = model.eval().model.network
    tokens = torch.tensor([[4, 1, 0], [2, 2, 2]])
    network.lm_head = torch.nn.Linear(16, COLOURS)
    torch.nn.init.zeros_(network.lm_head.weight)
    with torch.no_grad():
        network.lm_head.bias.copy_(torch.tensor([-50.0, -50, -50, 50, -50]))
        made = go_on(model.model, tokens)
    assert torch.equal(made[:, :3], tokens)
    assert made.shape == (2, SIDE**2) and (made[:, 3:] == 3).all()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two classes of twenty-five images of five colours, of which a fifth is held out."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for label in ("few", "many"):
        (folder / label).mkdir()
        for number in range(25):
            pixels = NAMED.numpy()[rng.integers(0, 3 if label == "few" else 5, (8, 8))]
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


SMALL = ["--image_size", "8", "--colours", "5", "--size", "tiny", "--per_device_train_batch_size", "8", "--use_cpu"]
SMALL += ["--max_steps", "3", "--save_steps", "2", "--knn_steps", "2", "--draws", "2", "--shots", "1"]


def start(*arguments: str) -> int:
    try:
        run(image_gpt.main, image_gpt.ImageGPTSettings, [*SMALL, *arguments])
    except SystemExit as end:
        return end.code
    return 0


def test_a_run_resumes_bit_for_bit_and_leaves_a_model_for_plain_transformers(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(image_gpt.SIZES, "tiny", (16, 2, 2))
    out = tmp_path / "run"
    given = ["--dataset", str(images), "--output_dir", str(out)]
    assert start(*given) == 0, capsys.readouterr().err

    def digest():
        return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()

    whole, report = digest(), json.loads((out / "report.json").read_text())
    assert report["own_task"]["rows"]["chance"]["nats per pixel"] == pytest.approx(math.log(5))
    assert len(report["layers"]["image GPT"]["linear"]) == 3
    assert "ImageGPTForCausalImageModeling" in (out / "README.md").read_text()

    ours = ImageGPTForPreTraining.from_pretrained(out / "pretraining").eval()
    picture = Image.open(images / "many" / "0.png")
    processor, network = AutoImageProcessor.from_pretrained(out), AutoModel.from_pretrained(out).eval()
    tokens = processor(picture, return_tensors="pt")["input_ids"]
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    assert torch.equal(tokens, ours.model.tokens(pixels))
    with torch.no_grad():
        states = network(ours.model.started(tokens), output_hidden_states=True).hidden_states
        assert torch.allclose(states[1].mean(1), ours.model(pixels), atol=1e-5)  # its attention is not fused
        judged = find_encoder(str(out), modality="image", all_layers=True)
        layers = judged.network(
            judged.preprocess([{"image": {"bytes": (images / "many" / "0.png").read_bytes(), "path": None}}])
        )
    assert torch.allclose(layers[:, 16:32], states[1].mean(1), atol=1e-6)
    head = ImageGPTForCausalImageModeling.from_pretrained(out)
    assert torch.equal(head.lm_head.weight, ours.model.network.lm_head.weight)

    settings = ["--checkpoint", str(out / "checkpoint-3"), "--output_dir", str(tmp_path / "exported")]
    run(export.main, export.ExportSettings, settings)
    assert (tmp_path / "exported" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()

    shutil.rmtree(out / "checkpoint-3")  # as if it had been killed after the second step
    (out / "model.safetensors").unlink()
    assert start(*given) == 0, capsys.readouterr().err
    assert digest() == whole


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--colours", "6"], "--colours 6: these images have 5 different colours"),
        (["--channels", "1"], "--channels 1: a palette is of red, green and blue"),
    ],
)
def test_what_has_no_such_palette_is_refused(arguments, said, images, tmp_path, capsys):
    assert start("--dataset", str(images), "--output_dir", str(tmp_path / "run"), *arguments) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("run/checkpoint-*"))


# ---- the masked objective


@pytest.fixture
def masked():
    torch.manual_seed(0)
    shape = {"max_position_embeddings": SIDE**2, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "tie_word_embeddings": False}
    config = BertConfig(vocab_size=COLOURS + 1, intermediate_size=32, pad_token_id=None, **shape, **off)
    model = ImageGPTForPreTraining(ImageGPTPretrainingConfig(decoder=config))
    model.model.palette.copy_(NAMED / 127.5 - 1)
    return model


def test_the_masked_loss_is_that_of_the_native_model_at_hidden_pixels(masked):
    images, hidden = drawn(3), torch.tensor([[1, 7], [0, 15], [4, 2]])
    tokens = masked.model.tokens(images)
    logits = masked.model.network(tokens.scatter(1, hidden, COLOURS)).logits.double()[..., :COLOURS].log_softmax(-1)
    by_hand = -sum(logits[i, t, tokens[i, t]].item() for i in range(3) for t in hidden[i]) / 6
    assert masked(images, hidden=hidden).loss.item() == pytest.approx(by_hand, rel=1e-5)
    torch.nn.init.zeros_(masked.model.network.get_output_embeddings().weight)  # as a run starts
    assert masked(images, hidden=hidden).loss.item() == pytest.approx(math.log(COLOURS))


def test_the_colour_of_a_hidden_pixel_is_not_seen_and_only_it_is_told(masked):
    hidden = torch.tensor([[3, 9]])
    one = masked.model.tokens(drawn(1))
    other = one.clone()
    other[:, hidden] = (other[:, hidden] + 1) % COLOURS
    with torch.no_grad():
        (states, asked, colours), (others, same, _) = (masked.model.asked(tokens, hidden) for tokens in (one, other))
    assert torch.equal(asked, same) and all(map(torch.equal, states, others))
    assert torch.equal(colours, one[0, hidden[0]])


def test_hidden_pixels_are_drawn_anew_in_each_step_and_alike_on_any_number_of_processes():
    collator = OneView(lambda images, **how: images / 255, (0.5,) * 3, (0.5,) * 3, canvas=SIDE, hidden=3)
    batch = {"pixel_values": torch.zeros(4, 3, SIDE, SIDE)}
    together = collator.views(batch, Place(0, 1))["hidden"]
    assert together.shape == (4, 3) and not torch.equal(together, collator.views(batch, Place(0, 2))["hidden"])
    halves = [collator.views({"pixel_values": batch["pixel_values"][:2]}, Place(0, 1, 0, rank, 2)) for rank in (0, 1)]
    assert torch.equal(torch.cat([half["hidden"] for half in halves]), together)


@pytest.mark.usefixtures("unshown")
@pytest.mark.usefixtures("unshown")
def test_a_masked_run_resumes_bit_for_bit_and_is_judged_as_bert(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(image_gpt.SIZES, "tiny", (16, 2, 2))
    out = tmp_path / "run"
    given = ["--objective", "masked", "--dataset", str(images), "--output_dir", str(out)]
    assert start(*given) == 0, capsys.readouterr().err
    whole, report = (out / "model.safetensors").read_bytes(), json.loads((out / "report.json").read_text())
    assert "told.png" in report["figures"] and report["own_task"]["rows"]["this run"]["nats per pixel"] < 2
    assert list(report["rows"])[0] == "image GPT, masked" and len(report["layers"]["image GPT, masked"]["linear"]) == 3
    ours = ImageGPTForPreTraining.from_pretrained(out / "pretraining").eval()
    content = (images / "many" / "0.png").read_bytes()
    tokens = AutoImageProcessor.from_pretrained(out)(Image.open(images / "many" / "0.png"), return_tensors="pt")
    plain = AutoModel.from_pretrained(out).eval()
    judged = find_encoder(str(out), modality="image", all_layers=True)
    with torch.no_grad():
        states = plain(**tokens, output_hidden_states=True).hidden_states
        layers = judged.network(judged.preprocess([{"image": {"bytes": content, "path": None}}]))
        assert torch.equal(states[1], ours.model.states(tokens["input_ids"])[1])
    assert torch.allclose(layers[:, 16:32], states[1].mean(1), atol=1e-6)
    shutil.rmtree(out / "checkpoint-3")
    (out / "model.safetensors").unlink()
    assert start(*given) == 0, capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == whole
