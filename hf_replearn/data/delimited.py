"""What a .csv or .tsv file says: its separator, its quotes, its columns and their types, found in the whole file.

pandas guesses types ten thousand rows at a time, takes "None" and "NA" for nothing, `007` for 7, the first row of a
file without a header for one, and lets an open quote swallow rows. So a file is looked through first, then read as
strings.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import importlib.util
import io
import lzma
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

from hf_replearn.errors import InputError

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")  # what is the same when it is written again: not 007
NUMBER = re.compile(r"-?(0|[1-9]\d*)?(\.\d+|(?<=\d)\.?)([eE][+-]?\d+)?")
TYPES = ("nothing", "int64", "float64", "string")  # each can hold those before it
SAMPLE = 1_000  # records by which separators and headers are judged
LONG = 100  # characters of a name of a column


@dataclass(frozen=True)
class Sheet:
    """A file of rows.

    file:      its path. columns: the names in its header, "Unnamed: n" where there is none.
    separator: between fields. quotes: whether `"` stands around fields; None where there are no quotes.
    spaces:    whether a space follows each separator.
    types:     of each column, one of TYPES; `string` for all where only a part of the file was looked at.
    rows:      how many there are, None where only a part was looked at.
    """

    file: str
    columns: tuple[str, ...]
    separator: str
    quotes: bool | None
    spaces: bool
    types: tuple[str, ...]
    rows: int | None = None


def look_through(file: str, *, most: int | None = None) -> Sheet:
    """Reads a .csv or .tsv file, plain or compressed, once.

    most: characters looked at, for files that are streamed; None: all.

    Raises InputError, with the line or byte, for what is not UTF-8, has no header, too many fields or an open quote.
    """
    csv.field_size_limit(2**31 - 1)
    with opened(file) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        head = text.read(1 << 20)
        if not head.strip():
            raise InputError(f"{file!r} is empty")
        if _is_wide(head[:4096].encode()):
            raise InputError(not_utf8(file))
        if found := re.match(r'"?sep=.', head):
            raise InputError(f"the first line of {file!r}, {found[0]!r}, is Excel's and names no columns: take it out")
        whole = len(head) < 1 << 20
        separator = _separator(file, head, whole=whole)
        sheet = _header(file, head, separator)
        if most is not None and not whole:
            return replace(sheet, quotes=_has_quotes(head) or None)
        rest = text.read() if separator == "\t" else None  # unquoted tabs are as usual as quoted ones: both are tried
        if rest is not None:
            return _tabbed(sheet, head + rest)
        try:
            return _records(sheet, _lines(head, text), quotes=True)
        except csv.Error as error:
            raise InputError(f"{file!r}: {error}") from error


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if it is compressed. InputError for what goes wrong while it is open."""
    packed = os.path.splitext(file)[1].lower()
    openers = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zst}
    try:
        with openers.get(packed, open)(file, "rb") as raw:
            yield raw
    except UnicodeDecodeError as error:
        raise InputError(not_utf8(file) or f"{file!r} is not UTF-8: {error.reason}") from error
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"{file!r} cannot be read: {' '.join(str(error).split())}") from error


def _open_zst(file: str, mode: str):
    if importlib.util.find_spec("zstandard") is None:
        raise InputError(f"{file!r} needs another package: pip install zstandard")
    import zstandard

    return zstandard.open(file, mode)


def not_utf8(file: str, *, most: int | None = None) -> str | None:
    """What is wrong with the encoding of a file of text, or of its first `most` bytes; None if nothing is."""
    start, before, size = 0, b"", min(1 << 24, most or 1 << 24)
    with opened(file) as raw:
        while chunk := raw.read(size):
            if not start and _is_wide(chunk):
                return (
                    f"{file!r} is not UTF-8: many bytes are 0, as in UTF-16; convert it, perhaps with iconv -f utf-16le"
                )
            data = before + chunk
            try:
                data.decode()
                before = b""
            except UnicodeDecodeError as error:
                if error.reason != "unexpected end of data" or error.start < len(data) - 3:
                    return _complaint(file, start + error.start, data[error.start], data[:2])
                before = data[error.start :]  # a letter that goes on in the next chunk
            start += len(data) - len(before)
            if most is not None and len(chunk) == size:
                return None
    return _complaint(file, start, before[0], b"") if before else None


def _is_wide(beginning: bytes) -> bool:
    return 4 * beginning[:4096].count(0) > len(beginning[:4096])


def _complaint(file: str, place: int, byte: int, beginning: bytes) -> str:
    utf16 = place == 0 and beginning in (b"\xff\xfe", b"\xfe\xff")
    found = "it begins as UTF-16 does" if utf16 else f"byte 0x{byte:02x} at {place:,}"
    was = "utf-16" if utf16 else "latin1"
    return f"{file!r} is not UTF-8: {found}; convert it, perhaps with iconv -f {was} -t utf-8"


# ---- separator and header


