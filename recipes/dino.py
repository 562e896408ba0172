"""DINO (Caron et al. 2021, arXiv:2104.14294): a student tells its teacher's view of the whole from small crops.

    accelerate launch recipes/dino.py --config recipes/configs/dino/toy_digits.yaml --output_dir out/digits
    hf-replearn dino --dataset PATH_OR_HUB_ID --backbone resnet18 --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/dino.py \\
        --config recipes/configs/dino/imagenet_resnet50.yaml --output_dir out/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import ImageMethod, Method, ViewSettings, run, setting

SHARE = {"section": "model", "at_least": 0, "at_most": 1}
TEMPERATURE = {"section": "model", "at_least": 0.005, "at_most": 1000}


@dataclass(kw_only=True)
class DINOSettings(ViewSettings):
    min_scale: float | None = setting(
        None, "of a large crop; none: 0.08 up to 64 pixels, 0.4 above (paper)", section="data", at_least=0.01, at_most=1
    )
    local_crops: int | None = setting(
        None, "small crops of each image; none: 0 up to 64 pixels, 8 above", section="data", at_least=0, at_most=100
    )
    local_size: int | None = setting(
        None, "of a small crop; none: 3/7 of a large one (a ViT: with dynamic_img_size)", section="data", at_least=8
    )
    local_scale: tuple[float, ...] = setting(
        (0.05, 0.4), "LOW,HIGH: a small crop as a share of the image's area", section="data", at_least=0.01, at_most=1
    )
    prototypes: int = setting(4096, "K (paper: 65536)", section="model", at_least=2, at_most=10_000_000)
    projection_hidden: int = setting(2048, "width of the hidden layers of g", section="model", at_least=1)
    head_norm: bool = setting(True, "batch normalisation in g; false for a ViT (paper: false)", section="model")
    student_temperature: float = setting(0.1, "of the student's distribution", **TEMPERATURE)
    teacher_temperature: float = setting(0.07, "of the teacher's, after its warm-up", **TEMPERATURE)
    warmup_temperature: float = setting(0.04, "of the teacher's at the start", **TEMPERATURE)
    temperature_warmup: float = setting(0.1, "share of the run in which the teacher's temperature rises", **SHARE)
    centring: Literal["mean", "sinkhorn"] = setting(
        "mean", "mean: a running mean is taken off; sinkhorn: a batch is spread over the prototypes", section="model"
    )
    centre_momentum: float = setting(0.9, "of the running mean", **SHARE)
    frozen_share: float = setting(0.01, "of the run in which the student's prototypes do not learn", **SHARE)
    momentum: float = setting(0.996, "of the teacher at the start, rising to 1", **SHARE)

    BY_SIZE: ClassVar = ViewSettings.BY_SIZE | {"min_scale": (0.08, 0.4), "local_crops": (0, 8)}

    @property
    def VIEWS(self) -> float:
        """Large crops that take as much memory as all crops of an image."""
        return 2 + self.local_crops * (self.local_pixels / self.image_size) ** 2

    @property
    def local_pixels(self) -> int:
        """Of a small crop: 96 at 224 pixels, as in the paper."""
        return self.local_size or max(8, round(self.image_size * 3 / 7 / 8) * 8)


def multi_crop(settings: DINOSettings, backbone, data, augment):
    """Large and small crops; or, without small ones, the two views of every method."""
    from hf_replearn.methods.dino.collating_dino import DataCollatorForMultiCrop
    from hf_replearn.pretraining.images import two_views

    two, count, scale = two_views(settings, backbone, data, augment), settings.local_crops, settings.local_scale
    if not count:
        return two
    if augment is not None:
        raise InputError(f"--local_crops {count}: your own augmentation makes views of one size: --local_crops 0")
    if len(scale) != 2 or scale[0] > scale[1]:
        raise InputError(f"--local_scale {','.join(map(str, scale))} must be LOW,HIGH")
    small = partial(two.policy, size=settings.local_pixels, min_scale=scale[0], max_scale=scale[1])
    return DataCollatorForMultiCrop(**vars(two), local_policy=small, local_crops=count)


METHOD = ImageMethod(
    command="dino",
    collator=multi_crop,
    facts=Method(
        name="DINO",
        summary="A student tells, from a crop of an image, how its teacher, its own running mean, distributes another "
        "crop among prototypes; no labels are used, the teacher's encoder is kept, heads and student are thrown away.",
        paper="Emerging Properties in Self-Supervised Vision Transformers",
        arxiv="2104.14294",
        bibtex="""\
@inproceedings{caron2021emerging,
  title     = {Emerging Properties in Self-Supervised Vision Transformers},
  author    = {Caron, Mathilde and Touvron, Hugo and Misra, Ishan and J{\\'e}gou, Herv{\\'e} and others},
  booktitle = {IEEE/CVF International Conference on Computer Vision},
  year      = {2021}
}""",
        model_class="hf_replearn.methods.dino.DINOForPreTraining",
    ),
)


def main(settings: DINOSettings, **given):
    """DINO: a student tells how its teacher distributes other crops among prototypes (arXiv:2104.14294)."""
    from hf_replearn.pretraining.images import pretrain_images

    return pretrain_images(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, DINOSettings, prog="dino")
