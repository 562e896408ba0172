"""Push of a finished run to the Hub, and the check before training that it will be possible."""

import time
import warnings
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from hf_replearn.errors import InputError, NotPushed

# What may leave is listed, so that nothing unforeseen does: no pickle, no optimizer state, no stray log, no .env.
PUSHED = ["*.safetensors", "*.json", "*.jsonl", "*.yaml", "*.md", "*.html", "*.png", "pretraining/*.py"]
PAUSES = (2, 8, 30, 120)  # seconds before each further attempt


def check_token(folder: str | Path, repo_id: str | None = None) -> str:
    """Returns the full repository id, "owner/name", to which a run in `folder` will be pushed. Call it before training.

    repo_id: "owner/name", or "name" in the user's own namespace; None takes the name of the folder.
    Raises InputError without a network, without a valid token that may write (what a fine-grained token may do is
    known only to the Hub), or when the name cannot be that of a repository.
    """
    repo_id = repo_id or Path(folder).resolve().name
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"cannot push to {repo_id!r}: name the repository with --hub_model_id. {error}") from error
    if constants.HF_HUB_OFFLINE:
        raise InputError("cannot push while HF_HUB_OFFLINE=1: unset it, or leave out --push_to_hub")
    if get_token() is None:
        raise InputError("--push_to_hub needs a token: run `hf auth login` or set HF_TOKEN")
    try:
        user = HfApi().whoami()
    except HfHubHTTPError as error:
        refusal = f"{constants.ENDPOINT} refuses the token (status {error.response.status_code})"
        raise InputError(f"--push_to_hub: {refusal}: run `hf auth login` or set HF_TOKEN") from error
    except HTTPError as error:
        raise InputError(f"--push_to_hub cannot reach {constants.ENDPOINT}: {error}") from error
    if user["auth"].get("accessToken", {}).get("role") == "read":
        raise InputError("--push_to_hub needs a token that may write, this one may only read: run `hf auth login`")
    return repo_id if "/" in repo_id else f"{user['name']}/{repo_id}"


def push(folder: str | Path, repo_id: str, *, private: bool | None = None) -> str:
    """Uploads what a run leaves in `folder`, without its checkpoints, and returns the address of the repository.

    repo_id: "owner/name", as `check_token` returned it before training.
    private: for a new repository; None takes the default of its owner.
    An overloaded Hub and a broken connection are tried again after pauses. Raises NotPushed, which names the command
    that pushes later, when they last, or when the Hub refuses.
    """
    for pause in (*PAUSES, None):
        try:
            return _push(folder, repo_id, private)
        except HTTPError as error:  # a file that is missing here is none
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            reason = f"status {status}" if status else " ".join(str(error).split()) or type(error).__name__
            if pause is None or (status is not None and status < 500 and status not in (408, 429)):
                raise NotPushed(
                    f"{constants.ENDPOINT} did not take {repo_id} ({reason}). All of it is in {folder}; push it later: "
                    f"hf-replearn push {folder} --hub_model_id {repo_id}{' --hub_private_repo' * bool(private)}"
                ) from error
            warnings.warn(f"push to {repo_id}: {reason}; tried again in {pause} s", stacklevel=2)
            time.sleep(pause)


def _push(folder: str | Path, repo_id: str, private: bool | None) -> str:
    api = HfApi()
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        allow_patterns=PUSHED,
        ignore_patterns="*checkpoint-*",
        commit_message="Encoder, report and card",
    )
    return str(url)
