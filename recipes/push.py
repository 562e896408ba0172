"""Upload what a finished run left: when its own push failed, or as an afterthought.

    hf-replearn push out/mine --hub_model_id you/name --license apache-2.0

The folder is what a run left, its report and card included. What goes is listed in hf_replearn/sharing/hub.py; other
files in the folder are named, and stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hf_replearn.errors import InputError
from hf_replearn.settings import CardSettings, as_dict, run, setting


@dataclass(kw_only=True)
class PushSettings(CardSettings):
    folder: str = setting(..., "what a run left, a folder with a report.json", section="run", positional=True)
    hub_model_id: str | None = setting(None, "repository to push to; none: your name and the folder's", section="run")
    hub_private_repo: bool = setting(False, "make the repository private", section="run")


def main(settings: PushSettings) -> None:
    """Upload what a finished run left."""
    from hf_replearn.sharing.card import write_card
    from hf_replearn.sharing.hub import check_token, check_weights, push
    from hf_replearn.sharing.metadata import check_metadata, chosen
    from hf_replearn.sharing.readme import read_readme
    from hf_replearn.sharing.report import Report, load

    folder = Path(settings.folder)
    report = load(folder)
    if not isinstance(report, Report):
        raise InputError(f"{folder} holds an evaluation, and no encoder to push")
    check_weights(folder)
    given = {name: value for name in ("license", "language", "tags") if (value := as_dict(settings)[name])}
    check_metadata(given, read_readme(folder))
    report = report.without_local_paths()
    report.repo_id = check_token(folder, settings.hub_model_id, asked_by="push")
    report.settings |= given
    try:
        report.save(folder)
        write_card(report, folder, given=chosen(given))
    except OSError as error:
        raise InputError(f"the card cannot be written into {folder}: {error.strerror}") from error
    print(f"pushed to {push(folder, report.repo_id, private=settings.hub_private_repo)}")


if __name__ == "__main__":
    run(main, PushSettings, prog="push")
