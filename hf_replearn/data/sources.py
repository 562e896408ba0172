"""From the name of a dataset to its splits, with all their columns, and to what of it is not used."""

from __future__ import annotations

import errno
import glob
import itertools
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import datasets
import pyarrow
import pyarrow.compute as pc
import pyarrow.parquet
from datasets import ClassLabel, Dataset, IterableDataset, Value

from hf_replearn.data import toy
from hf_replearn.data.delimited import TYPES, Sheet, look_through, not_utf8, opened
from hf_replearn.data.glyphs import glyphs
from hf_replearn.data.inventory import IN_CLASSES, NOT_ASKED, SYSTEM, Inventory, LeftOut, kind_of, take_inventory
from hf_replearn.data.metadata import with_metadata
from hf_replearn.data.scenes3d import scenes3d
from hf_replearn.data.splits import MORE, WORDS, printable, some
from hf_replearn.data.sprites import SHAPES, sprites
from hf_replearn.data.toy_tasks import digit_pairs, told_of_two
from hf_replearn.errors import InputError

# Columns that say which row or file it is, or about it, and are no texts themselves: `id`, `image_id`, `reviewerID`.
ABOUT_ROWS = re.compile(
    r"(.*[_\-. ])?(id|ids|idx|uuid|guid|url|uri|link|href|path|file|(image|img|file)[_\-. ]?(name|path)|image|img"
    r"|md5|sha1|sha256|timestamp|datetime|lang|language)|.*[a-z](ID|Id|Url|URL|Path)"
)
DRAWN = {"toy-scenes": toy.scenes, "scenes3d": scenes3d, "glyphs": glyphs}  # images that are made here
DRAWN |= {"toy-pairs": digit_pairs}
DRAWN |= {name: partial(sprites, name) for name in SHAPES}
HEAD = 16 << 20  # characters that are looked at of a file that is streamed


@dataclass(frozen=True)
class Source:
    """A dataset as it was found.

    name:     what a card may show: the Hub id, or the last part of the path. hub_id: None for local data.
    kind:     of its files, a key of inventory.SUFFIXES; "saved", "hub" or "toy".
    splits:   rows with all columns. For images, `image` is datasets.Image(decode=False); for sounds, `audio` is alike.
    files:    split -> its files, relative; empty where there is but one file, or none here.
    left_out: files that are not used, and why.
    """

    name: str
    hub_id: str | None
    kind: str
    splits: dict[str, Dataset | IterableDataset]
    files: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def taken(self, parts: dict[str, str], *, left_out: Sequence[LeftOut] = ()) -> str:
        """One line of what is used.

        parts:    split -> what is taken of it, in words, such as "1,000 rows of column `text`".
        left_out: rows that are not used, besides the files.
        """
        words = []
        for split, what in parts.items():
            files = self.files.get(split, [])
            named = f" ({some(files)})" if 0 < len(files) <= 3 else ""
            of = _of_shards(files)
            words.append(f"{split}: {counted(len(files), 'file')}{of}{named}, {what}" if files else f"{split}: {what}")
        unused = [split for split in self.splits if split not in parts]
        if unused:
            words.append(
                "not used: " + ", ".join(f"the split {split!r}{_rows(self.splits[split])}" for split in unused)
            )
        out = [item for item in [*self.left_out, *left_out] if item.reason not in (SYSTEM, NOT_ASKED)]
        if out:
            words.append(f"left out: {len(out):,} ({some(map(str, out))})")
        for reason in (SYSTEM, NOT_ASKED):
            if count := sum(item.reason == reason for item in self.left_out):
                words.append(f"{count:,} {reason}")
        return "; ".join(words)


