"""What the encoder of a run on images is worth: beside what it must beat, stage by stage, at its own task, by its
neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from hf_replearn.data.images import ImageData
from hf_replearn.encoders.backbones import Stages, has_stages
from hf_replearn.evaluation.clustering import clustering
from hf_replearn.evaluation.desiderata import Found, desiderata, gain_of_codes
from hf_replearn.evaluation.knn import knn
from hf_replearn.evaluation.label_free import hoyer_sparsity
from hf_replearn.evaluation.linear_probe import linear_probe
from hf_replearn.evaluation.neighbours import drawn_queries, nearest_examples, shown
from hf_replearn.evaluation.steps import alone
from hf_replearn.evaluation.suite import PROBES, suite
from hf_replearn.methods.codes import Codes
from hf_replearn.pretraining.fixed import FixedBatches, fixed_sample
from hf_replearn.pretraining.recipe import ImageMethod, PictureSettings, SoundMethod
from hf_replearn.randomness import undisturbed
from hf_replearn.representation import Features, ImagePreprocessor, extract, pca, split_layers
from hf_replearn.sharing.drawn import draw_neighbours
from hf_replearn.sharing.report import Report
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.settings import PretrainingSettings

SHOWN = 64  # pixels of a picture of the page, at most
RANDOM = "random weights"  # the row of the network before training
PCA_WIDTHS = (16, 64)  # and that of the encoder
Judged = dict[str, tuple[dict[str, float | None], dict[str, str]]]  # row -> scores, and why others are missing


def judge(
    settings: PictureSettings,
    networks: dict[str, nn.Module],
    data: ImageData,
    *,
    preprocess: ImagePreprocessor,
    probes: tuple[str, ...] = (),
) -> Judged:
    """The scores of the first network, of raw pixels, of their principal components, and of the other networks.
    probes: further ones, see `suite`."""
    parts, (name, *others) = (data.labelled, data.test), networks
    small = replace(preprocess, size=min(settings.image_size, 32), crop_pct=1.0)
    if small.lightness:  # what is to be beaten are the pixels as they are, colours and all
        small = replace(small, mean=(0.5,), std=(0.5,), lightness=False)
    judged: Judged = {}

    def add(row: str, features: list[Features]) -> None:
        how = {"shots": settings.shots, "draws": settings.draws, "seed": settings.seed, "probes": probes}
        judged[row] = suite(*features, **how, name=row)

    learnt = represent(settings, networks[name], data, preprocess=preprocess, told=name)
    add(name, learnt)
    codes = [other for other in others if other != RANDOM]
    coded = {row: represent(settings, networks[row], data, preprocess=preprocess, told=row) for row in codes}
    for row, features in coded.items():
        add(row, features)
    pixels = [extract(nn.Flatten(), part, preprocess=small, progress="pixels") for part in parts]
    add("raw pixels", pixels)
    width, most = learnt[0].x.shape[1], min(pixels[0].x.shape)
    widths = [min(count, width) for count in (*PCA_WIDTHS, width)] + [part[0].x.shape[1] for part in coded.values()]
    for components in dict.fromkeys(min(count, most) for count in widths):
        add(f"PCA of pixels ({components})", pca(pixels[0], *pixels, components=components))
    for row in others[len(codes) :]:
        add(row, represent(settings, networks[row], data, preprocess=preprocess, told=row))
    return judged


def represent(
    settings: PictureSettings, encode: nn.Module, data: ImageData, *, preprocess: ImagePreprocessor, told: str
) -> list[Features]:
    """The features of the labelled images, and of those to test on."""
    workers = settings.dataloader_num_workers
    parts = data.labelled, data.test
    return [extract(encode, part, preprocess=preprocess, num_workers=workers, progress=told) for part in parts]


def judge_stages(
    settings: PictureSettings,
    networks: dict[str, nn.Module],
    data: ImageData,
    *,
    preprocess: ImagePreprocessor,
    probes: tuple[str, ...] = (),
    split: Callable[[nn.Module], nn.Module] = Stages,
) -> dict[str, dict[str, list[float]]]:
    """Row -> {metric: [value of stage 0, 1, …]} of kNN, linear probe and further probes, numbered as by `evaluate
    --layers all`; a metric that one stage does not have is left out, with a word. split: network -> what gives its
    stages beside one another, with their `widths`."""
    found = {}
    for row, network in networks.items():
        if split is Stages and not has_stages(network):
            continue
        stages = split(network)
        parts = represent(settings, stages, data, preprocess=preprocess, told=f"stages of {row}")
        curves: dict[str, list[float]] = {}
        for number, layer in enumerate(zip(*(split_layers(part, stages.widths) for part in parts), strict=True)):
            steps = {
                f"knn@{min(20, len(layer[0]))}": partial(knn, *layer, k=20),
                "linear": partial(linear_probe, *layer, seed=settings.seed),
                **{probe: partial(PROBES[probe], *layer, seed=settings.seed) for probe in probes},
            }
            for metric, step in steps.items():
                scores, _ = alone(step, metrics=[metric], what=f"stage {number} of {row}")
                curves.setdefault(metric, []).append(scores.get(metric))
        found[row] = {metric: values for metric, values in curves.items() if None not in values}
    return found


def ask(
    report: Report,
    networks: dict[str, nn.Module],
    data: ImageData,
    *,
    preprocess: ImagePreprocessor,
    model: nn.Module | None = None,
) -> None:
    """What is asked of a representation, of the first network, into the report; what cannot be had is a dash. model: f
    and g, which may have a code and its decoder."""
    name = next(iter(networks))
    parts = [fixed_sample(rows) for rows in (data.labelled, data.test)]
    seen = {row: extract(network, parts[1], preprocess=preprocess) for row, network in networks.items()}
    properties = {row: {"sparsity": hoyer_sparsity(features.x)} for row, features in seen.items()}
    scores = dict(report.rows)
    for row, features in seen.items():
        scores[row] = scores[row] | alone(partial(clustering, features), metrics=["nmi"], what=f"clusters of {row}")[0]
    for other in seen.keys() - {name, RANDOM}:  # a code of the same run is no baseline
        del scores[other], properties[other]
    between: dict[str, float | None] = {}
    if hasattr(model, "codes"):
        codes = [extract(Codes(model), part, preprocess=preprocess).x for part in parts]
        measure = partial(gain_of_codes, *codes, lambda some: model.decode(some.to(model.device)))
        told, _ = alone(
            lambda: {"interpolation": measure()}, metrics=["interpolation"], what=f"interpolation of {name}"
        )
        between[name] = told.get("interpolation")
    report.desiderata = desiderata(Found(scores, properties, report.layers, between), asked=[name])


def show_own_task(
    report: Report, settings: PretrainingSettings, method: ImageMethod | SoundMethod, model, collator, *, rows, test
) -> None:
    """How well f and g do what they were trained for, and pictures of it, into the report: of images held out (`test`),
    or of those trained on (`rows`) where there are none. Each may fail by itself, with a word."""
    held_out = test is not None and len(test) > 0
    sample = fixed_sample(test if held_out else rows)
    batch, workers = settings.per_device_train_batch_size, settings.dataloader_num_workers
    batches = FixedBatches(sample, collator, model.device, batch, workers, learnt=rows)
    model.eval()
    with torch.no_grad(), undisturbed():
        if method.own_task is not None:
            own, _ = try_to_show("how well it does its own task", partial(method.own_task, model, batches))
            if own is not None:
                own.told += (
                    f" On {len(sample):,} {report.data.unit}s {'held out' if held_out else 'that it was trained on'}."
                )
                report.own_task = own
                print(f"\n{own.table()}")
        if method.pictures is not None:
            drawn, _ = try_to_show("pictures", partial(method.pictures, model, batches, Path(settings.output_dir)))
            report.figures |= drawn or {}


def show_neighbours(
    report: Report, networks: dict[str, nn.Module], data: ImageData, path: Path, *, preprocess: ImagePreprocessor
) -> None:
    """The nearest neighbours of some images by each network, in the report and as a picture: of those held out, or of
    those trained on where there are none."""
    rows = fixed_sample(data.test if data.test is not None and len(data.test) else data.train)
    names = data.label_names if data.single_label and "label" in rows.column_names else None
    queries = drawn_queries(len(rows), seed=0)
    found = {"queries": [shown(rows[row], names, side=SHOWN) for row in queries]}
    for name, network in networks.items():
        features = extract(network, rows, preprocess=preprocess)
        found[name] = nearest_examples(features, rows, queries, names, side=SHOWN)
    report.neighbours = found
    draw_neighbours(found, next(iter(networks)), path)
    report.figures[path.name] = f"Images, and those nearest to them by {next(iter(networks))}, nearest first."
