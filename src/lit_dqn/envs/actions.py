"""Several discrete actions at once, as one."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

MOST_COMBINATIONS = 1024
"""Of which each is an action with a value of its own."""


class CombinedActions(gymnasium.ActionWrapper):
    """An env with several discrete actions (`MultiDiscrete`) as one that has an action for each combination of them.

    Combinations are numbered as NumPy numbers the places of an array, the last action counting fastest: of actions
    (a, b) with nvec [3, 2] the numbers 0, 1, 2, ... are (0, 0), (0, 1), (1, 0), ...

    A mask in the infos may be one for each of the actions, a tuple as Gymnasium's `MultiDiscrete.sample` takes it; then
    a combination is allowed if all its parts are.

    Args:
        env: whose action space is `MultiDiscrete`.

    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.action_space
        assert isinstance(space, spaces.MultiDiscrete)
        self._parts = tuple(space.nvec.reshape(-1).tolist())
        self._parts_space = space
        self.action_space = spaces.Discrete(num_combinations(space))

    def action(self, action: int) -> NDArray[np.integer]:
        """The parts of an action, as the env takes them."""
        space = self._parts_space
        parts = np.array(np.unravel_index(int(action), self._parts), space.dtype)
        return parts.reshape(space.nvec.shape) + space.start

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the env's."""
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._with_one_mask(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's, of the parts of an action."""
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
    """Combinations of its actions."""
    return int(np.prod(space.nvec, dtype=object))
