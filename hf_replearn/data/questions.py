"""Questions whose answers stand in a context: files as SQuAD v1.1 and v2 has them, and tables of the same columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from hf_replearn.data.delimited import opened
from hf_replearn.data.inventory import Inventory, LeftOut, take_inventory
from hf_replearn.data.labelled import HOLD_OUT_SEED, HOLD_OUT_SHARE
from hf_replearn.data.sources import Source, counted, load_source, local_path
from hf_replearn.data.splits import printable
from hf_replearn.data.toy import is_made_here
from hf_replearn.data.toy_questions import TOYS
from hf_replearn.errors import InputError

TESTED = ("validation", "test")  # SQuAD's own test set has no answers that are public
HEAD = 1 << 16  # bytes in which a file of SQuAD shows what it is
COLUMNS = Features(
    {
        "id": Value("string"),
        "question": Value("string"),
        "context": Value("string"),
        "article": Value("string"),
        "answers": List(Value("string")),
        "starts": List(Value("int64")),
    }
)


@dataclass(frozen=True)
class QuestionData:
    """Questions with their contexts and right answers.

    name:        what a card may show: the Hub id, or the last part of the path. hub_id: None for local data.
    train, test: the columns of COLUMNS. `answers` holds the right ones, none where the context has none; `starts`, of
                 train alone, the character at which each begins.
    test_source: where test comes from, in words.
    v2:          whether some questions have no answer.
    notes, taken, skipped: as of `data.labelled.LabelledData`; skipped holds the questions that are not trained on.
    """

    name: str
    hub_id: str | None
    train: Dataset
    test: Dataset
    test_source: str
    v2: bool
    notes: list[str] = field(default_factory=list)
    taken: str = ""
    skipped: list[LeftOut] = field(default_factory=list)


def load_questions(dataset: str, *, files: Sequence[str] = (), config: str | None = None) -> QuestionData:
    """Loads questions to train on and to test on.

    dataset: a file of SQuAD's JSON, v1.1 or v2, or a folder of such (train-v2.0.json, dev-v2.0.json); a table, folder
             of tables or Hub id with the columns `question`, `context` and `answers` ({"text": [...],
             "answer_start": [...]}), or `answer` and maybe `answer_start`; `toy`, or `toy-unanswerable`.
    files, config: as of `load_source`.

    The first of validation and test that has answers is test; without one, a fifth of the articles is held out, or of
    the contexts where fewer than five articles are told. Questions to train on whose answer is not where it is said to
    be are left out and listed. Raises InputError for whatever the user has to mend.
    """
    source = _source(dataset, files, config)
    if "train" not in source.splits:
        raise InputError(f"{dataset!r} has no split 'train', only {', '.join(source.splits)}")
    _check_ids(source.splits)
    tested = next((split for split in TESTED if split in source.splits and _answered(source.splits[split])), None)
    unused = [split for split in TESTED if split in source.splits and not _answered(source.splits[split])]
    notes = [f"no question of {split!r} has an answer: it is not used" for split in unused]
    rows, lost = _trainable(source.splits["train"])
    if lost:
        notes.append(
            f"{len(lost):,} of {len(source.splits['train']):,} questions of 'train' are left out: {_reasons(lost)}"
        )
    if not any(rows["answers"][:]):
        raise InputError(
            f"no question of 'train' in {dataset!r} can be trained on"
            + (f": {lost[0]}" if lost else ", none has an answer")
        )
    if tested is None:
        train, test, held = _without_fifth(rows, dataset)
        test_source = f"a held-out {HOLD_OUT_SHARE:.0%} of {held}"
        parts = {"train": f"{counted(len(train), 'question')}, and {len(test):,} held out"}
    else:
        train, test, test_source = rows, source.splits[tested], f"the split {tested!r}"
        notes += _of_test(train, test, tested)
        parts = {"train": counted(len(train), "question"), tested: counted(len(test), "question")}
    name = "/".join(filter(None, (source.hub_id, config))) or source.name.partition(".")[0]
    v2 = not all(train["answers"][:]) or not all(test["answers"][:])
    left_out = [*source.left_out, *lost]
    return QuestionData(name, source.hub_id, train, test, test_source, v2, notes, source.taken(parts), left_out)


def _source(dataset: str, files: Sequence[str], config: str | None) -> Source:
    """Splits with the columns of COLUMNS, whatever the form of the data."""
    if is_made_here(dataset, TOYS):
        splits = {split: _dataset(rows) for split, rows in TOYS[dataset]().items()}
        return Source(dataset, None, "toy", splits)
    path = local_path(dataset)
    if path is not None:
        inventory = take_inventory(path, purpose="questions", files=files)
        if inventory.kind == "json" and all(map(_is_squad, inventory.paths("train"))):
            return _squad(dataset, inventory)
    source = load_source(dataset, purpose="questions", files=files, config=config)
    splits = {split: _of_table(split, rows) for split, rows in source.splits.items() if split in ("train", *TESTED)}
    return Source(source.name, source.hub_id, source.kind, splits, source.files, source.left_out)


def _dataset(rows: Iterable[dict]) -> Dataset:
    return Dataset.from_list(list(rows), features=COLUMNS)


# ---- SQuAD's JSON


def _is_squad(path: str) -> bool:
    """Whether a file is one object with paragraphs in it, not a table of rows."""
    with opened(path) as file:
        head = file.read(HEAD)
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" and b'"data"' in head and b'"paragraphs"' in head


def _squad(dataset: str, inventory: Inventory) -> Source:
    splits, name = {}, load_name(inventory.root)
    for split in inventory.splits:
        splits[split] = _dataset(row for path in inventory.paths(split) for row in _read_squad(path))
    shown = {split: found for split, found in inventory.splits.items() if found != [""]}
    return Source(name, None, "json", splits, shown, inventory.left_out)


def load_name(root: str) -> str:
    """The last part of a path."""
    return printable(root.rstrip("/").rpartition("/")[2])


def _read_squad(path: str) -> Iterator[dict]:
    """The questions of a file. Raises InputError for one that is not as SQuAD has it, with the place."""
    with opened(path) as file:
        try:
            content = json.loads(file.read())
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path!r} is no JSON: {str(error)[:200]}") from error
    articles = content.get("data") if isinstance(content, dict) else None
    for number, article in enumerate(_listed(articles, f"{path!r}: data")):
        place = f"{path!r}: data[{number}]"
        for at, paragraph in enumerate(_listed(_get(article, "paragraphs", place), f"{place}.paragraphs")):
            where = f"{place}.paragraphs[{at}]"
            context = _text(_get(paragraph, "context", where), f"{where}.context")
            for nth, asked in enumerate(_listed(_get(paragraph, "qas", where), f"{where}.qas")):
                here = f"{where}.qas[{nth}]"
                answers, starts = _answers(asked.get("answers") if isinstance(asked, dict) else None, here)
                told = asked.get("is_impossible") if isinstance(asked, dict) else None
                if told is True:
                    answers, starts = [], []
                if told is False and not answers:
                    raise InputError(f"{here} has no answer, and is_impossible says false: which of the two holds?")
                yield {
                    "id": str(_get(asked, "id", here)),
                    "question": _text(_get(asked, "question", here), f"{here}.question"),
                    "context": context,
                    "article": str(article.get("title") or number),
                    "answers": answers,
                    "starts": starts,
                }


def _get(found: Any, name: str, place: str) -> Any:
    if not isinstance(found, dict) or name not in found:
        raise InputError(f"{place} has no {name!r}, which SQuAD's files have there")
    return found[name]


def _listed(found: Any, place: str) -> list:
    if not isinstance(found, list):
        raise InputError(f"{place} is no list, as SQuAD's files have it: {found!r:.80}")
    return found


def _text(found: Any, place: str) -> str:
    if not isinstance(found, str) or not found.strip():
        raise InputError(f"{place} is no text: {found!r:.80}")
    return found


def _answers(found: Any, place: str) -> tuple[list[str], list[int]]:
    """Texts and the characters at which they begin, -1 where that is not told, of a list of answers or of two lists."""
    if found is None:
        return [], []
    if isinstance(found, dict):  # as datasets has them
        texts = found.get("text")
        starts = found.get("answer_start") or [-1] * len(texts or [])
    else:
        listed = _listed(found, f"{place}.answers")
        texts = [_get(answer, "text", f"{place}.answers") for answer in listed]
        starts = [answer.get("answer_start", -1) for answer in listed]
    texts, starts = _listed(texts, f"{place}.answers"), [-1 if start is None else start for start in starts]
    if len(texts) != len(starts) or not all(isinstance(start, int | np.integer) for start in starts):
        raise InputError(f"{place}: answers need a text and a whole number answer_start each: {found!r:.80}")
    return [_text(text, f"{place}.answers") for text in texts], [int(start) for start in starts]


# ---- tables


def _of_table(split: str, rows: Dataset) -> Dataset:
    """The columns of COLUMNS of a table that has them under the names that SQuAD has on the Hub."""
    names = rows.column_names
    if not {"question", "context"} <= set(names) or not {"answers", "answer"} & set(names):
        raise InputError(
            f"the split {split!r} has the columns {', '.join(names)}; questions need `question`, `context`, and "
            "`answers` or `answer`: rename them"
        )
    if {"answers", "answer"} <= set(names):
        raise InputError(f"the split {split!r} has a column `answers` and a column `answer`: leave one of them out")
    return _dataset(_of_row(row, number, split) for number, row in enumerate(rows))


def _of_row(row: dict, number: int, split: str) -> dict:
    place = f"row {number} of {split!r}"
    if "answers" in row:
        answers, starts = _answers(row["answers"], place)
    elif row["answer"] is None or row["answer"] == "":
        answers, starts = [], []
    else:
        answers, starts = _answers([{"text": row["answer"], "answer_start": row.get("answer_start")}], place)
    return {
        "id": str(row["id"]) if row.get("id") is not None else f"{split}-{number}",
        "question": _text(row["question"], f"{place}: `question`"),
        "context": _text(row["context"], f"{place}: `context`"),
        "article": str(row.get("title") or ""),
        "answers": answers,
        "starts": starts,
    }


# ---- what can be trained on, and what is tested


def _check_ids(splits: dict[str, Dataset]) -> None:
    for split, rows in splits.items():
        again = [name for name, count in Counter(rows["id"][:]).items() if count > 1]
        if again:
            raise InputError(f"{len(again):,} ids of questions of {split!r} occur again, such as {again[0]!r:.80}")


def _answered(rows: Dataset) -> bool:
    return any(rows["answers"][:])


def _trainable(rows: Dataset) -> tuple[Dataset, list[LeftOut]]:
    """Questions whose first answer is where it is said to be, or that have none; and the others, with the reason."""
    kept, lost, starts = [], [], []
    for number, row in enumerate(rows):
        found = list(row["starts"])
        if row["answers"]:
            start, problem = _place(row["context"], row["answers"][0], found[0])
            if problem:
                lost.append(LeftOut(f"question {row['id']}", problem))
                continue
            found[0] = start
        kept.append(number)
        starts.append(found)
    chosen = rows.select(kept).remove_columns("starts")
    return chosen.add_column("starts", starts, feature=COLUMNS["starts"]), lost


def _place(context: str, answer: str, start: int) -> tuple[int, str | None]:
    """The character at which an answer begins, or what is wrong with it."""
    if start >= 0:
        there = context[start : start + len(answer)] == answer
        elsewhere = "the context has it elsewhere" if answer in context else "nor does the context have it elsewhere"
        return start, None if there else f"its answer is not at character {start} of its context; {elsewhere}"
    times = context.count(answer)
    if times == 1:
        return context.index(answer), None
    return -1, f"its context has its answer {times} times, and no answer_start" if times else (
        "its answer is not in its context"
    )


def _reasons(lost: list[LeftOut]) -> str:
    kinds = Counter("no answer_start" if "and no" in item.reason else "the answer is not there" for item in lost)
    return ", ".join(f"{why} ({count:,})" for why, count in kinds.items())


def _without_fifth(rows: Dataset, dataset: str) -> tuple[Dataset, Dataset, str]:
    """Train and test without a context in common, and what was divided, in words."""
    articles = rows["article"][:]
    by_article = len(set(articles)) >= 5
    groups = np.unique(articles if by_article else rows["context"][:], return_inverse=True)[1]
    held = held_groups(groups, HOLD_OUT_SHARE, seed=HOLD_OUT_SEED)
    if not held.any() or held.all() or not _answered(rows.select(np.flatnonzero(~held))):
        raise InputError(
            f"{dataset!r} has no split validation or test with answers, and too few contexts to hold some out"
        )
    named = "the articles of train" if by_article else "the contexts of train"
    return rows.select(np.flatnonzero(~held)), rows.select(np.flatnonzero(held)), named


def held_groups(groups: np.ndarray, share: float, *, seed: int) -> np.ndarray:
    """(N,) bool: all rows of a random share of the groups (N,), numbers from 0 on; one group at least, never all."""
    count = int(groups.max()) + 1
    chosen = np.random.default_rng(seed).permutation(count)[: min(max(1, round(share * count)), count - 1)]
    return np.isin(groups, chosen)


def _of_test(train: Dataset, test: Dataset, split: str) -> list[str]:
    known, notes = set(train["context"][:]), []
    copies = sum(context in known for context in test["context"][:])
    if copies:
        notes.append(f"{copies:,} of {len(test):,} questions of {split!r} are about a context that is trained on too")
    gone = sum(
        bool(answers) and not any(answer in context for answer in answers)
        for answers, context in zip(test["answers"][:], test["context"][:], strict=True)
    )
    if gone:
        notes.append(f"{gone:,} of {len(test):,} questions of {split!r} have an answer that is not in their context")
    return notes
