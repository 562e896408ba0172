"""The model card: a `Report` in Markdown, with the front matter that the Hub reads."""

from __future__ import annotations

import json
import math
import re
import shlex
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hf_replearn.errors import InputError
from hf_replearn.sharing.metadata import chosen
from hf_replearn.sharing.names import family_and_task, hub_type, in_words
from hf_replearn.sharing.readme import Readme, read_readme, write_readme
from hf_replearn.sharing.report import FILE, INTERVAL, OwnTask, Report, finite

LOCAL_DATA = {
    "image": "imagefolder",
    "pair": "imagefolder",  # of image and caption
    "sound": "audiofolder",
}  # the Hub's type of data that is not there, by the unit; else "text"
OF_TRAINING = ("augmentations.png", "curves.png")  # pictures above all else; others stand with the scores
MOST, NAMED = 6, 3  # lines on which the encoder is not best that are named, and for each the best baselines


class Markdown(str):
    """Text that is Markdown already. Whatever else the template prints is escaped."""


def escape(value: Any) -> str:
    """Data text on one line, in which no character means anything to Markdown or HTML; `x` becomes 'x'."""
    if isinstance(value, Markdown):
        return value
    text = re.sub(r"`([^`\n]*)`", r"'\1'", " ".join(str(value).split()))
    return re.sub(r"([\\`*_\[\]<>|#~&$])", r"\\\1", text)


def code_block(text: str, language: str) -> Markdown:
    """Data text as a fenced code block, the fence longer than any run of backticks in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return Markdown(f"{fence}{language}\n{text.strip()}\n{fence}")


def score_tables(report: Report) -> list[tuple[str | None, Markdown, list[tuple[str, str]]]]:
    """(task or None for the data trained on, table with the best of a line in bold, [(protocol, sentence)]) each."""
    found: dict[str | None, list[str]] = {}
    for metric in report.metrics:
        found.setdefault(family_and_task(metric)[1], []).append(metric)
    tables = []
    for task, metrics in sorted(found.items(), key=lambda item: item[0] is not None):
        rows = [row for row in report.rows if not report.rows[row].keys().isdisjoint(metrics)]
        lines = [["", *map(escape, rows)], ["---"] * (1 + len(rows))]
        for metric in metrics:
            best = report.best(metric)
            cells = (f"**{report.cell(row, metric)}**" if row in best else report.cell(row, metric) for row in rows)
            lines.append([escape(in_words(metric, report.protocols[metric.split("@")[0]])), *cells])
        protocols = dict.fromkeys(metric.split("@")[0] for metric in metrics)
        sentences = [(in_words(name, report.protocols[name]), report.protocols[name]) for name in protocols]
        tables.append((task, Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines)), sentences))
    return tables


def own_task_table(own: OwnTask) -> Markdown:
    """A line for each row, a column for each measure, the best in bold."""
    heads = [f"{measure}, less is better" if measure in own.smaller else measure for measure in own.measures]
    lines = [["", *map(escape, heads)], ["---"] * (1 + len(heads))]
    for row in own.rows:
        cells = (f"**{own.cell(row, m)}**" if row in own.best(m) else own.cell(row, m) for m in own.measures)
        lines.append([escape(row), *cells])
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def desiderata_table(report: Report) -> Markdown:
    """A line for each thing that is asked of a representation."""
    lines = [["", "this encoder", "best baseline", "measured by"], ["---"] * 4]
    for line in report.desiderata:
        value = next(iter(line["values"].values()))
        lines.append([escape(cell) for cell in (line["asked"], value, line["baseline"], line["measure"])])
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def layer_tables(report: Report) -> list[tuple[str, Markdown]]:
    """(metric in words, a line for each network, a column for each layer, the best of a line in bold)."""
    tables = []
    for metric in dict.fromkeys(metric for found in report.layers.values() for metric in found):
        rows = {row: found[metric] for row, found in report.layers.items() if metric in found}
        lines = [["layer", *map(str, range(max(map(len, rows.values()))))]]
        lines.append(["---"] * len(lines[0]))
        for row, values in rows.items():
            printed = [f"{value:.3f}" for value in values]
            lines.append([escape(row), *(f"**{cell}**" if cell == max(printed) else cell for cell in printed)])
        text = Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))
        tables.append((in_words(metric, report.protocols.get(metric.split("@")[0], "")), text))
    return tables


def metadata(report: Report, name: str) -> dict[str, Any]:
    """The front matter; `model-index` holds the scores of the first row, the encoder itself."""
    from huggingface_hub import EvalResult, ModelCardData

    encoder, data = report.encoder, report.data
    ours = chosen(report.settings)
    kind = LOCAL_DATA.get(data.unit, "text")
    scores = finite(next(iter(report.rows.values()), {}))
    results = []
    for metric in report.metrics:
        task, sentence = family_and_task(metric)[1], report.protocols[metric.split("@")[0]]
        if scores.get(metric) is None:
            continue
        half = scores.get(metric + INTERVAL)
        results.append(
            EvalResult(
                task_type=encoder.pipeline_tag,
                dataset_type=kind if task else data.hub_id or kind,
                dataset_config=task,  # or the client takes tasks of one type for one dataset
                dataset_name=task or " ".join(data.name.split()),
                dataset_revision=None if task else data.revision,
                metric_type=hub_type(metric, sentence),
                metric_name=in_words(metric, sentence),
                metric_value=round(scores[metric], 4),
                metric_args=None if half is None else {"ci95": round(half, 4)},
            )
        )
    tags = ["hf_replearn", "representation-learning", re.sub(r"\W+", "-", report.method.name.lower())]
    return ModelCardData(
        library_name=encoder.library,
        pipeline_tag=encoder.pipeline_tag,
        base_model=encoder.base_model,
        datasets=data.hub_id,
        tags=list(dict.fromkeys([*tags, *ours.pop("tags", [])])),
        model_name=name,
        eval_results=results or None,
        **ours,
    ).to_dict()


def write_eval_results(report: Report, folder: str | Path) -> None:
    """Writes the scores of the encoder to `folder/.eval_results/hf_replearn.yaml`, which the Hub shows beside those of
    other models; only of data that is on the Hub, under its id.

    The protocol's sentence and the interval are the notes of a score. A metric is the task of its dataset.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    from hf_replearn.files import write_whole

    scores = finite(next(iter(report.rows.values()), {}))
    if report.data.hub_id is None:
        return
    entries = []
    for metric in report.metrics:
        if scores.get(metric) is None or family_and_task(metric)[1]:
            continue
        interval = scores.get(metric + INTERVAL)
        spread = "" if interval is None else f" 95 % interval: ± {interval:.4f}."
        entries.append(
            EvalResultEntry(
                dataset_id=report.data.hub_id,
                dataset_revision=report.data.revision,
                task_id=metric,
                value=round(scores[metric], 4),
                date=report.date,
                notes=report.protocols[metric.split("@")[0]] + spread,
            )
        )
    if entries:
        path = Path(folder, ".eval_results", "hf_replearn.yaml")
        path.parent.mkdir(exist_ok=True)
        content = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
        write_whole(path, content)


