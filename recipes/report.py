"""The page of a run, or one page that puts several beside one another: curves, scores, intervals.

    hf-replearn report out/mine
    hf-replearn report out/simclr out/simclr_long out/simclr_finetuned --output out/comparison.html

Folders are what pretraining, evaluate, finetune and prompt left. Of text runs the loss on held-out text is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hf_replearn.errors import InputError
from hf_replearn.settings import run, setting

ALONE, TOGETHER = "report.html", "comparison.html"


@dataclass(kw_only=True)
class ReportSettings:
    folders: tuple[str, ...] = setting(
        ..., "at least one folder that pretraining, evaluate, finetune or prompt left", section="run", positional=True
    )
    output: str | None = setting(
        None, f"the page; none: {ALONE} in the folder, or, of several, {TOGETHER} here", section="run"
    )


def main(settings: ReportSettings) -> None:
    """The page of a run, or one page that puts several beside one another: curves, scores, intervals."""
    from hf_replearn.sharing.page import write_comparison, write_page

    path = Path(settings.output or (Path(settings.folders[0], ALONE) if len(settings.folders) == 1 else TOGETHER))
    try:
        if path.is_file() and b"<!DOCTYPE html>" not in path.read_bytes()[:100]:
            raise InputError(f"{path} is there and no page: choose another --output")
        if len(settings.folders) == 1:
            write_page(settings.folders[0], path)
        else:
            write_comparison(settings.folders, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another --output") from error
    print(f"page: {path}")


if __name__ == "__main__":
    run(main, ReportSettings, prog="report")
