import logging
from collections import deque
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, Timer

from lit_dqn.callbacks.datamodule import collector_of, data_of
from lit_dqn.callbacks.pace import Left
from lit_dqn.errors import ConfigError

log = logging.getLogger("lit_dqn")


class StoppingRules(Callback):
    """Ends a run at the first limit that it reaches, and logs which one it was.

    `trainer.max_steps` (updates), `max_epochs` and `max_time` are limits, too.

    Args:
        max_episodes: number of finished episodes over all envs.
        max_env_steps: number of env steps over all envs.
        mean_return: goal for the mean return of the last `window` training episodes.
        window: number of episodes.

    Raises:
        ConfigError: if a limit is below 1.

    """

    def __init__(
        self,
        max_episodes: int | None = None,
        max_env_steps: int | None = None,
        mean_return: float | None = None,
        window: int = 100,
    ) -> None:
        for key, value in (
            ("max_episodes", max_episodes),
            ("max_env_steps", max_env_steps),
            ("window", window),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"stop.{key}: {value} must be at least 1.")
        self.max_episodes = max_episodes
        self.max_env_steps = max_env_steps
        self.mean_return = mean_return
        self.window = window
        self.reason = ""
        self._returns: deque[float] = deque(maxlen=window)

    def check_warm_up(self, env_steps: int) -> None:
        """Refuse a limit within the warm-up, which a new run always completes.

        Args:
            env_steps: number of env steps before the first update.

        Raises:
            ConfigError: if `max_env_steps` is less.

        """
        if self.max_env_steps is not None and self.max_env_steps < env_steps:
            raise ConfigError(
                f"stop.max_env_steps: {self.max_env_steps} is less than the {env_steps} env steps that are played "
                f"before the first update (data.min_replay_size); set --stop.max_env_steps {env_steps} or more."
            )

    def limits(self, trainer: lightning.Trainer) -> list[str]:
        """The limits of the run as texts, including the trainer's own; empty if there are none."""
        words = []
        if self.max_episodes is not None:
            words.append(f"{self.max_episodes:,} episodes")
        if self.max_env_steps is not None:
            words.append(f"{self.max_env_steps:,} env steps")
        if self.mean_return is not None:
            words.append(f"a mean return of {self.mean_return:g} over {self.window:,} episodes")
        if trainer.max_steps >= 0:
            words.append(f"{trainer.max_steps:,} updates")
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            words.append(f"{trainer.max_epochs:,} epochs")
        seconds = time_limit(trainer)
        if seconds is not None:
            words.append(f"{clock(seconds)} of training")
        return words

    def left(self, trainer: lightning.Trainer) -> Left:
        """What remains to each limit, except to the mean return, for which it is unknown."""
        updates = [trainer.max_steps] if trainer.max_steps >= 0 else []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            updates.append(trainer.max_epochs * data_of(trainer).updates_per_epoch)
        collector = collector_of(trainer)
        return Left(
            env_steps=None if self.max_env_steps is None else max(self.max_env_steps - collector.env_step, 0),
            updates=max(min(updates) - trainer.global_step, 0) if updates else None,
            episodes=None if self.max_episodes is None else max(self.max_episodes - collector.episodes, 0),
            seconds=time_limit(trainer),
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop a resumed run that is already at its limit."""
        self._stop_at_limit(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Count the chunk, and stop the trainer at a limit."""
        collector = collector_of(trainer)
        self._returns.extend(episode.total_reward for episode in collector.finished)
        self._stop_at_limit(trainer)

    def _stop_at_limit(self, trainer: lightning.Trainer) -> None:
        collector = collector_of(trainer)
        self.reason = self._struck(trainer, collector.episodes, collector.env_step)
        if self.reason:
            log.info("stopping: %s", self.reason)
            trainer.should_stop = True

    def _struck(self, trainer: lightning.Trainer, episodes: int, env_step: int) -> str:
        if self.max_episodes is not None and episodes >= self.max_episodes:
            return f"max_episodes {self.max_episodes:,} reached"
        if self.max_env_steps is not None and env_step >= self.max_env_steps:
            return f"max_env_steps {self.max_env_steps:,} reached"
        if self.mean_return is not None and len(self._returns) == self.window:
            mean = sum(self._returns) / self.window
            if mean >= self.mean_return:
                return f"mean_return {self.mean_return} reached: {mean:.2f} over the last {self.window} episodes"
        if 0 <= trainer.max_steps <= trainer.global_step:
            return f"max_steps {trainer.max_steps:,} reached"
        if trainer.is_last_batch and 0 <= trainer.max_epochs <= trainer.current_epoch + 1:  # type: ignore[operator]
            return f"max_epochs {trainer.max_epochs:,} reached"
        return ""

    def progress(self, trainer: lightning.Trainer) -> float:
        """The finished share of the run, by the nearest limit, in [0, 1]; 0 without limits."""
        collector = collector_of(trainer)
        shares = [0.0]
        if self.max_episodes is not None:
            shares.append(collector.episodes / self.max_episodes)
        if self.max_env_steps is not None:
            shares.append(collector.env_step / self.max_env_steps)
        if trainer.max_steps > 0:
            shares.append(trainer.global_step / trainer.max_steps)
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            updates = trainer.max_epochs * data_of(trainer).updates_per_epoch
            shares.append(trainer.global_step / updates)
        for timer in timers_of(trainer):
            elapsed, remaining = timer.time_elapsed(), timer.time_remaining()
            if remaining is not None and elapsed + remaining > 0:
                shares.append(elapsed / (elapsed + remaining))
        return min(max(shares), 1.0)

    def state_dict(self) -> dict[str, Any]:
        """The returns in the window."""
        return {"returns": list(self._returns)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._returns.clear()
        self._returns.extend(state_dict["returns"])


def timers_of(trainer: lightning.Trainer) -> list[Timer]:
    """The timers that Lightning creates for `max_time`."""
    return [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]


def time_limit(trainer: lightning.Trainer) -> float | None:
    """The seconds left until `max_time`; None without it."""
    return min((timer.time_remaining() for timer in timers_of(trainer)), default=None)  # type: ignore[type-var]


def clock(seconds: float) -> str:
    """A span of time as h:mm:ss."""
    whole = max(round(seconds), 0)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
