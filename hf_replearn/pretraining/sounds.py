"""The story of a run on sounds: data, windows of them, encoder and head, training, the encoder as a small model of
transformers with its feature extractor, what it is worth beside spectra, report, card, upload.

B sounds, T samples, M mel bands
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Value
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, PreTrainedConfig, PreTrainedModel, set_seed

from hf_replearn.data.inventory import write_skipped
from hf_replearn.data.sounds import SoundData, load_sounds, read_wave
from hf_replearn.data.sources import Source
from hf_replearn.encoders.backbones import count_parameters
from hf_replearn.encoders.inputs import MOST, SoundInputs, feature_extractor, sounds_at_once
from hf_replearn.errors import InputError
from hf_replearn.evaluation.k_shot import feasible_shots
from hf_replearn.evaluation.spectra import SPECTRA, MelSpectrum
from hf_replearn.evaluation.suite import suite
from hf_replearn.pretraining import images
from hf_replearn.pretraining.recipe import SoundMethod, SoundSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.pretraining.worth import Judged, show_own_task
from hf_replearn.randomness import Place, upload
from hf_replearn.representation import Features, extract, labels_of
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.export import save_native
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.trackers import tell_trackers
from hf_replearn.training.callbacks import HealthWarning
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.sharded_checkpoints import model_of


@dataclass(frozen=True)
class RandomWindows:
    """A window of each piece of a sound, which begins somewhere in it. window: its samples W."""

    window: int

    def pieces(self, rows: Dataset) -> Dataset:
        """Sounds -> rows of up to 2 W samples each (`start`, `reach`), one for every W that a sound has: the longer it
        is, the more is learnt from it. Labels stay behind."""
        counts = np.array(rows["samples"][:]) // self.window
        of = np.repeat(np.arange(len(rows)), counts)
        starts = (np.arange(len(of)) - np.repeat(counts.cumsum() - counts, counts)) * self.window
        reach = np.minimum(np.array(rows["samples"][:])[of] - starts, 2 * self.window)
        pieces = rows.select_columns("audio").select(of)
        for name, values in (("start", starts), ("reach", reach)):
            pieces = pieces.add_column(name, values.tolist(), feature=Value("int64"))
        return pieces

    def __call__(self, rows: Sequence[dict]) -> dict[str, Tensor]:
        """waves: (B, 2 W at most), silent behind their end. room: (B,), samples by which a window may be late."""
        waves = [torch.from_numpy(read_wave(row["audio"], row["start"], row["reach"])) for row in rows]
        room = torch.tensor([len(wave) - self.window for wave in waves])
        return {"waves": pad_sequence(waves, batch_first=True), "room": room}

    def views(self, batch: dict[str, Tensor], place: Place) -> dict[str, Tensor]:
        """input_values: (B, W)."""
        waves, room = batch["waves"], batch["room"]
        drawn = upload(place.uniform(len(waves), 1)[:, 0], waves.device)
        first = (drawn * (room + 1)).long().clamp(max=room)
        places = first[:, None] + torch.arange(self.window, device=waves.device)
        return {"input_values": waves.gather(1, places)}


class Pooled(nn.Module):
    """The encoder as networks are judged: what the feature extractor gives -> mean of the contexts (B, C)."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, batch: BatchFeature) -> Tensor:
        return self.model(**batch).pooler_output


def pretrain_sounds(
    settings: SoundSettings, method: SoundMethod, *, source: Source | None = None, command: str | None = None
) -> Run:
    """Trains the encoder of `method`, saves, judges, describes and shares it. Arguments and errors are those of
    `pretrain_images`."""
    # 1. Data. What can be wrong with the input is found out here, before anything is trained.
    out, args = Path(settings.output_dir), images.training_arguments(settings)
    config = configuration(settings, method, rate=settings.sampling_rate or 1)
    if settings.window <= config.steps_ahead * config.hop:
        raise InputError(
            f"--window {settings.window}: {settings.window // config.hop} frames of {config.hop} samples, and of one "
            f"that has no frame {config.steps_ahead} steps on nothing could be told: say --window "
            f"{2 * config.steps_ahead * config.hop}, or a smaller --steps_ahead"
        )
    with args.main_process_first(desc="reading the sounds"):
        repo_id = None
        if args.process_index == 0:
            check_folder(settings)
            repo_id = check_sharing(settings)
        data = read_sounds(settings, source)
    judging = images.has_test_labels(data)
    if judging:
        feasible_shots(labels_of(data.labelled), settings.shots)
    collator = RandomWindows(settings.window)
    rows, batch = collator.pieces(data.train), settings.per_device_train_batch_size
    if batch * args.world_size > len(rows):
        raise InputError(
            f"a batch of {batch * args.world_size} windows is larger than the data, {len(rows)} of {settings.window:,} "
            "samples: lower --per_device_train_batch_size or --window"
        )
    given = circumstances(settings, data=data.fingerprint, processes=args.world_size)
    checkpoint = find_checkpoint(settings, given, args=args)

    # 2. Encoder f and head g
    set_seed(settings.seed)
    model = method.model_class(configuration(settings, method, rate=data.sampling_rate))
    untrained = copy.deepcopy(model.model)

    # 3. Train
    trainer = images.make_trainer(settings, args, model, collator, rows, batch=batch, given=given)
    trainer.add_callback(HealthWarning(model.config.context_dim))
    if trainer.is_world_process_zero():
        claim_folder(settings)
        say_what_is_read(settings, data, windows=len(rows))
    trainer.train(resume_from_checkpoint=checkpoint)
    model = trainer.whole_model()
    if not trainer.is_world_process_zero():
        return Run(out)

    # 4. Save: the encoder with its code and feature extractor, and both with our head. Then what it is worth.
    write_model(model.model, out)
    save_native(model, out / "pretraining")
    networks = {method.facts.name: model.to(args.device).model, "random weights": untrained.to(args.device)}
    judged = judge(settings, networks, data) if judging else {}
    report = images.describe(settings, method, trainer, data, data.train, encoder_facts(settings, model.model), judged)
    report.command = command or report.command
    report.save(out)
    held_out = None if data.test is None else collator.pieces(data.test)
    show_own_task(report, settings, method, model, collator, rows=rows, test=held_out)
    tell_trackers(write_results(report, out, repo_id=repo_id), out, trainer)
    print(f"\n{report.table()}\n\nencoder and card: {out}\n{images.LONGER}")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


