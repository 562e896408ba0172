"""What lies at a path: every file belongs to a split, or is left out for a reason that is named.

One walk, one set of rules for images, texts and labelled data. Where a folder can be read in two ways, nothing is
guessed: the refusal names both.
"""

from __future__ import annotations

import filecmp
import fnmatch
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import datasets
from PIL import Image

from hf_replearn.data.splits import ABOUT, PACKED, TRAIN, counts, image_places, printable, some, table_places
from hf_replearn.errors import InputError
from hf_replearn.files import write_whole

# Raster formats only: Pillow would start Ghostscript for PostScript that calls itself .png.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = {
    "images": tuple(sorted(suffix for suffix, form in Image.registered_extensions().items() if form in FORMATS)),
    "arrays": (".npy",),  # images too, where there is nothing else or their channels are told
    "parquet": (".parquet",),
    "arrow": (".arrow",),
    "json": (".jsonl", ".json", ".ndjson"),
    "csv": (".csv", ".tsv"),
    "text": (".txt",),
    "webdataset": (".tar",),
    "sounds": (".wav",),
}
READS = {
    "shards": ("parquet", "arrow", "webdataset"),  # of images that are streamed
    "images": ("images", "arrays", "parquet", "arrow"),
    "episodes": ("images", "arrays", "parquet", "arrow"),
    "texts": ("parquet", "arrow", "json", "csv", "text"),
    "labels": ("images", "arrays", "parquet", "arrow", "json", "csv"),  # a .txt has no labels
    "sounds": ("sounds", "arrays"),
    "graphs": ("parquet", "arrow", "json", "csv"),  # tables of edges, or of nodes
    "questions": ("parquet", "arrow", "json", "csv"),
    "pairs": ("images", "parquet", "arrow", "webdataset"),  # of images and texts; a .txt may lie beside an image
}
PICTURES = ("images", "arrays")  # a file each
IN_CLASSES = ("images", "sounds")  # whose class is that of their folder
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}
SYSTEM_FOLDERS = {
    "__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information", ".git", ".cache",
    ".ipynb_checkpoints", ".venv", ".idea", ".vscode", ".spotlight-v100", ".fseventsd", ".trashes", ".thumbnails",
}  # fmt: skip
SYSTEM, NOT_ASKED, BESIDE = "hidden or of the system", "not one of --files", "about the data, not part of it"
HIDDEN, POINTER = "a hidden folder", "a pointer of Git LFS, not the file: run git lfs pull"
ARCHIVE = "an archive: unpack it first"
ARRAY = "an array beside other data: say --channels if such are the images"
LOOP, OUTPUT = "a link to a folder that it lies in", "the output of a run"
PROGRAMS = {
    ".py", ".ipynb", ".sh", ".bat", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".lock", ".log", ".bib", ".cff", ".md5",
    ".sha1", ".sha256",
}  # fmt: skip
COPY = re.compile(r"( \(\d+\)|( - |[ _])copy( \(?\d+\)?)?)$", re.IGNORECASE)  # what browsers and desktops add to a name
METADATA = re.compile(r"metadata\.(csv|jsonl|parquet)", re.IGNORECASE)  # of datasets' imagefolder


class LeftOut(NamedTuple):
    """A file, folder or row that is not used, and why. `file` is relative to the source."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file} ({self.reason})"


@dataclass(frozen=True)
class Inventory:
    """What is used of a local source, and what is not.

    root:     the folder (or file) as it was given, absolute.
    kind:     a key of SUFFIXES ("images" or "sounds" for arrays too); "saved" for what datasets' `save_to_disk` wrote.
    splits:   split -> its files relative to root, sorted; of "saved" the folder alone.
    classes:  of images and sounds: split -> the class folder of each file, or None.
    metadata: of images: the metadata.* files of datasets' imagefolder.
    left_out: everything else. A folder that is left out stands for all that is in it.
    """

    root: str
    kind: str
    splits: dict[str, list[str]]
    classes: dict[str, list[str | None]] = field(default_factory=dict)
    metadata: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def paths(self, split: str) -> list[str]:
        """The absolute paths of a split's files."""
        return [os.path.normpath(os.path.join(self.root, file)) for file in self.splits[split]]


