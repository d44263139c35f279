"""What there is to configure, in words: classes, their arguments, and the values that an argument takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

NO_DEFAULT: Any = object()


@dataclass(frozen=True)
class Hint:
    """The values that an argument takes.

    Attributes:
        scalars: of `int`, `float`, `bool`, `str`, `null`, `mapping`.
        choices: names of an Enum, or values of a Literal.
        kinds: names of classes whose objects it takes, or, where it takes what makes an object, of what is made.
        items: of a list.
        anything: whether more is possible than these words say.

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
    """One argument of a class, with the default where that is a plain value or an object, of which the class."""

    hint: Hint = ANYTHING
    default: Any = NO_DEFAULT


@dataclass(frozen=True)
class Class:
    """A class that settings can name.

    Attributes:
        name: short.
        line: the names of its bases, their bases and so on, and its own.
        arguments: by their names.
        takes_more: whether it takes other arguments, too, as with `**kwargs`.
        abstract: whether only its subclasses make objects.

    """

    name: str
    line: frozenset[str] = frozenset()
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    takes_more: bool = False
    abstract: bool = False


class Classes(Protocol):
    """Where classes are looked up."""

    def section(self, name: str) -> Class | None:
        """The class that a section of the settings is for, such as `data`; None if nothing is known of it."""

    def named(self, name: str, kind: str) -> Class | None:
        """The class that a setting names, for an argument of a kind; None if nothing is known of it.

        Raises:
            ConfigError: if there is none, without the key.

        """

    def choices(self, kind: str) -> list[str]:
        """How lit_dqn's own classes of a kind are named in settings."""
