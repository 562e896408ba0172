"""One page that puts runs and evaluations beside one another: curves, scores, intervals.

    hf-replearn report out/simclr out/simclr_long --output out/comparison.html
    hf-replearn report out/mine

Of one folder it writes that folder's own page, `report.html`, anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_replearn.errors import InputError
from hf_replearn.settings import run, setting


@dataclass(kw_only=True)
class ReportSettings:
    folders: tuple[str, ...] = setting(
        ..., "what pretraining or evaluate left: folders with a report.json", section="run", positional=True
    )
    output: str = setting("comparison.html", "the page, of several folders", section="run")


def main(settings: ReportSettings) -> None:
    """One page that puts runs and evaluations beside one another: curves, scores, intervals."""
    from hf_replearn.sharing.page import write_comparison, write_page

    try:
        if len(settings.folders) == 1:
            path = write_page(settings.folders[0])
        else:
            path = write_comparison(settings.folders, settings.output)
    except OSError as error:
        raise InputError(f"the page cannot be written: {error}") from error
    print(f"page: {path}")


if __name__ == "__main__":
    run(main, ReportSettings, prog="report")