def take_inventory(path: str, *, purpose: str, files: Sequence[str] = (), arrays: bool = False) -> Inventory:
    """Looks through a local folder, or at a single file, which is then `train`.

    purpose: a key of READS: which kinds of files are read.
    files:   patterns of those that are asked for (`*` stands for any characters; without a `/` they are of file names).
    arrays:  .npy files are images as others are; else only where there is nothing else to read.

    Raises InputError where there is nothing to read, where two readings are possible, and where a class, a split or
    more than half of the files would be lost.
    """
    root = os.path.abspath(path)
    if not os.path.isdir(root):
        return _single_file(path, root, purpose)
    names, left_out = walk(root)
    if files:
        names, others = _asked(names, files)
        left_out += [LeftOut(name, NOT_ASKED) for name in others]
        if not names:
            example = f", such as {printable(others[0])!r}" if others else ""
            raise InputError(f"--files {' '.join(files)} fits none of the {len(others)} files in {path!r}{example}")
    saved = _saved(names)
    if saved is not None:
        return Inventory(root, "saved", {TRAIN: [saved]}, left_out=left_out)
    kind, used, others, metadata = _sorted_by_kind(path, names, purpose, told=bool(files), arrays=arrays)
    lost = [item for item in left_out + others if item.reason not in (SYSTEM, NOT_ASKED, BESIDE, LOOP, OUTPUT, HIDDEN)]
    if purpose == "pairs" and kind == "images":
        captions = {os.path.splitext(name)[0] + ".txt" for name in used}
        lost = [item for item in lost if item.file not in captions]
        others = [item for item in others if item.file not in captions]
    if kind in IN_CLASSES:
        places = image_places(path, used, [item.file for item in lost])
    else:
        places = table_places(path, kind, used, [item.file for item in lost], told=bool(files))
    beside = [name for name in used if name not in places]
    others += [LeftOut(printable(name), BESIDE) for name in beside]
    splits, classes = defaultdict(list), defaultdict(list)
    for name, (split, label) in places.items():
        splits[split].append(name)
        classes[split].append(label)
    if kind not in IN_CLASSES:
        _refuse_twins(path, splits)
    if not files:
        _refuse_if_most_is_lost(path, len(places), lost, kind)
    return Inventory(
        root, kind, dict(splits), dict(classes) if kind in IN_CLASSES else {}, metadata, sorted(left_out + others)
    )


def write_skipped(file: str | os.PathLike, left_out: Iterable[LeftOut]) -> None:
    """A line for each file and row that is not used, with the reason; no file where nothing is left out."""
    lines = [f"{item}\n" for item in left_out if item.reason != SYSTEM]
    if lines:
        write_whole(file, "".join(lines))
    else:
        Path(file).unlink(missing_ok=True)


# ---- walking


def walk(root: str) -> tuple[list[str], list[LeftOut]]:
    """The regular files under `root`, relative, sorted; and what else is there.

    Links are followed, each real folder is entered once and known by its own name rather than by a link's. Raises
    InputError for a folder that cannot be read or that has two names.
    """
    files, left_out, folders, links, seen = [], [], [""], [], {}
    while folders or links:
        folder, linked = (folders.pop(), False) if folders else (links.pop(0), True)
        place = os.path.join(root, folder)
        if linked and _is_loop(root, place):
            left_out.append(LeftOut(f"{printable(folder)}/", LOOP))
            continue
        about = os.stat(place)
        if folder and os.path.realpath(place) == os.path.realpath(datasets.config.HF_DATASETS_CACHE):
            left_out.append(LeftOut(f"{printable(folder)}/", SYSTEM))
            continue
        if (first := seen.setdefault((about.st_dev, about.st_ino), folder)) != folder:
            raise InputError(f"{folder!r} and {first!r} are one folder in {root!r}, by a link: leave one of them out")
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"the folder {place!r} cannot be read: {error.strerror}") from error
        if folder and any(entry.name == "recipe.yaml" for entry in entries):
            left_out.append(LeftOut(f"{printable(folder)}/", OUTPUT))
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            what, reason = _what(entry)
            if reason:
                left_out.append(LeftOut(printable(name) + "/" * (what == "folder"), reason))
            elif what == "folder":
                (links if entry.is_symlink() else folders).append(name)
            else:
                files.append(name)
    return sorted(files), left_out


def _is_loop(root: str, link: str) -> bool:
    """Whether a link leads to a folder that it, or the whole source, lies in."""
    target = os.path.join(os.path.realpath(link), "")
    inside = (os.path.realpath(os.path.dirname(link)), os.path.realpath(root))
    return any(os.path.join(place, "").startswith(target) for place in inside)


