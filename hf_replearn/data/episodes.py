"""Episodes: tasks of N classes with K labelled examples each, and queries to be told; drawn from the classes of a data
set, of which some are held out altogether, or taken as they are published.

E episodes, N classes of one ("way"), K support images of each ("shots"), Q queries
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Value, concatenate_datasets

from hf_replearn.data.decoding import read_bytes
from hf_replearn.data.images import ImageData, find_image_column, load_images
from hf_replearn.data.inventory import LeftOut
from hf_replearn.data.labels import choose_label
from hf_replearn.data.sources import Source, counted, load_source, with_column
from hf_replearn.data.splits import some
from hf_replearn.errors import InputError

FOLDER = "folder"  # --group_by of folders group/class/image
SHARE, SEED = 0.2, 0  # of the classes that are held out where nothing is said, and of their draw
TURNS = 4  # quarter turns of an image, each of which may be a class of its own


@dataclass(frozen=True)
class Classes:
    """Images by their classes.

    images:  rows with `image` and `label` (ClassLabel), of all classes together.
    learnt, held_out: numbers of the classes that are trained on, and of those that training never sees.
    where:   in words, where the classes held out come from.
    notes:   what the user should know, a sentence each.
    """

    name: str
    hub_id: str | None
    images: Dataset
    learnt: list[int]
    held_out: list[int]
    where: str
    sizes: Counter[tuple[int, int]]
    fingerprint: str
    taken: str
    skipped: list = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of all classes, by number."""
        return self.images.features["label"].names

    def rows_of(self, classes: Sequence[int]) -> list[np.ndarray]:
        """The rows of each of these classes."""
        labels = np.array(self.images["label"][:])
        return [np.flatnonzero(labels == number) for number in classes]


@dataclass(frozen=True)
class Fixed:
    """Episodes as indices of images: support (E, N, K), query (E, Q), and answers (E, Q), the place 0…N-1 among the
    classes of its episode that each query belongs to."""

    support: np.ndarray
    query: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        return len(self.support)

    @property
    def name(self) -> str:
        """Such as `5w1s`: five ways, one shot."""
        return f"{self.support.shape[1]}w{self.support.shape[2]}s"


class Episodes:
    """Episodes that are drawn, each by its number alone: (rows (N, K + Q) of N classes in random order, quarter turns
    (N,) of their images). The classes of an episode, their order and so their labels, and the images are drawn anew
    each time; no image stands twice in an episode.

    by_class: rows of each class. each: images of a class, K + Q. groups: numbers of classes that may stand together;
    None: all may. turned: whether every quarter turn of a class is a class of its own. count: how many there are.
    """

    def __init__(
        self,
        by_class: Sequence[np.ndarray],
        *,
        way: int,
        each: int,
        groups: Sequence[Sequence[int]] | None = None,
        turned: bool = False,
        seed: int = 0,
        count: int = 2**20,
    ):
        self.by_class, self.way, self.each, self.turned = by_class, way, each, turned
        self.seed, self.count = seed, count
        self.groups = [list(range(len(by_class)))] if groups is None else [list(group) for group in groups]
        self.groups = [group for group in self.groups if len(group) * (TURNS if turned else 1) >= way]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        """rows (N, each), turns (N,) and classes (N,), turned ones numbered behind the others."""
        rng = np.random.default_rng([self.seed, number])
        group = np.array(self.groups[rng.integers(len(self.groups))])
        drawn = rng.choice(len(group) * (TURNS if self.turned else 1), self.way, replace=False)
        turns, classes = np.divmod(drawn, len(group))
        rows = np.stack([rng.permutation(self.by_class[group[place]])[: self.each] for place in classes])
        return {"rows": rows, "turns": turns, "classes": group[classes] + turns * len(self.by_class)}

    def fixed(self, count: int, *, shots: int) -> Fixed:
        """The first so many, to be judged by: of each class the first `shots` images are support, the others asked."""
        rows = np.stack([self[number]["rows"] for number in range(count)])  # (E, N, K + Q/N)
        asked = rows[:, :, shots:]
        answers = np.broadcast_to(np.arange(self.way)[:, None], asked.shape[1:])
        return Fixed(rows[:, :, :shots], asked.reshape(count, -1), np.tile(answers.ravel(), (count, 1)))


