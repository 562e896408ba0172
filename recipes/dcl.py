"""DCL (Yeh et al. 2022, arXiv:2110.06848): SimCLR that learns in small batches too.

    accelerate launch recipes/dcl.py --config recipes/configs/dcl/toy_digits.yaml --output_dir out/digits
    hf-replearn dcl --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/dcl.py \\
        --config recipes/configs/dcl/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_replearn.pretraining.recipe import ContrastiveSettings, ImageMethod, Method, run, setting


@dataclass(kw_only=True)
class DCLSettings(ContrastiveSettings):
    projection_dim: int = setting(128, "width of z = g(h)", section="model", at_least=2, at_most=65_536)
    projection_layers: int = setting(2, "of g", section="model", at_least=1, at_most=100)
    temperature: float = setting(
        0.1,
        "of the loss: the lower, the more the nearest other images count (paper, ImageNet: 0.1)",
        section="model",
        at_least=0.025,
        at_most=1000,
    )


METHOD = ImageMethod(
    command="dcl",
    facts=Method(
        name="DCL",
        summary="As SimCLR, two augmented views of an image attract and views of other images repel, but the "
        "attracting pair does not stand among the repelling ones, so small batches do; no labels are used.",
        paper="Decoupled Contrastive Learning",
        arxiv="2110.06848",
        bibtex="""\
@inproceedings{yeh2022decoupled,
  title     = {Decoupled Contrastive Learning},
  author    = {Yeh, Chun-Hsiao and Hong, Cheng-Yao and Hsu, Yen-Chi and Liu, Tyng-Luh and Chen, Yubei and LeCun, Yann},
  booktitle = {European Conference on Computer Vision},
  year      = {2022}
}""",
        model_class="hf_replearn.methods.dcl.DCLForPreTraining",
    ),
)


def main(settings: DCLSettings, **given):
    """DCL: SimCLR whose positive pair is not among the negatives, for small batches (arXiv:2110.06848)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, DCLSettings, prog="dcl")