def _what(entry: os.DirEntry) -> tuple[str, str]:
    """`folder` or `file`, and why it is left out, if it is."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        return "file", "a link to nothing" if entry.is_symlink() else str(error.strerror)
    what = "folder" if stat.S_ISDIR(mode) else "file"
    if entry.name.lower() in (SYSTEM_FOLDERS if what == "folder" else SYSTEM_FILES):
        return what, SYSTEM
    if entry.name.startswith("."):
        return what, SYSTEM if what == "file" else HIDDEN
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        return what, "a named pipe" if stat.S_ISFIFO(mode) else "a device or socket"
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return what, "its name is not UTF-8"
    return what, ""


def kind_of(name: str) -> tuple[str | None, str]:
    """The kind of a file, by its suffix; and of one that is never read, the reason."""
    stem, suffix = os.path.splitext(name.lower())
    packed = suffix if suffix in PACKED else ""
    suffix = os.path.splitext(stem)[1] if packed else suffix
    for kind, suffixes in SUFFIXES.items():
        if suffix in suffixes and (not packed or kind in ("json", "csv", "text")):
            return kind, ""
    if suffix in (".zip", ".tgz", ".7z", ".rar"):
        return None, ARCHIVE
    return None, f"{suffix + packed} is not read" if suffix + packed else "a file without a suffix is not read"


def _single_file(path: str, root: str, purpose: str) -> Inventory:
    try:
        regular = stat.S_ISREG(os.stat(root).st_mode)
    except OSError as error:
        raise InputError(f"{path!r} cannot be read: {error.strerror}") from error
    kind, reason = kind_of(root)
    if not regular or kind not in READS[purpose] or (kind in PICTURES and purpose != "sounds"):
        reads = ", ".join(suffix for kind in READS[purpose] if kind not in PICTURES for suffix in SUFFIXES[kind])
        if regular and kind == "webdataset":
            reason = _not_here(kind, ".tar", purpose)
        reason = "it is no regular file" if not regular else reason or "it is of another kind"
        raise InputError(f"{path!r} is neither a folder nor a file that is read here ({reads}): {reason}")
    if not os.path.getsize(root):
        raise InputError(f"{path!r} is empty")
    if purpose == "sounds":
        return Inventory(root, purpose, {TRAIN: [""]}, {TRAIN: [None]})
    return Inventory(root, kind, {TRAIN: [""]})


def _asked(names: list[str], patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    def fits(name: str) -> bool:
        return any(fnmatch.fnmatchcase(name if "/" in p else os.path.basename(name), p) for p in patterns)

    return [name for name in names if fits(name)], [name for name in names if not fits(name)]


def _saved(names: list[str]) -> str | None:
    """The folder that `save_to_disk` wrote, if all files lie in one."""
    marks = [os.path.dirname(name) for name in names if os.path.basename(name) == "dataset_dict.json"]
    marks = marks or [os.path.dirname(name) for name in names if os.path.basename(name) == "state.json"]
    data = [
        name
        for name in names
        if kind_of(name)[0] not in (None, "arrays") and not ABOUT.fullmatch(os.path.basename(name))
    ]
    for mark in marks:
        if all(name.startswith(f"{mark}/" if mark else "") for name in data):
            return mark
    return None


# ---- which files are the data


def _sorted_by_kind(
    path: str, names: list[str], purpose: str, *, told: bool, arrays: bool
) -> tuple[str, list[str], list[LeftOut], list[str]]:
    """The one kind of file that is the data, its files, all others with the reason, and imagefolder's metadata."""
    used, about, others = defaultdict(list), defaultdict(list), []
    for name in names:
        file, (kind, reason) = os.path.basename(name), kind_of(name)
        if told and kind is None and purpose == "texts" and "archive" not in reason:
            kind = "text"  # whoever asks for *.md gets it
        is_about = ABOUT.fullmatch(file) is not None and not told or re.fullmatch(r"cache-.*\.arrow", file)
        if kind not in READS[purpose]:
            suffix = os.path.splitext(name)[1].lower()
            is_about = is_about or suffix in PROGRAMS
            others.append(LeftOut(name, BESIDE if is_about else reason or _not_here(kind, suffix, purpose)))
        elif kind not in PICTURES and (problem := _no_content(os.path.join(path, name))):
            others.append(LeftOut(name, problem))
        else:
            (about if is_about else used)[kind].append(name)
    others += [LeftOut(name, BESIDE) for name in about.pop("arrays", [])]
    if "arrays" in used and not (told or arrays or purpose == "sounds") and len(used) > 1:
        others += [LeftOut(name, ARRAY) for name in used.pop("arrays")]
    elif "arrays" in used and (told or len(used) == 1):
        used["sounds" if purpose == "sounds" else "images"] += used.pop("arrays")
    metadata = [name for found in about.values() for name in found if METADATA.fullmatch(os.path.basename(name))]
    if "images" in used:
        metadata += [item.file for item in others if METADATA.fullmatch(os.path.basename(item.file))]
        others = [item for item in others if item.file not in metadata]
        about = {kind: [name for name in found if name not in metadata] for kind, found in about.items()}
    if not used:
        used, about = {kind: found for kind, found in about.items() if found}, {}
    if not used:
        what = {
            "images": "are no images", "texts": "is no text", "labels": "are no labelled examples",
            "shards": "are no shards of images to stream", "sounds": "are no sounds", "episodes": "are no images",
            "questions": "are no questions with contexts and answers",
            "pairs": "are no images with captions",
        }[purpose]  # fmt: skip
        reads = ", ".join(suffix for kind in READS[purpose] for suffix in SUFFIXES[kind] if kind not in PICTURES)
        pictures = "pictures, .npy, " if set(PICTURES) & set(READS[purpose]) else ""
        pictures = ".npy, " if purpose == "sounds" else pictures
        found = f" its files are {counts(item.file for item in others)}{_usual_reason(others)};" if others else ""
        raise InputError(f"there {what} in {path!r}:{found} what is read are {pictures}{reads}")
    if len(used) > 1:
        readings = " or ".join(f"the {_counted(kind, len(found))} ({some(found)})" for kind, found in used.items())
        example = "*" + os.path.splitext(next(iter(used.values()))[0])[1]
        raise InputError(f"what in {path!r} is the data: {readings}? Say it with --files, such as --files '{example}'")
    [(kind, found)] = used.items()
    found = found + (about.pop(kind, []) if kind == "text" else [])
    others += [LeftOut(name, BESIDE) for names in about.values() for name in names]
    return kind, sorted(found), others, metadata if kind == "images" else []


