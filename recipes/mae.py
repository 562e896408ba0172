"""Masked autoencoders (He et al. 2022, arXiv:2111.06377): most patches of an image are hidden, and told from the rest.

    accelerate launch recipes/mae.py --config recipes/configs/mae/toy_digits.yaml --output_dir out/digits
    hf-replearn mae --dataset PATH_OR_HUB_ID --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/mae.py \\
        --config recipes/configs/mae/imagenet_vit_base.yaml --output_dir out/imagenet

The encoder is a Vision Transformer. Its features are far better fine-tuned than frozen; frozen, they want batch
normalisation before a linear layer, which the report has beside the probe without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import CropSettings, ImageMethod, Method, later, run, setting


@dataclass(kw_only=True)
class MAESettings(CropSettings):
    backbone: str | None = setting(
        None,
        "Vision Transformer of timm, or a checkpoint of one; none: vit_tiny_patch16_224 with patches of 4 pixels up to "
        "64 pixels, vit_base_patch16_224 above (paper)",
        section="model",
    )
    min_scale: float = setting(
        0.2, "smallest crop, as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    mask_ratio: float = setting(0.75, "share of the patches that is hidden", section="model", above=0, at_most=1)
    norm_pix_loss: bool = setting(
        True, "each hidden patch is told less its mean, divided by its deviation", section="model"
    )
    decoder_hidden_size: int | None = setting(
        None, "width of g; none: 128 up to 64 pixels, 512 above (paper)", section="model", at_least=4, at_most=65_536
    )
    decoder_num_hidden_layers: int | None = setting(
        None, "blocks of g; none: 2 up to 64 pixels, 8 above (paper)", section="model", at_least=1, at_most=1000
    )
    decoder_num_attention_heads: int | None = setting(
        None, "heads of g; none: 4 up to 64 pixels, 16 above (paper)", section="model", at_least=1, at_most=1000
    )
    optimizer: Literal["lars", "adamw", "sgd"] = setting(
        "adamw", "AdamW with betas 0.9 and 0.95 (paper); LARS; or SGD with momentum 0.9", section="training"
    )
    learning_rate: float | None = setting(
        None, "peak learning rate; none: 1.5e-4 * batch / 256 (paper)", section="training", above=0, at_most=1000
    )
    weight_decay: float = setting(
        0.05, "of weight matrices; norms and biases have none (paper: 0.05)", section="training", at_least=0
    )

    BACKBONES: ClassVar = (("vit_tiny_patch16_224", {"patch_size": 4}), ("vit_base_patch16_224", None))
    BETAS: ClassVar = (0.9, 0.95)
    BY_SIZE: ClassVar = {
        "decoder_hidden_size": (128, 512),
        "decoder_num_hidden_layers": (2, 8),
        "decoder_num_attention_heads": (4, 16),
    }
    RATE: ClassVar[float] = 1.5e-4


def hidden_patches(settings: MAESettings, backbone, data, augment):
    """A crop of each image, and which of its patches are hidden."""
    import timm
    import torch

    from hf_replearn.methods.mae.collating_mae import DataCollatorForMAE
    from hf_replearn.methods.mae.modeling_mae import check_encoder
    from hf_replearn.pretraining.images import one_crop

    with torch.device("meta"):
        encoder = timm.create_model(backbone.architecture, num_classes=0, **backbone.arguments)
    try:
        check_encoder(encoder)
    except ValueError as error:
        raise InputError(f"--backbone {settings.backbone}: {error}") from error
    width, heads = settings.decoder_hidden_size, settings.decoder_num_attention_heads
    if width % 4 or width % heads:
        raise InputError(
            f"--decoder_hidden_size {width} must be a multiple of 4, for the positions, and of the "
            f"--decoder_num_attention_heads {heads}"
        )
    (rows, columns), patch = encoder.patch_embed.grid_size, encoder.patch_embed.patch_size[0]
    if rows * patch != settings.image_size:
        raise InputError(f"--image_size {settings.image_size}: patches of {patch} pixels do not fill the image")
    kept = int(rows * columns * (1 - settings.mask_ratio))
    if not kept:
        raise InputError(
            f"--mask_ratio {settings.mask_ratio} hides all of {rows * columns} patches of {patch} pixels: lower it, or "
            "make patches smaller, by --backbone_args \"{'patch_size': …}\""
        )
    return one_crop(DataCollatorForMAE, settings, backbone, data, augment, side=rows, kept=kept)


METHOD = ImageMethod(
    command="mae",
    collator=hidden_patches,
    own_task=later("hf_replearn.methods.mae.showing_mae.own_task"),
    pictures=later("hf_replearn.methods.mae.showing_mae.pictures"),
    probes=("linear_bn",),
    stages=True,
    facts=Method(
        name="MAE",
        summary="Three quarters of the patches of an image are hidden, the encoder sees the others, and a small "
        "decoder, which is thrown away, tells the hidden pixels; no labels are used.",
        paper="Masked Autoencoders Are Scalable Vision Learners",
        arxiv="2111.06377",
        bibtex="""\
@inproceedings{he2022masked,
  title     = {Masked Autoencoders Are Scalable Vision Learners},
  author    = {He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and Doll{\\'a}r, Piotr and others},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}""",
        model_class="hf_replearn.methods.mae.MAEForPreTraining",
    ),
)


def main(settings: MAESettings, **given):
    """Masked autoencoders: most patches of an image are hidden, and told from the others (arXiv:2111.06377)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, MAESettings, prog="mae")
