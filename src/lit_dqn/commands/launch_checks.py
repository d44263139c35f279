"""What is refused before a run is built, and what is said of one that failed at once."""

import os
import re
from typing import Any

import lightning
from lightning.pytorch.accelerators import AcceleratorRegistry

from lit_dqn.errors import ConfigError


def check_accelerator(name: Any) -> None:
    """Refuse a device that this machine does not have.

    Args:
        name: as Lightning's `accelerator`; an object has been asked already.

    Raises:
        ConfigError: naming those that it has.

    """
    there = [key for key, known in AcceleratorRegistry.items() if known["accelerator"].is_available()]
    there += ["gpu"] if {"cuda", "mps"} & set(there) else []
    if isinstance(name, str) and name not in ("auto", *there):
        raise ConfigError(
            f"trainer.accelerator: {name} is not to be had here, where there is {', '.join(there)}; set "
            "--trainer.accelerator auto."
        )


def check_alone() -> None:
    """Refuse to be one of several processes that would each make the same run, in the same folder."""
    launchers = [("WORLD_SIZE", "RANK", "without torchrun")]
    if os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):  # there a shell has the tasks, and not we
        launchers.append(("SLURM_NTASKS", "SLURM_PROCID", "by srun --ntasks=1"))
    for size, rank, remedy in launchers:
        if os.environ.get(size, "1") != "1":
            raise ConfigError(
                f"{size}: {os.environ[size]} processes were started together (this one has {rank} "
                f"{os.environ.get(rank, '0')}), and each would make the same run, for lit_dqn trains on one device; "
                f"start it {remedy}."
            )


def check_metrics(error: Exception, trainer: lightning.Trainer) -> None:
    """Say of a failure of EarlyStopping which metrics it could have watched.

    Args:
        error: that ended the run.
        trainer: of the run.

    Raises:
        ConfigError: if EarlyStopping was to watch a metric that there is not.

    """
    if str(error).startswith("Early stopping conditioned on metric"):
        there, unknown = sorted(trainer.callback_metrics), re.search(r"`(.+?)`", str(error))
        raise ConfigError(
            f"trainer.callbacks: EarlyStopping watches {unknown and unknown[1]}, and there is no such metric; give its "
            f"monitor one of {', '.join(there)}."
        ) from error
