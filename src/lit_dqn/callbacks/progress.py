import threading
import time
from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from lit_dqn.callbacks.datamodule import collector_of, data_of
from lit_dqn.callbacks.pace import Pace
from lit_dqn.callbacks.statistics import TrainingStatistics
from lit_dqn.callbacks.stopping import StoppingRules, clock

LINE_SECONDS = 55.0
"""Without a terminal, the longest time between two lines, in seconds."""

WATCH_SECONDS = 1.0
FILLING = "filling the replay"
BAR_WIDTH = 10
SYMBOLS = {"exploration_rate": "ε", "temperature": "τ"}
LEAST_IMPORTANT = ("exploration", "speed", "episode", "return")
"""The parts that are left out on a narrow terminal, in this order."""


def error_of_values(metrics: Mapping[str, Tensor]) -> str:
    """The end of a line with an evaluation's error of V, if there is one."""
    names = {"eval/value_rms_error": "RMS error of V", "eval/return_rms_error": "RMS error of V beside the returns"}
    return "".join(f", {words} {metrics[name].item():.4f}" for name, words in names.items() if name in metrics)


class TrainingProgress(ProgressBar):
    """One line while training: share done, episode, mean return, exploration, env steps/s, time left.

    Each evaluation adds a permanent line. Without a terminal a line is printed at least every minute, even while the
    replay is filled or an evaluation is played.

    Args:
        statistics: of the training so far.
        stopping: knows the progress of the run.

    """

    def __init__(self, statistics: TrainingStatistics, stopping: StoppingRules) -> None:
        super().__init__()
        self.statistics = statistics
        self.stopping = stopping
        self._console = Console()
        self._progress: Progress | None = None
        self._pace = Pace()
        self._lines_end = threading.Event()
        self._watcher: threading.Thread | None = None
        self._words: dict[str, str] = {}
        self._time_left = ""
        self._doing = ""  # an activity without training steps
        self._said = 0.0

    def disable(self) -> None:
        """Lightning's switch for `enable_progress_bar=False` and for all ranks but the first."""
        self._console.quiet = True

    def enable(self) -> None:
        """The opposite of `disable`."""
        self._console.quiet = False

    # --- hooks ---

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar, and start to watch activities without training steps."""
        self._pace.begin()
        self._words, self._time_left, self._said = {}, "", time.monotonic()
        self._doing = FILLING
        self._progress = Progress(
            TextColumn("{task.percentage:>3.0f}%"),
            BarColumn(bar_width=BAR_WIDTH),
            TextColumn("{task.description}"),
            console=self._console,
            auto_refresh=False,
            disable=not self._console.is_terminal,
        )
        self._progress.add_task(self._doing, total=1.0, completed=0)
        self._progress.start()
        self._progress.refresh()
        self._lines_end.clear()
        self._watcher = threading.Thread(target=self._watch, args=(trainer,), name="progress", daemon=True)
        self._watcher.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Refresh the bar if it is due."""
        if self._pace.due:
            self._refresh(trainer)

    def on_train_batch_start(self, *args: Any) -> None:
        """Training continues, after checkpoints, pictures and videos of an evaluation."""
        self._pace.evaluation_ends()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show that training is waiting."""
        if self._watches(trainer):
            self._pace.note(self._env_step(trainer), trainer.global_step)
            self._pace.evaluation_begins()
            self._say_evaluated(trainer, 0)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the progress of the evaluation."""
        if self._watches(trainer):
            self._say_evaluated(trainer, batch_idx + 1)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print a line about an evaluation of `fit`."""
        if not self._watches(trainer):
            return
        self._doing = ""
        self._describe(trainer)
        metrics = trainer.callback_metrics
        self._print(
            f"{self._line(trainer)} · evaluation: return {metrics['eval/mean_reward'].item():,.2f}, "
            f"length {metrics['eval/mean_ep_length'].item():,.1f}{error_of_values(metrics)}"
        )

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the final state."""
        if self._progress is not None:
            self._doing = ""
            self._describe(trainer)
            self._show(trainer)
        self._stop()

    def on_exception(self, *args: Any) -> None:
        """Release the terminal."""
        self._stop()

    # --- words ---

    def _watches(self, trainer: lightning.Trainer) -> bool:
        return self._progress is not None and trainer.state.fn == "fit" and not trainer.sanity_checking

    def _describe(self, trainer: lightning.Trainer) -> None:
        """Update the text about the present state of training."""
        collector = collector_of(trainer)
        statistics = self.statistics
        words = {"episode": f"episode {collector.episodes:,}"}
        if statistics.recent:
            words["return"] = f"mean return {statistics.mean_return:,.1f}"
        metrics = collector.policy.metrics(collector.env_step)
        exploration = [f"{SYMBOLS.get(name, name)} {value:.2f}" for name, value in metrics.items()]
        if exploration:
            words["exploration"] = " · ".join(exploration)
        if self._pace.env_steps_per_second:
            words["speed"] = f"{self._pace.env_steps_per_second:,.0f} env steps/s"
        lengths = [episode.length for episode in statistics.recent]
        seconds = self._pace.seconds_left(self.stopping.left(trainer), lengths)
        self._words, self._time_left = words, "" if seconds is None else f"{clock(seconds)} left"

    def _status(self, width: int | None = None) -> str:
        """The text about training, shortened to a width."""
        words = dict(self._words)
        text = " · ".join([*words.values(), *filter(None, [self._time_left])])
        for least in LEAST_IMPORTANT:
            if width is None or len(text) <= width:
                break
            words.pop(least, None)
            text = " · ".join([*words.values(), *filter(None, [self._time_left])])
        return text

    def _say_evaluated(self, trainer: lightning.Trainer, played: int) -> None:
        episodes = data_of(trainer).eval_episodes
        self._doing = f"evaluating: {played:,} of {episodes:,} episodes"
        self._draw(self._doing)

    # --- lines and bar ---

    def _refresh(self, trainer: lightning.Trainer) -> None:
        self._doing = ""
        self._pace.note(self._env_step(trainer), trainer.global_step)
        self._describe(trainer)
        self._show(trainer)

    def _show(self, trainer: lightning.Trainer) -> None:
        assert self._progress is not None
        self._progress.update(self._progress.task_ids[0], completed=self.stopping.progress(trainer))
        self._draw(self._status(self._console.width - BAR_WIDTH - len("100%  ")))

    def _draw(self, description: str) -> None:
        if self._progress is not None and self._console.is_terminal:
            self._progress.update(self._progress.task_ids[0], description=description)
            self._progress.refresh()

    def _watch(self, trainer: lightning.Trainer) -> None:
        """Runs on a thread: filling a replay and evaluating have no training steps, and can take many minutes."""
        data = data_of(trainer)
        while not self._lines_end.wait(WATCH_SECONDS):
            doing = self._doing
            if doing == FILLING:
                doing += f": {self._env_step(trainer):,} of {data.min_replay_size - data.prefilled:,} env steps"
                self._draw(doing)
            self._say_if_due(doing or self._line(trainer))

    def _line(self, trainer: lightning.Trainer) -> str:
        return f"env step {self._env_step(trainer):,} · {self._status()}"

    def _say_if_due(self, line: str) -> None:
        if not self._console.is_terminal and time.monotonic() - self._said >= LINE_SECONDS:
            self._print(line)

    def _print(self, line: str) -> None:
        self._said = time.monotonic()
        # A terminal breaks lines at words; in a file each text is one line, for searching.
        self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)

    def _stop(self) -> None:
        if self._watcher is not None:
            self._lines_end.set()
            self._watcher.join()
            self._watcher = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    @staticmethod
    def _env_step(trainer: lightning.Trainer) -> int:
        return collector_of(trainer).env_step
