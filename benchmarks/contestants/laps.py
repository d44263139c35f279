"""A clock for lit_dqn's command line."""

from typing import Any, ClassVar

import lightning
from lightning.pytorch.callbacks import Callback

from side_by_side import Stopwatch


class Laps(Callback):
    """Laps after every training step from an env step on.

    Args:
        first: that env step.

    """

    stopwatch: ClassVar[Stopwatch]  # of the process; the command line cannot hand objects over

    def __init__(self, first: int) -> None:
        self.first = first

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Note the time."""
        env_step = trainer.datamodule.collector.env_step  # type: ignore[attr-defined]
        if env_step >= self.first:
            self.stopwatch.lap(env_step)
