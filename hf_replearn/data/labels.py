"""What a column of labels says: decided here alone, for texts and images, train and test.

Which column: the one asked for, else `label` or `labels` (in any case), else the only one that declares its classes.

What its cells are, by their type:
- ClassLabel, whole numbers, strings and booleans are classes. Whole numbers are in the order of numbers, strings of the
  alphabet, ClassLabel as declared; between splits, classes are matched by name, never by number.
- Floats are numbers to regress on. Floats that are all whole may be numbers or classes (1.0 is what a table makes of 1
  in a column with a gap), unless another split has classes: two readings.
- Lists of classes are several labels each. Anything else is no label.

Which rows have none: those with null, NaN or an empty string. Words such as "None" or "NA" are classes like others. And
-1, which is how the Hub writes a label that is kept secret:
- always where classes are declared (ClassLabel), for no class has that number, and where a whole split has only -1;
- of whole numbers, never beside other negative numbers or where a single class would be left: {-1, 1} are classes;
- of whole numbers, where train has no -1, since it could not be learnt, or has it in at most RARE of its rows and
  less often than any other value;
- elsewhere -1 may be a class (negative, neutral, positive) or none: two readings.
A "-" among words, which is how SNLI writes that its annotators did not agree, goes by the rules of a -1 among numbers.

Two readings are a refusal that names both; `--label_type` says which is meant.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import datasets
from datasets import ClassLabel, Dataset, Value

from hf_replearn.errors import InputError

RARE = 0.02
NONE = {"int": "-1", "string": "-"}  # what stands for no label among whole numbers, and among words
LabelType = Literal["classes", "numbers"]


@dataclass(frozen=True)
class Labels:
    """What a column says.

    names:   class names by number; None where the labels are numbers to regress on.
    several: whether a row has a list of classes.
    values:  of each split, for each row a class number, a list of these, or a float; None where it has no label.
    notes:   what the user should know, a sentence each.
    """

    names: list[str] | None
    several: bool
    values: dict[str, list]
    notes: list[str]

    def add_to(self, split: str, rows: Dataset) -> Dataset:
        """The rows with the column `label`, as they are in number and order."""
        kind = Value("float64") if self.names is None else ClassLabel(names=self.names)
        return rows.add_column("label", self.values[split], feature=datasets.List(kind) if self.several else kind)


def choose_label(features: datasets.Features, asked: str | None) -> str | None:
    """The column of labels, or None where there is none. InputError where it is not clear."""
    if asked is not None:
        if asked not in features:
            raise InputError(f"--label_column {asked!r} does not exist; the columns are {shown_columns(features)}")
        return asked
    usual = [name for name, kind in features.items() if name.lower() in ("label", "labels") and not is_image(kind)]
    declared = [name for name, kind in features.items() if isinstance(element(kind), ClassLabel)]
    found = usual or declared
    if len(found) > 1:
        raise InputError(f"several columns may be the label: {', '.join(found)}; choose with --label_column")
    return next(iter(found), None)


def has_labels(rows: Dataset, column: str) -> bool:
    """Whether any row of a split has one."""
    if column not in rows.features:
        return False
    _, cells = _cells("", rows, column)
    return any(cell not in (None, *NONE.values(), -1.0) for cell in cells)


def read_labels(
    splits: dict[str, Dataset], column: str, *, label_type: LabelType | None = None, scores: bool = True
) -> Labels:
    """What the cells of a column are, in `train` and maybe a split to test on.

    label_type: what the user says they are, where two readings are possible.
    scores:     whether the command has a use for numbers to regress on.
    Raises InputError for two readings, for a type that holds no labels, and for a class that only the test split has.
    """
    read = {split: _cells(split, rows, column) for split, rows in splits.items()}
    kinds, cells = (
        {split: kind for split, (kind, _) in read.items()},
        {split: cells for split, (_, cells) in read.items()},
    )
    if all(cell is None for cell in cells["train"]):
        raise InputError(f"no row of 'train' has a label in the column {column!r}: choose another --label_column")
    if len({kind.startswith("list") for kind in kinds.values()}) > 1:
        raise InputError(f"the label {column!r} is {' and '.join(sorted(set(kinds.values())))} in different splits")
    if kinds["train"].startswith("list"):
        if label_type == "numbers":
            raise InputError(f"--label_type numbers: the label {column!r} is a {kinds['train']}")
        return _several(cells, kinds["train"], column, splits["train"].features[column])
    if _are_numbers(cells, kinds, column, label_type):
        if not scores:
            raise InputError(
                f"the label {column!r} has numbers such as {_first(cells, _is_float)}, of use for texts only: for "
                "classes, say --label_type classes, or choose another --label_column"
            )
        return Labels(None, False, {split: _finite(split, values, column) for split, values in cells.items()}, [])
    notes = []
    marks = [mark for kind, mark in NONE.items() if kind in kinds.values() and label_type is None]
    for mark in marks:
        if not _is_no_label(mark, cells, column):
            continue
        for split, values in cells.items():
            if count := values.count(mark):
                notes.append(
                    f"{count:,} of {len(values):,} rows of {split!r} have the label {mark}, taken for 'no label'"
                )
            cells[split] = [None if value == mark else value for value in values]
    names = _class_names(splits["train"].features[column], cells["train"])
    if kinds["train"] != "class" and label_type is None:
        _check_number_of_classes(Counter(filter(None, cells["train"])), kinds["train"], column)
    _check_known(cells, column)
    number = {name: place for place, name in enumerate(names)}
    values = {split: [None if cell is None else number[cell] for cell in found] for split, found in cells.items()}
    return Labels(names, False, values, notes + _lookalikes(names))


# ---- cells: one row's entry as None, a class name, a float, or a list of class names


def _cells(split: str, rows: Dataset, column: str) -> tuple[str, list]:
    """The type of a column (class, string, int, bool, float, "list of …") and its cells: classes by name."""
    kind, values = rows.features[column], rows[column][:]
    inner, listed = element(kind), isinstance(kind, datasets.List | datasets.LargeList)
    word = "class" if isinstance(inner, ClassLabel) else _dtype(inner)
    if word not in ("class", "string", "int", "bool", "float", "null") or (listed and word in ("float", "bool")):
        raise InputError(
            f"the label {column!r} must be a class, a text or a number, and is {shown_kind(kind)}: choose another "
            "--label_column"
        )
    if not listed:
        return word, [_cell(value, inner) for value in values]
    found = [None if value is None else [_cell(item, inner) for item in value] for value in values]
    for row, items in enumerate(found):
        if items is not None and (None in items or "-1" in items):
            raise InputError(f"row {row} of {split!r}: the list of labels {column!r} has an entry that is no label")
    return f"list of {word}", found


def _cell(value: Any, kind) -> str | float | None:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(kind, ClassLabel):
        if value >= kind.num_classes:
            raise InputError(f"a label has the class number {value}, and there are {kind.num_classes} classes")
        return kind.names[value] if value >= 0 else None
    return value if isinstance(value, float) else str(value)


def _class_names(kind, cells: list) -> list[str]:
    """Class names by number: as declared, or in the order of numbers or of the alphabet."""
    kind = element(kind)
    if isinstance(kind, ClassLabel):
        return kind.names
    names = set(cells) - {None}
    return sorted(names) if _dtype(kind) in ("string", "bool") else sorted(names, key=float)


def _several(cells: dict[str, list], kind: str, column: str, feature) -> Labels:
    lists = [cell for found in cells.values() for cell in found if cell is not None]
    lengths, items = {len(cell) for cell in lists}, {item for cell in lists for item in cell}
    if kind == "list of int" and len(lengths) == 1 and lengths.isdisjoint({0, 1}) and items <= {"0", "1"}:
        raise InputError(
            f"the label {column!r} has lists of {len(lists[0])} numbers 0 and 1: numbers of classes, or one place for "
            "each class? Give lists of the names of the classes that are there"
        )
    flat = {split: [item for cell in found for item in cell or []] for split, found in cells.items()}
    _check_known(flat, column)
    names = _class_names(feature, flat["train"])
    number = {name: place for place, name in enumerate(names)}
    values = {
        split: [None if cell is None else [number[item] for item in cell] for cell in found]
        for split, found in cells.items()
    }
    return Labels(names, True, values, _lookalikes(names))


# ---- two readings


def _are_numbers(cells: dict[str, list], kinds: dict[str, str], column: str, label_type: LabelType | None) -> bool:
    """Whether to regress; where not, whole floats become class names in `cells`."""
    if label_type == "numbers":
        for split, found in cells.items():
            if kinds[split] not in ("int", "float", "null"):
                raise InputError(f"--label_type numbers: the label {column!r} is {kinds[split]} in {split!r}")
            cells[split] = [None if cell is None else float(cell) for cell in found]
        return True
    if "float" not in kinds.values():
        return False
    floats = [cell for found in cells.values() for cell in found if isinstance(cell, float)]
    whole = all(map(float.is_integer, floats))
    if label_type is None and set(kinds.values()) <= {"float", "null"}:
        if not whole or not floats:
            return True
        raise InputError(
            f"the label {column!r} has whole numbers as floats, such as {floats[0]}: classes, or numbers to regress "
            "on? Say --label_type classes or --label_type numbers"
        )
    if label_type is None and not whole:
        raise InputError(
            f"the label {column!r} has {_first(cells, _is_broken)} in one split and classes in another: choose another "
            "--label_column"
        )
    for split, found in cells.items():
        cells[split] = [_whole_name(cell) if isinstance(cell, float) else cell for cell in found]
    return False


def _is_no_label(mark: str, cells: dict[str, list], column: str) -> bool:
    """Whether -1 among whole numbers, - among words, says that a row has no label; see the head of this module."""
    train = Counter(cell for cell in cells["train"] if cell is not None)
    others = [count for name, count in train.items() if name != mark]
    if not any(mark in found for found in cells.values()) or any(name[0] in "-+" for name in train if name != mark):
        return False
    if not others or mark not in train:
        return True
    if len(others) == 1:
        return False
    if train[mark] <= RARE * train.total() and train[mark] < min(others):
        return True
    raise InputError(
        f"{train[mark]:,} of {train.total():,} training rows have the label {mark} in {column!r}: a class, or no "
        "label? Say --label_type classes if it is a class, and leave these cells empty if it is none"
    )


def _check_number_of_classes(counts: Counter[str], kind: str, column: str) -> None:
    """An id or a measured number is no class."""
    if len(counts) > 5 and 2 * len(counts) > counts.total():
        other = "a number to regress on (--label_type numbers, for texts)" if kind == "int" else "a text"
        raise InputError(
            f"the label {column!r} has {len(counts):,} different values in {counts.total():,} training rows: is it an "
            f"id or {other}? Choose another --label_column, or say --label_type classes if these are classes"
        )


def _check_known(cells: dict[str, list], column: str) -> None:
    """A class that train lacks cannot be predicted, so that a score would be of something else."""
    known = set(cells["train"])
    for split, found in cells.items():
        strange = Counter(cell for cell in found if cell is not None and cell not in known)
        if strange and known - {None}:
            name, count = strange.most_common(1)[0]
            others = f", nor {len(strange) - 1} others" * (len(strange) > 1)
            raise InputError(
                f"no row of 'train' has the label {name!r} in {column!r}, of which {split!r} has {count:,}{others}: "
                "such a class cannot be learnt; add examples of it to train, or leave these rows out"
            )


def _lookalikes(names: list[str]) -> list[str]:
    groups = {}
    for name in names:
        groups.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [
        f"the classes {', '.join(map(repr, alike))} differ in case or spaces only, and count as {len(alike)} classes"
        for alike in groups.values()
        if len(alike) > 1
    ]


def _finite(split: str, values: list, column: str) -> list[float | None]:
    for row, value in enumerate(values):
        if value is not None and not math.isfinite(value):
            raise InputError(f"row {row} of {split!r} has the label {value} in {column!r}: leave it out or empty")
    return values


def _whole_name(value: float) -> str:
    return str(int(value)) if value.is_integer() else str(value)


def _is_float(cell) -> bool:
    return isinstance(cell, float)


def _is_broken(cell) -> bool:
    return isinstance(cell, float) and not cell.is_integer()


def _first(cells: dict[str, list], which) -> Any:
    return next((cell for found in cells.values() for cell in found if which(cell)), None)


# ---- types of columns


def element(kind):
    """The type of one label, also where a row has a list of them."""
    return kind.feature if isinstance(kind, datasets.List | datasets.LargeList) else kind


def is_image(kind) -> bool:
    """Whether a column holds pictures, or the bytes of files."""
    packed = kind.get("bytes") if isinstance(kind, dict) else kind
    return isinstance(kind, datasets.Image) or _dtype(packed) == "binary"


def is_text(kind) -> bool:
    """Whether a column holds strings."""
    return _dtype(kind) == "string"


def shown_kind(kind) -> str:
    """The type of a column in a word or two."""
    if isinstance(kind, datasets.List | datasets.LargeList):
        return f"list of {shown_kind(kind.feature)}"
    return kind.dtype if isinstance(kind, Value) else "struct" if isinstance(kind, dict) else type(kind).__name__


def shown_columns(features: datasets.Features) -> str:
    """All columns with their types."""
    return ", ".join(f"{name} ({shown_kind(kind)})" for name, kind in features.items())


def _dtype(kind) -> str:
    """int, float, bool, string, binary, … of a plain column, whatever its number of bits."""
    if not isinstance(kind, Value):
        return ""
    return kind.dtype.removeprefix("large_").removesuffix("_view").rstrip("0123456789").removeprefix("u")
