"""`report.html`: one self-contained page of a run, an evaluation, or several of them beside one another.

No network, no library: figures are SVG in the page, pictures data URIs, all text of data escaped. A content security
policy forbids whatever else might be asked for, scripts too, but for the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hf_replearn.errors import InputError
from hf_replearn.files import read_json_lines, write_whole
from hf_replearn.sharing import figures
from hf_replearn.sharing.measured import Measured, load_any
from hf_replearn.sharing.names import family_and_task, in_words
from hf_replearn.sharing.report import INTERVAL, Evaluation, OwnTask, Report, Scores, finite

FILE = "report.html"
DRAWN_HERE = ("curves.png", "neighbours.png")
CURVES = ("loss", "held_out_loss", "spread", "grad_norm", "learning_rate", "examples_per_second")
OF_THE_SAMPLE = ("knn@20", "relative_alignment", "rankme", "uniformity", "alignment", "sample_spread")
POINTS = 300  # of a training curve
LARGEST = 5_000_000  # bytes of a picture that the page holds
IN_CURVES = {
    "loss": "loss",
    "held_out_loss": "loss on held-out text",
    "spread": "spread of the last batch: 0 is one point",
    "knn@20": "accuracy of the 20 nearest neighbours: higher is better",
    "relative_alignment": "distance of two views of an image, as a share of that of two images: lower is better, 1 is "
    "chance",
    "rankme": "RankMe, how many directions the features use: a fall to a few is a collapse",
    "uniformity": "uniformity: 0 is one point, lower is more evenly spread",
    "alignment": "alignment, the squared distance of two views of an image: to be read beside uniformity",
    "sample_spread": "spread, the distance of features from their centre: 0 is one point",
}
OVER = {"k_shot": "labels a class", "voc07": "labels a class", "prompt": "examples in the prompt"}
NOTE = "Larger is better; ± is half the 95 % interval."
ASKED = "What is asked of a representation"
DISENTANGLED = (
    "Images of which all factors are known, such as place and shape. In a code that is disentangled, each number tells "
    "of one factor, and each factor is told by one number. The true factors are such a code; the rotated ones, in "
    "which every number mixes all factors, know as much and are none."
)
SHARE = ("finetune", "finetune_once", "linear_probe")  # whose parameter is a share of the labels


@dataclass(frozen=True)
class Cell:
    """What a table shows, the half width of its interval below it, and the number by which its column is sorted (None:
    last). why: the reason for a dash."""

    text: str
    value: float | None = None
    best: bool = False
    half: str = ""
    why: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a line for each encoder. columns: what their heads say. corner: what the first column has."""

    title: str
    columns: list[str]
    lines: list[tuple[str, list[Cell]]]
    note: str = ""
    corner: str = "encoder"

    def is_text(self, column: int) -> bool:
        """Whether no cell of the column is a number."""
        return all(cells[column].value is None for _, cells in self.lines)


@dataclass
class Page:
    """What the template shows, in its order. charts: (title, [(caption, Markup)]); pictures: (caption, data URI);
    legend: of the maps."""

    title: str
    lead: str
    facts: list[tuple[str, str]]
    pictures: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    charts: list[tuple[str, list]] = field(default_factory=list)
    legend: str = ""
    neighbours: dict[str, Any] = field(default_factory=dict)
    top_features: dict[str, list] = field(default_factory=dict)
    samples: str = ""
    said: list[dict] = field(default_factory=list)
    protocols: list[tuple[str, str]] = field(default_factory=list)
    details: list[tuple[str, str]] = field(default_factory=list)
    foot: str = ""


def write_page(folder: str | Path, path: str | Path | None = None) -> Path:
    """Writes the page of what a run, an evaluation, fine-tuning or prompting left in `folder`.

    path: where to; none: `folder/report.html`. Raises InputError for a folder without such a report.
    """
    report = load_any(folder)
    if isinstance(report, Evaluation):
        page = evaluation_page(report)
    elif isinstance(report, Report):
        page = run_page(report, read_log(folder))
    else:
        page = measured_page(report)
    page.pictures = pictures(report, folder)
    path = Path(path or Path(folder, FILE))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, render(page))
    return path


