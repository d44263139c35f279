"""Several simultaneous discrete actions, combined into one, and continuous actions as discrete ones."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import DiscretizeAction
from numpy.typing import NDArray

from lit_dqn.branches import Branches

MOST_COMBINATIONS = 1024
"""The most combinations that each have a value of their own, unless a setting says so."""


class CombinedSpace(spaces.Discrete):
    """The numbers of the combinations of several discrete actions.

    Args:
        branches: the parts, and how their combinations are numbered.

    """

    def __init__(self, branches: Branches) -> None:
        super().__init__(branches.num_actions)
        self.branches = branches


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
        self._branches = Branches(space.nvec.reshape(-1).tolist())
        self._parts_space = space
        self.action_space = CombinedSpace(self._branches)

    def action(self, action: int) -> NDArray[np.integer]:
        """The parts of an action, in the form that the env takes."""
        space = self._parts_space
        parts = np.array(self._branches.parts_of(int(action)), space.dtype)
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
        masks = info.get("action_mask") if isinstance(info, dict) else None
        many = self._branches.num_actions > MOST_COMBINATIONS  # then nobody asks for masks
        if many or not isinstance(masks, tuple):
            return info
        try:
            parts = [as_mask(mask, num) for mask, num in zip(masks, self._branches.choices, strict=True)]
        except ValueError:
            return info  # `MaskedEnv` refuses it
        allowed = np.ones(1, np.bool_)
        for part in parts:
            allowed = np.logical_and.outer(allowed, part)
        return {**info, "action_mask": allowed.reshape(-1)}


def as_mask(given: Any, num_actions: int) -> NDArray[np.bool_]:
    """An env's mask as an array, [num_actions].

    Raises:
        ValueError: if it is not one number for each action.

    """
    mask = np.asarray(given)
    if mask.shape != (num_actions,) or mask.dtype.kind not in "biuf":
        raise ValueError(f"it has the shape {mask.shape} and the dtype {mask.dtype}")
    return mask.astype(np.bool_)


def num_combinations(space: spaces.MultiDiscrete) -> int:
    """The number of combinations of its actions."""
    return int(np.prod(space.nvec, dtype=object))


class DiscretizedActions(DiscretizeAction):
    """Continuous actions as several discrete ones: each dimension takes evenly spaced values from its lowest to its
    highest.

    With two of them the agent is bang-bang (Seyde et al. 2021); with an odd number, the middle is one of them.
    Gymnasium's `DiscretizeAction` takes the middles of equal intervals instead, and never the limits.

    Args:
        env: an env whose actions are a `Box` with finite limits.
        bins: the number of values of each dimension, one number for all or a list.

    Raises:
        ValueError: if a dimension has fewer than two values, or no finite limits.

    """

    def __init__(self, env: gymnasium.Env, bins: int | tuple[int, ...] = 3) -> None:
        super().__init__(env, bins if isinstance(bins, int) else tuple(bins), multidiscrete=True)
        if min(self.bins) < 2:
            raise ValueError(f"bins {bins} must be at least 2, the lowest and the highest value")
        limits = zip(self.low, self.high, self.bins, strict=True)
        self.bin_centers = [np.linspace(low, high, bins) for low, high, bins in limits]
