"""Wraps envs with observations of several parts, `Dict` and `Tuple`; observations become rows of bytes (`Parts`)."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lit_dqn.envs.observations import RowSpace, channels_last, is_image, stored_dtype
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.parts import Part, Parts


class RowEnv(gymnasium.Wrapper):
    """Wraps an env with observations `Dict` or `Tuple`; observations become the rows of their parts.

    Nested parts have both names, `outer/inner`; those of a `Tuple` are called `part_0`, `part_1`, ...

    Args:
        env: with all its wrappers.
        env_id: of the env, for messages.
        name: of the env, for messages.

    Raises:
        ConfigError: if a part of its observations is neither an array nor a number, or is empty, two have the same
            name, or there is none.

    """

    def __init__(self, env: gymnasium.Env, env_id: str, name: str) -> None:
        super().__init__(env)
        self._env_name = name
        self._leaves = list(_leaves(env_id, env.observation_space))
        _check_leaves(env_id, self._leaves)
        self.parts = Parts({leaf.name: leaf.part for leaf in self._leaves})
        self.observation_space = RowSpace(self.parts)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the env's.

        Raises:
            TrainingError: if a part of the observation is missing, or does not match the env's space.

        """
        result = self.env.reset(seed=seed, options=options)
        if not isinstance(result, tuple) or len(result) != 2:
            return result  # `CheckedEnv` refuses it
        return self._row(result[0]), result[1]

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's.

        Raises:
            TrainingError: as for `reset`.

        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._row(observation), reward, terminated, truncated, info

    def _row(self, observation: Any) -> NDArray[np.uint8]:
        return self.parts.pack({leaf.name: self._array(leaf, observation) for leaf in self._leaves})

    def _array(self, leaf: "_Leaf", observation: Any) -> NDArray[Any]:
        try:
            shown = observation
            for key in leaf.path:
                shown = shown[key]
            if np.shape(shown) == leaf.space.shape:
                return leaf.as_array(shown)
            what = f"an array of shape {np.shape(shown)}"
        except (KeyError, IndexError, TypeError, ValueError) as error:
            what = f"none that can be read ({type(error).__name__}: {error})"
        raise TrainingError(
            f"env_id: {self._env_name} shows of its part {leaf.name!r} {what}, though its observation space says "
            f"{leaf.space}; fix the environment."
        )


class _Leaf:
    """A part of an observation: its place, and its conversion to an array."""

    def __init__(self, path: tuple[Any, ...], names: tuple[str, ...], space: spaces.Space[Any], env_id: str) -> None:
        self.path, self.name, self.space = path, "/".join(names), space
        self.as_array: Callable[[Any], NDArray[Any]] = np.asarray
        if isinstance(space, spaces.Box):
            shape = space.shape or (1,)  # a single number
            if channels_last(space):
                self.as_array, shape = _channels_first, (shape[-1], *shape[:-1])
            self.part = Part(shape, stored_dtype(space).name, is_image(space))
        elif isinstance(space, spaces.MultiBinary):
            self.part = Part(space.shape, "bool", image=False)
        elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            self.part = Part((spaces.flatdim(space),), "bool", image=False)
            self.as_array = self._one_hot
        else:
            raise ConfigError(
                f"env_id: {env_id!r} has observations of several parts, and {self.name!r} is of type "
                f"{type(space).__name__}; a network takes arrays and numbers: leave it out, by a "
                "gymnasium.wrappers.FilterObservation in data.wrappers."
            )

    def _one_hot(self, value: Any) -> NDArray[Any]:
        if not self.space.contains(np.asarray(value).astype(self.space.dtype)[()]):
            raise ValueError(f"{value} is out of its range")
        return np.asarray(spaces.flatten(self.space, value))


def _check_leaves(env_id: str, leaves: list[_Leaf]) -> None:
    names = [leaf.name for leaf in leaves]
    wrong = None if leaves else "no part at all"
    for leaf in leaves:
        if names.count(leaf.name) > 1:
            wrong = f"two parts with the name {leaf.name!r}"
        elif 0 in leaf.part.shape:
            wrong = f"a part {leaf.name!r} that holds no number"
    if wrong is not None:
        raise ConfigError(
            f"env_id: {env_id!r} has observations of several parts, with {wrong}; give it others by a class in "
            "data.wrappers, or choose another environment."
        )


def _channels_first(image: Any) -> NDArray[Any]:
    return np.moveaxis(np.asarray(image), -1, 0)


def _leaves(
    env_id: str, space: spaces.Space[Any], path: tuple[Any, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[_Leaf]:
    """The parts of a space, in its order."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.items():
            yield from _leaves(env_id, inner, (*path, key), (*names, str(key)))
    elif isinstance(space, spaces.Tuple):
        for number, inner in enumerate(space):
            yield from _leaves(env_id, inner, (*path, number), (*names, f"part_{number}"))
    else:
        yield _Leaf(path, names, space, env_id)