# ---- classes


def load_classes(
    dataset: str | Source,
    *,
    files: Sequence[str] = (),
    group_by: str | None = None,
    held_out: Sequence[str] = (),
    least: int = 2,
    **about,
) -> Classes:
    """Images by their classes, of which some are held out.

    group_by: column whose values classes belong to, such as the alphabets of characters; or `folder`, of
              group/class/image. Classes are then called group/class, and held out by whole groups.
    held_out: a share of the classes or groups; names of some; `all`; or `0`, none. Empty: the split `test`, else
              `validation`, whose classes must not be those of `train`; else a fifth.
    least:    classes that are held out at least, where they are a share.
    about:    as of `load_images`.
    Raises InputError for images without classes, and where splits have classes in common.
    """
    source = dataset
    if not isinstance(source, Source):
        source = load_source(dataset, purpose="episodes", files=files, arrays=about.get("channels") is not None)
    splits = _used(source, pooled=bool(held_out))
    if group_by is not None:
        splits = {split: _grouped(rows, group_by, about.get("label_column")) for split, rows in splits.items()}
        about |= {"label_column": "label", "label_type": "classes"}
    parts = {split: _of_split(source, split, rows, about) for split, rows in splits.items()}
    images, notes = _together([rows for rows, _ in parts.values()])
    names = images.features["label"].names
    of_splits = {split: set(rows.features["label"].int2str(rows["label"][:])) for split, (rows, _) in parts.items()}
    held, where = _held_out(source.name, names, of_splits, held_out, grouped=group_by is not None, least=least)
    learnt = [] if tuple(held_out) == ("all",) else [number for number in range(len(names)) if number not in held]
    found = [data for _, data in parts.values()]
    words = {
        split: f"{len(of_splits[split]):,} classes, {counted(len(rows), 'image')}" for split, (rows, _) in parts.items()
    }
    return Classes(
        name=source.name,
        hub_id=source.hub_id,
        images=images,
        learnt=learnt,
        held_out=sorted(held),
        where=where,
        sizes=sum((data.sizes for data in found), start=Counter()),
        fingerprint=hashlib.sha256("".join([*(data.fingerprint for data in found), *names]).encode()).hexdigest()[:16],
        taken=source.taken(words),
        skipped=[skipped for data in found for skipped in data.skipped],
        left_out=source.left_out,
        notes=notes + _copies(images, learnt, held),
    )


def _used(source: Source, *, pooled: bool) -> dict[str, Dataset]:
    """The splits that are used: all, where classes are held out by name or share; else `train` and one to test on."""
    there = {split: rows for split, rows in source.splits.items() if len(rows)}
    if "train" not in there:
        raise InputError(f"{source.name!r} has no split 'train', only {', '.join(there)}")
    tests = [split for split in ("test", "validation") if split in there]
    return there if pooled else {split: there[split] for split in ("train", *tests[:1])}


def _grouped(rows: Dataset, group_by: str, label_column: str | None) -> Dataset:
    """The images with a `label` that begins with the name of its group."""
    image = find_image_column(rows.features, None)
    if group_by == FOLDER:
        names = ["/".join((cell["path"] or "").split(os.sep)[-3:-1]) for cell in rows[image]]
        if any(name.count("/") != 1 for name in names):
            raise InputError(f"--group_by {FOLDER} is of images in folders group/class/image, and these are in none")
    elif group_by not in rows.features:
        raise InputError(f"--group_by {group_by!r} does not exist; the columns are {', '.join(rows.features)}")
    else:
        others = {name: kind for name, kind in rows.features.items() if name not in (image, group_by)}
        label = choose_label(datasets.Features(others), label_column)
        if label is None:
            raise InputError(f"no column holds the classes: name one with --label_column, of {', '.join(others)}")
        kind, cells = rows.features[label], rows[label][:]
        cells = kind.int2str(cells) if isinstance(kind, ClassLabel) else list(map(str, cells))
        groups = [str(group).replace("/", "-") for group in rows[group_by][:]]
        names = [c if c.startswith(f"{g}/") else f"{g}/{c}" for g, c in zip(groups, cells, strict=True)]
    return with_column(rows.select_columns(image), "label", names, Value("string"))


