"""The story of an encoder that is fitted in passes over images, their patches, or features of another encoder: data,
folder, fit, the encoder as a small model of transformers, what it is worth beside its baselines, pictures, report,
card, upload."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets.fingerprint import Hasher
from torch import Tensor, nn
from transformers import AutoModel, CLIPImageProcessor, set_seed

from hf_replearn.data.images import ImageData
from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.sources import Source
from hf_replearn.encoders.backbones import RGB
from hf_replearn.encoders.ours import register_own
from hf_replearn.errors import InputError
from hf_replearn.evaluation.k_shot import feasible_shots
from hf_replearn.evaluation.own_features import read_features
from hf_replearn.evaluation.suite import protocols, suite
from hf_replearn.methods.fitted import FittedConfig, FittedModel, normalise
from hf_replearn.methods.fitting import zca
from hf_replearn.pretraining.images import NEAREST, has_test_labels, read_images
from hf_replearn.pretraining.inputs import Crops, Inputs, drawn_patches, whole_images
from hf_replearn.pretraining.recipe import FittedMethod, FittedSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.pretraining.start import typical_side
from hf_replearn.pretraining.worth import ask, judge, show_neighbours
from hf_replearn.representation import Features, ImagePreprocessor, labels_of, pca
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.drawn import draw_grid
from hf_replearn.sharing.export import save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.passes import Passes, alone

WHOLE, PATCHED = 32, 96  # pixels of images, at most, where it is left to the data
PATCH_CONTRAST = 10 / 255**2  # Coates, Lee & Ng 2011, section 3.2.1, in units of 0...1
FILTERS, RECONSTRUCTED, CODES = "filters.png", "reconstructed.png", "features.npz"
SHOWN = 100  # filters of the picture, at most
OWN = 2000  # inputs on which its own task is done, at most


@dataclass(frozen=True)
class FittedData:
    """What is learnt from and judged on.

    inputs: of the fit. held_out: inputs of the same kind that it does not see, or None. rows: images, or features, that
    are learnt from. images: None of features; features: None of images.
    """

    name: str
    fingerprint: str
    inputs: Inputs
    held_out: Inputs | None
    rows: int
    images: ImageData | None = None
    features: dict[str, Features] | None = None


class Pooled(nn.Module):
    """A fitted encoder as networks are judged: images, or vectors -> features (B, D)."""

    def __init__(self, model: FittedModel):
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor) -> Tensor:
        return self.model(batch).pooler_output


def fit_encoder(
    settings: FittedSettings, method: FittedMethod, *, source: Source | None = None, command: str | None = None
) -> Run:
    """Fits the encoder of `method`, saves, judges, describes and shares it. Arguments as of `pretrain_images`.

    Raises InputError before anything is fitted for whatever the user has to mend.
    """
    # 1. Data. What can be wrong with the input is found out here.
    out, device = Path(settings.output_dir), alone(use_cpu=settings.use_cpu).device
    check_settings(settings, source)
    check_folder(settings, free=LEFT)
    repo_id = check_sharing(settings)
    settings, data = read(settings, source, device)
    check_folder(settings)
    given = circumstances(settings, data=data.fingerprint, processes=1)
    checkpoint = find_checkpoint(settings, given, args=alone(use_cpu=settings.use_cpu))
    set_seed(settings.seed)
    model = build(settings, method, data)  # random weights: a fit starts by itself
    fit = method.fit(settings)
    inputs, whitening = whiten(settings, data.inputs)
    claim_folder(settings)
    tell(settings, data, inputs)

    # 2. Fit, and save
    def write(state: dict[str, Tensor], folder: Path) -> None:
        write_model(fitted(model, whitening | fit.weights(state)), folder)

    passes = Passes(
        fit,
        inputs,
        out,
        write,
        given,
        seed=settings.seed,
        save_steps=settings.save_steps,
        keep=settings.save_total_limit,
        device=device,
    )
    state = passes.run(checkpoint)
    if not fit.has_converged(state) and hasattr(fit, "tolerance"):
        print(f"after {passes.done} passes it has not come to rest: --passes more, or a larger --tolerance")
    learnt = fitted(model, whitening | fit.weights(state))
    write_model(learnt, out)

    # 3. What it is worth, and share it
    networks = {method.facts.name: Pooled(learnt.to(device)), "random weights": Pooled(model.to(device))}
    report = describe(settings, method, data, learnt, passes)
    report.command = command or report.command
    report.save(out)
    judged = judge_all(settings, networks, data)
    report.rows = {name: scores for name, (scores, _) in judged.items()}
    report.missing = {name: missing for name, (_, missing) in judged.items()}
    report.protocols = protocols(report.metrics)
    report.save(out)
    if report.rows and data.images is not None and data.images.single_label:
        asked = partial(ask, report, networks, data.images, preprocess=as_seen(settings))
        try_to_show("what is asked of a representation", asked)
    show(report, method, learnt, settings, data, networks=networks)
    write_results(report, out, repo_id=repo_id)
    print(f"\n{report.table()}\n\nencoder and card: {out}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


# ---- data


LEFT = ("image_size", "contrast", "whiten")  # settings that may be left to the data


def check_settings(settings: FittedSettings, source: Source | None) -> None:
    """Raises InputError where it is not clear what to learn from, or settings are of images and there are none."""
    if (settings.features is None) == (settings.dataset is None):
        raise InputError("give --dataset, of images, or --features, an .npz file of features of another encoder")
    if settings.features is None:
        return
    names = ("patches", "image_size", "channels", "value_range", "image_column", "label_column", "files")
    given = [name for name in names if name in changed(settings)]
    if given:
        raise InputError(f"--{given[0]} is of images, and --features {settings.features} are none: leave it out")
    if source is not None:
        raise InputError(f"--features {settings.features}, and a dataset too: give one of them")


def read(settings: FittedSettings, source: Source | None, device: torch.device) -> tuple[FittedSettings, FittedData]:
    """The settings with what was left to the data filled in, and the data."""
    about = {"device": device, "size": settings.batch_size}
    if settings.features is not None:
        settings = filled(settings, image_size=None)
        return settings, of_features(settings, **about)
    images = read_images(settings, source)
    if has_test_labels(images) and images.single_label:
        feasible_shots(labels_of(images.labelled), settings.shots)
    most = WHOLE if settings.patches is None else PATCHED
    settings = filled(settings, image_size=settings.image_size or min(typical_side(images.sizes), most))
    about |= {"contrast": settings.contrast, "workers": settings.dataloader_num_workers}
    crops = Crops(settings.image_size, settings.crop_pct)
    if settings.patches is None:
        make = partial(whole_images, crops=crops, channels=settings.channels or RGB, **about)
    else:
        drawn = {"side": settings.patches, "count": settings.patch_count, "seed": settings.seed}
        make = partial(drawn_patches, crops=crops, **drawn, **about)
    few = None if images.test is None or not len(images.test) else images.test.shuffle(seed=0)
    few = few if few is None else few.select(range(min(OWN, len(few))))
    if few is None:
        held_out = None
    elif settings.patches is None:
        held_out = make(few)
    else:
        held_out = drawn_patches(few, crops, **drawn | {"count": OWN}, **about)
    data = FittedData(
        images.name, images.fingerprint, make(images.train), held_out, rows=len(images.train), images=images
    )
    return settings, data


def filled(settings: FittedSettings, *, image_size: int | None) -> FittedSettings:
    """The settings with what is left to the data."""
    patched = settings.patches is not None
    more: dict[str, Any] = {"image_size": image_size}
    if settings.contrast is None and patched:
        more["contrast"] = PATCH_CONTRAST
    if getattr(settings, "whiten", False) is None:
        more["whiten"] = patched or (settings.features is not None and settings.WHITENS_FEATURES)
    return replace(settings, **more)


def of_features(settings: FittedSettings, **about: Any) -> FittedData:
    """What `hf-replearn encode` has written. Raises InputError."""
    own = read_features(settings.features, named=f"--features {settings.features}")
    parts = {name: Features(part.x, own.labels.get(name)) for name, part in own.parts.items()}
    make = partial(Inputs, width=parts["train"].x.shape[1], contrast=settings.contrast, **about)
    known = Hasher.hash([part.x.numpy().tobytes() for part in parts.values()])
    name = Path(settings.features).stem
    return FittedData(name, known, make(parts["train"].x), make(parts["test"].x), len(parts["train"]), features=parts)


def whiten(settings: FittedSettings, inputs: Inputs) -> tuple[Inputs, dict[str, Tensor]]:
    """The inputs, whitened where the settings say so, and what of the model does it."""
    if not getattr(settings, "whiten", False):
        return inputs, {}
    shift, whitener = zca(inputs, settings.whiten_noise)
    return inputs.whitened(shift, whitener), {"shift": shift, "whitener": whitener}


def tell(settings: FittedSettings, data: FittedData, inputs: Inputs) -> None:
    """What is learnt from, and what was left out of it."""
    if data.images is not None:
        write_skipped(Path(settings.output_dir, "skipped_images.txt"), [*data.images.left_out, *data.images.skipped])
        print(data.images.taken, *data.images.notes, sep="\n")
    what = "features" if data.features else "images" if settings.patches is None else "patches"
    kept = "kept in memory" if inputs.held else "read again in each pass"
    print(f"{len(inputs):,} {what} of {inputs.width:,} numbers, {kept}; log: {settings.output_dir}/log.jsonl")
    if settings.components >= inputs.width:
        print(f"a code of {settings.components:,} numbers is no narrower than the {inputs.width:,} that it is of")


# ---- model


def build(settings: FittedSettings, method: FittedMethod, data: FittedData) -> FittedModel:
    """The encoder with random weights."""
    kind = method.model_class.config_class
    own = {spec.name for spec in fields(kind)} - {spec.name for spec in fields(FittedConfig)}
    images = data.images is not None
    config = kind(
        recipe=method.command.replace("-", "_"),
        inputs=data.inputs.width,
        components=settings.components,
        image_size=settings.image_size,
        num_channels=(settings.channels or RGB) if images else 1,
        patch_size=settings.patches,
        stride=settings.stride,
        regions=settings.regions,
        contrast=settings.contrast,
        whitened=bool(getattr(settings, "whiten", False)),
        trained_at={"image_size": settings.image_size, "crop_pct": settings.crop_pct} if images else None,
        **{name: getattr(settings, name) for name in sorted(own)},
    )
    return method.model_class(config).eval()


def fitted(model: FittedModel, weights: dict[str, Tensor]) -> FittedModel:
    """The same encoder with these weights, and what it has besides as it was before it was fitted."""
    learnt = type(model)(model.config).eval()
    learnt.load_state_dict(
        {name: weights.get(name, torch.zeros_like(there)) for name, there in model.state_dict().items()}
    )
    return learnt


def write_model(model: FittedModel, folder: Path) -> None:
    """The encoder in transformers' format with its own code, and the image processor that makes its inputs."""
    save_native(model, folder)
    size = model.config.image_size
    if size is None:
        return
    CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        resample=2,  # bilinear
        do_normalize=False,
        do_convert_rgb=model.config.num_channels == RGB,
    ).save_pretrained(folder)