def load_source(
    dataset: str,
    *,
    purpose: str,
    files: Sequence[str] = (),
    config: str | None = None,
    streaming: bool = False,
    arrays: bool = False,
) -> Source:
    """Finds a dataset: toy, one of `DRAWN`, a local file or folder, or a Hub id.

    purpose:   "images", "texts", "labels", "shards", "sounds", "graphs" or "episodes": what is looked for (see
               inventory.READS).
    files:     patterns of the files of a folder that are meant.
    config:    of a Hub dataset that has several.
    streaming: rows are read when they are needed (IterableDataset); not for `save_to_disk` folders.
    arrays:    whether .npy files are images as others are.

    Raises InputError for whatever the user has to mend: see `take_inventory`.
    """
    made = _made_here(purpose)
    if toy.is_made_here(dataset, made):
        return Source("glyphs" if made[dataset] is glyphs else dataset, None, "toy", dict(made[dataset]()))
    path = local_path(dataset)
    if path is None:
        complaint = f"{dataset!r} is no folder or file here, and no Hub id that loads"
        found = _read(complaint, partial(datasets.load_dataset, dataset, config, streaming=streaming))
        found = {split: _read(complaint, partial(_with_features, rows)) for split, rows in found.items()}
        return Source(dataset, dataset, "hub", _usual_names(found))
    inventory = take_inventory(path, purpose=purpose, files=files, arrays=arrays)
    left_out = list(inventory.left_out)
    name = os.path.basename(os.path.abspath(path))
    if inventory.kind == "saved":
        saved = _read(f"{dataset!r} cannot be read", partial(datasets.load_from_disk, inventory.paths("train")[0]))
        splits = _usual_names(dict(saved)) if isinstance(saved, dict) else {"train": saved}
        return Source(name, None, "saved", splits, left_out=left_out)
    if inventory.kind in IN_CLASSES:
        splits = _in_classes(inventory, apart=purpose == "episodes")
        if inventory.metadata:
            splits = with_metadata(inventory, splits, _metadata_rows(inventory), left_out)
    else:
        splits = _tables(inventory, streaming=streaming)
    for split, rows in splits.items() if purpose != "graphs" else ():  # whose nodes are of splits
        _refuse_split_column(dataset, split, rows)
    unused = {item.file for item in left_out}
    shown = {split: [file for file in found if file not in unused] for split, found in inventory.splits.items()}
    shown = {split: found for split, found in shown.items() if found != [""]}
    return Source(name, None, inventory.kind, splits, shown, left_out)


def _made_here(purpose: str) -> dict[str, Callable[[], datasets.DatasetDict]]:
    """Name -> what makes the data of that name, of those that are of use for the purpose."""
    usual = {"texts": toy.prose, "episodes": glyphs}
    made = {} if purpose in ("texts", "sounds") else dict(DRAWN)
    made |= {"sounds": {"toy-tones": toy.tones}, "labels": {"toy-texts": told_of_two}}.get(purpose, {})
    return made | {"toy": usual.get(purpose, toy.digits)}


def read_addresses(dataset: str, kind: str, addresses: list[str]) -> Source:
    """The source `dataset`, of files at these addresses, read when they are needed. kind: of their files.

    Raises InputError for what is not to be had.
    """
    read = partial(datasets.load_dataset, kind, data_files={"train": addresses}, split="train", streaming=True)
    rows = _read(f"{dataset!r} cannot be read", lambda: _with_features(read()))
    return Source(os.path.basename(dataset), None, kind, {"train": rows}, {"train": addresses})