def _of_split(source: Source, split: str, rows: Dataset, about: dict) -> tuple[Dataset, ImageData]:
    """All images of a split that have a class, and what was found of them."""
    alone = replace(source, splits={"train": rows}, files={"train": source.files.get(split, [])})
    data = load_images(alone, **about)
    if data.label_names is None or not data.single_label:
        raise InputError(
            f"episodes are drawn from classes, and {source.name!r} has not one of several for each image"
            f"{' of ' + repr(split) if len(source.splits) > 1 else ''}: put the images into class folders, or name "
            "the --label_column"
        )
    parts = [part for part in (data.labelled, data.test) if part is not None]
    return concatenate_datasets(parts) if len(parts) > 1 else parts[0], data


def _together(parts: Sequence[Dataset]) -> tuple[Dataset, list[str]]:
    """All images under one numbering of the classes; of byte-identical images of a class one is kept."""
    names = sorted({name for rows in parts for name in rows.features["label"].names})
    number = {name: place for place, name in enumerate(names)}
    numbered = []
    for rows in parts:
        labels = [number[name] for name in rows.features["label"].int2str(rows["label"][:])]
        numbered.append(with_column(rows, "label", labels, ClassLabel(names=names)))
    images = concatenate_datasets(numbered) if len(numbered) > 1 else numbered[0]
    first: dict[tuple[str, int], int] = {}
    for row, key in enumerate(zip(_digests(images), images["label"][:], strict=True)):
        first.setdefault(key, row)
    copies = len(images) - len(first)
    if not copies:
        return images, []
    note = f"{copies:,} images are byte-identical copies of others of their class, and are left out"
    return images.select(list(first.values())), [note]


def _digests(images: Dataset) -> list[str]:
    return [hashlib.blake2b(read_bytes(cell), digest_size=16).hexdigest() for cell in images["image"]]


def _copies(images: Dataset, learnt: Sequence[int], held_out: set[int]) -> list[str]:
    """What is to be said where an image stands in a class that is trained on, and in one that is not."""
    sides: dict[str, set[bool]] = defaultdict(set)
    known = set(learnt)
    for digest, label in zip(_digests(images), images["label"][:], strict=True):
        if label in known or label in held_out:
            sides[digest].add(label in held_out)
    copies = sum(len(found) > 1 for found in sides.values())
    return [f"{copies:,} images of classes held out are byte-identical to images that are trained on"] * bool(copies)


# ---- which classes are held out


def group_of(name: str) -> str:
    """Of a class that is called group/class."""
    return name.rpartition("/")[0]


def _held_out(
    dataset: str,
    names: list[str],
    of_splits: dict[str, set[str]],
    asked: Sequence[str],
    *,
    grouped: bool,
    least: int,
) -> tuple[set[int], str]:
    """The numbers of the classes that are held out, and in words where they come from."""
    if tuple(asked) == ("all",):
        return set(range(len(names))), "all classes: nothing is fitted to them"
    share = _share(asked)
    if share is None and asked:
        return _by_name(names, asked, grouped=grouped)
    splits = [split for split in of_splits if split != "train"]
    if share is None and splits:
        [split] = splits
        if common := sorted(of_splits["train"] & of_splits[split]):
            raise InputError(
                f"{dataset!r} has {len(common):,} of the {len(of_splits[split]):,} classes of {split!r} in 'train' too "
                f"({some(common)}), and episodes are judged by classes that training has not seen: say --held_out "
                f"{SHARE} to take all splits together and hold a share of the classes out"
            )
        held = of_splits[split]
        return {place for place, name in enumerate(names) if name in held}, f"the classes of the split `{split}`"
    share = SHARE if share is None else share
    if share == 0:
        return set(), "none"
    units = sorted({group_of(name) for name in names}) if grouped else names
    order = np.random.default_rng(SEED).permutation(len(units))
    held: set[int] = set()
    for count, unit in enumerate(order, start=1):
        held |= {n for n, name in enumerate(names) if (group_of(name) if grouped else name) == units[unit]}
        if count >= round(share * len(units)) and len(held) >= least:
            break
    what = f"{count:,} of {len(units):,} {'groups' if grouped else 'classes'}"
    if grouped:
        what += f" ({some([units[unit] for unit in order[:count]])})"
    return held, f"{what}, drawn at random (seed {SEED}), never trained on"


