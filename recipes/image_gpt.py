"""Image GPT (Chen et al. 2020): the colour of each pixel is told from those above it and to its left; or those of a few
hidden pixels from all others.

    accelerate launch recipes/image_gpt.py --config recipes/configs/image_gpt/toy_digits.yaml --output_dir out/digits
    hf-replearn image-gpt --dataset PATH_OR_HUB_ID --image_size 32 --size small --output_dir out/mine
    hf-replearn image-gpt --objective masked --dataset PATH_OR_HUB_ID --size small --output_dir out/masked
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/image_gpt.py \\
        --config recipes/configs/image_gpt/imagenet_small.yaml --output_dir out/imagenet

Images are made small, and written in a palette of colours that k-means finds in them. What is left is transformers'
ImageGPT and its image processor. Features are the mean over positions of the layer in the middle, with the token that
starts an image in front, as the network was trained. `--objective masked` is the paper's second objective, BERT's: 15 %
of the pixels are hidden. It needs attention to both sides, which transformers' ImageGPT does not have: what is left
then is transformers' BERT, and the same image processor, which gives it its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from hf_replearn.pretraining.recipe import Method, PixelMethod, PixelSettings, later, run, setting

# Width, blocks, heads; small, medium and large are the paper's (section 3.3).
SIZES = {
    "tiny": (128, 4, 4),
    "mini": (256, 8, 4),
    "small": (512, 24, 8),
    "medium": (1024, 36, 8),
    "large": (1536, 48, 16),
}


@dataclass(kw_only=True)
class ImageGPTSettings(PixelSettings):
    size: Literal["tiny", "mini", "small", "medium", "large"] = setting(
        "small", "of the model; small, medium and large are the paper's: 76 million to 1.4 billion", section="model"
    )
    objective: Literal["autoregressive", "masked"] = setting(
        "autoregressive",
        "autoregressive: each pixel is told from those before it; masked: 15 % of the pixels from all others (paper: "
        "better after fine-tuning, worse as features)",
        section="model",
    )


def image_gpt(settings: ImageGPTSettings, colours: int):
    """The native model that sees what comes before a pixel; the last token starts an image."""
    from transformers import ImageGPTConfig

    width, layers, heads = SIZES[settings.size]
    shape = {"n_positions": settings.image_size**2, "n_embd": width, "n_layer": layers, "n_head": heads}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), settings.dropout)
    return ImageGPTConfig(vocab_size=colours + 1, **shape, **dropout)


def bert(settings: ImageGPTSettings, colours: int):
    """The native model that sees all pixels but the hidden ones; the last token stands for these."""
    from transformers import BertConfig

    width, layers, heads = SIZES[settings.size]
    shape = {"max_position_embeddings": settings.image_size**2, "hidden_size": width, "intermediate_size": 4 * width}
    shape |= {"num_hidden_layers": layers, "num_attention_heads": heads, "type_vocab_size": 1}
    dropout = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), settings.dropout)
    about = {"tie_word_embeddings": False, "pad_token_id": None, "reads_pixels": True}
    return BertConfig(vocab_size=colours + 1, **shape, **dropout, **about)


METHOD = PixelMethod(
    command="image-gpt",
    palette=later("hf_replearn.methods.image_gpt.fit_palette"),
    native=image_gpt,
    layers=later("hf_replearn.methods.image_gpt.Layers"),
    own_task=later("hf_replearn.methods.image_gpt.showing_image_gpt.own_task"),
    pictures=later("hf_replearn.methods.image_gpt.showing_image_gpt.pictures"),
    facts=Method(
        name="image GPT",
        summary="An image is written as a row of colours, each of which is told from those before it; no labels are "
        "used.",
        paper="Generative Pretraining from Pixels",
        arxiv=None,
        bibtex="""\
@inproceedings{chen2020generative,
  title     = {Generative Pretraining from Pixels},
  author    = {Chen, Mark and Radford, Alec and Child, Rewon and Wu, Jeffrey and Jun, Heewoo and Luan, David and
               Sutskever, Ilya},
  booktitle = {International Conference on Machine Learning},
  year      = {2020}
}""",
        model_class="hf_replearn.methods.image_gpt.ImageGPTForPreTraining",
    ),
)

MASKED = replace(
    METHOD,
    native=bert,
    hidden=0.15,
    own_task=later("hf_replearn.methods.image_gpt.showing_masked.own_task"),
    pictures=later("hf_replearn.methods.image_gpt.showing_masked.pictures"),
    facts=replace(
        METHOD.facts,
        name="image GPT, masked",
        summary="An image is written as a row of colours, some of which are hidden and told from all others; no labels "
        "are used.",
    ),
)


def main(settings: ImageGPTSettings, **given):
    """Image GPT: the colour of each pixel is told from those before it (Chen et al. 2020)."""
    from hf_replearn.pretraining.pixels import pretrain_pixels

    return pretrain_pixels(settings, METHOD if settings.objective == "autoregressive" else MASKED, **given)


if __name__ == "__main__":
    run(main, ImageGPTSettings, prog="image_gpt")
