"""Checks of the settings of a checkpoint: a config file is code, but a checkpoint may come from a stranger.

Settings name the parts of a run by class paths, and turning a path into an object imports a module and calls what it
finds there. So the paths of a checkpoint are only looked up in a dictionary of classes (`Trust`): no module is
imported, no attribute is reached through another module, no function is called. If an argument takes any value at all,
no class is created for it; if it takes a class, a text is refused, because the command line reads texts as paths of
classes and of files.
"""

import importlib.util
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import set_parsing_settings

from lit_dqn.errors import ConfigError
from lit_dqn.saving.texts import Text
from lit_dqn.saving.trust import ENV_OF_A_MODULE, Trust, path_of

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""As the parser's limit."""

MAX_DEPTH = 12
"""The deepest nesting of settings."""

MAX_TEXT = 10_000
"""The longest text that is checked, in characters."""

ADDRESSES = {"lit_dqn.RayActors": "address"}
"""Addresses among arguments, by class: their answers are unpickled, so only a config or the command line may set them.
"""

AT_HOME = ("local", "auto")
"""Addresses of this machine."""

PLAIN = (bool, int, float, complex, type(None))
ANYTHING = frozenset({Any, object, list, tuple, set, frozenset, Sequence})


def checked_arguments(
    made: type, arguments: Mapping[str, Any], trust: Trust, *, source: str, remedy: str
) -> dict[str, Any]:
    """The arguments of a class from a checkpoint, if they name only trusted classes.

    Args:
        made: their class.
        arguments: plain values; `{"class_path": ..., "init_args": {...}}` for classes and objects.
        trust: what they may name.
        source: their origin, with which error messages begin.
        remedy: what to do about the user's own class.

    Returns:
        A copy, in which each class is named by the module that defines it.

    Raises:
        ConfigError: names the first argument that could run code.

    """
    close_the_parser()
    return _Reader(trust, source, remedy).arguments(made, arguments, where="", depth=0)


def close_the_parser() -> None:
    """A second line of defence: the parser creates no class for arguments of any type, and imports nothing on its
    deny-list.
    """
    set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=[])


class Refused(ConfigError):
    """A setting that is not read, whoever wrote it.

    Attributes:
        where: the argument, as a path below its class.
        why: what it holds, as the end of a sentence.

    """

    def __init__(self, source: str, where: str, why: str) -> None:
        super().__init__(f"{source} is refused: its {where} {why}; reading it could run code.")
        self.where = where
        self.why = why


