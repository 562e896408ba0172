"""Upload what a finished run left: when its own push failed, or as an afterthought.

    hf-replearn push out/mine --hub_model_id you/name

The folder is what a run left, its report and card included.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hf_replearn.errors import InputError
from hf_replearn.settings import run, setting


@dataclass(kw_only=True)
class PushSettings:
    folder: str = setting(..., "what a run left: a folder with a report.json", section="run", positional=True)
    hub_model_id: str | None = setting(None, "repository to push to; none: your name and the folder's", section="run")
    hub_private_repo: bool = setting(False, "make the repository private", section="run")


def main(settings: PushSettings) -> None:
    """Upload what a finished run left."""
    from hf_replearn.sharing.card import card
    from hf_replearn.sharing.hub import check_token, push
    from hf_replearn.sharing.report import Report, load

    folder = Path(settings.folder)
    report = load(folder)
    if not isinstance(report, Report):
        raise InputError(f"{folder} holds an evaluation, and no encoder to push")
    repo_id = check_token(folder, settings.hub_model_id)
    (folder / "README.md").write_text(card(report, folder, repo_id=repo_id), encoding="utf-8")
    print(f"pushed to {push(folder, repo_id, private=settings.hub_private_repo)}")


if __name__ == "__main__":
    run(main, PushSettings, prog="push")
