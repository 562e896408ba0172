"""What a run leaves, as a notebook sees it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hf_replearn.sharing.report import Report, load


@dataclass(frozen=True)
class Run(os.PathLike):
    """The folder of a run that has ended; it stands wherever a path may stand."""

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def report(self) -> Report:
        """What was measured, as in `report.json`."""
        return load(self.folder)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})\n{self.report.table()}"
