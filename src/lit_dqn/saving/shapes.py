"""Checks of the shapes of observations and actions in a checkpoint."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lit_dqn.branches import MOST
from lit_dqn.parts import DTYPES, Part
from lit_dqn.saving.checks import flag, list_of, record, refuse, text, whole

SHAPE = list_of(whole(1, 2**31))

PART = record({"shape": SHAPE, "dtype": text, "image": flag, "frames": whole(1, 2**31)})


def num_actions(value: Any, where: str) -> None:
    """A number of actions, or those of the choices of each part of an action.

    Raises:
        ValueError: if it is neither.

    """
    if not isinstance(value, list | tuple):
        whole(1, 2**31)(value, where)
        return
    list_of(whole(1, 2**31))(value, where)
    if not value or combinations_of(value) > MOST:
        refuse(where, "has no parts, or too many combinations")


def combinations_of(num_actions: int | Sequence[int]) -> int:
    """The number of actions, all combinations of parts included."""
    return num_actions if isinstance(num_actions, int) else math.prod(num_actions)


def observation_shape(value: Any, where: str) -> None:
    """The shape of one array, or of parts by name.

    Raises:
        ValueError: if it is neither.

    """
    if not isinstance(value, Mapping):
        SHAPE(value, where)
        return
    if not value:
        refuse(where, "has no parts")
    for name, part in value.items():
        text(name, f"a name in {where}")
        PART(part, f"{where}.{name}")
        if part.keys() != set(Part._fields) or part["dtype"] not in DTYPES:
            refuse(f"{where}.{name}", "is not a part of an observation")
    frames = max(part["frames"] for part in value.values())
    for name, part in value.items():
        # Only frames of images are stacked, equally many in all parts, along the first axis.
        first = part["shape"][0] if part["shape"] else 1
        if part["frames"] != (frames if part["image"] else 1) or first % part["frames"]:
            refuse(f"{where}.{name}", f"has {part['frames']} frames, which do not fit")
