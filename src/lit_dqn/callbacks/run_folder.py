import socket
import time
from pathlib import Path

import lightning
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lit_dqn.errors import ConfigError
from lit_dqn.saving import durable
from lit_dqn.saving.layout import LOCK
from lit_dqn.saving.lock import Lock

SHOWN_SECONDS = 15.0


def run_folder(trainer: lightning.Trainer) -> Path | None:
    """The folder of a run: that of its first logger which has one for each version; None if none has."""
    logger = _logger_with_a_folder(trainer)
    return None if logger is None else Path(logger.log_dir)


def make_run_folder(trainer: lightning.Trainer, version_is_chosen: bool) -> None:
    """Make the folder of a new run, one that no other process makes at the same moment.

    Args:
        trainer: whose logger says where.
        version_is_chosen: by the user; otherwise it is the next one that is free.

    Raises:
        ConfigError: if the chosen one is there already.

    """
    logger = _logger_with_a_folder(trainer)
    while logger is not None:
        folder = Path(logger.log_dir)
        try:
            durable.claim_folder(folder)
            return
        except FileExistsError:
            if version_is_chosen:
                raise already_there(folder) from None
            logger._version = None  # it asks again which one is free


def already_there(folder: Path) -> ConfigError:
    """What is said of a new run that would write over another."""
    return ConfigError(
        f"trainer.logger.init_args.version: the run {folder} is there already; resume it by --ckpt_path last, or leave "
        "the version out."
    )


def lock_run_folder(folder: Path) -> Lock:
    """A lock on a run's folder, for whoever writes there.

    Raises:
        ConfigError: if another process writes there.

    """
    durable.make_folder(folder)
    lock = Lock(folder / LOCK)
    lock.acquire(f"the run {folder} is being trained by {{holder}}; wait for its end, or end it, then resume.")
    return lock


def check_is_shared(folder: Path, rank: int) -> None:
    """Refuse a run whose processes do not see one folder, for each writes its part of a checkpoint there.

    Args:
        folder: of the run.
        rank: of this process; the first one has made it.

    Raises:
        ConfigError: if it is not there, also after some seconds, which a network may take to show it.

    """
    until = time.monotonic() + SHOWN_SECONDS
    while rank > 0 and not folder.is_dir():
        if time.monotonic() > until:
            raise ConfigError(
                f"trainer.logger.init_args.save_dir: process {rank} on {socket.gethostname()} does not see the run's "
                f"folder {folder.absolute()}; give one that all machines share."
            )
        time.sleep(0.1)


def _logger_with_a_folder(trainer: lightning.Trainer) -> TensorBoardLogger | CSVLogger | None:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger | CSVLogger):
            return logger
    return None


def make_new_folder(folder: Path, key: str) -> Path:
    """Make the folder, or the first of `<folder>_2`, `<folder>_3`, ... that is not there yet.

    Args:
        folder: nothing in it is written over.
        key: of the command line, which names another.

    Raises:
        ConfigError: if that cannot be done.

    """
    numbered, number = folder, 1
    try:
        while True:
            try:
                durable.claim_folder(numbered)
            except FileExistsError:
                number += 1
                numbered = folder.with_name(f"{folder.name}_{number}")
            else:
                return numbered
    except OSError as error:
        raise ConfigError(
            f"{key}: {folder} cannot be made ({error.strerror}); set --{key} to a folder that you may write to."
        ) from error
