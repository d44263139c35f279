"""The search space: for each key its possible values, and how chosen values are written into a config."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lit_dqn.commands.inputs import all_keys
from lit_dqn.commands.studies.description import OF_THE_STUDY, as_argument, is_number
from lit_dqn.errors import ConfigError

EXAMPLE = "model.optimizer.init_args.lr: {low: 1e-5, high: 1e-2, log: true}"


@dataclass(frozen=True)
class Span:
    """Numbers between two bounds, both included.

    Args:
        low: the lower bound.
        high: the upper bound.
        whole: whether only integers are possible.
        log: whether the scale is logarithmic.
        step: between neighbours; None: no grid.

    """

    low: float
    high: float
    whole: bool
    log: bool = False
    step: float | None = None

    @property
    def samples(self) -> tuple[Any, ...]:
        """Sample values, to test whether a key takes them."""
        return self.low, self.high


@dataclass(frozen=True)
class Choices:
    """A few values of any kind."""

    values: tuple[Any, ...]

    @property
    def samples(self) -> tuple[Any, ...]:
        """Sample values, to test whether a key takes them."""
        return self.values

    @property
    def names(self) -> tuple[str, ...]:
        """The values as texts, for the storage."""
        return tuple(as_argument(value) for value in self.values)


Dimension = Span | Choices


def read_space(said: Any) -> dict[str, Dimension]:
    """Key -> its possible values.

    Args:
        said: key -> a list of values, or `{low, high}` with `log` or `step`.

    Raises:
        ConfigError: if it is invalid.

    """
    if not (isinstance(said, Mapping) and said):
        raise ConfigError(f"space: {said} names no key; give keys with what to try, such as {EXAMPLE}.")
    space = {str(key): _dimension(str(key), value) for key, value in said.items()}
    for key in space:
        if any(key == name or key.startswith(f"{name}.") for name in OF_THE_STUDY):
            raise ConfigError(f"space: {key} is set by the search; leave it out.")
    return space


def _dimension(key: str, said: Any) -> Dimension:
    if isinstance(said, list):
        values = Choices(tuple(said))
        if len(values.values) < 2 or len(set(values.names)) < len(values.names):
            raise ConfigError(f"space: {key} has the choices {said}; give at least two, each once.")
        return values
    if not isinstance(said, Mapping) or not {"low", "high"} <= said.keys() <= {"low", "high", "log", "step"}:
        raise ConfigError(f"space: {key} has {said}; give a list of choices, or low and high, such as {EXAMPLE}.")
    low, high, log, step = said["low"], said["high"], said.get("log", False), said.get("step")
    if not (is_number(low) and is_number(high) and low < high):
        raise ConfigError(f"space: {key} goes from {low} to {high}; give two numbers, low below high.")
    if not isinstance(log, bool):
        raise ConfigError(f"space: {key} has log: {log}; give true or false.")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"space: {key} goes from {low} on a log scale; that needs low above 0 and no step.")
    whole = all(isinstance(end, int) for end in (low, high)) and not _takes_fractions_alone(key)
    if step is not None and not (is_number(step) and 0 < step <= high - low and (isinstance(step, int) or not whole)):
        raise ConfigError(f"space: {key} has step: {step}; give a number above 0 that leads from {low} towards {high}.")
    return Span(low, high, whole, log, step)


def _takes_fractions_alone(key: str) -> bool:
    """Whether a key takes any numbers, so that 0 and 1 are two bounds and not the only two values."""
    plain = ".".join(part for part in key.split(".") if part != "init_args")
    argument = dict(all_keys([f"--{plain}."], {})).get(plain)
    return argument is not None and "float" in argument.hint.scalars and "int" not in argument.hint.scalars


def as_overlay(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key, nested as in a config file.

    A class and its arguments are combined: `a.b: X` and `a.b.init_args.c: 1` become a `class_path` with `init_args`.
    """
    overlay: dict[str, Any] = {}
    for key in sorted(chosen, key=lambda key: key.count(".")):
        *parents, last = key.split(".")
        place = overlay
        for part in parents:
            below = place.setdefault(part, {})
            if not isinstance(below, dict):
                below = place[part] = {"class_path": below}
            place = below
        if "class_path" in place and last not in ("class_path", "init_args", "dict_kwargs"):
            place = place.setdefault("init_args", {})
        place[last] = chosen[key]
    return overlay


def shown(value: Any) -> str:
    """A value for people: floats with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else as_argument(value)