def local_path(dataset: str) -> str | None:
    """The path that `dataset` is, `~` expanded; None for what may be a Hub id. InputError for a path to nothing."""
    if not dataset.strip():
        raise InputError("--dataset is empty: give a folder, a file, a Hub id or toy")
    path = os.path.expanduser(dataset)
    if os.path.lexists(path):
        return path
    is_path = (
        dataset[0] in "./~\\" or dataset.count("/") > 1 or dataset.endswith("/") or kind_of(dataset)[0] is not None
    )
    if is_path or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", dataset):
        raise InputError(f"there is no folder or file {dataset!r}")
    return None


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`, `1,000 files`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _rows(rows: Dataset | IterableDataset) -> str:
    return "" if isinstance(rows, IterableDataset) else f" ({counted(len(rows), 'row')})"


def _of_shards(files: Sequence[str]) -> str:
    """` of the 4 that their names speak of`, where shards (train-00001-of-00004.parquet) are missing."""
    shards = [found for file in files if (found := re.search(r"(.*)[-.]\d+-of-(\d+)", file))]
    should = sum(int(count) for _, count in {found.groups() for found in shards})
    missing = len(shards) < should
    return f" of the {should + len(files) - len(shards):,} that the names speak of" if missing else ""


def _usual_names(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Splits of the Hub by their usual names: `dev` is validation, where there is none of that name."""
    words = WORDS | MORE
    usual = [words.get(split.lower(), split) for split in splits]
    return {
        name if usual.count(name) == 1 else split: rows
        for name, (split, rows) in zip(usual, splits.items(), strict=True)
    }


# ---- images


def _in_classes(inventory: Inventory, *, apart: bool) -> dict[str, Dataset]:
    """`image` or `audio`, and `label` where there are several class folders. apart: splits may have classes of their
    own."""
    sounds = inventory.kind == "sounds"
    column, kind = ("audio", toy.AUDIO) if sounds else ("image", datasets.Image(decode=False))
    classes = set().union(*inventory.classes.values() if apart else [inventory.classes["train"]]) - {None}
    loaded = {}
    for split, labels in inventory.classes.items():
        paths = inventory.paths(split)
        columns = {column: [{"bytes": None, "path": path} for path in paths] if sounds else paths}
        features = {column: kind}
        if len(classes) > 1:
            if strange := set(labels) - classes - {None}:
                raise InputError(f"{inventory.root!r} has a class {min(strange)!r} in {split!r} that is not in 'train'")
            columns["label"], features["label"] = labels, ClassLabel(names=sorted(classes))
        loaded[split] = Dataset.from_dict(columns, features=datasets.Features(features))
    return loaded


def _metadata_rows(inventory: Inventory) -> dict[str, list[dict]]:
    """The rows of each metadata file."""
    found = {}
    for name in inventory.metadata:
        kind = kind_of(name)[0]
        alone = Inventory(inventory.root, kind, {"train": [name]})
        found[name] = _tables(alone, streaming=False)["train"].to_list()
    return found


# ---- tables and texts


def _refuse_split_column(dataset: str, split: str, rows: Dataset | IterableDataset) -> None:
    """A column that says which rows are to test on would be passed over."""
    if isinstance(rows, IterableDataset):
        return
    for column, kind in rows.features.items():
        if column.lower() in ("split", "subset", "partition", "set") and is_string(kind):
            values = set(rows.unique(column)) - {None}
            words = {WORDS.get(value.lower()) for value in values}
            if len(words) > 1 and None not in words:
                raise InputError(
                    f"the column {column!r} of {dataset!r} says {', '.join(sorted(values))}, and all rows are of the "
                    f"split {split!r}: write a file for each split, or leave that column out"
                )


def is_string(kind) -> bool:
    """Whether a column holds one text a row."""
    return isinstance(kind, Value) and kind.dtype in ("string", "large_string")


def tells_of_rows(name: str) -> bool:
    """Whether a column is called as those of numbers, addresses and file names are, which are no documents."""
    return ABOUT_ROWS.fullmatch(name) is not None or ABOUT_ROWS.fullmatch(name.lower()) is not None


def _tables(inventory: Inventory, *, streaming: bool) -> dict[str, Dataset | IterableDataset]:
    """The rows of each split, read by datasets' own builders."""
    files = {split: inventory.paths(split) for split in inventory.splits}
    if inventory.kind == "csv":
        return _delimited(files, streaming=streaming)
    loaded = {}
    for split, paths in files.items():
        _check_columns(inventory.kind, paths)
        more = {"sample_by": "paragraph", "encoding": "utf-8-sig"} if inventory.kind == "text" else {}
        if inventory.kind in ("text", "json"):
            _check_encoding(paths, most=1 << 20 if streaming else None)
        columns = _classes_of_their_own(paths) if inventory.kind == "parquet" and not streaming else []
        if columns:
            parts = [_by_name(_load(inventory.kind, [path], streaming=False), columns) for path in paths]
            loaded[split] = datasets.concatenate_datasets(parts)
            continue
        loaded[split] = _load(inventory.kind, paths, streaming=streaming, **more)
        if inventory.kind == "text":
            loaded[split] = _divided_at_blank_lines(loaded[split])
    return loaded


def _classes_of_their_own(paths: list[str]) -> list[str]:
    """The columns of parquet files whose numbers stand for other classes in one file than in another: read together,
    all would be called as those of the first."""
    names: dict[str, set[tuple[str, ...]]] = {}
    for path in paths if len(paths) > 1 else []:
        schema = _read(f"{path!r} is damaged, or no parquet file", partial(pyarrow.parquet.read_schema, path))
        for column, kind in datasets.Features.from_arrow_schema(schema).items():
            if isinstance(kind, ClassLabel):
                names.setdefault(column, set()).add(tuple(kind.names))
    return [column for column, found in names.items() if len(found) > 1]


def _by_name(rows: Dataset, columns: list[str]) -> Dataset:
    """The rows with the names of classes in the place of their numbers."""
    for column in columns:
        kind = rows.features[column]
        if isinstance(kind, ClassLabel):
            names = [None if number is None or number < 0 else kind.names[number] for number in rows[column][:]]
            rows = with_column(rows, column, names, Value("string"))
    return rows


def with_column(rows: Dataset, name: str, values: list, kind) -> Dataset:
    """The rows with a column in the place of one of that name, or as a further one, in one table: where `add_column`
    has put others before and these are taken out, datasets' tables lose their length."""
    features = datasets.Features({**rows.features, name: kind})
    table = rows.with_format("arrow")[:]
    column = pyarrow.array(values, type=features.arrow_schema.field(name).type)
    if name in rows.features:
        table = table.set_column(table.schema.get_field_index(name), name, column)
    else:
        table = table.append_column(name, column)
    table = datasets.table.InMemoryTable(table.replace_schema_metadata(None))
    return Dataset(table, info=datasets.DatasetInfo(features=features))


def _divided_at_blank_lines(rows: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """Paragraphs: datasets divides at empty lines alone; a line of spaces, as WikiText has, looks the same."""
    if isinstance(rows, Dataset):
        divided = pc.match_substring_regex(rows.with_format("arrow")[:]["text"], r"\n[ \t]+\n")
        if not pc.any(divided).as_py():
            return rows
    return rows.map(_paragraphs, batched=True, input_columns="text", features=rows.features)


def _paragraphs(texts: list[str]) -> dict[str, list[str]]:
    parts = itertools.chain.from_iterable(re.split(r"\n(?:[ \t]*\n)+", text) for text in texts)
    return {"text": [part for part in parts if part.strip()]}


def _load(builder: str, paths: list[str], *, streaming: bool, **more) -> Dataset | IterableDataset:
    paths = [os.path.abspath(path) for path in paths]
    data_files = {"train": list(map(glob.escape, paths))}

    def load(**cached) -> Dataset | IterableDataset:
        rows = datasets.load_dataset(
            builder, data_files=data_files, split="train", streaming=streaming, **cached, **more
        )
        return _with_features(rows)

    return _read(f"{some(paths)} cannot be read", partial(_renewed, load), builder=builder, paths=paths)


def _renewed(load: Callable[..., Dataset | IterableDataset]) -> Dataset | IterableDataset:
    """load(), with another folder for datasets' cache where what lies of the files in it is damaged.

    What it finds wrong with the files is another exception, a DatasetsError; what the system refuses has a number.
    """
    try:
        return load()
    except (OSError, ValueError, KeyError, pyarrow.ArrowException) as error:
        if isinstance(error, datasets.exceptions.DatasetsError) or getattr(error, "errno", None) is not None:
            raise
        return load(cache_dir=str(Path(datasets.config.HF_DATASETS_CACHE, "hf_replearn", "beside_damaged")))


def _with_features(rows: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """A stream may have to look at its first rows for the types of its columns."""
    return rows if rows.features else rows._resolve_features()


def _delimited(files: dict[str, list[str]], *, streaming: bool) -> dict[str, Dataset | IterableDataset]:
    """The rows of .csv and .tsv files: strings, but for columns that hold nothing but numbers in all splits."""
    sheets = {
        split: [look_through(path, most=HEAD if streaming else None) for path in paths]
        for split, paths in files.items()
    }
    types: dict[str, int] = {}
    for sheet in sum(sheets.values(), []):
        for column, kind in zip(sheet.columns, sheet.types, strict=True):
            types[column] = max(types.get(column, 0), TYPES.index(kind))
    loaded = {}
    for split, found in sheets.items():
        first = _alike(found)
        if all(sheet.rows == 0 for sheet in found):
            raise InputError(f"{some(files[split])}: a header, and no rows")
        rows = _load(
            "csv",
            files[split],
            streaming=streaming,
            features=datasets.Features({column: Value("string") for column in first.columns}),
            sep=first.separator,
            skipinitialspace=first.spaces,
            quoting=3 if first.quotes is False else 0,
            keep_default_na=False,
            na_values=[""],
        )
        for column in first.columns:
            if TYPES[types[column]] in ("int64", "float64"):
                rows = rows.cast_column(column, Value(TYPES[types[column]]))
        loaded[split] = rows
    return loaded


def _alike(sheets: list[Sheet]) -> Sheet:
    """One sheet for the files of a split. InputError where they differ in columns, separators or quotes."""
    first = next((sheet for sheet in sheets if sheet.quotes is not None), sheets[0])
    for sheet in sheets:
        if set(sheet.columns) != set(first.columns):
            raise InputError(
                f"{first.file!r} has the columns {', '.join(first.columns)}; {sheet.file!r} "
                f"{', '.join(sheet.columns)}: say with --files which are meant"
            )
        if sheet.separator != first.separator or sheet.spaces != first.spaces:
            raise InputError(f"{first.file!r} and {sheet.file!r} divide their columns differently: write them alike")
        if sheet.quotes not in (None, first.quotes):
            raise InputError(
                f"one of {first.file!r} and {sheet.file!r} has quotes around texts, the other within: write them alike"
            )
    return first


def _check_columns(kind: str, paths: list[str]) -> None:
    """Files of one split have the same columns. InputError names two that have not."""
    if len(paths) < 2 or kind not in ("parquet", "json"):
        return
    columns = {path: names for path in paths if (names := _columns(kind, path))}
    first = next(iter(columns), "")
    for path, names in columns.items():
        more, fewer = names - columns[first], columns[first] - names
        if more and fewer or (kind == "parquet" and (more or fewer)):
            raise InputError(
                f"{first!r} has the columns {', '.join(sorted(columns[first]))}; {path!r}, {', '.join(sorted(names))}: "
                "say with --files which are meant"
            )


def _columns(kind: str, path: str) -> set[str]:
    if kind == "parquet":
        read = partial(pyarrow.parquet.read_schema, path)
        return set(_read(f"{path!r} is damaged, or no parquet file", read).names)
    with opened(path) as file:
        line = file.readline(1 << 20).removeprefix(b"\xef\xbb\xbf").strip()
    try:
        row = json.loads(line)
    except ValueError:
        return set()  # an array over many lines, or what datasets will complain of
    row = row[0] if isinstance(row, list) and row else row
    return set(row) if isinstance(row, dict) else set()


def _check_encoding(paths: list[str], *, most: int | None) -> None:
    """Each file, or its first `most` bytes, is UTF-8: pyarrow reads JSON without a look at it, and a stream would find
    out in the middle of the training."""
    for path in paths:
        if complaint := not_utf8(path, most=most):
            raise InputError(complaint)


# ---- failures of readers


def _read(complaint: str, load: Callable, *, builder: str = "", paths: Sequence[str] = ()):
    """load(), whose failures datasets puts into many classes, one behind the other; all are the user's to mend."""
    try:
        return load()
    except (
        OSError, ValueError, RuntimeError, EOFError, KeyError, TypeError, ImportError, pyarrow.ArrowException,
        datasets.exceptions.DatasetsError,
    ) as error:  # fmt: skip
        if isinstance(error, InputError):
            raise
        raise InputError(_cause(complaint, error, builder, paths)) from error


def _cause(complaint: str, error: BaseException, builder: str, paths: Sequence[str]) -> str:
    """What is wrong, in one line: with the file and the byte or line, where that can be found."""
    chain = [error]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None and deeper not in chain:
        chain.append(deeper)
    full = [link for link in chain if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT)]
    if full:
        return f"no space is left for datasets' cache in {str(datasets.config.HF_DATASETS_CACHE)!r} (HF_DATASETS_CACHE)"
    cache = str(datasets.config.HF_DATASETS_CACHE)
    for link in chain:
        if isinstance(link, OSError) and str(link.filename or "").startswith(cache):
            return f"datasets cannot use its cache {cache!r} ({link.strerror}): set HF_DATASETS_CACHE to another folder"
    for path in paths:
        if found := _bad_line(path) if builder == "json" else _damage(path) if builder == "arrow" else None:
            return found
    empty = any(isinstance(link, datasets.arrow_writer.SchemaInferenceError) for link in chain)
    if empty or "at least one table" in str(error):  # what pyarrow says of a tar without files
        return f"{complaint}: there is nothing in it"
    told = [link for link in chain if "error occurred while generating" not in str(link)] or chain
    return f"{complaint}: {' '.join(str(told[0]).split())[:500]}"


def _bad_line(path: str) -> str | None:
    """The first line of JSON lines that is no JSON."""
    start = 0
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                json.loads(line.removeprefix(b"\xef\xbb\xbf")) if line.strip() else None
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                more = "" if number > 1 or line.lstrip()[:1] != b"[" else ", nor is the file an array"
                return f"line {number} of {path!r} (byte {start:,}) is no JSON: {reason}{more}"
            start += len(line)
    return None


def _damage(path: str) -> str | None:
    try:
        with pyarrow.memory_map(path) as file:
            pyarrow.ipc.open_stream(file)
    except (OSError, pyarrow.ArrowException) as error:
        return f"{printable(path)!r} is damaged, or no arrow file: {' '.join(str(error).split())}"
    return None