def read_sounds(settings: SoundSettings, source: Source | None) -> SoundData:
    """The sounds that the settings name, or those of the source, of which each has a window."""
    return load_sounds(
        settings.dataset if source is None else source,
        files=settings.files,
        label_type=settings.label_type,
        sampling_rate=settings.sampling_rate,
        stereo=settings.stereo,
        shortest=settings.window,
        max_unusable=settings.max_unusable,
    )


def say_what_is_read(settings: SoundSettings, data: SoundData, *, windows: int) -> None:
    """What is learnt from, and what was left out of it."""
    write_skipped(Path(settings.output_dir, "skipped_sounds.txt"), [*data.left_out, *data.skipped])
    print(data.taken, *data.notes, sep="\n")
    seconds = sum(data.train["samples"][:]) / data.sampling_rate
    longer = sum(samples > MOST for part in (data.train, data.test) if part for samples in part["samples"][:])
    if longer:
        print(f"{longer:,} sounds are judged by their first {MOST / data.sampling_rate:.3g} s")
    each = f"{windows:,} windows of {settings.window / data.sampling_rate:.3g} s"
    print(f"{len(data.train):,} sounds, {seconds:,.0f} s at {data.sampling_rate:,} Hz, {each}; ", end="")
    print(f"{len(data.skipped)} skipped; log: {settings.output_dir}/log.jsonl", flush=True)


# ---- model


def configuration(settings: SoundSettings, method: SoundMethod, *, rate: int) -> PreTrainedConfig:
    """What rebuilds f and g: of the method's own fields, the settings of the same names. Raises InputError."""
    kind = method.model_class.config_class
    own = {spec.name for spec in fields(kind)} - {spec.name for spec in fields(PreTrainedConfig)} - {"sampling_rate"}
    try:
        return kind(sampling_rate=rate, **{name: getattr(settings, name) for name in sorted(own)})
    except ValueError as error:
        raise InputError(" ".join(str(error).split())) from error


def write_model(model: PreTrainedModel, out: Path) -> None:
    """The encoder in transformers' format with its own code, and its feature extractor."""
    save_native(model, out)
    feature_extractor(model.config.sampling_rate).save_pretrained(out)


def encoder_facts(settings: SoundSettings, model: PreTrainedModel) -> facts.Encoder:
    return facts.Encoder(
        library="transformers",
        pipeline_tag="feature-extraction",
        architecture=type(model).__name__,
        parameters=count_parameters(model),
        features=model.config.context_dim,
        input_size=[settings.window],
        own_code=True,
    )


# ---- what it is worth


def judge(settings: SoundSettings, networks: dict[str, PreTrainedModel], data: SoundData) -> Judged:
    """The scores of the first network, of spectra of the sounds, and of the other networks."""
    (name, learnt), *others = networks.items()
    encoders = {
        name: Pooled(learnt),
        **{row: MelSpectrum(data.sampling_rate, deviation=deviation) for row, deviation in SPECTRA.items()},
        **{other: Pooled(network) for other, network in others},
    }
    judged: Judged = {}
    for row, encoder in encoders.items():
        parts = [
            represent(settings, encoder, part, data.sampling_rate, told=row) for part in (data.labelled, data.test)
        ]
        judged[row] = suite(*parts, shots=settings.shots, draws=settings.draws, seed=settings.seed, name=row)
    return judged


def represent(settings: SoundSettings, encoder: nn.Module, rows: Dataset, rate: int, *, told: str) -> Features:
    """The features of whole sounds."""
    inputs, workers = SoundInputs(feature_extractor(rate)), settings.dataloader_num_workers
    how = {"preprocess": inputs, "batch_size": sounds_at_once(rows), "num_workers": workers}
    return extract(encoder, rows, progress=told, **how)


def export(method: SoundMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes the encoder of a checkpoint as a run leaves it."""
    write_model(model_of(checkpoint, method.model_class).model, out)