def card(report: Report, folder: str | Path) -> str:
    """The text of README.md for the encoder in `folder`, as it is where nobody else wrote in it."""
    report, readme = report.without_local_paths(), Readme()
    readme.update(metadata(report, name_of(report, folder)))
    return readme.text(body(report, folder, readme.metadata))


def write_card(report: Report, folder: str | Path, *, given: Collection[str] = ()) -> None:
    """Writes the card into `folder/README.md`, where what was written by hand stays.

    given: keys of the front matter that the user has just asked for, to be written even if they were taken out.
    Raises InputError for a README.md that cannot be written into.
    """
    report, readme = report.without_local_paths(), read_readme(folder)
    readme.update(metadata(report, name_of(report, folder)), given=given)
    write_readme(folder, readme, body(report, folder, readme.metadata))


def name_of(report: Report, folder: str | Path) -> str:
    return report.repo_id.split("/")[-1] if report.repo_id else Path(folder).resolve().name


def body(report: Report, folder: str | Path, metadata: dict[str, Any]) -> str:
    """The card without its front matter, which is `metadata`.

    Data text is escaped, so that a class or a folder named `<script>` or `{{ x }}` is shown as such.
    """
    place = shown_place(folder)
    module, _, model_class = report.method.model_class.rpartition(".")
    lightness = report.encoder.lightness
    image_import, image_code = image_in_code(report.encoder.input_size, report.settings, lightness=lightness)
    misses = [
        f"{in_words(name, report.protocols[name.split('@')[0]])} ({', '.join(report.not_below(name)[:NAMED])})"
        for name in report.misses()
    ]
    return (
        templates()
        .get_template("card_template.md")
        .render(
            report=report,
            title=report.repo_id.split("/")[-1] if report.repo_id else None,
            tables=score_tables(report),
            layers=layer_tables(report),
            desiderata=desiderata_table(report) if report.desiderata else None,
            own_task=own_task_table(report.own_task) if report.own_task else None,
            compared=len(report.compared()),
            misses=misses if len(misses) <= MOST else [],
            above=len(report.compared()) - len(misses),
            changed={name: value for name, value in report.settings.items() if name in report.changed},
            others=list(dict.fromkeys(task for _, task in map(family_and_task, report.metrics) if task)),
            command=shlex.split(report.command)[1],
            module=Markdown(module),
            model_class=Markdown(model_class),
            image_import=image_import,
            image_code=image_code,
            location=report.repo_id or place,
            timm_location=f"hf-hub:{report.repo_id}" if report.repo_id else f"local-dir:{place}",
            license=metadata.get("license_name") or metadata.get("license"),
            pictures={name: caption for name, caption in report.figures.items() if name in OF_TRAINING},
            figures={name: caption for name, caption in report.figures.items() if name not in OF_TRAINING},
        )
    )