def _share(asked: Sequence[str]) -> float | None:
    """A share of the classes, where that is asked for. Raises InputError for one that leaves nothing to train on."""
    if len(asked) != 1:
        return None
    try:
        share = float(asked[0])
    except ValueError:
        return None
    if not 0 <= share < 1:
        raise InputError(f"--held_out {asked[0]}: a share of the classes from 0 to below 1, names of some, or all")
    return share


def _by_name(names: list[str], asked: Sequence[str], *, grouped: bool) -> tuple[set[int], str]:
    held: set[int] = set()
    for wanted in asked:
        found = {n for n, name in enumerate(names) if name == wanted or (grouped and group_of(name) == wanted)}
        if not found:
            known = [*names, *sorted({group_of(name) for name in names} if grouped else ())]
            near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.3) or known[:3]
            raise InputError(f"--held_out {wanted!r} is no class here; there are {', '.join(near)} and others")
        held |= found
    return held, f"{counted(len(held), 'class')} by name ({some(asked)})".replace("classs", "classes")


# ---- episodes of some classes


def draw_from(
    data: Classes,
    numbers: Sequence[int],
    *,
    way: int,
    shots: int,
    queries: int,
    within_group: bool = False,
    turned: bool = False,
    seed: int = 0,
) -> tuple[Episodes, list[str]]:
    """Episodes of those of these classes that have the images for them, and what was left out.

    queries: of each class. within_group: the classes of an episode are of one group.
    Raises InputError where no episode can be drawn.
    """
    each, rows = shots + queries, data.rows_of(numbers)
    enough = [place for place, found in enumerate(rows) if len(found) >= each]
    few = [data.names[numbers[place]] for place in range(len(rows)) if place not in set(enough)]
    kept = [numbers[place] for place in enough]
    groups = None
    if within_group:
        of = [group_of(data.names[number]) for number in kept]
        if not all(of):
            raise InputError("--within_group is of classes in groups: name the column of the groups with --group_by")
        groups = [[place for place, name in enumerate(of) if name == group] for group in dict.fromkeys(of)]
    most = max((len(group) for group in groups), default=0) if within_group else len(kept)
    where = "a group of " if within_group else ""
    if most * (TURNS if turned else 1) < way:
        short = (
            f", and {len(few):,} others, such as {few[0]!r}, have fewer images than the {each} that --shots {shots} "
            f"and --queries {queries} take"
            if few
            else ""
        )
        raise InputError(
            f"--way {way}: {where}{data.name!r} has {most:,} classes to draw episodes from{short}: lower --way"
            f"{', --shots or --queries' if few else ''}, or give more {'images' if few else 'classes'}"
        )
    notes = []
    if few:
        notes.append(
            f"{len(few):,} classes have fewer images than the {each} of an episode, and are left out: {some(few)}"
        )
    drawn = Episodes([rows[place] for place in enough], way=way, each=each, groups=groups, turned=turned, seed=seed)
    return drawn, notes


# ---- episodes as they are published


LABELS = "class_labels.txt"  # of Omniglot's one-shot runs: lines `run01/test/item01.png run01/training/class01.png`
RUN, PART = ("run", "episode"), ("part", "role")  # columns of a table of episodes
SUPPORT, QUERY = ("train", "training", "support"), ("test", "testing", "query")


