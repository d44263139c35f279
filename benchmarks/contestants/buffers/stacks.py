"""Frame stacks, for buffers that store them."""

from typing import Any

import numpy as np


class Stacks:
    """The newest four frames of each game; a game's first frame fills its stack."""

    def __init__(self, num_envs: int) -> None:
        self._stacks = np.zeros((num_envs, 4, 84, 84), np.uint8)

    def push(self, played: Any) -> tuple[Any, Any]:
        """The stacks [N, 4, 84, 84] before and after a step."""
        if played.first.any():
            self._stacks[played.first] = played.frame[played.first, None]
        before = self._stacks.copy()
        self._stacks[:, :-1] = before[:, 1:]
        self._stacks[:, -1] = played.next_frame
        return before, self._stacks
