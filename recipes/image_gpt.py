"""Image GPT (Chen et al. 2020): the colour of each pixel is told from those above it and to its left.

    accelerate launch recipes/image_gpt.py --config recipes/configs/image_gpt/toy_digits.yaml --output_dir out/digits
    hf-replearn image-gpt --dataset PATH_OR_HUB_ID --image_size 32 --size small --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/image_gpt.py \\
        --config recipes/configs/image_gpt/imagenet_small.yaml --output_dir out/imagenet

Images are made small, and written in a palette of colours that k-means finds in them. What is left is transformers'
ImageGPT and its image processor. Features are the mean over positions of the layer in the middle, with the token that
starts an image in front, as the network was trained. Of the paper's two objectives this is the first; the masked one
would need attention to both sides, which transformers' ImageGPT does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
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


METHOD = PixelMethod(
    command="image-gpt",
    palette=later("hf_replearn.methods.image_gpt.fit_palette"),
    sizes=SIZES,
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


def main(settings: ImageGPTSettings, **given):
    """Image GPT: the colour of each pixel is told from those before it (Chen et al. 2020)."""
    from hf_replearn.pretraining.pixels import pretrain_pixels

    return pretrain_pixels(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, ImageGPTSettings, prog="image_gpt")
