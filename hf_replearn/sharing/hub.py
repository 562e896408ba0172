"""Push of a finished run to the Hub, and the check before training that it will be possible."""

from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from hf_replearn.errors import InputError

# What may leave is listed, so that nothing unforeseen does: no pickle, no optimizer state, no stray log, no .env.
PUSHED = ["*.safetensors", "*.json", "*.jsonl", "*.yaml", "*.md", "*.html", "*.png", "pretraining/*.py"]


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
    """
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
