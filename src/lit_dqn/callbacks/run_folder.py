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
    """The folder of a run: that of its first logger with a folder per version; None if there is none."""
    logger = _logger_with_a_folder(trainer)
    return None if logger is None else Path(logger.log_dir)


def save_loggers(trainer: lightning.Trainer) -> None:
    """Let all loggers write what they hold."""
    for logger in trainer.loggers:
        logger.save()


def check_has_folder(trainer: lightning.Trainer) -> None:
    """Refuse to keep checkpoints of a run that has no folder.

    Raises:
        ConfigError: names the loggers that have one.

    """
    tries: bool | int = trainer.fast_dev_run  # type: ignore[attr-defined]
    if run_folder(trainer) is None and not tries:
        raise ConfigError(
            "checkpoints: they are kept in the folder of a logger, and this Trainer has no logger with one; give it "
            "logger=TensorBoardLogger('lightning_logs'), or a CSVLogger."
        )


def make_run_folder(trainer: lightning.Trainer, version_is_chosen: bool) -> None:
    """Create the folder of a new run, which no other process creates at the same moment.

    Args:
        trainer: its logger determines the folder.
        version_is_chosen: whether the user chose the version; otherwise it is the next free one.

    Raises:
        ConfigError: if the chosen one exists.

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
            logger._version = None  # so that it looks for a free one again


def already_there(folder: Path) -> ConfigError:
    """The message for a new run that would overwrite another."""
    return ConfigError(
        f"trainer.logger.init_args.version: the run {folder} exists already; resume it by --ckpt_path last, or leave "
        "the version out."
    )


def lock_run_folder(folder: Path) -> Lock:
    """Lock a run's folder for writing.

    Raises:
        ConfigError: if another process holds the lock.

    """
    durable.make_folder(folder)
    lock = Lock(folder / LOCK)
    lock.acquire(f"the run {folder} is being trained by {{holder}}; wait for its end, or end it, then resume.")
    return lock


def check_is_shared(folder: Path, rank: int) -> None:
    """Refuse a run whose processes do not share a folder, because each writes its part of a checkpoint there.

    Args:
        folder: of the run.
        rank: of this process; the first one has created the folder.

    Raises:
        ConfigError: if it does not appear within some seconds, which a network file system may need.

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
    """Create the folder, or the first of `<folder>_2`, `<folder>_3`, ... that does not exist.

    Args:
        folder: nothing in it is overwritten.
        key: the option that sets another folder.

    Raises:
        ConfigError: if that fails.

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
