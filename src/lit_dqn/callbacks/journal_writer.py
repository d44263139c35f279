import contextlib
import itertools
import logging
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from lit_dqn.callbacks.run_folder import run_folder
from lit_dqn.errors import ConfigError
from lit_dqn.playing.asynchronous import Asynchronous
from lit_dqn.playing.journal import HEADER, Arrival, arrivals_of, lines_of
from lit_dqn.saving import durable
from lit_dqn.saving.layout import JOURNAL, run_of_checkpoint

log = logging.getLogger("lit_dqn")

WRITE_SECONDS = 0.25
"""The shortest time between two writes: opening a file in each training step would take too long."""


class JournalWriter(Callback):
    """Writes the arrivals of asynchronous play to `journal.csv` in the run's folder.

    A checkpoint is written only after all arrivals that it counts. On resume the journal is cut at the checkpoint, and
    copied if the run continues in another folder.
    """

    def __init__(self) -> None:
        self._written_at = 0.0  # on the clock of `time.monotonic`
        self._told = False  # that it cannot be written

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin the file; on resume, drop the arrivals after the checkpoint."""
        asynchronous, path = _asynchronous(trainer), _path(trainer)
        if asynchronous is None or path is None:
            return
        source, known = path, list[Arrival]()
        if not path.is_file() and trainer.ckpt_path is not None:
            source = (run_of_checkpoint(Path(trainer.ckpt_path)) or path.parent) / JOURNAL
        with contextlib.suppress(ConfigError):  # from a damaged line on it makes no run again
            for arrival in itertools.islice(arrivals_of(source), asynchronous.arrivals):
                known.append(arrival)
        if len(known) < asynchronous.arrivals:
            log.warning(
                "%s has %d of the %d arrivals before this checkpoint: the run goes on, but cannot be made again by it",
                source,
                len(known),
                asynchronous.arrivals,
            )
        durable.replace_text(path, f"{HEADER}\n{lines_of(known)}")

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any) -> None:
        """Write, if it is time; what cannot be written now is tried again later."""
        if time.monotonic() - self._written_at < WRITE_SECONDS:
            return
        self._written_at = time.monotonic()
        try:
            self._write(trainer)
        except OSError as error:
            if not self._told:
                log.warning(
                    "%s cannot be written: %s. The run continues, and tries again; it saves nothing until then.",
                    _path(trainer),
                    error,
                )
            self._told = True
        else:
            self._told = False

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """What the checkpoint counts as arrived shall be found, also if the machine fails after it.

        Raises:
            OSError: if it cannot be written, so that nothing is saved.

        """
        self._write(trainer)
        path = _path(trainer)
        if path is not None and _asynchronous(trainer) is not None:
            durable.sync_file(path)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the last arrivals."""
        self._written_at = 0.0
        self.on_train_batch_end(trainer, pl_module)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Likewise."""
        self.on_train_end(trainer, pl_module)

    @staticmethod
    def _write(trainer: lightning.Trainer) -> None:
        asynchronous, path = _asynchronous(trainer), _path(trainer)
        if asynchronous is None or not asynchronous.new:
            return
        if path is not None:
            durable.append_text(path, lines_of(asynchronous.new))
        asynchronous.new.clear()


def _asynchronous(trainer: lightning.Trainer) -> Asynchronous | None:
    return getattr(trainer.datamodule, "asynchronous", None)  # type: ignore[attr-defined]


def _path(trainer: lightning.Trainer) -> Path | None:
    folder = run_folder(trainer)
    return None if folder is None else folder / JOURNAL