class _Reader:
    def __init__(self, trust: Trust, source: str, remedy: str) -> None:
        self.trust = trust
        self.source = source
        self.remedy = remedy

    def arguments(self, made: type, arguments: Any, where: str, depth: int) -> dict[str, Any]:
        if not isinstance(arguments, Mapping):
            raise self._refused(where or made.__name__, f"is {type(arguments).__name__}, not arguments by their names")
        hints = _hints(made)
        takes_more = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(made.__init__).parameters.values())  # type: ignore[misc]
        checked = {}
        for name, value in arguments.items():
            # A leading underscore marks a key for Lightning, not an argument.
            named = isinstance(name, str) and NAME.fullmatch(name) and not name.startswith("_")
            if not named or not (takes_more or name in hints):
                raise self._refused(where or made.__name__, f"has {str(name)[:80]!r}, which is none of its arguments")
            place = f"{where}.{name}" if where else name
            if name == "env_id":
                self._check_env_id(value, place)
            if ADDRESSES.get(path_of(made)) == name and value not in AT_HOME:
                continue
            checked[name] = self.value(value, hints.get(name, frozenset({Any})), place, depth + 1)
        return checked

    def value(self, value: Any, takes: frozenset[Any], where: str, depth: int) -> Any:
        """A value for an argument that takes these types."""
        if depth > MAX_DEPTH:
            raise self._refused(where, f"holds settings more than {MAX_DEPTH} deep")
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, str):
            return self._text(value, takes, where)
        if isinstance(value, list | tuple):
            return [self.value(part, takes, f"{where}[{n}]", depth + 1) for n, part in enumerate(value)]
        if isinstance(value, Mapping):
            return self._mapping(value, takes, where, depth)
        raise self._refused(where, f"holds a {type(value).__name__}, which is not a plain value")

    def _mapping(self, value: Mapping[Any, Any], takes: frozenset[Any], where: str, depth: int) -> Any:
        takes_any = bool(takes & {*ANYTHING, dict}) or any(isinstance(taken, _MappingOf) for taken in takes)
        if "class_path" in value:
            if takes_any or not _takes_class(takes):
                raise self._refused(where, f"names a class, {str(value['class_path'])[:80]!r}, and takes none")
            return self._specification(value, takes, where, depth)
        if not takes_any:
            raise self._refused(where, "holds a mapping where it takes none")
        for name in value:
            if not isinstance(name, str) or name.startswith("__"):
                raise self._refused(where, f"has a key {name!r}, which is not a name")
        of_values = next((taken.takes for taken in takes if isinstance(taken, _MappingOf)), frozenset({Any}))
        return {name: self.value(part, of_values, f"{where}.{name}", depth + 1) for name, part in value.items()}

    def _specification(self, value: Mapping[Any, Any], takes: frozenset[Any], where: str, depth: int) -> Any:
        path = value["class_path"]
        part = self.trust.find(path) if isinstance(path, str) else None
        if part is None:
            raise ConfigError(
                f"{self.source} names {str(path)[:80]} as its {where}, not a class that a checkpoint may name; "
                f"if it is yours, {self.remedy}."
            )
        if extra := value.keys() - {"class_path", "init_args"}:
            raise self._refused(where, f"has {', '.join(sorted(map(str, extra)))} besides its class and arguments")
        given = value.get("init_args")
        init_args = self.arguments(part, {} if given is None else given, f"{where}.{part.__name__}", depth + 1)
        if type in takes and not init_args:
            return path_of(part)  # the class itself, in the form of the command line
        return {"class_path": path_of(part)} | ({"init_args": init_args} if init_args else {})

    def _text(self, text: str, takes: frozenset[Any], where: str) -> str:
        if takes & ANYTHING:
            self._check_text_for_anything(text, where)
            return Text(text)
        if _takes_class(takes):
            # The parser would read it as the path of a class or of a file with one.
            harmless = str in takes and NAME.fullmatch(text) and not os.path.lexists(text)
            if not harmless:
                raise self._refused(where, f"is the text {text[:80]!r} and takes a class")
        elif not any(_is_text(taken) for taken in takes):
            raise self._refused(where, f"is the text {text[:80]!r} and takes none")
        return text

    def _check_text_for_anything(self, text: str, where: str) -> None:
        """Refuse a text that the command line would read as YAML, or Gymnasium as an id."""
        if len(text) > MAX_TEXT:
            raise self._refused(where, f"is a text of {len(text):,} letters")
        self._check_env_id(text, where)
        try:
            # Only its form: readers disagree on which scalars are numbers or dates.
            form = yaml.compose(text, Loader=LOADER)
        except yaml.YAMLError:
            return
        if form is not None and not isinstance(form, yaml.ScalarNode):
            raise self._refused(where, f"is the text {text[:80]!r}, which the parser would take apart")

    def _check_env_id(self, env_id: Any, where: str) -> None:
        if not isinstance(env_id, str) or ":" not in env_id:
            return
        module = env_id.split(":")[0]
        if where != "env_id" and not (ENV_OF_A_MODULE.fullmatch(env_id) and _is_installed(module)):
            return
        if not ENV_OF_A_MODULE.fullmatch(env_id) or module.split(".")[0] not in self.trust.packages:
            raise ConfigError(
                f"{self.source} names {env_id[:80]} as its {where}, which would import {module[:80]}; if it is yours, "
                f"{self.remedy}."
            )

    def _refused(self, where: str, why: str) -> "Refused":
        return Refused(self.source, where, why)


def _hints(made: type) -> dict[str, frozenset[Any]]:
    """The types of each argument of a class, including those of its base classes, which `**kwargs` reach."""
    hints: dict[str, frozenset[Any]] = {}
    for base in reversed(made.__mro__):
        constructor = vars(base).get("__init__")
        if not isinstance(constructor, types.FunctionType):
            continue
        try:
            known = typing.get_type_hints(constructor)
        except Exception:  # names that exist only for type checkers
            known = {}
        for name, parameter in inspect.signature(constructor).parameters.items():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and name != "self":
                hints[name] = frozenset(_taken(known.get(name, Any)))
    return hints


def _taken(hint: Any) -> Iterator[Any]:
    """The types in a type hint, without the arguments and results of callables."""
    origin = typing.get_origin(hint)
    if hint is Callable or origin is Callable:
        yield Callable
    elif hint is type or origin is type:
        yield type
    elif origin is typing.Literal:
        yield from {type(value) for value in typing.get_args(hint)}
    elif isinstance(origin or hint, type) and issubclass(origin or hint, Mapping):
        of_values = frozenset(_taken((typing.get_args(hint) or (Any, Any))[1]))
        yield _MappingOf(of_values) if _takes_class(of_values) else dict
    elif origin is not None:
        for argument in typing.get_args(hint):
            if argument is not Ellipsis:
                yield from _taken(argument)
    else:
        yield type(None) if hint is None else hint if isinstance(hint, type) else Any


@dataclass(frozen=True)
class _MappingOf:
    """A mapping whose values take classes."""

    takes: frozenset[Any]


def _is_text(taken: Any) -> bool:
    return isinstance(taken, type) and issubclass(taken, str | Enum | Path)


def _takes_class(takes: frozenset[Any]) -> bool:
    """Whether an argument takes a class, or an object of one."""
    return any(
        taken not in (*PLAIN, *ANYTHING, dict) and not isinstance(taken, _MappingOf) and not _is_text(taken)
        for taken in takes
    )


def _is_installed(module: str) -> bool:
    root = module.split(".")[0]
    return root in sys.modules or importlib.util.find_spec(root) is not None