def load_runs(dataset: str | Source, *, files: Sequence[str] = ()) -> tuple[Dataset, Fixed, str, str] | None:
    """Images, episodes of them, name and what was taken, of a data set that is episodes; None of one that is not.

    It is a folder of runs as Omniglot has them (run01/training, run01/test, run01/class_labels.txt), or a table whose
    columns are an image, `run` or `episode`, `part` or `role` (train or support; test or query), and a label.
    Raises InputError for such data that is not whole.
    """
    if isinstance(dataset, str) and os.path.isdir(os.path.expanduser(dataset)):
        root = Path(os.path.expanduser(dataset))
        found = sorted(path.parent for path in root.rglob(LABELS))
        if found:
            return (*_from_folders(root, found), root.resolve().name, f"{len(found):,} runs of {LABELS}")
    source = dataset
    if not isinstance(source, Source):
        source = load_source(dataset, purpose="episodes", files=files)
    rows = concatenate_datasets(list(source.splits.values())) if len(source.splits) == 1 else None
    run = next((name for name in RUN if rows is not None and name in rows.features), None)
    part = next((name for name in PART if rows is not None and name in rows.features), None)
    if run is None or part is None:
        return None
    label = choose_label(datasets.Features({n: k for n, k in rows.features.items() if n not in (run, part)}), None)
    if label is None:
        raise InputError(f"{source.name!r} has the columns {run!r} and {part!r} of episodes, and no `label`")
    image = find_image_column(rows.features, None)
    kept = (
        rows.select_columns(image).rename_columns({image: "image"}).cast_column("image", datasets.Image(decode=False))
    )
    fixed = _from_columns(source.name, rows[run][:], rows[part][:], rows[label][:])
    return kept, fixed, source.name, source.taken({"train": f"{len(fixed):,} episodes, {len(rows):,} images"})


def _from_columns(name: str, runs: Sequence, parts: Sequence, labels: Sequence) -> Fixed:
    episodes = []
    for run in dict.fromkeys(runs):
        support: dict = defaultdict(list)
        query: list[tuple[int, object]] = []
        for row in (row for row, own in enumerate(runs) if own == run):
            word = str(parts[row]).lower()
            if word not in SUPPORT + QUERY:
                raise InputError(
                    f"row {row} of {name!r} is {parts[row]!r} of an episode: train or support, test or query"
                )
            if word in SUPPORT:
                support[labels[row]].append(row)
            else:
                query.append((row, labels[row]))
        episodes.append((run, support, query))
    return _stacked(name, episodes)


def _stacked(name: str, episodes: Sequence[tuple]) -> Fixed:
    """Episodes (which, {class: rows}, [(row, class)]) of one shape. Raises InputError for others."""
    shapes, stacked = Counter(), []
    for run, support, query in episodes:
        shots = {len(rows) for rows in support.values()}
        strange = [label for _, label in query if label not in support]
        if len(shots) != 1 or strange or not query or len(support) < 2:
            why = (
                f"asks for {strange[0]!r}, which it shows no image of"
                if strange
                else "shows its classes different numbers of images"
                if len(shots) > 1
                else "has fewer than two classes, or asks for nothing"
            )
            raise InputError(f"episode {run} of {name!r} {why}")
        place = {label: number for number, label in enumerate(support)}
        shapes[(len(support), *shots, len(query))] += 1
        stacked.append((list(support.values()), [row for row, _ in query], [place[label] for _, label in query]))
    if len(shapes) > 1:
        shown = " and ".join(
            f"{n} of {way} classes with {k} images and {q} queries" for (way, k, q), n in shapes.items()
        )
        raise InputError(
            f"the episodes of {name!r} are of different shapes, {shown}: judge those of each by themselves"
        )
    return Fixed(*(np.array(part) for part in zip(*stacked, strict=True)))


def _from_folders(root: Path, runs: Sequence[Path]) -> tuple[Dataset, Fixed]:
    paths: dict[str, int] = {}
    episodes = []
    for run in runs:
        support: dict[str, list[int]] = {}
        query = []
        for line in (run / LABELS).read_text(encoding="utf-8").splitlines():
            asked, *shown = line.split()[:2] or [""]
            if not asked:
                continue
            if not shown:
                raise InputError(
                    f"{run / LABELS}: a line must name a test image and a training image, got {line!r:.60}"
                )
            for name in (asked, *shown):
                if not (run.parent / name).is_file():
                    raise InputError(f"{run / LABELS} names {name!r}, and there is no such file in {run.parent}")
            support.setdefault(shown[0], [paths.setdefault(str(run.parent / shown[0]), len(paths))])
            query.append((paths.setdefault(str(run.parent / asked), len(paths)), shown[0]))
        episodes.append((run.name, support, query))
    features = datasets.Features(image=datasets.Image(decode=False))
    return Dataset.from_dict({"image": list(paths)}, features=features), _stacked(root.name, episodes)


__all__ = ["Classes", "Episodes", "Fixed", "draw_from", "load_classes", "load_runs"]