def export(method: FittedMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes the encoder of a checkpoint as a run leaves it."""
    register_own(str(checkpoint))
    write_model(AutoModel.from_pretrained(checkpoint, trust_remote_code=False), out)


# ---- what it is worth


def judge_all(settings: FittedSettings, networks: dict[str, nn.Module], data: FittedData):
    """The scores of the encoder and of what it must beat; none where there are no labels to test on."""
    if data.images is not None:
        judging = has_test_labels(data.images)
        return judge(settings, networks, data.images, preprocess=as_seen(settings)) if judging else {}
    write_codes(next(iter(networks.values())), data, Path(settings.output_dir, CODES))
    parts = [data.features[name] for name in ("train", "test")]
    if any(part.labels is None for part in parts):
        return {}
    how = {"shots": settings.shots, "draws": settings.draws, "seed": settings.seed}
    (name, encoder), *others = networks.items()
    judged = {name: suite(*(coded(encoder, part) for part in parts), **how, name=name)}
    judged["the features given"] = suite(*parts, **how, name="the features given")
    width = min(settings.components, *parts[0].x.shape)
    judged[f"PCA of them ({width})"] = suite(*pca(parts[0], *parts, components=width), **how, name="their PCA")
    for name, network in others:
        judged[name] = suite(*(coded(network, part) for part in parts), **how, name=name)
    return judged


@torch.no_grad()
def coded(network: nn.Module, part: Features) -> Features:
    """The features of an encoder of vectors."""
    device = next(network.parameters()).device
    x = torch.cat([network(batch.to(device)).cpu() for batch in part.x.split(4096)])
    return Features(x, part.labels, part.names)


def write_codes(network: nn.Module, data: FittedData, path: Path) -> None:
    """The codes of the features given, as `hf-replearn encode` writes them."""
    arrays = {}
    for name, part in data.features.items():
        arrays[name] = coded(network, part).x.numpy()
        if part.labels is not None:
            arrays[f"{name}_labels"] = part.labels.numpy()
    np.savez(path, **arrays)


def as_seen(settings: FittedSettings) -> ImagePreprocessor:
    """Rows of images -> what the encoder sees of them, 0...1."""
    return ImagePreprocessor(settings.image_size, (0.0,), (1.0,), settings.crop_pct)


def describe(
    settings: FittedSettings, method: FittedMethod, data: FittedData, model: FittedModel, passes: Passes
) -> facts.Report:
    """The facts of this run for its report and card."""
    images, size = data.images, model.config.image_size
    test = images.test if images is not None else data.features["test"]
    return facts.Report(
        method=method.facts,
        encoder=facts.Encoder(
            library="transformers",
            pipeline_tag="image-feature-extraction" if images else "feature-extraction",
            architecture=type(model).__name__,
            parameters=sum(weight.numel() for weight in model.parameters()),
            features=features_of(model),
            input_size=[model.config.num_channels, size, size] if images else [model.config.inputs],
            initialized_from="the data",
            own_code=True,
        ),
        data=facts.Data(
            name=data.name,
            hub_id=images.hub_id if images else None,
            unit="image" if images else "example",
            train=data.rows,
            test=0 if test is None else len(test),
            skipped=len(images.skipped) if images else 0,
            classes=len(images.label_names) if images and images.label_names else classes_of(data),
            held_out=images.test_source if images else "as the file of features has them",
        ),
        training=facts.Training(**passes.summary(examples=data.rows)),
        command=shlex.join(["hf-replearn", method.command, *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )


@torch.no_grad()
def features_of(model: FittedModel) -> int:
    """F, or R R F, as the model gives it."""
    config = model.config
    shape = (1, config.inputs) if config.image_size is None else (1, config.num_channels, *[config.image_size] * 2)
    return model(torch.rand(shape, device=model.device)).pooler_output.shape[1]


def classes_of(data: FittedData) -> int | None:
    """How many classes the labels of features have."""
    labels = data.features["train"].labels if data.features else None
    return None if labels is None or labels.is_floating_point() else len(Counter(labels.flatten().tolist()))


# ---- pictures


def show(
    report: facts.Report,
    method: FittedMethod,
    model: FittedModel,
    settings: FittedSettings,
    data: FittedData,
    *,
    networks,
) -> None:
    """Its own task, its filters, what is told from codes, and neighbours, into the report; each may fail by itself."""
    out = Path(settings.output_dir)
    if method.own_task is not None:
        own, _ = try_to_show("how well it does its own task", partial(own_task, method, networks, data))
        report.own_task = own
        if own is not None:
            print(f"\n{own.table()}")
    if data.images is None:
        return
    for name, draw in ((FILTERS, draw_filters), (RECONSTRUCTED, draw_reconstructions)):
        told, _ = try_to_show(name, partial(draw, method, model, data, out / name))
        if told is not None:
            report.figures[name] = told
    nearest = partial(show_neighbours, report, networks, data.images, out / NEAREST, preprocess=as_seen(settings))
    try_to_show(NEAREST, nearest)


@torch.no_grad()
def own_task(method: FittedMethod, networks: dict[str, nn.Module], data: FittedData) -> facts.OwnTask:
    """What the method measures of itself, of the encoder and of the same one with random weights."""
    inputs = data.held_out or data.inputs
    places = torch.arange(len(inputs))[:OWN]
    raw = replace(inputs, contrast=None, shift=None, whitener=None).some(places)
    told = "held out" if data.held_out is not None else "that it was fitted to"
    kind = "examples" if data.images is None else "patches of images" if networks_patched(networks) else "images"
    rows = {}
    for place, (name, network) in enumerate(networks.items()):
        rows["this run" if place == 0 else name] = method.own_task(network.model, raw)
    return facts.OwnTask(told=f"On {len(raw):,} {kind} {told}.", rows=rows, smaller=list(method.smaller))


def networks_patched(networks: dict[str, nn.Module]) -> bool:
    return next(iter(networks.values())).model.config.patch_size is not None


@torch.no_grad()
def draw_filters(method: FittedMethod, model: FittedModel, data: FittedData, path: Path) -> str:
    """The first of the model's filters as a grid; returns what is seen."""
    channels, filters = model.config.num_channels, model.filters()
    side = round((filters.shape[1] / channels) ** 0.5)
    shown = filters[:SHOWN].unflatten(1, (channels, side, side))
    draw_grid(shown, path)
    count = f"The first {len(shown)} of {len(filters):,}" if len(filters) > len(shown) else f"All {len(shown)}"
    return f"{count}: {method.filters} Each has a scale of its own: grey is 0."


@torch.no_grad()
def draw_reconstructions(method: FittedMethod, model: FittedModel, data: FittedData, path: Path) -> str | None:
    """Some inputs, and what the model tells of them from their codes; None where it does not decode."""
    from hf_replearn.sharing.drawn import draw_columns

    if not hasattr(model, "decode"):
        return None
    inputs = data.held_out or data.inputs
    lines = min(4, len(inputs) // 3)
    places = torch.arange(3 * lines) * len(inputs) // max(1, 3 * lines)
    raw = replace(inputs, contrast=None, shift=None, whitener=None).some(places)
    seen = normalise(raw, model.config.contrast)
    told = model.undone(model.decode(model.code(model.normalised(raw))))
    side = round((raw.shape[1] / model.config.num_channels) ** 0.5)
    shape = (model.config.num_channels, side, side)
    low, high = (0.0, 1.0) if model.config.contrast is None else (seen.min(), seen.max())
    columns = {}
    for start in range(0, 3 * lines, lines):  # three pairs of columns: spaces make their titles different
        for name, x in {"input": seen, f"told from {model.config.components} numbers": told}.items():
            part = (x[start : start + lines] - low) / (high - low)
            columns[name + " " * (start // lines)] = part.unflatten(1, shape)
    draw_columns(columns, path)
    what = "images" if model.config.patch_size is None else "patches, each of mean 0 and deviation 1,"
    return (
        f"Pairs: {what} {'held out' if data.held_out else 'that were fitted'}, and what is told of each from its code."
    )
