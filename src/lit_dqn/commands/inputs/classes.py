"""Descriptions of what can be configured: classes, their arguments, and the values that an argument takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

NO_DEFAULT: Any = object()


@dataclass(frozen=True)
class Hint:
    """The values that an argument takes.

    Attributes:
        scalars: a subset of `int`, `float`, `bool`, `str`, `null`, `mapping`.
        choices: names of an Enum, or values of a Literal.
        kinds: names of classes whose objects it takes, or, if it takes factories, of the objects that they create.
        items: the values in a list.
        anything: whether it also takes other values.

    """

    scalars: frozenset[str] = frozenset()
    choices: tuple[Any, ...] = ()
    kinds: tuple[str, ...] = ()
    items: "Hint | None" = None
    anything: bool = False

    def __or__(self, other: "Hint") -> "Hint":
        return Hint(
            self.scalars | other.scalars,
            self.choices + other.choices,
            self.kinds + other.kinds,
            self.items or other.items,
            self.anything or other.anything,
        )


ANYTHING = Hint(anything=True)


@dataclass(frozen=True)
class Argument:
    """One argument of a class, with its default if that is a plain value, or the class of the default if it is an
    object.
    """

    hint: Hint = ANYTHING
    default: Any = NO_DEFAULT


@dataclass(frozen=True)
class Class:
    """A class that settings can name.

    Attributes:
        name: without its module.
        line: its own name, and those of its bases, recursively.
        arguments: by name.
        takes_more: whether it takes other arguments, too, as with `**kwargs`.
        abstract: whether only its subclasses can be instantiated.

    """

    name: str
    line: frozenset[str] = frozenset()
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    takes_more: bool = False
    abstract: bool = False


class Classes(Protocol):
    """A source of classes."""

    def section(self, name: str) -> Class | None:
        """The class that a section of the settings configures, such as `data`; None if it is unknown."""

    def named(self, name: str, kind: str) -> Class | None:
        """The class that a setting names, for an argument of a kind; None if it is unknown.

        Raises:
            ConfigError: if there is none; the message does not begin with the key.

        """

    def choices(self, kind: str) -> list[str]:
        """The names of lit_dqn's own classes of a kind in settings."""