def write_comparison(folders: Sequence[str | Path], path: str | Path) -> Path:
    """Writes one page that puts runs, evaluations, fine-tunings and promptings beside one another.

    Only scores of the same protocol, told by its whole sentence, and the same data share a column.
    Raises InputError for folders without a report, or fewer than two.
    """
    if len(folders) < 2:
        raise InputError("a comparison needs at least two folders with a report.json")
    names = names_of(folders)
    reports = dict(zip(names, map(load_any, folders), strict=True))
    logs = {name: read_log(folder) for name, folder in zip(names, folders, strict=True)}
    page = Page(
        title=" · ".join(names),
        lead=f"{len(reports)} reports beside one another. Scores stand in one column only where the protocol, the data "
        "and the number of examples are the same. Intervals are those of each report: for paired tests, evaluate the "
        "encoders together.",
        facts=[(name, summary(report)) for name, report in reports.items()],
        tables=[*own_task_tables(reports), *held_out_tables(reports), *joint_tables(reports)],
        charts=[
            ("Do they learn?", training_charts({name: log for name, log in logs.items() if log}, OF_THE_SAMPLE)),
            ("Training", training_charts({name: log for name, log in logs.items() if log})),
        ],
        protocols=list(dict.fromkeys(line for report in reports.values() for line in used_protocols(report))),
        details=[(f"Command of {name}", report.command) for name, report in reports.items()],
        foot=foot(next(iter(reports.values()))),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, render(page))
    return path


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = lambda text: re.sub(r"`([^`]*)`", r"\1", str(text))  # a page has no Markdown
    page.charts = [(title, drawn) for title, drawn in page.charts if drawn]
    script = Path(__file__).with_name("page_script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page_template.html").render(page=page, script=script, digest=digest)


# ---- what the pages hold


def run_page(report: Report, log: list[dict]) -> Page:
    """Of a run that trained an encoder."""
    encoder, data, training = report.encoder, report.data, report.training
    facts = [
        ("Method", f"{report.method.name}: {report.method.paper}"),
        ("Encoder", f"{encoder.architecture}, {encoder.parameters:,} parameters, {encoder.features:,} features"),
        ("Started from", encoder.initialized_from),
        ("Data", summary(report)),
        *([("Read", data.taken)] if data.taken else []),
        ("Training", f"{training.steps:,} steps, {training.examples:,} examples, {training.seconds:,.0f} s"),
        ("Hardware", training.hardware),
    ]
    if training.spread is not None:
        verdict = "collapsed: every input has nearly the same features" if training.collapsed else "not collapsed"
        facts.append(("Representation", f"{verdict} (spread {training.spread:.3g} of the last batch; 0 is one point)"))
    facts += [("Does it learn?", line) for line in learning(report, log)]
    facts += [("Not measured", line) for line in report.reasons()]
    tables = own_task_tables({"": report}) + desiderata_tables(report) + score_tables(report)
    tables += held_out_tables({"": report})
    return Page(
        title=f"{report.method.name[0].upper()}{report.method.name[1:]} on {data.name}",
        lead=report.method.summary,
        facts=facts,
        tables=tables,
        charts=[
            ("Does it learn?", training_charts({report.method.name: log}, OF_THE_SAMPLE)),
            ("Scores by labels", score_charts(report)),
            ("Layers", layer_charts(report)),
            ("Training", training_charts({report.method.name: log})),
        ],
        neighbours=report.neighbours,
        said=report.said,
        samples="" if report.said else report.samples,
        protocols=used_protocols(report),
        details=[("Command", report.command), *details(report)],
        foot=foot(report),
    )


def evaluation_page(report: Evaluation) -> Page:
    """Of several encoders on one dataset."""
    task = report.task
    facts = [("Data", summary(report)), ("Images" if report.factors else "Test examples", task.held_out)]
    facts += [("About the data", note) for note in task.notes]
    facts += [("Not measured", line) for line in report.reasons()]
    known = list(dict.fromkeys(name for encoder in report.encoders.values() for name in encoder))
    lines = [(row, [Cell(encoder.get(name, "–")) for name in known]) for row, encoder in report.encoders.items()]
    names = task.classes or []
    maps = {
        f"Maps by {kind}": [
            (row, figures.scatter(points, report.maps["labels"], names, title=f"{kind} of {row}"))
            for row, points in report.maps.get(kind, {}).items()
            if not (kind == "PCA" and row.startswith("PCA"))
        ]
        for kind in ("t-SNE", "PCA")
    }
    matrices = [
        (f"Linear probe of {row}, % of each class", figures.confusion(table, names, title=f"Linear probe of {row}"))
        for row, table in report.confusion.items()
    ]
    title, lead = (
        f"What representations are worth on {task.name}",
        "Frozen features of every encoder, judged in the same ",
    )
    lead += "way on the same examples."
    if report.factors:
        title, lead = f"Which factors of {task.name} a code keeps apart", DISENTANGLED
    return Page(
        title=title,
        lead=lead,
        facts=facts,
        tables=[Table("Encoders", known, lines), *desiderata_tables(report), *score_tables(report)],
        charts=[
            ("Which number tells of which factor", factor_charts(report)),
            ("Curves", score_charts(report)),
            ("Layers", layer_charts(report)),
            *maps.items(),
            ("Confusions", matrices),
        ],
        legend=figures.class_legend(names) if any(maps.values()) and len(names) <= figures.MANY_CLASSES else "",
        neighbours=report.neighbours,
        top_features=report.top_features,
        protocols=used_protocols(report),
        details=[("Command", report.command), *details(report)],
        foot=foot(report),
    )


