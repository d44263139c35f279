"""Checks before a run is built, and messages for one that fails at once."""

import logging
import re
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from jsonargparse import Namespace
from lightning.pytorch.accelerators import AcceleratorRegistry

from lit_dqn.callbacks.results import check_results_of
from lit_dqn.errors import ConfigError
from lit_dqn.saving import durable
from lit_dqn.saving.find import Found

log = logging.getLogger("lit_dqn")

SLOW = 2.0
"""How many times the time of float32 bfloat16 may take before a run is warned."""


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


def warn_of_slow_bfloat16(trainer: lightning.Trainer) -> None:
    """Warn if a run computes in bfloat16 on a CPU that is slow with it; most laptops have no instructions for it.

    Args:
        trainer: of the run.

    """
    if trainer.strategy.root_device.type != "cpu" or not trainer.precision.startswith("bf16"):
        return
    times = _seconds_of_product(torch.bfloat16) / _seconds_of_product(torch.float32)
    if times > SLOW:
        log.warning(
            "trainer.precision: %s takes %.0f times as long as float32 for a product of matrices on this CPU; a run "
            "is faster with --trainer.precision 32-true",
            trainer.precision,
            times,
        )


def _seconds_of_product(dtype: torch.dtype) -> float:
    """The shortest of some measurements of a dense layer's size."""
    left, right = torch.ones(32, 1024, dtype=dtype), torch.ones(1024, 128, dtype=dtype)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


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


def check_output(verb: str, config: Namespace, runs: Path, resumed: Found | None) -> None:
    """Refuse an output folder that cannot be written to, before the work starts.

    Args:
        verb: such as `fit`.
        config: of the verb.
        runs: the folder that holds the versions of the run.
        resumed: the checkpoint that is resumed, tested or exported.

    Raises:
        ConfigError: names the key, or the file that cannot be written.

    """
    if verb == "test" and resumed is not None:
        check_results_of(resumed.path)
    key, folder = {
        "fit": ("trainer.logger.init_args.save_dir", None if config.get("plan") else runs),
        "export": ("output_dir", Path(config.output_dir) if config.get("output_dir") else None),
    }.get(verb, ("", None))
    try:
        if folder is not None:
            durable.check_can_be_made(folder)
    except OSError as error:
        raise ConfigError(
            f"{key}: {folder} cannot be written to ({error.strerror or error}); give another folder."
        ) from error
