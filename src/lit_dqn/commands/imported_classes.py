"""The classes that settings can name, after import, including those of other packages."""

import importlib
import inspect
import types
import typing
from collections import abc
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule

from lit_dqn.commands.inputs import SECTIONS, Argument, Class, Hint
from lit_dqn.errors import ConfigError, one_line
from lit_dqn.exports import EXPORTS
from lit_dqn.learning.networks import Head
from lit_dqn.training.agent import LitAgent

_SCALARS = {int: "int", float: "float", bool: "bool", str: "str", type(None): "null", Path: "str"}
_MANY = 14
"""The most names in a sentence."""


class ImportedClasses:
    """`Classes` that are imported, from any package."""

    def __init__(self) -> None:
        self._kinds: dict[str, type] = {"LitAgent": LitAgent}

    def section(self, name: str) -> Class | None:
        module, _, cls = SECTIONS[name].rpartition(".")
        return self._described(getattr(importlib.import_module(module), cls))

    def named(self, name: str, kind: str) -> Class | None:
        if name in EXPORTS:
            found = _imported(f"lit_dqn.{EXPORTS[name]}.{name}")
        elif "." in name:
            found = _imported(name)
        else:
            found = next((cls for cls in self._subclasses(kind) if cls.__name__ == name), None)
            if found is None:
                raise ConfigError("")
        if isinstance(found, type):
            return self._described(found)
        if callable(found):
            return None
        raise ConfigError(f"{name} is not a class")

    def choices(self, kind: str) -> list[str]:
        classes = [cls for cls in self._subclasses(kind) if not inspect.isabstract(cls) and cls.__name__[0] != "_"]
        if kind == "Env":
            return []  # wrappers are callables from env to env, without a common class
        if kind == "Module":
            # Agents and heads are modules, too, and other packages have networks of the same names.
            own = [cls for cls in classes if _is_ours(cls) and not issubclass(cls, LightningModule | Head)]
            return sorted({f"lit_dqn.{cls.__name__}" for cls in own})
        own = [cls for cls in classes if _is_ours(cls)]
        return sorted({cls.__name__ for cls in own or classes})[:_MANY]

    def _subclasses(self, kind: str) -> list[type]:
        return list(_subclasses(self._kinds[kind])) if kind in self._kinds else []

    def _described(self, cls: type) -> Class:
        try:
            hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
            parameters = list(inspect.signature(cls).parameters.values())
        except (TypeError, ValueError, NameError):
            return Class(cls.__name__, _line(cls), takes_more=True)
        arguments = {}
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                default = parameter.default
                if default is not parameter.empty and not isinstance(
                    default, bool | int | float | str | tuple | list | None
                ):
                    made = default if isinstance(default, type) else type(default)
                    default = self._described(made) if made.__module__.startswith("lit_dqn.") else parameter.empty
                hint = self._hint(hints.get(parameter.name, Any))
                arguments[parameter.name] = Argument(hint) if default is parameter.empty else Argument(hint, default)
        more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        return Class(cls.__name__, _line(cls), arguments, more, inspect.isabstract(cls))

    def _hint(self, hint: Any) -> Hint:
        origin, parts = typing.get_origin(hint), typing.get_args(hint)
        if hint in _SCALARS:
            return Hint(frozenset({_SCALARS[hint]}))
        if origin in (typing.Union, types.UnionType):
            union = Hint()
            for part in parts:
                union = union | self._hint(part)
            return union
        if origin is typing.Literal:
            return Hint(choices=parts)
        if origin is abc.Callable and len(parts) == 2:
            return self._kind(parts[1])
        if isinstance(origin, type) and issubclass(origin, abc.Mapping):
            return Hint(frozenset({"mapping"}))
        if isinstance(origin, type) and issubclass(origin, abc.Iterable) and parts:
            return Hint(items=self._hint(parts[0]))
        if isinstance(hint, type) and issubclass(hint, Enum):
            return Hint(choices=tuple(hint.__members__))
        if isinstance(hint, type) and hint is not torch.Tensor and hint.__module__ != "builtins" and origin is None:
            return self._kind(hint)
        return Hint(anything=hint is not torch.Tensor)

    def _kind(self, kind: Any) -> Hint:
        if not isinstance(kind, type):
            return Hint(anything=True)
        self._kinds[kind.__name__] = kind
        return Hint(kinds=(kind.__name__,))


def _is_ours(cls: type) -> bool:
    return cls.__name__ in EXPORTS and cls.__module__.startswith("lit_dqn.")


def _line(cls: type) -> frozenset[str]:
    return frozenset(base.__name__ for base in cls.__mro__)


def _subclasses(cls: type) -> Iterator[type]:
    subclasses: list[type] = type.__subclasses__(cls)
    for subclass in subclasses:
        yield subclass
        yield from _subclasses(subclass)


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ConfigError(f"{module} has no {attribute}") from error
    except ModuleNotFoundError as error:
        raise ConfigError(f"{module} cannot be imported: {error} (is its package installed?)") from error
    except Exception as error:  # importing a module may raise anything
        raise ConfigError(f"{module} cannot be imported: {one_line(error)}") from error