def measured_page(report: Measured) -> Page:
    """Of fine-tuning or prompting."""
    return Page(
        title=report.title,
        lead=report.lead,
        facts=[("Data", report.data), *(("Not measured", line) for line in report.reasons())],
        tables=score_tables(report),
        charts=[("Curves", score_charts(report)), ("Layers", layer_charts(report))],
        protocols=used_protocols(report),
        details=[("Command", report.command), *details(report)],
        foot=foot(report),
    )


def learning(report: Report, log: list[dict]) -> list[str]:
    """How the scores of the sample came to be from before training to the end, and what is wrong with them."""
    scores = [line for line in log if "rankme" in line]
    if not scores:
        return []
    from hf_replearn.evaluation.health import SAMPLE, diagnose  # with torch, which no other page needs

    found = diagnose(log, directions=min(SAMPLE, report.data.train or SAMPLE, report.encoder.features))
    first, last = scores[0], scores[-1]
    told = {
        "accuracy of nearest neighbours {}": [line.get("knn@20") for line in (first, last)],
        "two views of an image {} times as far apart as two images": [
            line.get("relative_alignment") for line in (first, last)
        ],
        "RankMe {}": [line["rankme"] for line in (first, last)],
    }
    changes = [
        sentence.format(f"{before:.3g} → {after:.3g}")
        for sentence, (before, after) in told.items()
        if is_number(before) and is_number(after)
    ]
    start = "before training" if first["step"] == 0 else f"at step {first['step']}"
    line = f"{'; '.join(changes)} ({start} → step {last['step']:,}, a fixed sample)"
    return [line] if found is None else [f"{found[1][0].upper()}{found[1][1:]}.", line]


