"""MoCo, version 3 (Chen et al. 2021, arXiv:2104.02057) or 2 (Chen et al. 2020, arXiv:2003.04297): a teacher's keys.

    accelerate launch recipes/moco.py --config recipes/configs/moco/toy_digits.yaml --output_dir out/digits
    hf-replearn moco --version 3 --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/moco.py \\
        --config recipes/configs/moco/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hf_replearn.pretraining.recipe import ImageMethod, Method, ViewSettings, run, setting

WIDTH = {"section": "model", "at_least": 1, "at_most": 65_536}


@dataclass(kw_only=True)
class MoCoSettings(ViewSettings):
    version: int = setting(
        3, "2: a queue of earlier keys; 3: the batch alone, and a predictor", section="model", at_least=2, at_most=3
    )
    projection_dim: int | None = setting(None, "width of z = g(h); none: 256, in version 2 128 (papers)", **WIDTH)
    projection_hidden: int | None = setting(
        None, "width of the hidden layers of g; none: 4096, in version 2 2048 (papers)", **WIDTH
    )
    projection_layers: int = setting(
        2, "of g, in version 3 (paper: 2 on a ResNet, 3 on a ViT)", section="model", at_least=1, at_most=100
    )
    predictor_hidden: int = setting(4096, "width of the predictor's hidden layer, in version 3 (paper: 4096)", **WIDTH)
    queue_size: int = setting(
        65_536, "keys in the queue, in version 2 (paper: 65536)", section="model", at_least=1, at_most=10_000_000
    )
    temperature: float = setting(
        0.2, "of the loss (papers: 1 on a ResNet in version 3)", section="model", at_least=0.025, at_most=1000
    )
    momentum: float | None = setting(
        None,
        "of the teacher at the start; none: 0.99, in version 2 0.999 (papers)",
        section="model",
        at_least=0,
        at_most=1,
    )
    final_momentum: float | None = setting(
        None, "of the teacher at the end; none: 1, in version 2 0.999 (papers)", section="model", at_least=0, at_most=1
    )


V3 = Method(
    name="MoCo v3",
    summary="The student's prediction of an augmented view finds, among those of a large batch, the key that a "
    "teacher, its own running mean, makes of another view of the image; no labels are used, heads and teacher are "
    "thrown away.",
    paper="An Empirical Study of Training Self-Supervised Vision Transformers",
    arxiv="2104.02057",
    bibtex="""\
@inproceedings{chen2021empirical,
  title     = {An Empirical Study of Training Self-Supervised Vision Transformers},
  author    = {Chen, Xinlei and Xie, Saining and He, Kaiming},
  booktitle = {IEEE/CVF International Conference on Computer Vision},
  year      = {2021}
}""",
    model_class="hf_replearn.methods.moco.MoCoForPreTraining",
)
V2 = replace(
    V3,
    name="MoCo v2",
    summary="The student's projection of an augmented view finds the key that a teacher, its own running mean, makes "
    "of another view of the image among a queue of keys of earlier images; no labels are used, head and teacher are "
    "thrown away.",
    paper="Improved Baselines with Momentum Contrastive Learning",
    arxiv="2003.04297",
    bibtex="""\
@article{chen2020improved,
  title   = {Improved Baselines with Momentum Contrastive Learning},
  author  = {Chen, Xinlei and Fan, Haoqi and Girshick, Ross and He, Kaiming},
  journal = {arXiv preprint arXiv:2003.04297},
  year    = {2020}
}""",
)
METHOD = ImageMethod(command="moco", facts=V3)
PAPERS = {  # of version 2, and of 3
    "projection_dim": (128, 256),
    "projection_hidden": (2048, 4096),
    "momentum": (0.999, 0.99),
    "final_momentum": (0.999, 1.0),
}


def main(settings: MoCoSettings, **given):
    """MoCo: a query finds its teacher's key of another view of the image (arXiv:2104.02057, arXiv:2003.04297)."""
    from hf_replearn.pretraining.images import pretrain_images

    later = settings.version == 3
    left = {name: of[later] for name, of in PAPERS.items() if getattr(settings, name) is None}
    return pretrain_images(replace(settings, **left), replace(METHOD, facts=V3 if later else V2), **given)


if __name__ == "__main__":
    run(main, MoCoSettings, prog="moco")
