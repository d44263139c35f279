import logging
import os
import signal
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch import callbacks

from lit_dqn.callbacks.datamodule import collector_of, data_of
from lit_dqn.callbacks.run_folder import check_has_folder, check_is_shared, lock_run_folder, run_folder, save_loggers
from lit_dqn.errors import SIGNALS, ConfigError, Interrupted, TrainingError
from lit_dqn.ranks import Ranks
from lit_dqn.saving.contents import Contents
from lit_dqn.saving.folder import CheckpointFolder
from lit_dqn.saving.io import ReplayCheckpointIO
from lit_dqn.saving.layout import BEST, CHECKPOINTS, LAST, checkpoints_of_versions, env_step_of
from lit_dqn.saving.lock import Lock

log = logging.getLogger("lit_dqn")


class Checkpoints(callbacks.Checkpoint):
    """Keeps the last checkpoints, for resuming, and the best one, `best.ckpt`.

    The best is the one with the highest score: `eval/mean_reward`, or for `LitTD` the negative error of V. Both are
    written after an evaluation, so that the score belongs to the saved weights; of two equal scores the newer
    checkpoint is kept. The last is also written between evaluations, when the run ends, and when a signal ends it:
    after SIGINT (Ctrl-C), SIGTERM or SIGUSR1 the run finishes its chunk first; a second SIGINT ends the run at once.

    A save that fails does not end the run: it is reported and tried again after the next interval.

    Args:
        every_n_epochs: interval of the last checkpoint, in epochs.
        keep_last: number of checkpoints kept in addition to the best; `last.ckpt` is a second name of the newest.
        save_replay: whether the replay is saved; without it, a resumed run fills it again, and is not exact.
        max_failed_saves: number of consecutive saves that may fail; one more failure ends the run.

    Raises:
        ConfigError: if a number is out of its range.

    """

    def __init__(
        self, every_n_epochs: int = 1, keep_last: int = 2, save_replay: bool = True, max_failed_saves: int = 3
    ) -> None:
        for key, value, least in (
            ("every_n_epochs", every_n_epochs, "1 epoch"),
            ("keep_last", keep_last, "1 checkpoint"),
        ):
            if value < 1:
                raise ConfigError(f"checkpoints.{key}: {value} must be at least {least}.")
        if max_failed_saves < 0:
            raise ConfigError(f"checkpoints.max_failed_saves: {max_failed_saves} must not be negative.")
        self.every_n_epochs = every_n_epochs
        self.keep_last = keep_last
        self.save_replay = save_replay
        self.max_failed_saves = max_failed_saves
        self.best_grade = float("-inf")
        self.best_env_step: int | None = None
        self.session = 0
        self.needs_folder = True
        self._lock: Lock | None = None
        self._kept: list[Path] = []  # oldest first
        self._written: set[Path] = set()  # by this process
        self._saved_at: tuple[int, int] | None = None  # update, env step
        self._failed_saves = 0
        self._signal: int | None = None
        self._folder_of_first: Path | None = None  # the folder of the other processes of a run, which have no logger

    def folder(self, trainer: lightning.Trainer) -> Path | None:
        """`checkpoints/` in the run's folder; None for a run without a logger, which has no folder."""
        folder = run_folder(trainer)
        return self._folder_of_first if folder is None else folder / CHECKPOINTS

    @property
    def last_saved(self) -> Path | None:
        """The newest checkpoint of this run."""
        return self._kept[-1] if self._kept else None

    @property
    def best_model_path(self) -> str:
        """`best.ckpt` of this run, which Lightning means by `ckpt_path="best"`; "" while there is none."""
        best = None if self._folder_of_first is None else self._folder_of_first / BEST
        return str(best) if best is not None and best.exists() else ""

    def lock_folder(self, trainer: lightning.Trainer) -> None:
        """Lock the run's folder until the end of this fit, so that no other process writes to it.

        Raises:
            ConfigError: if another process holds the lock.

        """
        folder = run_folder(trainer)
        if folder is not None and self._lock is None:
            self._lock = lock_run_folder(folder)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # --- hooks ---

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Lock the folder, unless it is locked.

        Raises:
            ConfigError: if the run has no folder, or another process holds the lock.

        """
        if stage == "fit" and trainer.is_global_zero:
            if self.needs_folder:
                check_has_folder(trainer)
            self.lock_folder(trainer)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Release the folder's lock."""
        self._release()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Release the folder's lock; Lightning skips teardown after an exception."""
        self._release()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Read the folder, and handle signals."""
        ranks, self._folder_of_first = Ranks.now(), None
        self._folder_of_first = folder = ranks.on_first(lambda: self.folder(trainer))
        if folder is not None:
            ranks.together(partial(check_is_shared, folder.parent, ranks.rank))
        self._signal, self._kept, self._written = None, [], set()
        data_of(trainer).stopped = False
        if folder is not None and ranks.rank == 0:
            env_step = collector_of(trainer).env_step
            # Checkpoints ahead of the resumed one are damaged, or belong to a future that will differ.
            self._kept = [path for path in CheckpointFolder(folder).numbered() if env_step_of(path) <= env_step]
            versions = [CheckpointFolder(path) for path in checkpoints_of_versions(folder.parent.parent)]
            self.session = 1 + max([self.session, *(version.session() or 0 for version in versions)])
            if trainer.ckpt_path is not None and not self._find_best(Path(trainer.ckpt_path), folder, env_step):
                self.best_grade, self.best_env_step = float("-inf"), None
        self.best_grade, self.best_env_step = ranks.on_first(lambda: (self.best_grade, self.best_env_step))
        self._listen(trainer)

    def _find_best(self, resumed: Path, folder: Path, env_step: int) -> bool:
        """Point `best.ckpt` to the best checkpoint as of the resumed one; return whether there is one."""
        # If the resumed one is the best, its process may have been killed before `best.ckpt` pointed to it.
        best = resumed if self.best_env_step == env_step else resumed.with_name(BEST)
        if (folder / BEST).exists() and (best.name == BEST or best.samefile(folder / BEST)):
            return True
        try:
            return CheckpointFolder(folder).bring_best(best, env_step)
        except OSError as error:
            log.warning("the best checkpoint so far stays where it is: %s", error)
            return False

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any) -> None:
        """End the run after a signal, and evaluate the last weights if a limit ends it."""
        if trainer.should_stop:
            # Lightning evaluates a stopped run only if its epoch was due for it. At this point everything that can stop
            # a run has run: Lightning orders callbacks that save behind all others, its timer for max_time included.
            trainer.check_val_every_n_epoch = 1
        self._end_if_asked(trainer)

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        """End the run after a signal; the resumed run makes the evaluation."""
        if trainer.state.fn == "fit":
            self._end_if_asked(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the weights if they are the best so far."""
        folder = self.folder(trainer)
        if trainer.state.fn != "fit" or trainer.sanity_checking or folder is None:
            return
        agent: Any = pl_module
        grade = agent.grade(trainer.callback_metrics)
        before = self.best_grade, self.best_env_step
        if grade is not None and grade >= self.best_grade:
            self.best_grade, self.best_env_step = grade, self._position(trainer)[1]
            if not self._save(trainer, also_as=BEST):
                self.best_grade, self.best_env_step = before

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the last checkpoint if it is due."""
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save_last(trainer)
        self._end_if_asked(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the last checkpoint of the finished run."""
        self._save_last(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remove the replay if it is not to be saved."""
        if not self.save_replay:
            Contents(checkpoint).drop_replay()

    def state_dict(self) -> dict[str, Any]:
        """The best score so far and its env step, and the number of sessions, which orders checkpoints."""
        return {"best_grade": self.best_grade, "best_env_step": self.best_env_step, "session": self.session}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.best_grade = state_dict["best_grade"]
        self.best_env_step = state_dict["best_env_step"]
        self.session = state_dict["session"]

    # --- signals ---

    def _listen(self, trainer: lightning.Trainer) -> None:
        # At the end of a fit Lightning restores the handlers that it found at its start.
        if threading.current_thread() is not threading.main_thread():
            return
        saves = self.folder(trainer) is not None
        ends = "saves its state after this chunk and ends" if saves else "ends after this chunk"

        def note(number: int, frame: FrameType | None) -> None:
            if number == signal.SIGINT and self._signal == signal.SIGINT:
                raise KeyboardInterrupt
            self._signal = number
            data_of(trainer).stopped = True
            hint = "; Ctrl-C again ends it at once" if number == signal.SIGINT else ""
            sentence = f"{signal.Signals(number).name}: the run {ends}{hint}\n"
            # Not through the log: the signal may have interrupted a write to it.
            os.write(2, sentence.encode())

        for number in SIGNALS:
            signal.signal(number, note)

    def _end_if_asked(self, trainer: lightning.Trainer) -> None:
        number = Ranks.now().highest(self._signal or 0)
        if number:
            self._save_last(trainer)
            raise Interrupted(number)

    # --- saving ---

    def _save_last(self, trainer: lightning.Trainer) -> None:
        if self.folder(trainer) is not None and self._position(trainer) != self._saved_at:
            self._save(trainer)

    @staticmethod
    def _position(trainer: lightning.Trainer) -> tuple[int, int]:
        return trainer.global_step, collector_of(trainer).env_step

    def _save(self, trainer: lightning.Trainer, also_as: str | None = None) -> bool:
        """Write a checkpoint, add its second names, and only then remove older ones; False if that failed.

        Raises:
            TrainingError: if a weight is not finite, or saving failed too often.

        """
        parameters = trainer.lightning_module.parameters()
        if not all(torch.isfinite(parameter).all() for parameter in parameters):
            raise TrainingError(
                f"a weight became infinite or no number before update {trainer.global_step:,}; lower the learning "
                "rate, or set --model.max_grad_norm 10."
            )
        path = self.folder(trainer)
        assert path is not None
        folder = CheckpointFolder(path)
        update, env_step = self._position(trainer)
        target, ranks = folder.path_at(env_step), Ranks.now()
        ranks.on_first(lambda: folder.check_alone(self.session, env_step))
        try:
            # So that no earlier point is lost if the process is killed.
            ranks.together(partial(save_loggers, trainer))
            self._written.add(target)
            trainer.save_checkpoint(target, weights_only=False)
            ranks.on_first(partial(folder.point, target, [name for name in (also_as, LAST) if name is not None]))
        except OSError as error:
            self._report(error)
            return False
        self._saved_at, self._failed_saves = (update, env_step), 0
        self._kept = [*(kept for kept in self._kept if kept != target), target][-self.keep_last :]
        checkpoint_io = trainer.strategy.checkpoint_io
        if isinstance(checkpoint_io, ReplayCheckpointIO) and ranks.rank == 0:
            try:
                folder.remove_all_but(self._kept, env_step, self._written, checkpoint_io)
            except OSError as error:
                log.warning("older checkpoints of %s could not be removed: %s", path, error)
        return True

    def _report(self, error: OSError) -> None:
        self._failed_saves += 1
        last = f"The last good checkpoint is {self.last_saved}." if self.last_saved else "There is none yet."
        sentence = f"the checkpoint could not be saved: {error}. {last}"
        if self._failed_saves > self.max_failed_saves:
            raise TrainingError(f"{sentence} This was failure {self._failed_saves} in a row, so the run ends.")
        log.error("%s Training continues; the next interval tries again.", sentence)
