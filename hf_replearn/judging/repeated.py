"""Every way to learn a task with each of its draws of labels: what is measured is on disk at once."""

from __future__ import annotations

import json
import math
import shlex
import time
from functools import partial
from pathlib import Path
from typing import Any

from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.repetitions import draw_layers, reasons, summarise, table
from hf_replearn.evaluation.steps import NOT_A_NUMBER, alone
from hf_replearn.files import write_whole
from hf_replearn.judging.answering import answering
from hf_replearn.judging.task import choose_positive, task_of
from hf_replearn.judging.ways import fine_tuning
from hf_replearn.settings import as_dict, command_line
from hf_replearn.sharing.card import extend_card
from hf_replearn.sharing.finetuned import write_finetuned_card
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import finite, software_versions
from hf_replearn.sharing.show import try_to_show

RUNS = "scores.json"
UNDEFINED = "predictions or true values that are all the same have no correlation"


def measure(
    settings: Any, ways: dict, draws: dict, *, metrics: list[str], about: dict[str, Any], write: bool
) -> list[dict]:
    """Every row with each of its draws; what an earlier start, perhaps with other seeds, has measured is only read.

    A run that fails has the reason in the place of its scores; the next start tries it again. about: what the scores
    are, for those who read the file.
    """
    path = Path(settings.output_dir, RUNS)
    runs = read_runs(path) if path.exists() else []
    runs = [found for found in runs if not found.get("missing")]
    done = {key(found) for found in runs}
    for row, (way, its_draws) in ways.items():
        learn = None
        for share, seed in (draw for draw in its_draws if (row, *draw) not in done):
            rows, start = draws[share, seed], time.time()
            name = f"{row}, {len(rows):,} labels ({100 * share:g}%), seed {seed}"
            if learn is None:
                learn = way()
            bars = way.func in (fine_tuning, answering)  # which show by themselves how far they are
            scores, missing = alone(
                partial(learn, rows, seed=seed), metrics=metrics, what=name if write and not bars else None
            )
            missing = {metric: UNDEFINED if why == NOT_A_NUMBER else why for metric, why in missing.items()}
            found = {"row": row, "label_fraction": share, "seed": seed, "labels": len(rows)}
            found |= {"scores": scores | dict.fromkeys(missing), "seconds": round(time.time() - start, 1)}
            runs.append(found | ({"missing": missing} if missing else {}))
            if write:
                write_runs(path, runs, settings, about)
                shown = [f"{metric} {value:.3f}" for metric, value in scores.items() if " layer " not in metric]
                shown += [f"{metric} – ({why})" for metric, why in missing.items() if " layer " not in metric]
                print(f"{name}: {', '.join(shown)}", flush=True)
    asked = {(row, *draw) for row, (_, its_draws) in ways.items() for draw in its_draws}
    return [found for found in runs if key(found) in asked]


def read_runs(path: Path) -> list[dict]:
    """What an earlier start has measured. Raises InputError where the file is damaged: it is not written over."""
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        [key(found) for found in runs]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}): move it away to measure anew") from error
    return runs


def key(found: dict) -> tuple[str, float, int]:
    """What tells one measurement of a run from the others: row, share of the labels, seed."""
    return found["row"], found["label_fraction"], found["seed"]


def write_runs(path: Path, runs: list[dict], settings: Any, about: dict[str, Any]) -> None:
    """A file that is whole at any time. NaN, for which JSON has no word, becomes null."""
    command = shlex.join(["hf-replearn", "finetune", *command_line(settings)])
    content = {"runs": finite(runs), **about, "command": command, "settings": as_dict(settings)}
    content["versions"] = software_versions()
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def protocols(settings: Any, names: dict[str, str], data) -> dict[str, str]:
    """What each score means, in one sentence."""
    labels = "a random share of the labels" + ("" if data.label_names is None else ", balanced over classes")
    layer = f"layer {settings.layers}" if settings.layers.isdigit() else None
    full = f"{layer} and all below it, under a linear classifier of its pooled features," if layer else "all weights"
    how = {
        "full": f"after fine-tuning {full} on {labels} (AdamW, learning rate {settings.learning_rate:g}, batch "
        f"{settings.per_device_train_batch_size}, {settings.num_train_epochs:g} epochs, at least {settings.min_steps} "
        f"steps, dropout {settings.dropout})",
        "linear": f"of a linear model of the frozen {layer or 'last layer'}, averaged over positions, fitted to "
        f"{labels}",
    }[settings.mode]
    seeds = "one seed" if settings.seeds == 1 else f"mean of {settings.seeds} seeds with the 95 % t interval over them"
    plain = "raw pixels" if data.inputs == ["image"] else "TF-IDF"
    positive = None
    if "f1" in names:
        positive = data.label_names[choose_positive(settings, task_of(settings), data, metrics=names)]
    shown = {metric: metric.replace("_", " ").capitalize() for metric in names}
    shown |= {"f1": f"F1 of the class {positive!r}", "f1_macro": "Macro F1"}
    return {
        name: f"{shown[metric]} on {data.test_source} of {data.name} ({len(data.test):,} "
        f"examples) {how}; {seeds}. {plain}: a linear model of these on the same labels."
        + "".join(f" {note}." for note in data.notes)
        for metric, name in names.items()
    }


def tell(settings: Any, runs: list[dict], *, names: dict[str, str], about: dict) -> tuple[dict, dict]:
    """Prints the means of all runs and where everything is; draws the curve over layers. Returns the means of the
    network itself, {row: {metric: value}}, and why others are missing."""
    out, rows, missing = Path(settings.output_dir), summarise(runs, names=names), reasons(runs, names=names)
    print(f"\n{table(rows)}")
    if about["positive_class"] is not None:
        print(f"{names['f1']}: F1 of the class {about['positive_class']!r}")
    for row, found in missing.items():
        for metric, why in found.items():
            print(f"– {metric} of {row}: {why}")
    print(f"\nevery run: {out / RUNS}")
    if (out / "model").exists():
        print(f"the fine-tuned network: {out / 'model'}")
    if settings.layers == "all":
        draw_layers(rows, name=next(iter(names.values()))).savefig(out / "layers.png", dpi=120)
        print(f"curve over layers: {out / 'layers.png'}")
    whole = [
        {row: {key: value for key, value in found.items() if " layer " not in key} for row, found in part.items()}
        for part in (rows, missing)
    ]
    return whole[0], whole[1]


def tell_and_share(settings: Any, runs: list[dict], encoder: str, *, about: dict, repo_id: str | None) -> None:
    """Report, page, cards and upload of what was measured. about: as of `measure`.

    Raises TrainingError where nothing could be measured of `encoder`, and where there is no network to push.
    """
    out = Path(settings.output_dir)
    rows, missing = tell(settings, runs, names=about["names"], about=about)
    if settings.add_to_card:
        extend_card(settings.model, rows, protocols=about["protocols"], missing=missing)
    own = [value for run in runs if run["row"] == encoder for value in run["scores"].values()]
    if all(value is None or not math.isfinite(value) for value in own):
        raise TrainingError(f"of {encoder} nothing could be measured: {next(iter(missing[encoder].values()))}")
    if (out / "model").exists():
        try_to_show("the card of the network", partial(write_finetuned_card, out, repo_id=repo_id))
    try_to_show("the page", partial(write_page, out))
    if settings.push_to_hub and not (out / "model").exists():
        raise TrainingError(f"the fine-tuning with seed {settings.seed} failed: there is no network to push")
    if settings.push_to_hub:
        print(f"pushed to {push(out / 'model', repo_id, private=settings.hub_private_repo)}")
