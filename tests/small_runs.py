"""Settings with which every method on images runs in a second or two, and what is left out of such a run."""

import pytest

WIDTHS = ("projection_dim", "projection_hidden", "predictor_hidden", "head_hidden", "slices")
VIT = "{'patch_size':4,'embed_dim':16,'depth':2,'num_heads':2}"
SMALL = ["--backbone", "resnet18", "--backbone_args", "{'layers': [1, 1, 1, 1], 'channels': [8, 8, 16, 16]}"]
SMALL += ["--image_size", "16", "--stem", "cifar"]
OWN = {  # settings that they cannot do without; bf16: oneDNN's gradients of maps of one pixel
    "context-prediction": "--image_size 100 --patch_size 32 --gap 0 --stem imagenet --bf16 false",
    "cpc": "--image_size 32 --stem imagenet --context_layers 1 --context_hidden 16 --bf16 false",
    "mae": f"--backbone vit_tiny_patch16_224 --backbone_args {VIT} --stem imagenet",
}
LIKE_OTHERS = {"barlow-twins", "dcl", "sigreg", "simsiam", "supcon", "vicreg"}  # SimCLR's network with another loss


def slow_where_like_others(runs: list[tuple[str, ...]]) -> list:
    """Of commands with arguments: parameters, of which those that repeat another's ways are slow."""
    return [pytest.param(run, marks=pytest.mark.slow) if run[0] in LIKE_OTHERS else run for run in runs]


def small(command: str, settings: type) -> list[str]:
    """Of a command with these settings: a small encoder, a narrow head, small images."""
    fields = settings.__dataclass_fields__
    if "backbone" not in fields:
        return ["--image_size", "8", "--colours", "8", "--size", "tiny"]
    augmentation = ["--augmentation", "cifar"] if "augmentation" in fields else []
    narrow = [part for name in WIDTHS if name in fields for part in (f"--{name}", "16")]
    return [*SMALL, *augmentation, *narrow, *OWN.get(command, "").split()]


def unshown(patch) -> None:
    """Of a run so small the pictures, the card and the page take longer than all else; other tests look at them.

    patch: a pytest.MonkeyPatch, which a process that was forked for a run need not undo.
    """
    for shown in ("augmentation.draw_views", "pretraining.worth.draw_neighbours"):
        patch.setattr(f"hf_replearn.{shown}", lambda *given, **more: None)
    for shown in ("curves", "page", "card"):
        patch.setattr(f"hf_replearn.sharing.results.write_{shown}", lambda *given: False)
