"""The parts of an action, where several discrete actions are taken at once, and the numbers of their combinations."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError

MOST = 2**63 - 1
"""The most combinations: their numbers are int64."""


class Branches:
    """Several discrete actions at once: a combination of them has one number, and the last part counts fastest.

    Where the network has an output for each choice of each part, one part after the other, they are its branches.

    Args:
        choices: the number of choices of each part.

    Attributes:
        choices: as given.
        num_actions: the number of combinations.
        num_outputs: the number of choices of all parts.

    Raises:
        ConfigError: if there is no part, a part has no choice, or there are more combinations than int64 can number.

    """

    def __init__(self, choices: Sequence[int]) -> None:
        self.choices = tuple(map(int, choices))
        self.num_actions = math.prod(self.choices)
        self.num_outputs = sum(self.choices)
        if not self.choices or min(self.choices) < 1 or self.num_actions > MOST:
            raise ConfigError(
                f"num_actions: {list(self.choices)} must be the numbers of choices of one or more parts, with fewer "
                "than 2^63 combinations."
            )

    def of_each_part(self, outputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Outputs [N, num_outputs] as those of each part, [N, choices]."""
        return np.split(outputs, np.cumsum(self.choices)[:-1], axis=1)

    def parts_of(self, action: Any) -> tuple[NDArray[np.int64], ...]:
        """The choice of each part in actions [N] or one action."""
        return np.unravel_index(action, self.choices)

    def action_of(self, parts: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
        """The actions [N] with these choices [N] of each part."""
        return np.asarray(np.ravel_multi_index(tuple(parts), self.choices), np.int64)


def plain_choices(num_actions: Any) -> int | tuple[int, ...]:
    """A number of actions, or of the choices of each part, without NumPy's integers, which a space of Gymnasium has."""
    return int(num_actions) if isinstance(num_actions, Integral) else tuple(map(int, num_actions))


def branches_of(agent: object) -> Branches | None:
    """The branches of an agent's network; None: it has an output for each action."""
    branches: Branches | None = getattr(agent, "branches", None)
    return branches
