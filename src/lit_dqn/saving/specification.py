"""Descriptions of parts in a checkpoint: class paths and arguments, plain values without pickle."""

import inspect
import json
import shlex
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from lit_dqn.errors import ConfigError
from lit_dqn.exports import PARTS, public_path

SIMPLE = (bool, int, float, str, Enum, np.generic, Path, list, tuple, Mapping, type, partial)
"""Types of values that are no objects with arguments."""

INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
"""Lightning's own name for the function that builds a module from such a description."""


def specification(part: Any) -> Any:
    """A class, a partial of a class, or an object in the form of the YAML that creates it.

    Args:
        part: a plain value, a container of such, a class, a `functools.partial` of a class, or an object that stores
            each argument of its constructor in an attribute of the same name.

    Returns:
        Plain values; `{"class_path": ..., "init_args": {...}}` for classes and objects.

    Raises:
        ConfigError: if it cannot be described, such as a lambda.

    """
    if isinstance(part, Enum):
        return part.name
    if isinstance(part, str):
        return str(part)  # a subclass could not be read from a checkpoint
    if part is None or isinstance(part, bool | int | float):
        return part
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, Path):
        return str(part)
    if isinstance(part, list | tuple):
        return [specification(value) for value in part]
    if isinstance(part, Mapping):
        return {key: specification(value) for key, value in part.items()}
    if isinstance(part, type):
        return _class(part, {})
    if isinstance(part, partial):
        made = made_by(part)
        if isinstance(made, type) and all(callable(argument) for argument in part.args):
            return _class(made, part.keywords)
    elif is_dataclass(part):
        return _class(type(part), {field.name: getattr(part, field.name) for field in fields(part)})
    elif not callable(part) or type(part).__module__ != "builtins":
        return _class(type(part), {key: value for key, value in vars(part).items() if not key.startswith("_")})
    raise ConfigError(
        f"{part!r} cannot be written into a checkpoint; give a class, or functools.partial(Class, key=value), instead."
    )


def check_forgets_nothing(part: Any) -> None:
    """Refuse an object that keeps an argument to itself, because it would be made again without it.

    Args:
        part: as for `specification`.

    Raises:
        ConfigError: names the argument.

    """
    if isinstance(part, list | tuple):
        for one in part:
            check_forgets_nothing(one)
    if isinstance(part, Mapping):
        check_forgets_nothing(list(part.values()))
    if part is None or isinstance(part, SIMPLE) or inspect.isroutine(part) or is_dataclass(part):
        return
    name = type(part).__name__
    for argument in _parameters(type(part)):
        if argument not in vars(part):
            raise ConfigError(
                f"{name}: its argument {argument} cannot be read from the object, which has no attribute of that name; "
                f"give functools.partial({name}, {argument}=...), or store it as self.{argument}."
            )


def _parameters(made: type) -> list[str]:
    parameters = inspect.signature(made).parameters.values()
    return [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def with_defaults(described: Any) -> Any:
    """The result of `specification`, completed by the default arguments of lit_dqn's classes.

    So two descriptions are equal if they mean the same, even if one is from a release with fewer arguments.
    """
    if isinstance(described, list | tuple):
        return [with_defaults(part) for part in described]
    if not isinstance(described, Mapping):
        return described
    described = {key: with_defaults(part) for key, part in described.items()}
    name = str(described.get("class_path", "")).removeprefix("lit_dqn.")
    if name in PARTS:
        parameters = inspect.signature(getattr(import_module(f"lit_dqn.{PARTS[name]}"), name)).parameters.values()
        defaults = {p.name: with_defaults(specification(p.default)) for p in parameters if p.default is not p.empty}
        given = described.get("init_args", {})
        described["init_args"] = {**defaults, **given} if isinstance(given, Mapping) else given  # from a separate file
    return described


def as_typed(described: Any) -> str:
    """The result of `specification` as one argument of a command line, quoted for a shell."""
    return shlex.quote(described if isinstance(described, str) else json.dumps(described))


def made_by(part: Any) -> Any:
    """The class that a call of `part` creates; for a partial, its class, which LightningCLI passes to an
    instantiator.
    """
    if isinstance(part, partial):
        return next((argument for argument in part.args if isinstance(argument, type)), part.func)
    return part


def _class(made: type, init_args: Mapping[str, Any]) -> dict[str, Any]:
    if "<locals>" in made.__qualname__:
        raise ConfigError(
            f"{made.__qualname__} cannot be found again from a checkpoint; define the class at the top of a module."
        )
    described: dict[str, Any] = {"class_path": public_path(f"{made.__module__}.{made.__qualname__}")}
    if init_args:
        described["init_args"] = {key: specification(value) for key, value in init_args.items()}
    return described
