"""What was measured: of a run that trained an encoder (`Report`) or of several encoders on one dataset (`Evaluation`),
each <-> `report.json`, and the table printed at the end."""

import datetime
import json
import math
from dataclasses import asdict, dataclass, field
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from hf_replearn import __version__
from hf_replearn.errors import InputError
from hf_replearn.files import write_whole
from hf_replearn.sharing.paths import local_paths, without_paths
from hf_replearn.sharing.reading import checked, read_json

if TYPE_CHECKING:
    from pandas import DataFrame

FILE = "report.json"
INTERVAL = "_ci95"  # scores["k_shot@1_ci95"] is the half width of the 95 % interval around scores["k_shot@1"]
PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "datasets", "timm", "scikit-learn")


@dataclass(kw_only=True)
class Method:
    """The paper behind the run.

    summary: one sentence: what is hidden or changed, what undoes it, and whether labels are used.
    model_class: dotted import path of the class that loads `pretraining/` to go on training.
    """

    name: str
    summary: str
    paper: str
    arxiv: str | None
    bibtex: str
    model_class: str


@dataclass(kw_only=True)
class Encoder:
    """The encoder f that is kept.

    library, pipeline_tag: the Hub's names, e.g. "timm" and "image-feature-extraction".
    parameters: their number. features: D of the (B, D) output.
    input_size: (C, H, W) of an image, (T,) of a sequence of tokens.
    initialized_from: "random weights", or the checkpoint as the user named it.
    base_model, base_revision: that checkpoint's Hub id and commit, if it has them.
    lightness: whether its one channel is L of CIE Lab of an image in colours.
    own_code: whether it is loaded with code of its own, which lies beside the weights.
    heads: the tasks whose heads lie in `heads/NAME`, each a whole network with the encoder.
    """

    library: str
    pipeline_tag: str
    architecture: str
    parameters: int
    features: int
    input_size: list[int]
    initialized_from: str = "random weights"
    base_model: str | None = None
    base_revision: str | None = None
    lightness: bool = False
    own_code: bool = False
    heads: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Data:
    """What the encoder saw.

    unit: what one example is called, e.g. "image". hub_id, revision: None for local data.
    train, test: examples trained on and held out, None for a stream. skipped: examples that could not be decoded.
    classes: None without labels. held_out: where the test examples come from, in words.
    taken: what was used of a graph, and what was not, in words.
    """

    name: str
    unit: str
    train: int | None
    test: int | None
    skipped: int
    classes: int | None
    held_out: str
    hub_id: str | None = None
    revision: str | None = None
    taken: str = ""


@dataclass(kw_only=True)
class Training:
    """What the training took.

    examples, tokens: seen, repeats included; tokens None where there are none, and padding not counted.
    examples_per_second: measured by the trainer.
    held_out: the loss per token on held-out text, of the model first, then of what it must be below.
    spread: mean distance of the last batch's normalised representations from their centre; None: not watched.
    collapsed: every input has nearly the same representation.
    """

    steps: int
    examples: int
    seconds: float
    examples_per_second: float
    final_loss: float | None
    hardware: str
    tokens: int | None = None
    held_out: dict[str, float] = field(default_factory=dict)
    spread: float | None = None
    collapsed: bool = False


@dataclass(kw_only=True)
class OwnTask:
    """How well encoder and head do what they were trained for, beside who does not learn, such as chance.

    told:     one sentence: what was measured, on which images.
    rows:     name, "this run" first -> {measure: value}. A measure is named with its unit: "loss (nats)", "accuracy".
    smaller:  the measures of which less is better.
    """

    told: str
    rows: dict[str, dict[str, float | None]]
    smaller: list[str] = field(default_factory=list)

    @property
    def measures(self) -> list[str]:
        return list(dict.fromkeys(measure for found in self.rows.values() for measure in found))

    def best(self, measure: str) -> set[str]:
        """The rows whose value, as printed, no other row exceeds."""
        values = {row: finite(found.get(measure)) for row, found in self.rows.items()}
        printed = {row: round(value, 3) for row, value in values.items() if value is not None}
        wanted = (min if measure in self.smaller else max)(printed.values(), default=None)
        return {row for row, value in printed.items() if value == wanted and len(printed) > 1}

    def cell(self, row: str, measure: str) -> str:
        value = finite(self.rows[row].get(measure))
        return "–" if value is None else f"{value:.3f}"

    def table(self) -> str:
        """As plain text: a line for each row, a column for each measure."""
        lines = [["", *self.measures]]
        for row in self.rows:
            marks = ("*" * (row in self.best(measure)) for measure in self.measures)
            lines.append([row, *(self.cell(row, m) + mark for m, mark in zip(self.measures, marks, strict=True))])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return f"{self.told}\n{text}"


