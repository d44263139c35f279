import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from lit_dqn.callbacks.statistics import TrainingStatistics
from lit_dqn.callbacks.stopping import StoppingRules

REFRESH_SECONDS = 0.25
WINDOW_SECONDS = 20


def error_of_values(metrics: Mapping[str, Tensor]) -> str:
    """What an evaluation says of V's error, if anything, to go on with in a line."""
    names = {"eval/value_rms_error": "RMS error of V", "eval/return_rms_error": "RMS error of V beside the returns"}
    return "".join(f", {words} {metrics[name].item():.4f}" for name, words in names.items() if name in metrics)


class Sample(NamedTuple):
    """How far the run was at a moment."""

    seconds: float
    env_step: int
    share: float


class TrainingProgress(ProgressBar):
    """One line while training: share done, episode, mean return, exploration, env steps/s, time left.

    It is refreshed by time, not by steps. Each evaluation leaves a line of its own, also where there is no terminal.

    Args:
        statistics: what was watched so far.
        stopping: how far the run is.

    """

    def __init__(self, statistics: TrainingStatistics, stopping: StoppingRules) -> None:
        super().__init__()
        self.statistics = statistics
        self.stopping = stopping
        self._console = Console()
        self._progress: Progress | None = None
        # Speed and time left follow the last seconds of training: episodes get shorter while the agent learns.
        self._samples: deque[Sample] = deque(maxlen=round(WINDOW_SECONDS / REFRESH_SECONDS))

    def disable(self) -> None:
        """Lightning's switch for `enable_progress_bar=False` and for all ranks but the first."""
        self._console.quiet = True

    def enable(self) -> None:
        """The other side of `disable`."""
        self._console.quiet = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar."""
        self._samples.clear()
        self._take_sample(trainer)
        self._progress = Progress(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            console=self._console,
            auto_refresh=False,
            disable=not self._console.is_terminal,
        )
        self._progress.add_task("filling the replay", total=1.0)
        self._progress.start()
        self._progress.refresh()

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Refresh the bar if it is time."""
        if time.monotonic() - self._samples[-1].seconds >= REFRESH_SECONDS:
            self._refresh(trainer)

    def _take_sample(self, trainer: lightning.Trainer) -> None:
        self._samples.append(Sample(time.monotonic(), self._env_step(trainer), self.stopping.progress(trainer)))

    def _refresh(self, trainer: lightning.Trainer) -> None:
        self._take_sample(trainer)
        if self._progress is not None:
            description = f"{self._status(trainer)} · {self._time_left()}"
            self._progress.update(
                self._progress.task_ids[0], completed=self._samples[-1].share, description=description
            )
            self._progress.refresh()

    def _status(self, trainer: lightning.Trainer) -> str:
        collector = trainer.datamodule.collector  # type: ignore[attr-defined]
        words = [f"episode {collector.episodes:,}"]
        if self.statistics.recent:
            words.append(f"mean return {self.statistics.mean_return:.1f}")
        symbols = {"exploration_rate": "ε", "temperature": "τ"}
        metrics = collector.policy.metrics(collector.env_step)
        words += [f"{symbols.get(name, name)} {value:.2f}" for name, value in metrics.items()]
        first, last = self._samples[0], self._samples[-1]
        speed = (last.env_step - first.env_step) / max(last.seconds - first.seconds, 1e-9)
        return " · ".join([*words, f"{speed:,.0f} env steps/s"])

    def _time_left(self) -> str:
        first, last = self._samples[0], self._samples[-1]
        if last.share == first.share:
            return "time left ?"
        left = int((last.seconds - first.seconds) * (1 - last.share) / (last.share - first.share))
        return f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave a line about the evaluation that `fit` has made."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self._take_sample(trainer)
        metrics = trainer.callback_metrics
        self._console.print(
            f"env step {self._env_step(trainer):,} · {self._status(trainer)} · "
            f"evaluation: return {metrics['eval/mean_reward'].item():.2f}, "
            f"length {metrics['eval/mean_ep_length'].item():.1f}{error_of_values(metrics)}",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show where the run ended."""
        self._refresh(trainer)
        self._stop()

    def on_exception(self, *args: Any) -> None:
        """Give the terminal back."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    @staticmethod
    def _env_step(trainer: lightning.Trainer) -> int:
        return trainer.datamodule.collector.env_step  # type: ignore[attr-defined]
