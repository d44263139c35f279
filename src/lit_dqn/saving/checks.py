"""Checks of plain values, and checks made of checks: a grammar for what a checkpoint must hold."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

LARGEST = 2**63 - 1

Check = Callable[[Any, str], None]
"""(value, its place): raises ValueError if the value is not valid there."""


def refuse(where: str, why: str) -> None:
    """Raise the error.

    Raises:
        ValueError: always.

    """
    raise ValueError(f"{where} {why}")


def whole(low: int = 0, high: int = LARGEST) -> Check:
    """An integer in [low, high]."""

    def check(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            refuse(where, f"is {short(value)}, not a whole number from {low} to {high}")

    return check


def number(value: Any, where: str) -> None:
    """Any number, infinite ones and NaN included."""
    if type(value) not in (int, float):
        refuse(where, f"is {short(value)}, not a number")


def seconds(value: Any, where: str) -> None:
    """A time."""
    number(value, where)
    if not 0 <= value < math.inf:
        refuse(where, f"is {value}, not a time")


def flag(value: Any, where: str) -> None:
    """True or False."""
    if type(value) is not bool:
        refuse(where, f"is {short(value)}, not true or false")


def text(value: Any, where: str) -> None:
    """A string."""
    if type(value) is not str:
        refuse(where, f"is {short(value)}, not a text")


def mapping(value: Any, where: str) -> None:
    """A dictionary with any contents."""
    if not isinstance(value, Mapping):
        refuse(where, f"is {short(value)}, not a dictionary")


def list_of(check: Check, length: int | None = None) -> Check:
    """A list or tuple of this length."""

    def check_all(value: Any, where: str) -> None:
        if not isinstance(value, list | tuple):
            refuse(where, f"is {short(value)}, not a list")
        if length is not None and len(value) != length:
            refuse(where, f"has {len(value)} values, not {length}")
        for index, part in enumerate(value):
            check(part, f"{where}[{index}]")

    return check_all


def of_each_shard(check: Check, shards: int | None = None) -> Check:
    """A check of a single value or, for several shards, of a list of values.

    Args:
        check: for each value.
        shards: the required number; None: any number.

    """

    def checked(value: Any, where: str) -> None:
        if isinstance(value, list) if shards is None else shards > 1:
            list_of(check, shards)(value, where)
        else:
            check(value, where)

    return checked


def sequence_of(*checks: Check) -> Check:
    """A list or tuple with one check for each value."""

    def check_each(value: Any, where: str) -> None:
        list_of(lambda *_: None, len(checks))(value, where)
        for index, check in enumerate(checks):
            check(value[index], f"{where}[{index}]")

    return check_each


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """A dictionary with at least these keys."""

    def check(value: Any, where: str) -> None:
        mapping(value, where)
        for key, part in required.items():
            if key not in value:
                refuse(where, f"has no {key}")
            part(value[key], f"{where}.{key}")
        for key, part in (optional or {}).items():
            if key in value:
                part(value[key], f"{where}.{key}")

    return check


def either(first: str, second: str, check: Check) -> Check:
    """A dictionary with one of two keys."""

    def check_either(value: Any, where: str) -> None:
        mapping(value, where)
        if not {first, second} & value.keys():
            refuse(where, f"has no {first}")
        record({}, {first: check, second: check})(value, where)

    return check_either


def all_of(*checks: Check) -> Check:
    """A value that passes all checks."""

    def check_all(value: Any, where: str) -> None:
        for check in checks:
            check(value, where)

    return check_all


def optional(check: Check) -> Check:
    """None, or a value that passes the check."""

    def check_some(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return check_some


def tensor(dtypes: tuple[torch.dtype, ...], axes: int = 1, length: int | None = None) -> Check:
    """A tensor of one of these dtypes, with this number of axes, the first one of this length."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, Tensor) or value.dtype not in dtypes or value.dim() != axes:
            refuse(where, f"is {short(value)}, not a tensor of {axes} axes of {', '.join(map(str, dtypes))}")
        if length is not None and len(value) != length:
            refuse(where, f"has {len(value)} values, not {length}")

    return check


def short(value: Any) -> str:
    """A short description of a value."""
    if isinstance(value, Tensor):
        return f"a tensor {value.dtype} {tuple(value.shape)}"
    if isinstance(value, bool | int | float | str | None):
        return repr(value)[:60] if not isinstance(value, int) or abs(value) < 2**200 else "a number without end"
    return f"a {type(value).__name__}"
