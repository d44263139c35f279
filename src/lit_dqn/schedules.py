"""A schedule gives a value for each env step: ε, a temperature, or a learning rate."""

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
    """The same value for ever.

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
        return self.start + (self.end - self.start) * min(env_step / self.env_steps, 1.0)


@dataclass(frozen=True)
class Exponential(Schedule):
    """A geometric decay from `start` to the floor `end` over `env_steps` env steps, then `end`.

    Raises:
        ConfigError: if `start` or `end` is not positive and finite, or `env_steps` is below 1.

    """

    start: float
    end: float
    env_steps: int

    def __post_init__(self) -> None:
        _check_env_steps(self.env_steps)
        _check_finite("start", self.start)
        _check_finite("end", self.end)
        if self.start <= 0 or self.end <= 0:
            raise ConfigError(
                f"Exponential: start {self.start} and end {self.end} must be positive; "
                "an exponential decay never reaches 0: give a floor such as 0.01, or use Linear."
            )

    def __call__(self, env_step: int) -> float:
        return self.start * (self.end / self.start) ** min(env_step / self.env_steps, 1.0)


def _check_env_steps(env_steps: int) -> None:
    if env_steps < 1:
        raise ConfigError(f"env_steps: {env_steps} of a schedule must be at least 1 env step.")


def _check_finite(key: str, value: float) -> None:
    if not math.isfinite(value):
        raise ConfigError(f"{key}: {value} of a schedule must be a finite number.")
