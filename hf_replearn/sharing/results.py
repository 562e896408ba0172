"""The last step of every run: what was measured is saved first, and then shown, each part by itself."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from hf_replearn.sharing.card import write_card, write_eval_results
from hf_replearn.sharing.curves import FILE as CURVES
from hf_replearn.sharing.curves import write_curves
from hf_replearn.sharing.metadata import check_metadata
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.readme import read_readme
from hf_replearn.sharing.report import Report
from hf_replearn.sharing.show import try_to_show


def check_sharing(settings: Any) -> str | None:
    """Before training: the repository that the run will be pushed to, or None without `push_to_hub`.

    settings: with license, language and tags, and where to push. Raises InputError for what the Hub would not take, and
    for a README.md in the folder that cannot be written into or says otherwise.
    """
    from hf_replearn.sharing.hub import check_token

    folder = Path(settings.output_dir)
    check_metadata(dataclasses.asdict(settings), read_readme(folder))
    return check_token(folder, settings.hub_model_id) if settings.push_to_hub else None


def write_results(report: Report, folder: str | Path, *, repo_id: str | None = None) -> Report:
    """Writes the report, then what shows it: curves, page, card, results for the Hub; these may fail, with a word.
    Returns the report as it was written, without local paths.

    repo_id: as `check_sharing` returned it.
    """
    report = report.without_local_paths()
    report.repo_id = repo_id or report.repo_id
    report.save(folder)
    if try_to_show(f"the curves ({CURVES})", partial(write_curves, folder))[0]:
        report.figures = {CURVES: "Loss over the steps of training."} | report.figures
        report.save(folder)
    try_to_show("the page (report.html)", partial(write_page, folder))
    try_to_show("the card (README.md)", partial(write_card, report, folder))
    try_to_show("the results for the Hub (.eval_results)", partial(write_eval_results, report, folder))
    return report
