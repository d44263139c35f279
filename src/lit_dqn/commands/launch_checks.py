"""Checks before a run is built, and messages for one that fails at once."""

import re
from typing import Any

import lightning
from lightning.pytorch.accelerators import AcceleratorRegistry

from lit_dqn.errors import ConfigError


def check_accelerator(name: Any) -> None:
    """Refuse a device that this machine does not have.

    Args:
        name: as Lightning's `accelerator`; an object has already been checked.

    Raises:
        ConfigError: names the devices that it has.

    """
    there = [key for key, known in AcceleratorRegistry.items() if known["accelerator"].is_available()]
    there += ["gpu"] if {"cuda", "mps"} & set(there) else []
    if isinstance(name, str) and name not in ("auto", *there):
        raise ConfigError(
            f"trainer.accelerator: {name} is not available here, where there is {', '.join(there)}; set "
            "--trainer.accelerator auto."
        )


def check_metrics(error: Exception, trainer: lightning.Trainer) -> None:
    """If EarlyStopping failed, name the metrics that it can watch.

    Args:
        error: the error that ended the run.
        trainer: of the run.

    Raises:
        ConfigError: if EarlyStopping watches a metric that does not exist.

    """
    if str(error).startswith("Early stopping conditioned on metric"):
        there, unknown = sorted(trainer.callback_metrics), re.search(r"`(.+?)`", str(error))
        raise ConfigError(
            f"trainer.callbacks: EarlyStopping watches {unknown and unknown[1]}, and there is no such metric; give its "
            f"monitor one of {', '.join(there)}."
        ) from error