def _no_content(file: str) -> str:
    """Why a table or text has nothing in it, if it has not."""
    size = os.path.getsize(file)
    if 0 < size < 200:
        with open(file, "rb") as content:
            return POINTER if content.read().startswith(b"version https://git-lfs") else ""
    return "" if size else "an empty file"


def _not_here(kind: str, suffix: str, purpose: str) -> str:
    if purpose == "images" and kind in ("csv", "json"):
        return "no images; labels are read from class folders or from metadata.csv with a column file_name"
    if kind == "webdataset":
        return ARCHIVE + ", or stream its images with --streaming" * (purpose == "images")
    if kind in PICTURES and purpose == "shards":
        return "a file of one image: read it without --streaming, or pack many into shards"
    if kind == "text" and purpose == "labels":
        return ".txt has no labels"
    return f"{suffix} is not read here"


def _usual_reason(others: list[LeftOut]) -> str:
    reason = Counter(item.reason for item in others).most_common(1)[0][0]
    return "" if reason == BESIDE else f", {reason}"


def _counted(kind: str, number: int) -> str:
    noun = {"images": "image", "sounds": "sound", "arrays": ".npy file", "text": ".txt file"}.get(kind, f"{kind} file")
    return f"{number} {noun}{'s' * (number != 1)}"


def _refuse_twins(path: str, splits: dict[str, list[str]]) -> None:
    """a.csv beside a.csv.gz, and beside "a (1).csv" of a browser with the same content, would count twice."""
    for names in map(set, splits.values()):
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            first = COPY.sub("", stem) + suffix
            same = first in names and first != name and filecmp.cmp(*(os.path.join(path, x) for x in (first, name)))
            if twin := first if same else stem if suffix.lower() in PACKED and stem in names else None:
                raise InputError(
                    f"{printable(twin)!r} and {printable(name)!r} in {path!r} are the same data twice: leave one of "
                    "them out with --files"
                )


def _refuse_if_most_is_lost(path: str, used: int, lost: list[LeftOut], kind: str) -> None:
    if len(lost) > used:
        reasons = Counter(item.reason for item in lost)
        raise InputError(
            f"{len(lost)} of the {len(lost) + used} files in {path!r} would be left out, {counts(f for f, _ in lost)}: "
            f"{reasons.most_common(1)[0][0]}. If the {_counted(kind, used)} alone are the data, say so with --files"
        )