def software_versions() -> dict[str, str]:
    """Package -> installed version, for those that a result may depend on."""
    return {"hf_replearn": __version__} | {package: version(package) for package in PACKAGES}


@dataclass(kw_only=True, repr=False)
class Scores:
    """What was measured, beside one another.

    rows: name -> {metric: value}; the first row is the encoder in question, the others are its baselines. A metric is
        `protocol` or `protocol@parameter`, e.g. "linear" or "k_shot@4", the larger the better, and may have a
        companion "k_shot@4_ci95". Empty when nothing could be measured.
    properties: the same for what is neither good nor bad by being large, e.g. the sparsity of features.
    protocols: protocol -> one sentence that defines it.
    missing: row -> {metric: why it could not be measured}; the value in rows is then None, shown as a dash.
    Raises ValueError for a metric without a protocol.
    """

    rows: dict[str, dict[str, float | None]] = field(default_factory=dict)
    properties: dict[str, dict[str, float | None]] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=dict)
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=software_versions)
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())

    def __post_init__(self):
        for metric in [*self.metrics, *(name for found in self.properties.values() for name in found)]:
            if metric.split("@")[0] not in self.protocols:
                raise ValueError(f"score {metric!r} has no protocol: add a sentence to protocols[...] that defines it")

    @property
    def metrics(self) -> list[str]:
        """The metrics of all rows, in the order in which they were measured."""
        keys = (key for scores in self.rows.values() for key in scores)
        return list(dict.fromkeys(key for key in keys if not key.endswith(INTERVAL)))

    def cell(self, row: str, metric: str) -> str:
        """`0.781 ± 0.012`, or a dash for what was not measured."""
        scores = self.rows[row]
        value, interval = finite(scores.get(metric)), finite(scores.get(metric + INTERVAL))
        if value is None:
            return "–"
        return f"{value:.3f}" if interval is None else f"{value:.3f} ± {interval:.3f}"

    def best(self, metric: str) -> set[str]:
        """The rows whose value, as printed, no other row exceeds; none when there is nothing to compare."""
        values = {row: finite(scores.get(metric)) for row, scores in self.rows.items()}
        printed = {row: round(value, 3) for row, value in values.items() if value is not None}
        return {row for row, value in printed.items() if len(printed) > 1 and value == max(printed.values())}

    def compared(self) -> list[str]:
        """The metrics that the encoder, the first row, and another row have."""
        first = next(iter(self.rows), None)
        has = {
            metric: [row for row in self.rows if finite(self.rows[row].get(metric)) is not None]
            for metric in self.metrics
        }
        return [metric for metric, rows in has.items() if first in rows and len(rows) > 1]

    def misses(self) -> list[str]:
        """Those of `compared` in which the encoder is not above all other rows."""
        return [metric for metric in self.compared() if self.best(metric) != {next(iter(self.rows))}]

    def not_below(self, metric: str) -> list[str]:
        """The other rows whose value, as printed, is at least that of the encoder, the best first."""
        values = {row: finite(scores.get(metric)) for row, scores in self.rows.items()}
        printed = {row: round(value, 3) for row, value in values.items() if value is not None}
        first = next(iter(self.rows))
        found = [row for row, value in printed.items() if row != first and value >= printed[first]]
        return sorted(found, key=lambda row: -values[row])

    def reasons(self) -> list[str]:
        """What could not be measured and why, one line for each row and reason."""
        lines: dict[tuple[str, str], list[str]] = {}
        for row, found in self.missing.items():
            for metric, reason in found.items():
                lines.setdefault((row, reason), []).append(metric)
        return [f"{', '.join(metrics)} of {row}: {reason}" for (row, reason), metrics in lines.items()]

    def table(self) -> str:
        """The scores as plain text: a line for each metric, a column for each row, `*` at the best of a line."""
        if not self.rows:
            return "No score was measured."
        lines = [["", *self.rows]]
        for metric in self.metrics:
            best = self.best(metric)
            lines.append([metric, *(self.cell(row, metric) + "*" * (row in best) for row in self.rows)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        return "\n".join([text, "* best of its line, ± 95 % interval", *(f"– {line}" for line in self.reasons())])

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """The scores as a table, which notebooks show."""
        heads = "".join(f"<th>{escape(row)}</th>" for row in self.rows)
        lines = []
        for metric in self.metrics:
            cells = {row: escape(self.cell(row, metric)) for row in self.rows}
            best = self.best(metric)
            shown = "".join(f"<td>{f'<b>{cell}</b>' if row in best else cell}</td>" for row, cell in cells.items())
            lines.append(
                f'<tr><th title="{escape(self.protocols[metric.split("@")[0]])}">{escape(metric)}</th>{shown}</tr>'
            )
        notes = "".join(f"<br>– {escape(line)}" for line in self.reasons())
        table = f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        return f"{table}<small>bold: best of its line; ± 95 % interval{notes}</small>"

    def to_pandas(self) -> "DataFrame":
        """The scores as a pandas.DataFrame: a line for each row, a column for each metric and `metric_ci95`, half its
        interval; NaN for what was not measured."""
        import pandas

        return pandas.DataFrame.from_dict(self.rows, orient="index", dtype=float)

    def save(self, folder: str | Path) -> None:
        """Writes `folder/report.json`. NaN and infinity, for which JSON has no word, become null."""
        text = json.dumps(finite(asdict(self)), indent=2, allow_nan=False, ensure_ascii=False)
        write_whole(Path(folder, FILE), text + "\n")


@dataclass(kw_only=True, repr=False)
class Report(Scores):
    """Everything the card says about a run that trained an encoder, and nothing that was not measured.

    settings: every resolved setting; changed: the names of those that differ from the defaults.
    own_task: how well it does what it was trained for; None: not measured.
    layers: row -> {metric: [value of layer 0, 1, …]}.
    samples: what a language model says, as plain text; said: the same in parts, for a page.
    neighbours: of some held-out images, as in Evaluation.
    figures: file name of a picture beside the card -> what it shows, in words.
    repo_id: the repository that it was pushed to, "owner/name".
    desiderata: what is asked of a representation, a line each; `evaluate --add_to_card` renews it.
    """

    method: Method
    encoder: Encoder
    data: Data
    training: Training
    command: str
    settings: dict[str, Any]
    changed: list[str]
    own_task: OwnTask | None = None
    layers: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    samples: str = ""
    said: list["Said"] = field(default_factory=list)
    neighbours: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    repo_id: str | None = None
    desiderata: list["Desideratum"] = field(default_factory=list)

    def without_local_paths(self) -> "Report":
        """The same, each path of this machine by its last part."""
        known = local_paths(self.settings) | local_paths([self.encoder.initialized_from])
        facts = without_paths(asdict(self), known)
        parts = {"method": Method, "encoder": Encoder, "data": Data, "training": Training, "own_task": OwnTask}
        return Report(**facts | {name: part(**facts[name]) for name, part in parts.items() if facts[name] is not None})

    def held_out_table(self) -> str:
        """The losses on held-out text as plain text."""
        losses = self.training.held_out
        width = max(map(len, losses), default=0)
        lines = [f"{name:{width}}  {loss:7.3f}  {math.exp(loss):11,.1f}" for name, loss in losses.items()]
        return "\n".join([f"{'held-out text':{width}}     loss   perplexity", *lines])

    def extend(
        self,
        rows: dict[str, dict[str, float | None]],
        *,
        protocols: dict[str, str],
        missing: dict[str, dict[str, str]] | None = None,
    ) -> None:
        """Adds scores; earlier ones that were measured in another way under the same name go."""
        stale = {name for name, sentence in protocols.items() if self.protocols.get(name) != sentence}
        for row, scores in self.rows.items():
            self.rows[row] = {key: value for key, value in scores.items() if key.split("@")[0] not in stale}
        for row, scores in rows.items():
            self.rows.setdefault(row, {}).update(scores)
        for row, found in self.missing.items():  # those that are measured now, or in another way, are not missing
            gone = {key for key in found if key in rows.get(row, {}) or key.split("@")[0] in stale}
            self.missing[row] = {key: reason for key, reason in found.items() if key not in gone}
        for row, found in (missing or {}).items():
            self.missing.setdefault(row, {}).update(found)
        self.protocols |= protocols

    @classmethod
    def load(cls, folder: str | Path) -> "Report":
        """Reads what `save` wrote. Raises InputError."""
        where = str(Path(folder, FILE))
        report = checked(cls, read_json(where), where)
        check_neighbours(report.neighbours, where)
        return report


class Guess(TypedDict):
    """A token that may be hidden, and its probability."""

    token: str
    chance: float


class Said(TypedDict, total=False):
    """What a language model says of a text: what it goes on with `before`, or its guesses, likeliest first, for the gap
    between `before` and `after`, where `hidden` was. mask: how the tokenizer writes a gap."""

    before: str
    mask: str
    after: str
    hidden: str
    guesses: list[Guess]
    goes_on: str


@dataclass(kw_only=True)
class Task:
    """The labelled data that encoders are judged on.

    unit: what one example is called. train, test: examples used. classes: names by number, None for similarities.
    held_out: where the test examples come from, in words. notes: what else there is to know of them, a sentence each.
    """

    name: str
    unit: str
    train: int
    test: int
    classes: list[str] | None
    held_out: str
    hub_id: str | None = None
    notes: list[str] = field(default_factory=list)


class Example(TypedDict, total=False):
    """One example as it is shown: a picture as a data URI or a text, and its class."""

    image: str
    text: str
    label: str


class Comparison(TypedDict):
    """A paired test of the first row with another: how much it is ahead, half the 95 % interval, p."""

    metric: str
    other: str
    difference: float
    ci95: float
    p: float


class TopFeature(TypedDict):
    """A feature by its number, how much of its variance lies between classes, and where it is largest."""

    feature: int
    selectivity: float
    examples: list[Example]


class Desideratum(TypedDict):
    """A thing that is asked of a representation: by what it is measured, {row: number in words}, the best baseline's in
    words, and why all of these are dashes."""

    asked: str
    measure: str
    values: dict[str, str]
    baseline: str
    why: str


class Telling(TypedDict):
    """What some numbers of a code tell of each factor: `shares` of its entropy, for the places `numbers` of `of`."""

    of: int
    numbers: list[int]
    shares: list[list[float]]


class FactorsTold(TypedDict):
    """The names of factors, and row -> what its code tells of them."""

    names: list[str]
    told: dict[str, Telling]


@dataclass(kw_only=True, repr=False)
class Evaluation(Scores):
    """Several encoders on one dataset.

    encoders: row -> facts in words, e.g. {"from": "out/mine", "features": "512"}.
    comparisons: paired tests of the first row with the others.
    maps: {"labels": class of each point, "PCA": {row: [(x, y), …]}, "t-SNE": …}.
    neighbours: {"queries": [Example], row: [[Example, nearest first], …]}.
    top_features: row -> those that tell classes best, each with its examples, most active first.
    confusion: row -> examples of each class (lines) told as each class (columns) by the linear probe.
    layers: row -> {metric: [value of layer 0, 1, …]}.
    factors: of images whose factors are known, {"names": […], "told": {row: {"of": width of the code, "numbers": some
             of its places, "shares": what each tells of each factor, as a share of the factor's entropy}}}.
    figures: file name of a picture beside the report -> what it shows, in words.
    desiderata: what is asked of a representation, a line each.
    """

    task: Task
    encoders: dict[str, dict[str, str]]
    command: str
    settings: dict[str, Any]
    comparisons: list[Comparison] = field(default_factory=list)
    maps: dict[str, Any] = field(default_factory=dict)
    neighbours: dict[str, Any] = field(default_factory=dict)
    top_features: dict[str, list[TopFeature]] = field(default_factory=dict)
    confusion: dict[str, list[list[int]]] = field(default_factory=dict)
    layers: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    factors: dict[str, Any] = field(default_factory=dict)
    desiderata: list[Desideratum] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)

    def save(self, folder: str | Path, *, page: bool = True) -> None:
        """Writes `folder/report.json` and, with `page`, `folder/report.html`, which shows all of it."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        super().save(folder)
        if page:
            from hf_replearn.sharing.page import write_page

            write_page(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Evaluation":
        """Reads what `save` wrote. Raises InputError."""
        where = str(Path(folder, FILE))
        report = checked(cls, read_json(where), where)
        for kind in report.maps:
            shape = list[int] if kind == "labels" else dict[str, list[list[float]]]
            report.maps[kind] = checked(shape, report.maps[kind], f"{where}, maps, {kind}")
        check_neighbours(report.neighbours, where)
        if report.factors:
            report.factors = checked(FactorsTold, report.factors, f"{where}, factors")
        return report


def check_neighbours(neighbours: dict[str, Any], where: str) -> None:
    """Raises InputError for what is no {"queries": [Example], row: [[Example, nearest first], …]}."""
    for row in neighbours:
        shape = list[Example] if row == "queries" else list[list[Example]]
        neighbours[row] = checked(shape, neighbours[row], f"{where}, neighbours, {row}")


def load(folder: str | Path) -> Report | Evaluation:
    """What `folder/report.json` holds. Raises InputError where there is none, or it is not one of ours."""
    path = Path(folder, FILE)
    if not path.exists():
        raise InputError(f"{folder} has no {FILE} of a run or an evaluation")
    kind = read_json(path)
    if not isinstance(kind, dict):
        raise InputError(f"{path} holds no report of a run or an evaluation")
    return (Evaluation if "task" in kind else Report).load(folder)


def finite(value: Any) -> Any:
    """`value` with None in the place of every NaN and infinity in it."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
