"""README.md belongs to whoever writes in it: ours stands between two marks, and what was written by hand stays.

A hidden line before the end mark holds digests of the front matter and of the parts (from one `## ` to the next) as we
wrote them. What still has its digest is ours and is written anew; whatever else is somebody's, and stays. The last one
is of the whole file: so a copy elsewhere tells whether it was edited there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hf_replearn.errors import InputError
from hf_replearn.files import write_whole

FILE = "README.md"
BEGIN, END = "<!-- hf_replearn: begin -->", "<!-- hf_replearn: end -->"
RECORD = re.compile(r"^<!-- hf_replearn: written (.*?)\| (.*?)(\| \w+ )?-->$", re.MULTILINE)
STICKY = ("license", "license_name", "license_link", "language")  # once there, they go only by hand


@dataclass
class Readme:
    """README.md, taken apart.

    metadata, front: the front matter, as values and as it is written. before, ours, after: the text around the marks
    and between them; ours is None without marks. record: key of the front matter -> digest of what we wrote there;
    written: (digest of its heading, digest) of each part of ours. kept: what stays though we would write it otherwise.
    """

    metadata: dict[str, Any] = field(default_factory=dict)
    front: str = ""
    before: str = ""
    ours: str | None = None
    after: str = ""
    record: dict[str, str] = field(default_factory=dict)
    written: list[tuple[str, str]] = field(default_factory=list)
    windows: bool = False
    kept: list[str] = field(default_factory=list)

    def update(self, new: dict[str, Any], *, given: Collection[str] = ()) -> None:
        """Merges our front matter, key by key. given: keys that the user has just asked for, even if they are gone."""
        lines, record = self.front.splitlines(keepends=True), {}
        places = _places(self.front)
        for key, value in new.items():
            if key not in self.metadata:
                if key not in self.record or key in given:  # else it was taken out by hand
                    lines.append(_dump(key, value))
                    record[key] = digest(value)
                    self.metadata[key] = value
            elif not self.edited(key):
                _replace(lines, places[key], _dump(key, value))
                record[key] = digest(value)
                self.metadata[key] = value
            elif self.metadata[key] != value:
                self.kept.append(f"`{key}`")
        for key, known in self.record.items():
            if key not in new and key in self.metadata and not self.edited(key):
                if key in STICKY:
                    record[key] = known
                else:
                    _replace(lines, places[key], "")
                    del self.metadata[key]
        self.front, self.record = "".join(lines), record
        if (yaml.safe_load(self.front) or {}) != self.metadata:
            raise InputError(f"{FILE}: its front matter cannot be changed line by line: write one `key: value` a line")

    def edited(self, key: str) -> bool:
        """Whether what the front matter says under `key` was not written by us."""
        return self.record.get(key) != digest(self.metadata[key])

    def text(self, body: str) -> str:
        """All of README.md, with our `body` between the marks."""
        body = body.replace("<!-- hf_replearn:", "<!- hf_replearn:")  # in a text of the data it is no mark
        new = dict(parts(body))
        if self.ours is None:
            if self.before.strip():
                self.before = self.before.rstrip("\n") + "\n\n"
            chosen = list(new.values())
        else:
            chosen = self._merged(new)
        written = " ".join(f"{digest(heading)}:{digest(text.strip())}" for heading, text in new.items())
        keys = "".join(f"{key}={known} " for key, known in self.record.items())
        record = f"<!-- hf_replearn: written {keys}| {written} -->"
        section = "\n\n".join([BEGIN, *(part.strip("\n") for part in chosen), record + "\n" + END])
        text = f"---\n{self.front}---\n\n{self.before}{section}{self.after or chr(10)}"
        text = text.replace(record, record.replace("-->", f"| {digest(text)} -->"))
        return text.replace("\n", "\r\n") if self.windows else text

    def by_hand(self) -> list[str]:
        """The lines that we did not write, and those of our parts that were edited."""
        front = [_dump(key, value) for key, value in self.metadata.items() if self.edited(key)]
        texts = [*front, self.before, *(text for _, text in self._edited()), self.after]
        return [line.strip() for text in texts for line in text.splitlines() if line.strip()]

    def _edited(self) -> list[tuple[str, str]]:
        """The parts between the marks that are not as we wrote them."""
        known = set(self.written)
        there = parts(self.ours or "")
        return [(h, t) for h, t in there if t.strip() and (digest(h), digest(t.strip())) not in known]

    def _merged(self, new: dict[str, str]) -> list[str]:
        """Our parts in their new order; those that were edited as they are; those that were added, after the one that
        they followed; without those that were taken out."""
        headings = {heading for heading, _ in self.written}
        there, edited = parts(self.ours or ""), self._edited()
        present = {heading for heading, _ in there}
        chosen: list[tuple[str, str]] = []
        for heading, text in new.items():
            mine = next((part for part in edited if part[0] == heading), None)
            if mine is not None:
                edited.remove(mine)
                chosen.append(mine)
                self.kept.append(f"the part {heading[3:].strip() or 'above the first heading'!r}")
            elif heading in present or digest(heading) not in headings:
                chosen.append((heading, text))
        order = [heading for heading, _ in there]
        for part in edited:
            earlier = order[: next(place for place, found in enumerate(there) if found == part)]
            after = [place for place, (heading, _) in enumerate(chosen) if heading in earlier]
            chosen.insert(after[-1] + 1 if after else 0, part)
        return [text for _, text in chosen]


def read_readme(folder: str | Path) -> Readme:
    """README.md of `folder`, empty where there is none. Raises InputError for one that cannot be written into."""
    path = Path(folder, FILE)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return Readme()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8, or move it away") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    windows = text.count("\r\n") * 2 > text.count("\n")
    text = text.replace("\r\n", "\n")
    front, rest = _split(text, path)
    readme = Readme(_load(front, path), front, rest, windows=windows)
    begins, ends = (len(re.findall(f"^{re.escape(mark)}$", rest, flags=re.MULTILINE)) for mark in (BEGIN, END))
    if (begins, ends) == (0, 0):
        return readme
    marks = re.fullmatch(rf"(.*?)^{re.escape(BEGIN)}$(.*)^{re.escape(END)}$(.*)", rest, re.MULTILINE | re.DOTALL)
    if (begins, ends) != (1, 1) or marks is None:
        raise InputError(
            f"{path} has {begins} lines {BEGIN} and {ends} lines {END}: leave one pair of them, in this order, or none"
        )
    readme.before, readme.ours, readme.after = marks.groups()
    if record := RECORD.search(readme.ours):
        readme.record = dict(re.findall(r"(\S+)=(\w+)", record[1]))
        readme.written = re.findall(r"(\w+):(\w+)", record[2])
        readme.ours = readme.ours[: record.start()] + readme.ours[record.end() :]
    return readme


def edited_elsewhere(copy: str | Path, folder: str | Path) -> list[str]:
    """The lines written by hand into the README.md of `copy`, as it is on the Hub, that the one of `folder` lacks."""
    text = Path(copy, FILE).read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n")
    sealed = RECORD.search(text)
    if sealed and sealed[3] and sealed[3].strip("| ") == digest(text.replace(sealed[3], "", 1)):
        return []
    path = Path(folder, FILE)
    here = {line.strip() for line in (path.read_text(encoding="utf-8-sig") if path.exists() else "").splitlines()}
    return [line for line in read_readme(copy).by_hand() if line not in here]


def write_readme(folder: str | Path, readme: Readme, body: str) -> None:
    """Writes README.md with our `body`, whole at any time, and says what was left as it is."""
    path, appended = Path(folder, FILE), readme.ours is None and readme.before.strip()
    write_whole(path, readme.text(body))
    if appended:
        print(f"{path}: what was there is kept; ours stands below it, between marks")
    if readme.kept:
        print(f"{path}: written by hand, and so left as it is: {', '.join(readme.kept)}")


def parts(text: str) -> list[tuple[str, str]]:
    """(heading, text with its heading) of each part that begins with `## ` outside of code; "" is what is above."""
    found, fence = [("", [])], ""
    for line in text.splitlines(keepends=True):
        if mark := re.match(r" {0,3}(`{3,}|~{3,})", line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif not fence and line.startswith("## "):
            found.append((line.rstrip(), []))
        found[-1][1].append(line)
    return [(heading, "".join(lines)) for heading, lines in found]


def digest(value: Any) -> str:
    content = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=6).hexdigest()


def _split(text: str, path: Path) -> tuple[str, str]:
    """(front matter, the rest)."""
    if not re.match(r"\s*---[ \t]*\n", text):
        return "", text
    found = re.match(r"\s*---[ \t]*\n(.*?\n)??---[ \t]*(?:\n|\Z)\n?(.*)", text, flags=re.DOTALL)
    if found is None:
        raise InputError(f"{path} begins with --- and its front matter has no end: close it with a line ---")
    return found[1] or "", found[2]


def _load(front: str, path: Path) -> dict[str, Any]:
    try:
        references = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(front))
        metadata, root = yaml.safe_load(front), yaml.compose(front, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: its front matter is not YAML: {' '.join(str(error).split())[:200]}") from error
    except (RecursionError, ValueError) as error:  # a date such as 2026-99-99
        raise InputError(f"{path}: its front matter cannot be read: {str(error)[:100]}") from error
    if references:  # a few of them are exponentially many values
        raise InputError(f"{path}: its front matter has references (*name): write the values out")
    if metadata is not None and not (isinstance(metadata, dict) and all(isinstance(key, str) for key in metadata)):
        raise InputError(f"{path}: its front matter must hold `key: value` lines")
    if metadata and (root.flow_style or any(key.start_mark.column for key, _ in root.value)):
        raise InputError(f"{path}: its front matter must hold a `key: value` on each line, without braces or indents")
    if metadata and len(root.value) > len(metadata):
        raise InputError(f"{path}: its front matter has a key twice")
    return metadata or {}


def _places(front: str) -> dict[str, tuple[int, int]]:
    """Key -> its lines, first and end, without comments and empty lines that follow."""
    root = yaml.compose(front, Loader=yaml.SafeLoader)
    if root is None:
        return {}
    lines = front.splitlines()
    starts = [key.start_mark.line for key, _ in root.value] + [len(lines)]
    places = {}
    for (key, _), start, end in zip(root.value, starts, starts[1:], strict=False):
        while end > start + 1 and re.match(r"\s*(#|$)", lines[end - 1]):
            end -= 1
        places[key.value] = start, end
    return places


def _replace(lines: list[str], place: tuple[int, int], text: str) -> None:
    """In place and line for line, so that the places of the other keys stay."""
    start, end = place
    lines[start:end] = [text] + [""] * (end - start - 1)


def _dump(key: str, value: Any) -> str:
    return yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=10**6)


def listed(names: Sequence[str], *, most: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
