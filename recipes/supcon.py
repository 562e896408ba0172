"""SupCon (Khosla et al. 2020, arXiv:2004.11362): an encoder from images and their classes.

    accelerate launch recipes/supcon.py --config recipes/configs/supcon/toy_digits.yaml --output_dir out/digits
    hf-replearn supcon --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/supcon.py \\
        --config recipes/configs/supcon/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_replearn.pretraining.recipe import ImageMethod, Method, ViewSettings, run, setting


@dataclass(kw_only=True)
class SupConSettings(ViewSettings):
    label_column: str | None = setting(
        None, "column of the labels, which are learnt from; none: the only one, or class folders", section="data"
    )
    projection_hidden: int = setting(
        2048, "width of the hidden layer of g (paper: 2048)", section="model", at_least=1, at_most=65_536
    )
    projection_dim: int = setting(128, "width of z = g(h) (paper: 128)", section="model", at_least=2, at_most=65_536)
    temperature: float = setting(
        0.1,
        "of the loss: the lower, the more the hardest images count (paper: 0.1)",
        section="model",
        at_least=0.025,
        at_most=1000,
    )


METHOD = ImageMethod(
    command="supcon",
    facts=Method(
        name="SupCon",
        summary="Augmented views of images of one class attract, views of images of other classes repel, and the head "
        "is thrown away. It learns from the labels of all its training images: its k-shot scores rest on more than k "
        "labels a class.",
        paper="Supervised Contrastive Learning",
        arxiv="2004.11362",
        bibtex="""\
@inproceedings{khosla2020supervised,
  title     = {Supervised Contrastive Learning},
  author    = {Khosla, Prannay and Teterwak, Piotr and Wang, Chen and Sarna, Aaron and Tian, Yonglong and
               Isola, Phillip and Maschinot, Aaron and Liu, Ce and Krishnan, Dilip},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2020}
}""",
        model_class="hf_replearn.methods.supcon.SupConForPreTraining",
    ),
    needs_labels=True,
)


def main(settings: SupConSettings, **given):
    """SupCon: images of one class attract, images of other classes repel (arXiv:2004.11362)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, SupConSettings, prog="supcon")
