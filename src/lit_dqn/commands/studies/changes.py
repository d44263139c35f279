"""The differences of two settings."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(then: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of all differences of two mappings of plain values."""
    before, after = dict(_flat(then)), dict(_flat(now))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


def changes(then: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """As `differences`, for two whole configs: a setting that an earlier release did not have counts as unchanged."""
    known = dict(_flat(then))
    return (found for found in differences(then, now) if found[0] in known)


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, settings
