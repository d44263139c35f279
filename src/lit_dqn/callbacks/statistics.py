import csv
import io
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from lit_dqn.callbacks.datamodule import collector_of, data_of
from lit_dqn.callbacks.forgive import forgive
from lit_dqn.callbacks.run_folder import run_folder, save_loggers
from lit_dqn.errors import ConfigError
from lit_dqn.learning.dormant import dormant_units
from lit_dqn.ranks import Ranks
from lit_dqn.saving import durable
from lit_dqn.saving.layout import EPISODES
from lit_dqn.types import Chunk, Episode

log = logging.getLogger("lit_dqn")

WRITE_SECONDS = 0.25
"""Seconds between two writes of finished episodes: with short episodes, opening the file for each chunk takes too
long."""

FIELDS = ("episode", "env_step", "env", "return", "length", "terminated", "seconds")


class TrainingStatistics(Callback):
    """Reads the collector and the results of updates, and writes to the loggers, with env steps on the x-axis.

    It takes the finished episodes out of the collector, so callbacks that read them (`StoppingRules`) must come before
    it. Every finished episode also becomes a line of `episodes.csv` in the run's folder, slightly later, but before any
    other point and any checkpoint. Means over updates are logged every `trainer.log_every_n_steps` training steps, the
    share of dormant units at the end of each epoch, on its last batch.

    Args:
        window: number of episodes in `rollout/ep_rew_mean` and `rollout/ep_len_mean`.

    Raises:
        ConfigError: if the window is below 1.

    """

    def __init__(self, window: int = 100) -> None:
        if window < 1:
            raise ConfigError(f"statistics.window: {window} must be at least 1 episode.")
        self.window = window
        self.recent: deque[Episode] = deque(maxlen=window)
        self._outputs: list[dict[str, Tensor]] = []
        self._seconds_before = 0.0  # of earlier sessions
        self._started = 0.0
        self._started_at = (0.0, 0)  # seconds, env step
        self._logged_at = (0.0, 0)
        self._unlogged: list[Episode] = []
        self._unwritten: list[tuple[Any, ...]] = []  # lines of episodes.csv
        self._written_at = 0.0  # on the clock of `time.monotonic`
        self._warned = False  # whether a failure to write them was reported

    @property
    def seconds(self) -> float:
        """Wall time of training, over all sessions of the run."""
        return self._seconds_before + (time.monotonic() - self._started if self._started else 0.0)

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """A curve that cannot be written must not end a run."""
        if stage == "fit":
            for logger in trainer.loggers:
                forgive(logger)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Open `episodes.csv`; on resume, remove the episodes after the checkpoint."""
        self._started = time.monotonic()
        # Outputs from a checkpoint are on the CPU, and are combined with those of the device.
        self._outputs = [{k: v.to(pl_module.device) for k, v in output.items()} for output in self._outputs]
        env_step = collector_of(trainer).env_step
        self._started_at = (self.seconds, env_step)
        path = self._csv_path(trainer)
        if path is None:
            return
        lines: list[Sequence[str]] = [FIELDS]
        if path.is_file():
            text = path.read_text()
            whole_lines = text[: text.rfind("\n") + 1].splitlines()  # a killed run may leave an incomplete line
            lines += [line for line in list(csv.reader(whole_lines))[1:] if int(line[1]) <= env_step]
        content = io.StringIO(newline="")
        csv.writer(content).writerows(lines)
        durable.replace_text(path, content.getvalue())

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the finished episodes out of the collector, and log if it is due."""
        collector = collector_of(trainer)
        if collector.finished:
            self._note_episodes(collector.finished)
            collector.finished.clear()
        if self._unlogged and time.monotonic() - self._written_at >= WRITE_SECONDS:
            self._write_episodes(trainer)
        period: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if period == 0:
            return  # Lightning's value for never
        self._outputs.append(outputs)
        if (trainer.fit_loop.total_batch_idx + 1) % period == 0:
            self._log_means(trainer)
            self._outputs.clear()
        if batch_idx + 1 == trainer.num_training_batches:
            self._log_dormant_units(trainer, batch)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the last updates of a run that ends here, before a checkpoint records the point."""
        if trainer.state.fn == "fit":
            self._write_episodes(trainer)
            if trainer.should_stop:
                self._log_the_rest(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Also for runs without evaluations."""
        if trainer.should_stop:
            self._log_the_rest(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Also if only the Trainer knew that the run would end."""
        self._write_episodes(trainer)
        self._log_the_rest(trainer)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write all episodes that the checkpoint counts, in case the process is killed after it."""
        if self._unlogged or self._unwritten:
            self._write_episodes(trainer)
            save_loggers(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Write everything that has been recorded."""
        self._write_episodes(trainer)

    def _log_the_rest(self, trainer: lightning.Trainer) -> None:
        """Log the updates since the last point. A run that is resumed from here includes them in its next point."""
        if self._outputs and collector_of(trainer).env_step > self._logged_at[1]:
            self._log_means(trainer)

    def _note_episodes(self, episodes: Iterable[Episode]) -> None:
        self.recent.extend(episodes)
        self._unlogged.extend(episodes)
        seconds = f"{self.seconds:.2f}"
        self._unwritten += [
            (e.number, e.env_step, e.env, e.total_reward, e.length, int(e.terminated), seconds) for e in episodes
        ]

    def _write_episodes(self, trainer: lightning.Trainer) -> None:
        """Write everything that has been recorded to the loggers."""
        self._written_at = time.monotonic()
        if self._unwritten:
            path = self._csv_path(trainer)
            if path is None:
                self._unwritten.clear()
            else:
                self._write(path)
        for episode in self._unlogged:
            metrics = {"rollout/ep_rew": episode.total_reward, "rollout/ep_len": float(episode.length)}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=episode.env_step)
        self._unlogged.clear()

    def _write(self, path: Path) -> None:
        """Append the new lines to the file; if that fails, try again later."""
        content = io.StringIO(newline="")
        csv.writer(content).writerows(self._unwritten)
        try:
            durable.append_text(path, content.getvalue())
        except OSError as error:
            if not self._warned:
                log.warning(
                    "%s cannot be written: %s. The run continues, and the next episode tries again.", path, error
                )
            self._warned = True
        else:
            self._unwritten.clear()
            self._warned = False

    def _log_means(self, trainer: lightning.Trainer) -> None:
        self._write_episodes(trainer)  # some loggers take points only in the order of their steps
        data = data_of(trainer)
        agent: Any = trainer.lightning_module
        env_step = collector_of(trainer).env_step
        # The speed is that of this session, without the time between sessions.
        seconds, (seconds_then, env_step_then) = self.seconds, max(self._logged_at, self._started_at)
        metrics = {
            "time/fps": (env_step - env_step_then) / max(seconds - seconds_then, 1e-9),
            "time/total_timesteps": float(env_step),
            "time/seconds": seconds,
            "train/n_updates": float(trainer.global_step),
            "train/learning_rate": agent.current_learning_rate,
        }
        metrics |= {f"rollout/{name}": value for name, value in data.policy.metrics(env_step).items()}
        metrics |= {f"train/{name}": value for name, value in data.horizon.metrics(env_step).items()}
        for name in self._outputs[0] if self._outputs else ():
            metrics[f"train/{name}"] = torch.stack([output[name] for output in self._outputs]).mean().item()
        if self.recent:
            metrics["rollout/ep_rew_mean"] = self.mean_return
            metrics["rollout/ep_len_mean"] = self.mean_length
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=env_step)
        self._logged_at = (seconds, env_step)

    def _log_dormant_units(self, trainer: lightning.Trainer, chunk: Chunk) -> None:
        agent: Any = trainer.lightning_module
        dormant = dormant_units(agent.online, agent.batch_by_parts(chunk.batches[-1]).observation)
        dormant = Ranks.now().gather(dormant)[-1]  # of the last shard, in any process
        if dormant is not None:
            self._write_episodes(trainer)  # to keep the order of steps, as above
            for logger in trainer.loggers:
                logger.log_metrics({"train/dormant_units": dormant}, step=chunk.env_step)

    @property
    def mean_return(self) -> float:
        """Over the last `window` episodes; NaN before the first."""
        return sum(e.total_reward for e in self.recent) / len(self.recent) if self.recent else float("nan")

    @property
    def mean_length(self) -> float:
        """Agent steps, over the last `window` episodes; NaN before the first."""
        return sum(e.length for e in self.recent) / len(self.recent) if self.recent else float("nan")

    @staticmethod
    def _csv_path(trainer: lightning.Trainer) -> Path | None:
        folder = run_folder(trainer)
        return None if folder is None else folder / EPISODES

    def state_dict(self) -> dict[str, Any]:
        """The episodes and updates for the next points, and the wall time."""
        names = self._outputs[0] if self._outputs else ()
        return {
            "recent": [tuple(episode) for episode in self.recent],
            "outputs": {name: torch.stack([output[name] for output in self._outputs]).cpu() for name in names},
            "logged_at": self._logged_at,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.recent.clear()
        self.recent.extend(Episode(*episode) for episode in state_dict["recent"])
        outputs = state_dict["outputs"]
        self._outputs = [dict(zip(outputs, values, strict=True)) for values in zip(*outputs.values(), strict=True)]
        self._logged_at = tuple(state_dict["logged_at"])
        self._seconds_before = state_dict["seconds"]
