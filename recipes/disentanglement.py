"""Disentanglement: whether each factor of images, such as position or shape, has a part of a code to itself.

    hf-replearn disentanglement --model out/vae --dataset sprites --output_dir out/vae_factors
    hf-replearn disentanglement --model out/vae out/simclr --dataset sprites-asymmetric --output_dir out/factors
    hf-replearn disentanglement --model timm/resnet18.a1_in1k --dataset rendered.parquet --factors colour size angle \\
        --output_dir out/rendered

Any encoder is judged. Of a run with a decoder, such as an autoencoder, that is its code (the means of a variational
autoencoder's), of others their features. The factors are those of `sprites`, `sprites-asymmetric` and
`scenes3d`, which are made here, or columns of your own data: numbers are factors with an order, words and declared
classes without one.

MIG, DCI, SAP, modularity, and the scores of FactorVAE and BetaVAE stand beside those of the factors themselves, of the
same factors rotated, so that each number mixes all of them, of as many principal components of the pixels, and of the
network from random weights. The last two scores may be high of rotated factors: never report them alone. Two minutes on
a CPU core for a small network; `--add_to_card` writes the scores into the card of the first model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_replearn.settings import MOST_WORKERS, run, setting

if TYPE_CHECKING:
    from hf_replearn.sharing.report import Evaluation


@dataclass(kw_only=True)
class DisentanglementSettings:
    model: tuple[str, ...] = setting(
        ..., "folder of a run, or folder or Hub id of any encoder of images; may be several", section="model"
    )
    layers: str = setting(
        "last", "layer that is judged: last, or its number (0: before the first block)", section="model"
    )
    baselines: bool = setting(
        True, "true and rotated factors, PCA of the pixels and random weights beside them", section="model"
    )
    dataset: str = setting(
        ...,
        "sprites, sprites-asymmetric, scenes3d, or a Hub id, folder or file of images with columns of their factors",
        section="data",
    )
    factors: tuple[str, ...] = setting(
        (), "columns that say what an image was made of; none: those of the images that are made here", section="data"
    )
    files: tuple[str, ...] = setting((), "files of the folder that are the data; none: all", section="data")
    dataset_config: str | None = setting(None, "of a Hub dataset that has several", section="data")
    image_column: str | None = setting(None, "column of the images; none: the only one", section="data")
    max_undecodable: float = setting(
        0.01, "share of images that may fail to decode", section="data", at_least=0, at_most=1
    )
    examples: int = setting(
        15_000, "images, drawn at random: two thirds to learn from, one to judge on", section="data", at_least=60
    )
    output_dir: str = setting(..., "folder for report.json and report.html", section="run")
    add_to_card: bool = setting(
        False, "add the scores to the report and card of the first --model, a folder", section="run"
    )
    seed: int = setting(42, "of draws, trees and random weights", section="run", at_least=0, at_most=2**31 - 1)
    use_cpu: bool = setting(False, "stay on the CPU even where there is a GPU", section="run")
    dataloader_num_workers: int = setting(
        0, "processes that load images", section="run", at_least=0, at_most=MOST_WORKERS
    )


def main(settings: DisentanglementSettings) -> Evaluation:
    """Disentanglement: whether each factor of images, such as position or shape, has a part of a code to itself."""
    print(f"factors of {settings.dataset} …", flush=True)
    from accelerate import PartialState

    from hf_replearn.errors import InputError
    from hf_replearn.judging.disentanglement import judge_disentanglement

    if settings.layers != "last" and not settings.layers.isdecimal():
        raise InputError(f"--layers must be last or the number of a layer, got {settings.layers!r}")
    PartialState(cpu=settings.use_cpu)
    return judge_disentanglement(settings)


if __name__ == "__main__":
    run(main, DisentanglementSettings, prog="disentanglement")