def pictures(report: Report | Evaluation | Measured, folder: str | Path) -> list[tuple[str, str]]:
    """The pictures of a run but for those that the page draws itself: (caption, data URI)."""
    found = []
    for name, caption in getattr(report, "figures", {}).items():
        path = Path(folder, name)
        kind = path.suffix.removeprefix(".")
        if kind in ("png", "gif") and name not in DRAWN_HERE and path.is_file() and path.stat().st_size <= LARGEST:
            found.append((caption, f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"))
    return found


def summary(report: Report | Evaluation | Measured) -> str:
    """The data in one line."""
    if isinstance(report, Measured):
        return f"{report.title}: {report.data}"
    if isinstance(report, Evaluation):
        task = report.task
        if report.factors:
            return f"{task.name}: {task.train:,} images to learn from, {task.test:,} to judge on"
        train = f"{task.train:,} labels, " if task.train else ""
        classes = f", {len(task.classes)} classes" if task.classes else ""
        return f"{task.name}: {train}{task.test:,} test examples ({task.unit}){classes}"
    data = report.data
    count = "a stream" if data.train is None else f"{data.train:,} {data.unit}s"
    return f"{data.name}: {count}" + ("" if data.classes is None else f", {data.classes} classes")


def used_protocols(report: Scores) -> list[tuple[str, str]]:
    """Those of the metrics that were measured, in their order."""
    names = dict.fromkeys(name.split("@")[0] for name in [*report.metrics, *properties_of(report)])
    found = {name: report.protocols[name] for name in names}
    tasks = {name: family_and_task(name)[1] for name in found}
    return [
        (in_words(name, text) + (f" ({tasks[name]})" if tasks[name] not in (None, name) else ""), text)
        for name, text in found.items()
    ]


def details(report: Report | Evaluation | Measured) -> list[tuple[str, str]]:
    """Settings and versions as text."""
    import yaml

    return [
        ("Settings", yaml.safe_dump(report.settings, allow_unicode=True, sort_keys=False)),
        ("Versions", yaml.safe_dump(report.versions, sort_keys=False)),
    ]


def foot(report: Scores) -> str:
    return f"Written by hf_replearn {report.versions['hf_replearn']} on {report.date}."


# ---- tables


def score_tables(report: Report | Evaluation) -> list[Table]:
    """The scores in families, the properties, and the paired tests."""
    tables = []
    for (family, task), metrics in families(whole_network(report.metrics)).items():
        measured = [row for row in report.rows if not report.rows[row].keys().isdisjoint(metrics)]
        lines = [(row, [cell(report, row, metric) for metric in metrics]) for row in measured]
        title = f"{family}: {task}" if task else family
        tables.append(Table(title, heads(report, metrics), lines, note=NOTE))
    names = properties_of(report)
    if names:
        lines = [(row, [plain(found.get(name)) for name in names]) for row, found in report.properties.items()]
        tables.append(Table("Properties", names, lines, note="Neither good nor bad by being large."))
    return tables + comparison_tables(report)


def desiderata_tables(report: Report | Evaluation) -> list[Table]:
    """What is asked of a representation, a line each."""
    if not report.desiderata:
        return []
    rows = list(report.desiderata[0]["values"])
    lines = []
    for line in report.desiderata:
        cells = [Cell(line["values"].get(row, "–"), why=line["why"]) for row in rows]
        lines.append((line["asked"], [*cells, Cell(line["baseline"]), Cell(line["measure"])]))
    note = "A number for each thing that a good representation has; more is better, but for sparsity, which is a taste."
    return [Table(ASKED, [*rows, "best baseline", "measured by"], lines, note=note, corner="what is asked")]


def comparison_tables(report: Report | Evaluation) -> list[Table]:
    """How much the first row is ahead of each other one, family by family."""
    tests = getattr(report, "comparisons", [])
    if not tests:
        return []
    first, tables = next(iter(report.rows)), []
    cells = {(test["other"], test["metric"]): difference(test) for test in tests}
    others = dict.fromkeys(test["other"] for test in tests)
    note = f"{first} less each other encoder, on the same test examples and labels, with half the 95 % interval; bold: "
    note += f"p < 0.05, by paired bootstrap, corrected for {len(tests)} comparisons (Holm)."
    for (family, _), metrics in families(list(dict.fromkeys(test["metric"] for test in tests))).items():
        lines = [(row, [cells.get((row, metric), Cell("–")) for metric in metrics]) for row in others]
        tables.append(Table(f"How much {first} is ahead: {family}", heads(report, metrics), lines, note=note))
        note = ""
    return tables


def joint_tables(reports: dict[str, Report | Evaluation]) -> list[Table]:
    """A table for each dataset and family; metrics of another protocol are another column."""
    joint: dict = {}  # (dataset, family) -> {(metric, sentence): {line: Cell}}
    for name, report in reports.items():
        for (family, task), metrics in families(whole_network(report.metrics)).items():
            data = task or data_key(report)  # the protocol of a task names its own data
            table = joint.setdefault((data, family), {})
            for metric in metrics:
                column = table.setdefault((metric, report.protocols[metric.split("@")[0]]), {})
                for row in report.rows:
                    if metric in report.rows[row]:
                        column[f"{name}: {row}"] = cell(report, row, metric, mark=False)
    tables = []
    for (data, family), table in joint.items():
        columns, sentences = [], {}
        for metric, sentence in table:
            known = sentences.setdefault(metric, [])
            known.append(sentence)
            head = in_words(metric, sentence, short=True)
            columns.append(head if len(known) == 1 else f"{head} (protocol {len(known)})")
        rows = list(dict.fromkeys(line for column in table.values() for line in column))
        lines = [(row, [column.get(row, Cell("–")) for column in table.values()]) for row in rows]
        lines = [
            (row, [marked(cell, column) for cell, column in zip(cells, table.values(), strict=True)])
            for row, cells in lines
        ]
        tables.append(Table(f"{family}: {data}", columns, lines, note=NOTE))
    return tables


def own_task_tables(reports: dict[str, Report | Evaluation | Measured]) -> list[Table]:
    """What each run was trained for: a table for each task and text that defines it."""
    tasks: dict = {}
    for name, report in reports.items():
        own = report.own_task if isinstance(report, Report) else None
        if own is not None:
            tasks.setdefault((report.method.name, data_key(report), own.told), []).append((name, own))
    found = []
    for (method, _, told), runs in tasks.items():
        measures = list(dict.fromkeys(measure for _, own in runs for measure in own.measures))
        rows = {}
        for name, own in runs:
            for number, row in enumerate(own.rows):
                rows[name if name and number == 0 else row] = own.rows[row]
        whole = OwnTask(told=told, rows=rows, smaller=runs[0][1].smaller)
        lines = [
            (row, [Cell(whole.cell(row, m), finite(rows[row].get(m)), row in whole.best(m)) for m in measures])
            for row in rows
        ]
        heads = [f"{measure} (less is better)" if measure in whole.smaller else measure for measure in measures]
        found.append(Table(f"Its own task: {method}", heads, lines, note=told))
    return found


def held_out_tables(reports: dict[str, Report | Evaluation | Measured]) -> list[Table]:
    """The loss per token on held-out text: a table for each text and each way to cut it into tokens, since losses of
    different tokens say nothing of one another. Those are the same whose token frequencies lose the same."""
    tables: dict = {}
    for name, report in reports.items():
        losses = report.training.held_out if isinstance(report, Report) else {}
        if not losses:
            continue
        frequencies = losses.get("token frequencies")
        key = (data_key(report), report.method.name, name if frequencies is None else round(frequencies, 4))
        for row, loss in losses.items():
            line = f"{name}: {row}" if name and row != "token frequencies" else row
            tables.setdefault(key, {})[line] = loss
    note = "Smaller is better. Losses of other tokens, of another tokenizer or text, stand in another table."
    found = []
    for (data, method, _), losses in tables.items():
        least = min(losses.values()) if len(losses) > 1 else None
        lines = [
            (
                row,
                [
                    Cell(f"{loss:.3f}", loss, loss == least),
                    Cell(number(perplexity(loss)), perplexity(loss), loss == least),
                ],
            )
            for row, loss in sorted(losses.items(), key=lambda item: item[0] == "token frequencies")
        ]
        found.append(Table(f"Held-out text: {data}, {method}", ["loss per token", "perplexity"], lines, note=note))
    return found


def perplexity(loss: float) -> float:
    return math.exp(min(loss, 100.0))


def number(value: float) -> str:
    return f"{value:,.1f}" if value < 1e6 else f"{value:.2g}"


def data_key(report: Report | Evaluation) -> str:
    """Data whose scores may be compared: the same name and the same number of test examples."""
    if isinstance(report, Measured):
        return report.data
    if isinstance(report, Evaluation):
        return f"{report.task.name}, {report.task.test:,} test examples"
    test = "" if report.data.test is None else f", {report.data.test:,} test examples"
    return f"{report.data.name}{test}"


def marked(cell: Cell, column: dict[str, Cell]) -> Cell:
    values = [other.value for other in column.values() if other.value is not None]
    best = cell.value is not None and len(values) > 1 and round(cell.value, 3) == round(max(values), 3)
    return replace(cell, best=best)


def families(metrics: Sequence[str]) -> dict[tuple[str, str | None], list[str]]:
    """(family, task) -> its metrics; see `family_and_task`."""
    found: dict[tuple[str, str | None], list[str]] = {}
    for metric in metrics:
        found.setdefault(family_and_task(metric), []).append(metric)
    return found


def properties_of(report: Scores) -> list[str]:
    return list(dict.fromkeys(name for found in report.properties.values() for name in found))


def heads(report: Scores, metrics: Sequence[str]) -> list[str]:
    """What the columns of these metrics are called."""
    return [in_words(metric, report.protocols[metric.split("@")[0]], short=True) for metric in metrics]


def whole_network(metrics: Sequence[str]) -> list[str]:
    """Those that are not of a single layer, "finetune_x@10% layer 3", which stand in a chart."""
    return [metric for metric in metrics if " layer " not in metric]


def cell(report: Scores, row: str, metric: str, *, mark: bool = True) -> Cell:
    value = finite(report.rows[row].get(metric))
    text, _, half = report.cell(row, metric).partition(" ± ")
    why = report.missing.get(row, {}).get(metric, "")
    return Cell(text, value, mark and row in report.best(metric), f"± {half}" if half else "", why)


def difference(test: dict[str, Any]) -> Cell:
    """Of a paired test: bold where it is significant."""
    text = f"{test['difference']:+.3f}".replace("-", "−")
    return Cell(text, test["difference"], best=test["p"] < 0.05, half=f"± {test['ci95']:.3f}")


def plain(value: float | None) -> Cell:
    return Cell("–") if finite(value) is None else Cell(f"{value:.3g}", value)


# ---- charts


def score_charts(report: Scores) -> list:
    """Scores over labels a class, shares of the labels or examples in the prompt, with bands, where there are two."""
    charts = []
    for protocol in dict.fromkeys(metric.split("@")[0] for metric in whole_network(report.metrics) if "@" in metric):
        kind = next((name for name in (*OVER, *SHARE) if f"{protocol}_".startswith(f"{name}_")), None)
        if kind is None:
            continue
        metrics = [metric for metric in whole_network(report.metrics) if metric.startswith(f"{protocol}@")]
        curves = {}
        for row, scores in report.rows.items():
            points = [
                (float(metric.split("@")[1].rstrip("%")), scores.get(metric), scores.get(metric + INTERVAL) or 0.0)
                for metric in metrics
                if metric in scores
            ]
            curves[row] = points if len(points) > 1 else []
        percent = " %" if any(metric.endswith("%") for metric in metrics) else ""
        drawn = figures.line_chart(
            curves, x=OVER.get(kind, f"share of the labels{',' * bool(percent)}{percent}"), y="score", log=True
        )
        task = family_and_task(protocol)[1]
        caption = in_words(protocol, report.protocols[protocol]) + (f" ({task})" if task else "")
        charts += [] if drawn is None else [(f"{caption}; bands are 95 % intervals", drawn)]
    return charts


def factor_charts(report: Evaluation) -> list:
    """What the numbers of each code tell of each factor."""
    charts = []
    for row, found in report.factors.get("told", {}).items():
        some = "" if len(found["numbers"]) == found["of"] else f", the {len(found['numbers'])} that tell most"
        caption = (
            f"{row}: {found['of']} numbers{some}; % of a factor that a number tells (mutual information / entropy)"
        )
        drawn = figures.telling(report.factors["names"], found["numbers"], found["shares"], title=row)
        charts.append((caption, drawn))
    return charts


def layer_charts(report: Report | Evaluation | Measured) -> list:
    """Scores over the layers of each network."""
    curves: dict[str, dict[str, list]] = {}
    for row, found in getattr(report, "layers", {}).items():
        for metric, values in found.items():
            curves.setdefault(metric, {})[row] = [(n, v, 0.0) for n, v in enumerate(values)]
    for row, scores in report.rows.items():
        for metric, value in scores.items():
            name, _, layer = metric.partition(" layer ")
            if layer.isdigit():
                curves.setdefault(name, {}).setdefault(row, []).append(
                    (int(layer), value, scores.get(metric + INTERVAL) or 0.0)
                )
    drawn = {
        metric: figures.line_chart({row: sorted(points) for row, points in rows.items()}, x="layer", y="score")
        for metric, rows in curves.items()
    }
    return [(in_words(name, report.protocols.get(name.split("@")[0], "")), svg) for name, svg in drawn.items() if svg]


def training_charts(logs: dict[str, list[dict]], quantities: Sequence[str] = CURVES) -> list:
    """A chart for each quantity of the logs: name of the run -> lines of log.jsonl."""
    charts = []
    for quantity in quantities:
        curves = {}
        for name, log in logs.items():
            points = [(step, value, 0.0) for step, value in series(log, quantity)]
            curves[name] = points[:: max(1, len(points) // POINTS)]
        drawn = figures.line_chart(curves, x="step", y=quantity)
        caption = IN_CURVES.get(quantity, quantity.replace("_", " "))
        charts += [] if drawn is None or max(map(len, curves.values())) < 2 else [(caption, drawn)]
    return charts


def read_log(folder: str | Path) -> list[dict]:
    """The lines of `log.jsonl`; damaged ones are left out, with a word. None without such a file."""
    path = Path(folder, "log.jsonl")
    if not path.exists():
        return []
    lines, damaged = read_json_lines(path)
    if damaged:
        print(f"warning: {path}: {damaged} damaged line{'s' * (damaged > 1)} left out", file=sys.stderr)
    return lines


def series(log: list[dict], quantity: str) -> list[tuple[float, float]]:
    """(step, value) of a quantity, where the log has a number for it."""
    return [(line["step"], line[quantity]) for line in log if is_number(line.get(quantity))]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def names_of(folders: Sequence[str | Path]) -> list[str]:
    """The last part of each path, or all of it where two would be called the same."""
    short = [Path(folder).resolve().name for folder in folders]
    return [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]
