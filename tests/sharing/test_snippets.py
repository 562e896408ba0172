"""Every line of Python that the README and the cards show does what is said beside it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from hf_replearn.data.decoding import centre_crop
from hf_replearn.errors import InputError
from hf_replearn.sharing.card import card
from hf_replearn.sharing.export import export_sentence_transformers, export_timm, save_native
from hf_replearn.sharing.finetuned import write_finetuned_card
from hf_replearn.sharing.report import Data, Encoder, Training

README = Path(__file__).parents[2] / "README.md"
CARDS = sorted((README.parent / "model_cards").glob("*.md"))


def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """out/mine, an encoder of images with its head; out/bert and out/gpt; out/tuned/model, a fine-tuned network."""
    import timm
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    from hf_replearn.methods.simclr import SimCLRConfig, SimCLRForPreTraining

    folder = tmp_path_factory.mktemp("snippets")
    torch.manual_seed(0)
    how = {"image_size": 64, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    network = timm.create_model("test_resnet", num_classes=0)
    network(3 * torch.randn(8, 3, 64, 64) + 1)  # statistics that are not those of a new network
    export_timm(network.eval(), folder / "out/mine", architecture="test_resnet", **how)
    save_native(SimCLRForPreTraining(SimCLRConfig(backbone="test_resnet")), folder / "out/mine/pretraining")
    Image.radial_gradient("L").resize((80, 70)).save(folder / "image.png")

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    names = {f"{name[1:-1].lower()}_token": name for name in special}
    words = {word: number for number, word in enumerate([*special, *["It", "was", "a", "day", ".", "text", "A"]])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    size = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    bert = transformers.BertConfig(**size, intermediate_size=16, max_position_embeddings=32)
    gpt = transformers.GPT2Config(
        vocab_size=len(words), n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=3, eos_token_id=3
    )
    for place, model in (
        ("bert", transformers.BertForMaskedLM(bert)),
        ("gpt", transformers.GPT2LMHeadModel(gpt)),
        ("tuned/model", transformers.BertForSequenceClassification(bert)),
    ):
        own = {"eos_token": "[SEP]"} if place == "gpt" else names
        save_native(model, folder / "out" / place)
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **own).save_pretrained(folder / "out" / place)
    export_sentence_transformers(folder / "out/bert", max_length=16)
    return folder


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def test_the_readme(here):
    """Vision: both libraries give the same features, bit for bit, and the head loads. Text: as many as are wide."""
    vision, text, *others = snippets(README.read_text())
    for other in others:
        compile(other, "README.md", "exec")  # tests/test_words.py, test_pretrain.py and test_notebook.py run its like
    names: dict = {}
    with torch.no_grad():
        exec(vision, names)
    assert torch.equal(names["features"], names["same"]) and names["features"].std() > 0
    exec(text, names)
    assert names["features"].shape == (1, 16) and names["told"][0]["token_str"]


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_the_committed_cards_are_of_this_form(path):
    """Scores in words, and types, languages and front matter as the Hub reads them."""
    from huggingface_hub import ModelCard

    text = path.read_text()
    data = ModelCard(text).data
    kinds = {result.metric_type for result in data.eval_results}
    assert kinds & {"accuracy", "spearmanr", "exact_match"} and not any(
        "@" in kind or "_sst2" in kind for kind in kinds
    )
    assert "k\\_shot" not in text
    assert data.pipeline_tag in ("image-feature-extraction", "graph-ml") or data.language == ["en"]
    assert "\\`" not in text and "## License" in text and not re.search(r"(?<!\w)/(home|root|work|tmp)/", text)
    for snippet in snippets(text):
        compile(snippet, str(path), "exec")


def test_weights_are_read_by_whom_the_other_files_are(made):
    for folder in ("out/bert", "out/mine", "out/mine/pretraining"):
        modes = {(made / folder / name).stat().st_mode for name in ("config.json", "model.safetensors")}
        assert len(modes) == 1


@pytest.mark.parametrize(
    ("folder", "tag"),
    [
        ("out/mine", None),
        ("out/bert", "fill-mask"),
        ("out/gpt", "text-generation"),
        ("out/bert", "sentence-similarity"),
    ],
)
def test_the_cards(folder, tag, here, report):
    if tag is not None:
        report.encoder = Encoder(
            library="sentence-transformers" if tag == "sentence-similarity" else "transformers",
            pipeline_tag=tag,
            architecture="X",
            parameters=1,
            features=16,
            input_size=[32],
        )
        report.data = Data(name="x", unit="document", train=1, test=1, skipped=0, classes=None, held_out="y")
        report.training = Training(
            steps=1, examples=1, seconds=1.0, examples_per_second=1.0, final_loss=None, hardware="x", tokens=5
        )
    report.settings["output_dir"] = folder
    for snippet in snippets(card(report, folder)):
        names: dict = {}
        exec(snippet, names)
        assert names["features"].shape[0] == 1 if "features" in names else "model" in names


@pytest.mark.parametrize("channels", [1, 5])
def test_the_card_of_an_encoder_of_other_channels(channels, here, report):
    import timm

    export_timm(
        timm.create_model("test_resnet", num_classes=0, in_chans=channels), here / "out/many", image_size=32,
        architecture="test_resnet", arguments={"in_chans": channels}, mean=(0.5,) * channels, std=(0.5,) * channels,
    )  # fmt: skip
    report.encoder = replace(report.encoder, input_size=[channels, 32, 32])
    report.settings["output_dir"] = "out/many"
    by_transformers, by_timm, _ = snippets(card(report, "out/many"))
    for snippet in (by_transformers, by_timm):
        names: dict = {}
        exec(snippet, names)
        assert len(names["features"]) == 1 and names["features"].isfinite().all()


SCORES = {
    "runs": [
        {"row": row, "label_fraction": share, "seed": seed, "labels": int(share * 80), "scores": {"accuracy": value}}
        for row, value in (("mine", 0.75), ("random weights", 0.5))
        for share in (0.5, 1.0)
        for seed in (1, 2)
    ],
    "names": {"accuracy": "finetune_reviews"},
    "protocols": {"finetune_reviews": "Accuracy on 16 examples; mean of 2 seeds."},
    "task": "reviews",
    "data": "reviews",
    "command": "hf-replearn finetune --model /home/jane/mine",
    "settings": {
        "model": "owner/bert",
        "dataset": "/home/jane/reviews.csv",
        "mode": "full",
        "seed": 2,
        "license": "mit",
    },
    "versions": {"hf_replearn": "1"},
}


def test_a_fine_tuned_network_has_a_card(here):
    from huggingface_hub import ModelCard

    folder = here / "out/tuned"
    (folder / "scores.json").write_text(json.dumps(SCORES))
    write_finetuned_card(folder)
    text = (folder / "model/README.md").read_text()
    data = ModelCard(text).data
    assert (data.pipeline_tag, data.base_model, data.license) == ("text-classification", "owner/bert", "mit")
    assert [(r.metric_type, r.metric_value) for r in data.eval_results] == [("accuracy", 0.75)]
    assert "fine-tuned on 80 labels of reviews, with seed 2" in text and "jane" not in text
    assert "| mine | random weights |" in text and "accuracy, fine-tuned, 50 % of the labels" in text
    names: dict = {}
    exec(snippets(text)[0].replace('"model"', repr(str(folder / "model"))), names)
    assert names["tell"]("A text .")[0]["label"] in ("LABEL_0", "LABEL_1")
    (folder / "model/README.md").write_text(text + "\nBy hand.\n")
    write_finetuned_card(folder, repo_id="me/x")
    again = (folder / "model/README.md").read_text()
    assert again.endswith("\nBy hand.\n") and 'pipeline("text-classification", "me/x")' in again
    (folder / "model/README.md").write_text("---\n{")
    with pytest.raises(InputError, match="no end"):
        write_finetuned_card(folder)


def test_the_card_of_a_resnet_for_small_images(here, report):
    """Images come to the size of training before the image processor repeats their pixels."""
    import timm

    encoder = timm.create_model("resnet18", num_classes=0, layers=[1, 1, 1, 1], channels=[8, 8, 16, 16])
    encoder.conv1, encoder.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
    about = {"arguments": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}, "crop_pct": 0.8}
    how = {"image_size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    export_timm(encoder.eval(), here / "out/small", architecture="resnet18", **about, **how)
    report.encoder = replace(report.encoder, input_size=[3, 128, 128], features=16)
    report.settings |= {"output_dir": "out/small", "image_size": 32, "crop_pct": 0.8}
    pixels = centre_crop(Image.open(here / "image.png").convert("RGB"), 32, crop_pct=0.8)
    with torch.no_grad():
        trained = encoder((pixels[None] / 255 - 0.5) / 0.5)
    for snippet in snippets(card(report, "out/small"))[:2]:
        names: dict = {}
        exec(snippet, names)
        torch.testing.assert_close(names["features"].detach(), trained, rtol=1e-4, atol=1e-5)
