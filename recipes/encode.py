"""Features of a dataset, in one file of arrays, by any encoder of images, texts or sounds.

    hf-replearn encode --model out/mine --dataset path/to/images --output features.npz
    hf-replearn encode --model out/tones --dataset sounds/ --output tones.npz
    hf-replearn encode --model bert-base-uncased --pooling cls --layer 8 --dataset path/to/glue/sst2 --output sst2.npz

The file has `train` and, where the data has or gives up examples to test on, `test`: (N, D) float32, in the order of
the data; with labels also `train_labels` and `test_labels`: class numbers (N,), whose names are in `classes`, an
indicator matrix (N, C) where an example has several classes, or numbers. `numpy.load` reads it, and `hf-replearn
evaluate --features` judges it. From Python: `hf_replearn.encode(model, images_or_texts)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import MOST_WORKERS, ExampleSettings, SoundFileSettings, run, setting


@dataclass(kw_only=True)
class EncodeSettings(SoundFileSettings, ExampleSettings):
    model: str = setting(
        ..., "folder or Hub id of an encoder: transformers, timm or sentence-transformers", section="model"
    )
    pooling: Literal["mean", "cls", "last"] | None = setting(
        None,
        "one vector of a text: mean of all tokens, the first, or the last; none: as a folder for sentence-transformers "
        "says, else mean",
        section="model",
    )
    layer: str = setting("last", "last, or the number or name of a layer (0: before the first block)", section="model")
    label_type: Literal["classes", "numbers", "ignored"] | None = setting(
        None,
        "what the labels are, classes or numbers to regress on, or not to be looked at; none: by their type",
        section="data",
    )
    output: str = setting(..., "new file for the arrays, such as features.npz", section="run")
    batch_size: int = setting(64, "examples at a time", section="run", at_least=1, at_most=1_000_000)
    dataloader_num_workers: int = setting(
        0, "processes that load examples", section="run", at_least=0, at_most=MOST_WORKERS
    )
    use_cpu: bool = setting(False, "stay on the CPU even where there is a GPU", section="run")


def main(settings: EncodeSettings) -> None:
    """Features of a dataset, in one file of arrays, by any encoder of images, texts or sounds."""
    out = Path(settings.output)
    if out.suffix != ".npz":
        raise InputError(f"--output {out} must end in .npz: numpy's file of several arrays")
    if out.exists():
        raise InputError(f"--output {out} is there already: choose another name")
    print(f"encoding {settings.dataset} …", flush=True)
    import transformers

    from hf_replearn.encoders.encoder import find_encoder
    from hf_replearn.encoding import check_rate, modality_of_rows, represent, to_device

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    # 1. Data
    parts, classes = read(settings)

    # 2. The encoder, tried on some of them
    modality = modality_of_rows(parts["train"])
    about = {"pooling": settings.pooling, "all_layers": settings.layer != "last", "max_length": settings.max_length}
    encoder = find_encoder(settings.model, modality=modality, **about)
    if modality == "sound":
        for rows in parts.values():
            check_rate(rows, encoder.preprocess.processor.sampling_rate)
    encoder.try_on(parts["train"])
    layer = encoder.find_layer(settings.layer)
    to_device(encoder, use_cpu=settings.use_cpu)

    # 3. Features
    arrays: dict[str, Any] = {}
    for name, rows in parts.items():
        found = represent(
            encoder,
            rows,
            layer=layer,
            batch_size=settings.batch_size,
            num_workers=settings.dataloader_num_workers,
            progress=f"features of {len(rows):,} examples",
        )
        arrays[name] = found.x.numpy()
        if found.labels is not None:
            arrays[f"{name}_labels"] = found.labels.numpy()
        print(f"{name}: {len(found):,} x {found.x.shape[1]} features")
    if classes is not None:
        arrays["classes"] = classes
    write(out, arrays)
    print(f"features of layer {encoder.layers[layer]!r}, pooled by {encoder.pooling}: {out}")


def read(settings: EncodeSettings) -> tuple[dict[str, Any], Any]:
    """The examples, {"train": rows, "test": rows}, labelled where the data is, and the names of classes (C,)."""
    import numpy as np

    from hf_replearn.data.images import load_images
    from hf_replearn.data.labelled import load_labelled
    from hf_replearn.data.labels import choose_label, is_image
    from hf_replearn.data.sounds import TOY
    from hf_replearn.data.sources import load_source
    from hf_replearn.encoders.load import channels_wanted, rate_heard_by
    from hf_replearn.encoding import standard_columns

    rate = rate_heard_by(settings.model)
    if settings.dataset == TOY or rate is not None:
        return read_sounds(settings, rate)
    where = {"files": settings.files, "config": settings.dataset_config}
    channels = channels_wanted(settings.channels, [settings.model])
    source = load_source(settings.dataset, purpose="labels", arrays=channels is not None, **where)
    features = next(iter(source.splits.values())).features
    label = {"label_column": settings.label_column, "label_type": settings.label_type}
    if source.kind == "images" or (settings.text_columns is None and any(map(is_image, features.values()))):
        if settings.label_type == "numbers":
            raise InputError("--label_type numbers: the labels of images are classes, or ignored")
        pictures = {name: getattr(settings, name) for name in ("image_column", "max_undecodable", "value_range")}
        pictures["channels"] = channels
        data = load_images(source, **label, **pictures)
        train = data.train if data.label_names is None else data.labelled
    elif settings.label_type == "ignored" or choose_label(features, settings.label_column) is None:
        texts = settings.text_columns.split(",") if settings.text_columns else []
        parts = {split: standard_columns(rows, texts) for split, rows in source.splits.items()}
        print(source.taken({split: f"{len(parts[split]):,} rows" for split in ("train", "test") if split in parts}))
        return {split: parts[split] for split in ("train", "test") if split in parts}, None
    else:
        data = load_labelled(settings.dataset, text_columns=settings.text_columns, several=True, **where, **label)
        train = data.train
    print(data.taken, *data.notes, sep="\n", flush=True)
    names = None if data.label_names is None else np.array(data.label_names)
    return {"train": train} | ({} if data.test is None else {"test": data.test}), names


def read_sounds(settings: EncodeSettings, rate: int | None) -> tuple[dict[str, Any], Any]:
    """As `read`, of sounds. rate: that the encoder hears, which is taken of .npy files."""
    import numpy as np

    from hf_replearn.data.sounds import load_sounds

    if settings.label_type == "numbers":
        raise InputError("--label_type numbers: the labels of sounds are classes, or ignored")
    data = load_sounds(
        settings.dataset,
        files=settings.files,
        label_type=settings.label_type,
        sampling_rate=settings.sampling_rate or rate,
        stereo=settings.stereo,
        max_unusable=settings.max_unusable,
    )
    print(data.taken, *data.notes, sep="\n", flush=True)
    names = None if data.label_names is None else np.array(data.label_names)
    return {"train": data.labelled} | ({} if data.test is None else {"test": data.test}), names


def write(out: Path, arrays: dict[str, Any]) -> None:
    """A file that is whole, or not there."""
    import numpy as np

    partial = out.with_name(f"{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        partial.replace(out)
    except OSError as error:
        raise InputError(f"--output {out} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    run(main, EncodeSettings, prog="encode")