LIGHTNESS = """\
import numpy as np
from PIL import Image


def lightness(file):
    # L of CIE Lab, which the network sees alone, 0 to 255; not the luma of Pillow's mode L
    rgb = np.asarray(Image.open(file).convert("RGB")) / 255
    y = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92) @ [0.2126729, 0.7151522, 0.0721750]
    return Image.fromarray(np.uint8(np.rint(2.55 * np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27))))
"""


def image_in_code(size: list[int], settings: dict[str, Any], *, lightness: bool = False) -> tuple[Markdown, Markdown]:
    """The imports, and the expression, of an image (C, H, W) for an encoder of images, in Python: at the size of
    training, where the image processor only repeats pixels. lightness: its one channel is L of CIE Lab.
    """
    if size[0] not in (1, 3):
        return Markdown("import torch"), Markdown(f"torch.rand({', '.join(map(str, size))})  # black is 0, white is 1")
    mode = "RGB" if size[0] == 3 else "L"
    imports, code = "from PIL import Image", f'Image.open("image.png").convert("{mode}")'
    if lightness:
        imports, code = LIGHTNESS, 'lightness("image.png")'
    trained = settings.get("image_size")
    if trained and trained != size[-1]:
        imports += "\nfrom torchvision.transforms.functional import center_crop, resize"
        code = f"center_crop(resize({code}, {math.floor(trained / settings.get('crop_pct', 1.0))}), {trained})"
    return Markdown(imports), Markdown(code)


def shown_place(folder: str | Path) -> str:
    """How the card names a folder that was not pushed: as it was given, or by its last part."""
    return Path(folder).resolve().name if Path(folder).is_absolute() or ".." in Path(folder).parts else str(folder)


def templates():
    """The jinja2 environment of the cards: Markdown, not HTML, in which `finalize` escapes whatever is printed."""
    import yaml
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["code_block"] = code_block
    environment.filters["python"] = lambda text: Markdown(json.dumps(text, ensure_ascii=False))
    environment.filters["yaml"] = lambda settings: yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
    environment.filters["shell"] = shlex.join
    environment.filters["exp"] = math.exp
    environment.filters["identifier"] = lambda name: Markdown(re.sub(r"\W", "_", f"_{name}"[name[0].isalpha() :]))
    environment.filters["line"] = lambda text: textwrap.shorten(text, 120, placeholder=" …")
    environment.filters["count"] = lambda number: f"{number:,}"
    return environment


def extendable(folder: str | Path) -> Report:
    """The report of the run in `folder`, whose card is to get scores.

    Raises InputError where there is none, or where README.md cannot be written into.
    """
    if not Path(folder, FILE).exists():
        raise InputError(f"--add_to_card: --model {folder} is no folder with a {FILE}")
    read_readme(folder)
    return Report.load(folder)


def extend_card(
    folder: str | Path,
    rows: dict[str, dict[str, float | None]],
    *,
    protocols: dict[str, str],
    missing: dict[str, dict[str, str]] | None = None,
    figures: dict[str, str] | None = None,
    desiderata: Sequence[dict[str, Any]] = (),
) -> None:
    """Adds scores, and pictures that lie in `folder`, to the report, the page and the card of the run in it.

    desiderata: of these scores, in the place of those that are there.

    The report is read anew: while these scores were measured, others may have come in.
    """
    from hf_replearn.sharing.results import write_results

    report = Report.load(folder)
    report.extend(rows, protocols=protocols, missing=missing)
    report.figures |= figures or {}
    report.desiderata = list(desiderata) or report.desiderata
    write_results(report, folder)
    print(f"added to {Path(folder, FILE)} and what shows it")
