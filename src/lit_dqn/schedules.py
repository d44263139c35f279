"""A schedule gives a value for each env step: ε, a temperature, a learning rate, γ or n."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from lit_dqn.errors import ConfigError


class Schedule(ABC):
    """A function env_step -> value, monotone, that starts with `start` and ends with `end`."""

    start: float
    end: float

    @abstractmethod
    def __call__(self, env_step: int) -> float:
        """The value at an env step, counted from 0."""


@dataclass(frozen=True)
class Constant(Schedule):
    """A constant value.

    Raises:
        ConfigError: if it is not finite.

    """

    value: float

    def __post_init__(self) -> None:
        _check_finite("value", self.value)

    @property
    def start(self) -> float:  # type: ignore[override]
        return self.value

    end = start

    def __call__(self, env_step: int) -> float:
        return self.value


@dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from `start` to `end` over `env_steps` env steps, then `end`.

    Raises:
        ConfigError: if `env_steps` is below 1, or a value is not finite.

    """

    start: float
    end: float
    env_steps: int

    def __post_init__(self) -> None:
        _check_env_steps(self.env_steps)
        _check_finite("start", self.start)
        _check_finite("end", self.end)

    def __call__(self, env_step: int) -> float:
        if env_step >= self.env_steps:
            return self.end  # the sum below may miss it by its last bit
        return self.start + (self.end - self.start) * (env_step / self.env_steps)


@dataclass(frozen=True)
class Exponential(Schedule):
    """A geometric decay from `start` to the floor `end` over `env_steps` env steps, then `end`.

    With `towards` the distance to that value decays: γ goes from 0.97 to 0.997 `towards` 1, so its horizon 1 / (1 - γ)
    grows by the same factor in each env step.

    Raises:
        ConfigError: if `start` and `end` do not lie on one side of `towards`, a value is not finite, or `env_steps` is
            below 1.

    """

    start: float
    end: float
    env_steps: int
    towards: float = 0.0

    def __post_init__(self) -> None:
        _check_env_steps(self.env_steps)
        _check_finite("start", self.start)
        _check_finite("end", self.end)
        _check_finite("towards", self.towards)
        if self.towards != 0:
            if (self.start - self.towards) * (self.end - self.towards) <= 0:
                raise ConfigError(
                    f"Exponential: start {self.start} and end {self.end} must lie on one side of towards "
                    f"{self.towards}, which is never reached; use Linear to go across."
                )
        elif self.start <= 0 or self.end <= 0:
            raise ConfigError(
                f"Exponential: start {self.start} and end {self.end} must be positive; "
                "an exponential decay never reaches 0: give a floor such as 0.01, or use Linear."
            )

    def __call__(self, env_step: int) -> float:
        if env_step >= self.env_steps:
            return self.end  # the power below may miss it by its last bit
        start, end = self.start - self.towards, self.end - self.towards
        distance: float = start * (end / start) ** (env_step / self.env_steps)
        return self.towards + distance


@dataclass(frozen=True)
class Repeated(Schedule):
    """Another schedule that restarts at intervals of env steps, like γ and n of BBF after each reset of the network.

    Raises:
        ConfigError: if `every_env_steps` is below 1.

    """

    schedule: Schedule
    every_env_steps: int
    """The interval."""

    until_env_steps: int | None = None
    """From here on it does not restart; None: it restarts until the end."""

    def __post_init__(self) -> None:
        if self.every_env_steps < 1:
            raise ConfigError(f"every_env_steps: {self.every_env_steps} must be at least 1 env step.")

    @property
    def start(self) -> float:  # type: ignore[override]
        return self.schedule.start

    @property
    def end(self) -> float:  # type: ignore[override]
        return self.schedule.end

    def __call__(self, env_step: int) -> float:
        begun = beginnings(env_step, self.every_env_steps, self.until_env_steps)
        return self.schedule(env_step - begun * self.every_env_steps)


def beginnings(env_step: int, every_env_steps: int, until_env_steps: int | None) -> int:
    """How many restarts there have been by an env step.

    Args:
        env_step: counted from 0, the first start, which is not a restart.
        every_env_steps: from one start to the next.
        until_env_steps: from here on there are no restarts; None: there is no such limit.

    """
    last = env_step if until_env_steps is None else min(env_step, max(until_env_steps - 1, 0))
    return last // every_env_steps


def bounds(value: Schedule | float) -> tuple[float, float]:
    """The lowest and the highest value of a number or a schedule."""
    if not isinstance(value, Schedule):
        return value, value
    return min(value.start, value.end), max(value.start, value.end)


def _check_env_steps(env_steps: int) -> None:
    if env_steps < 1:
        raise ConfigError(f"env_steps: {env_steps} of a schedule must be at least 1 env step.")


def _check_finite(key: str, value: float) -> None:
    if not math.isfinite(value):
        raise ConfigError(f"{key}: {value} of a schedule must be a finite number.")
