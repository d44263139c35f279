"""Several simultaneous discrete actions, combined into one."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

MOST_COMBINATIONS = 1024
"""The most combinations, each of which is an action with its own value."""


class CombinedActions(gymnasium.ActionWrapper):
    """Wraps an env with several discrete actions (`MultiDiscrete`); each combination of them is one action.

    Combinations are numbered like the elements of a NumPy array, with the last action varying fastest: for actions (a,
    b) with nvec [3, 2] the numbers 0, 1, 2, ... are (0, 0), (0, 1), (1, 0), ...

    The infos may have one mask per action, a tuple as for Gymnasium's `MultiDiscrete.sample`; a combination is then
    allowed if all its parts are.

    Args:
        env: an env with the action space `MultiDiscrete`.

    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.action_space
        assert isinstance(space, spaces.MultiDiscrete)
        self._parts = tuple(space.nvec.reshape(-1).tolist())
        self._parts_space = space
        self.action_space = spaces.Discrete(num_combinations(space))

    def action(self, action: int) -> NDArray[np.integer]:
        """The parts of an action, in the form that the env takes."""
        space = self._parts_space
        parts = np.array(np.unravel_index(int(action), self._parts), space.dtype)
        return parts.reshape(space.nvec.shape) + space.start

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the env's."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._with_one_mask(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's, with the parts of the action."""
        observation, reward, terminated, truncated, info = self.env.step(self.action(action))
        return observation, reward, terminated, truncated, self._with_one_mask(info)

    def _with_one_mask(self, info: dict[str, Any]) -> dict[str, Any]:
        masks = info.get("action_mask")
        if not isinstance(masks, tuple) or tuple(map(len, masks)) != self._parts:
            return info
        allowed = np.ones(1, np.bool_)
        for mask in masks:
            allowed = np.logical_and.outer(allowed, np.asarray(mask).astype(np.bool_))
        return {**info, "action_mask": allowed.reshape(-1)}


def num_combinations(space: spaces.MultiDiscrete) -> int:
    """The number of combinations of its actions."""
    return int(np.prod(space.nvec, dtype=object))