def _head_records(head: str, separator: str, *, whole: bool) -> list[list[str]]:
    records = list(
        islice((row for row in csv.reader(io.StringIO(head, newline=""), delimiter=separator) if row), SAMPLE)
    )
    return records if whole or len(records) in (1, SAMPLE) else records[:-1]


def _separator(file: str, head: str, *, whole: bool) -> str:
    """The one separator that the header has, or, of several, the one that all rows have alike."""
    tabs = (
        os.path.basename(file).lower().split(".")[-1 - file.lower().endswith((".gz", ".bz2", ".xz", ".zst"))] == "tsv"
    )
    usual = "\t" if tabs else ","
    shares = {}
    for separator in SEPARATORS:
        records = _head_records(head, separator, whole=whole)
        width = len(records[0])
        if width > 1:
            shares[separator] = sum(len(record) == width for record in records) / len(records)
    if usual in shares and (tabs or len(shares) == 1):
        return usual
    if len(shares) == 1 and not tabs:
        return next(iter(shares))
    same = [separator for separator, share in shares.items() if share == 1]
    if len(same) == 1 and not tabs:
        return same[0]
    if not shares:
        return usual
    possible = " or ".join(SEPARATORS[separator] for separator in same or shares)
    if tabs:
        raise InputError(f"{file!r} is called .tsv, and its header has no tab but {possible}: call it .csv")
    raise InputError(
        f"what divides the columns of {file!r}: {possible}? Write it with one of them, and quote the fields"
    )


def _header(file: str, head: str, separator: str) -> Sheet:
    records = _head_records(head, separator, whole=True)
    names, rows = records[0], records[1:]
    spaces = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
    names = [name.lstrip(" ") if spaces else name for name in names]
    for place, name in enumerate(names):
        values = [row[place] for row in rows if len(row) > place and row != records[0]]
        sentence = len(name.split()) > 2 and name.rstrip().endswith((".", "!"))
        repeated = values.count(name) >= (2 if len(values) > 10 else 1) and name.strip()
        if NUMBER.fullmatch(name) or len(name) > LONG or sentence or repeated:
            shown = name if len(name) <= 40 else name[:40] + "…"
            raise InputError(
                f"the first line of {file!r} should name the columns, and {shown!r} looks like data: "
                f"if there is no such line, add one, such as {separator.join(_names(len(names)))!r}"
            )
    columns = tuple(name or f"Unnamed: {place}" for place, name in enumerate(names))
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise InputError(f"two columns of {file!r} are called {twice!r}")
    return Sheet(file, columns, separator, None, spaces, ("string",) * len(columns))


def _names(count: int) -> list[str]:
    return ["text", "label", *(f"column{n}" for n in range(3, count + 1))][:count]


# ---- every record


def _lines(head: str, text: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a file whose first characters are already read."""
    yield from io.StringIO(head + text.readline(), newline="")
    yield from text


def _records(sheet: Sheet, lines: Iterator[str], *, quotes: bool) -> Sheet:
    """The sheet with the types of its columns. InputError or csv.Error, with the line, for what is no record."""
    width, types, count = len(sheet.columns), [0] * len(sheet.columns), 0
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=sheet.separator, strict=True, quoting=quoting, skipinitialspace=sheet.spaces)
    try:
        next(row for row in reader if row)
        for row in reader:
            if len(row) > width:
                raise InputError(
                    f"line {reader.line_num} of {sheet.file!r} has {len(row)} fields, and its header {width}: texts "
                    f"that hold {SEPARATORS[sheet.separator]} must stand in double quotes"
                )
            count += bool(row)
            for place, value in enumerate(row):
                if value and types[place] < 3:
                    types[place] = max(types[place], _type(value))
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: a double quote is not closed or not doubled ({error})") from error
    return replace(sheet, quotes=quotes, types=tuple(TYPES[number] for number in types), rows=count)


def _type(value: str) -> int:
    if INTEGER.fullmatch(value):
        return 1
    return 2 if NUMBER.fullmatch(value) and not value.lstrip("-").isdigit() else 3


def _has_quotes(text: str) -> bool:
    return '"' in text


def _tabbed(sheet: Sheet, text: str) -> Sheet:
    """Fields between tabs may be quoted, as pandas writes them, or not, as those of GLUE, where a `"` is a letter."""
    if not _has_quotes(text):
        return replace(_records(sheet, io.StringIO(text, newline=""), quotes=True), quotes=None)
    width = len(sheet.columns)
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line]
    plain = all(line.count("\t") == width - 1 for line in lines)
    try:
        quoted = _records(sheet, io.StringIO(text, newline=""), quotes=True)
        as_many = sum(1 for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t") if row) == len(lines)
        if as_many or not plain:
            return quoted
    except (csv.Error, InputError) as error:
        if not plain:
            raise InputError(f"{sheet.file!r}: {error}") from error
    return _records(sheet, io.StringIO(text, newline=""), quotes=False)
