"""The processes that were asked for are those that run. Some ways to launch silently start fewer, or strangers."""

from __future__ import annotations

import os

import psutil
import torch
from transformers import TrainingArguments

from hf_replearn.errors import InputError
from hf_replearn.training.sharding import asked_layout


def check_launch(args: TrainingArguments) -> None:
    """Raises InputError when this is one of fewer processes than were asked for, or of another kind."""
    asked = processes_asked()
    if asked != args.world_size:
        raise InputError(
            f"{asked} processes were asked for, but {args.world_size} would train together: on the CPU use "
            "`accelerate launch --config_file recipes/accelerate/cpu.yaml` with --use_cpu, or torchrun"
        )
    asked_layout(args.world_size)


def check_alone() -> None:
    """Raises InputError when this is one of several processes, of which each would do all of the same work."""
    if (asked := processes_asked()) > 1:
        raise InputError(
            f"{asked} processes were launched, and this works in one: start it without a launcher, or with "
            "--num_processes 1"
        )


def check_devices(*, use_cpu: bool) -> None:
    """Raises InputError where this machine has fewer GPUs than processes, which would end in an error of CUDA's."""
    processes, devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.accelerator.device_count()
    if not use_cpu and processes > devices:
        raise InputError(
            f"{processes} processes were asked for on this machine, which has {devices} GPU(s): lower --num_processes "
            "or num_processes of the profile, or give --use_cpu"
        )


def processes_asked() -> int:
    """What torchrun and accelerate's launchers say in WORLD_SIZE; else what the `accelerate launch` that started this
    process was told (on the CPU it starts one, whatever --num_processes says); else the tasks of a bare `srun`."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return _told_to_accelerate() or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))


def _told_to_accelerate() -> int | None:
    parent = psutil.Process().parent()
    try:
        words = parent.cmdline() if parent is not None else []
    except psutil.Error:  # another user's
        return None
    place = next((i for i, word in enumerate(words) if os.path.basename(word) == "accelerate"), None)
    if "accelerate.commands.launch" in words:
        words = words[words.index("accelerate.commands.launch") + 1 :]
    elif place is not None and words[place + 1 : place + 2] == ["launch"]:
        words = words[place + 2 :]
    else:
        return None
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    told = launch_command_parser().parse_args(words)
    if told.num_processes is not None:
        return told.num_processes
    if told.config_file is None and not os.path.isfile(default_config_file):
        return None
    return load_config_from_file(told.config_file).num_processes
