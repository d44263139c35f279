"""Action masks of envs, which are checked at every step."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lit_dqn.envs.actions import CombinedSpace, as_mask
from lit_dqn.errors import TrainingError

ACTION_MASK = "action_mask"
"""The key in the infos of an env, by Gymnasium's convention: 1 or True for each allowed action, [num_actions]."""

OBSERVATION = "observation"
"""The key beside the mask in the observations of an env, by PettingZoo's convention."""


class MaskedEnv(gymnasium.Wrapper):
    """An env whose infos always hold `action_mask`, bool [num_actions], with at least one allowed action.

    After an episode has terminated no action follows, so all count as allowed, and the env's mask is ignored.

    Args:
        env: with all its wrappers.
        name: of the env, for messages.
        place: where the env itself shows the mask, `info` or `observation`, for messages.

    """

    def __init__(self, env: gymnasium.Env, name: str, place: str = "info") -> None:
        super().__init__(env)
        assert isinstance(env.action_space, spaces.Discrete)
        self._all = np.ones(int(env.action_space.n), np.bool_)
        self._name = name
        self._place = place
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the env's.

        Raises:
            TrainingError: if there is no mask, it has another shape, or it allows no action.

        """
        self._steps = 0
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {**info, ACTION_MASK: self._checked(info)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's.

        Raises:
            TrainingError: as for `reset`, except after a termination.

        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        mask = self._all if terminated else self._checked(info)
        return observation, reward, terminated, truncated, {**info, ACTION_MASK: mask}

    def _checked(self, info: dict[str, Any]) -> NDArray[np.bool_]:
        where = f"after step {self._steps:,} of its episode" if self._steps else "after a reset"
        if ACTION_MASK not in info:
            remedy = "let the env or a wrapper give it with every observation, or set --data.action_mask false."
            if self._place == OBSERVATION:
                remedy = "fix the environment: its observation space says that it is there."
            raise TrainingError(f"action_mask: {self._name} gives no {self._place}['action_mask'] {where}; {remedy}")
        try:
            mask = as_mask(info[ACTION_MASK], len(self._all))
        except ValueError as error:
            raise self._refused(info[ACTION_MASK], where) from error
        if not mask.any():
            raise TrainingError(
                f"action_mask: {self._name} forbids every action {where}; fix the environment: allow one, or "
                "terminate the episode there."
            )
        return mask

    def _refused(self, mask: Any, where: str) -> TrainingError:
        forms, has, each = _form(mask), f"it has {len(self._all)} actions", "action"
        if isinstance(mask, tuple) and isinstance(self.action_space, CombinedSpace):
            forms = " and ".join(map(_form, mask))
            has, each = f"its actions have {self.action_space.branches.choices} choices", "choice"
        return TrainingError(
            f"action_mask: {self._name} gives an {self._place}['action_mask'] of {forms} {where}, but {has}; fix the "
            f"environment: a mask has one number for each {each}."
        )


def _form(mask: Any) -> str:
    try:
        array = np.asarray(mask)
    except ValueError:
        return "rows of different lengths"
    return f"shape {array.shape}" if array.dtype.kind in "biuf" else f"dtype {array.dtype}"


class MaskFromObservation(gymnasium.Wrapper):
    """Wraps an env whose observations have a part `action_mask`, like PettingZoo's: moves the mask to the infos. Of
    {"observation": ..., "action_mask": ...} only the observation remains.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        others = {key: space for key, space in env.observation_space.items() if key != ACTION_MASK}
        self._alone = set(others) == {OBSERVATION}
        self.observation_space = others[OBSERVATION] if self._alone else spaces.Dict(others)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the env's."""
        seen, info = self.env.reset(seed=seed, options=options)
        return self._without_mask(seen), _with_mask(info, seen)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        return self._without_mask(seen), reward, terminated, truncated, _with_mask(info, seen)

    # What is no dictionary, or lacks something, the wrappers around this one refuse.

    def _without_mask(self, seen: Any) -> Any:
        if not isinstance(seen, dict):
            return seen
        if self._alone:
            return seen.get(OBSERVATION)
        return {key: part for key, part in seen.items() if key != ACTION_MASK}


def _with_mask(info: Any, seen: Any) -> Any:
    if isinstance(info, dict) and isinstance(seen, dict) and ACTION_MASK in seen:
        return {**info, ACTION_MASK: seen[ACTION_MASK]}
    return info


def holds_a_mask(space: spaces.Space[Any]) -> bool:
    """Whether the observations of a space contain an action mask and at least one other part."""
    return isinstance(space, spaces.Dict) and ACTION_MASK in space.spaces and len(space.spaces) > 1
