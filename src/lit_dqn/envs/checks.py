"""Checks of an env's output: unusable values are reported at once, not when the loss has become NaN."""

import traceback
from collections.abc import Mapping
from math import isfinite
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lit_dqn.envs.observations import RowSpace, stored_dtype
from lit_dqn.errors import ConfigError, TrainingError, one_line
from lit_dqn.parts import Parts

FLAGS = frozenset((bool, np.bool_, int))
"""Types of terminated and truncated that need no closer look."""

FAILURES = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What wrappers raise if they cannot read what an env has returned."""


class CheckedEnv(gymnasium.Wrapper):
    """Ends the run if the env returns a reward that is not a number, an observation of an unexpected shape, or
    something else than Gymnasium expects.

    `check_finite` checks for all envs together that observations are finite, which is cheaper.

    Args:
        env: with all its wrappers.
        name: of the env, for messages.

    """

    def __init__(self, env: gymnasium.Env, name: str) -> None:
        super().__init__(env)
        self._name = name
        self._shape = env.observation_space.shape
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the env's.

        Raises:
            TrainingError: if the observation has another shape, or the result is not (observation, info).

        """
        self._steps = 0
        try:
            result = self.env.reset(seed=seed, options=options)
        except FAILURES as error:
            self._explain(error, "after a reset", "reset returns (observation, info)")
            raise
        if not isinstance(result, tuple) or len(result) != 2:  # an array of two numbers could also be unpacked
            raise TrainingError(f"env_id: {self._name} does not return (observation, info) from reset; fix it.")
        if np.shape(result[0]) != self._shape:
            self._refuse_observation(result[0], "after a reset")
        self._check_info(result[1], "after a reset")
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the env's.

        Raises:
            TrainingError: if the reward is not a number, the observation has another shape, terminated or truncated is
                neither true nor false, or the result is not (observation, reward, terminated, truncated, info).

        """
        self._steps += 1
        try:
            result = observation, reward, terminated, truncated, info = self.env.step(action)
        except FAILURES as error:
            expected = "step returns (observation, reward, terminated, truncated, info)"
            self._explain(error, self._where(action), expected)
            raise
        try:
            if (
                isfinite(reward)
                and observation.shape == self._shape
                and (terminated is False or type(terminated) in FLAGS)  # the first is faster, and true of most steps
                and (truncated is False or type(truncated) in FLAGS)
                and isinstance(info, dict)
            ):
                return result
        except (TypeError, AttributeError):
            pass
        self._look_closer(observation, reward, {"terminated": terminated, "truncated": truncated}, info, action)
        return result

    def _where(self, action: Any) -> str:
        return f"in step {self._steps:,} of an episode, after action {action}"

    def _explain(self, error: Exception, where: str, expected: str) -> None:
        """Name what the env has returned, if that is why its wrappers failed."""
        if _is_of_wrappers(error, self.unwrapped):
            raise TrainingError(
                f"env_id: {self._name} returns {where}, what its wrappers cannot read ({type(error).__name__}: "
                f"{one_line(error)}); fix the environment: {expected}."
            ) from error

    def _look_closer(self, observation: Any, reward: Any, flags: Mapping[str, Any], info: Any, action: Any) -> None:
        where = self._where(action)
        try:
            is_number = isfinite(reward)
        except TypeError:
            is_number = False
        if not is_number:
            raise TrainingError(
                f"env_id: {self._name} gives the reward {reward!r} {where}; fix the environment: a reward is a finite "
                "number."
            )
        if np.shape(observation) != self._shape:
            self._refuse_observation(observation, where)
        for name, flag in flags.items():
            if np.size(flag) != 1 or flag not in (False, True):
                raise TrainingError(
                    f"env_id: {self._name} gives as {name} {_shown(flag)} {where}; fix the environment: it is True or "
                    "False."
                )
        self._check_info(info, where)

    def _check_info(self, info: Any, where: str) -> None:
        if not isinstance(info, Mapping):
            raise TrainingError(
                f"env_id: {self._name} gives the info {_shown(info)} {where}; fix the environment: an info is a "
                "dictionary, which may be {}."
            )

    def _refuse_observation(self, observation: Any, where: str) -> None:
        what = "no observation but None" if observation is None else f"an observation of shape {np.shape(observation)}"
        raise TrainingError(
            f"env_id: {self._name} shows {what} {where}, though its observation space says {self._shape}; "
            "fix the environment."
        )


def check_finite(
    frames: NDArray[Any],
    space: spaces.Space[Any],
    env_id: str,
    step: int | NDArray[np.int64],
    first_env: int = 0,
) -> None:
    """Refuse observations with NaN or infinity.

    Args:
        frames: [N, *shape], as stored.
        space: of the observations of an env.
        env_id: of the envs, for the message.
        step: of the episode, for the message; a number, or one per env [N].
        first_env: the number of the first env, for the message.

    Raises:
        TrainingError: names the env, the step and the value.

    """
    parts: Parts | None = None
    if frames.dtype.kind != "f":
        if not isinstance(space, RowSpace):
            return
        parts = space.parts
        frames = parts.numbers(frames)
    # A single cheap call. It may overflow although all numbers are finite.
    if isfinite(np.vdot(frames, frames)):
        return
    wrong = ~np.isfinite(frames).reshape(len(frames), -1)
    for env in map(int, np.flatnonzero(wrong.any(axis=1))):
        number = int(np.flatnonzero(wrong[env])[0])
        place = f"number {number + 1} of the {wrong.shape[1]} of its observation"
        if parts is not None:
            place = f"a number of the part {parts.name_at(number)!r} of its observation"
        value = frames[env].flat[number]
        # The env may have shown a float64, which is stored as a float32.
        what = str(value) if np.isnan(value) else f"{value}, or a finite number too large for float32,"
        raise TrainingError(
            f"env_id: env {first_env + env} of {env_id} shows {what} as {place} at step "
            f"{np.broadcast_to(step, len(frames))[env]:,} of its episode; fix the environment, or bound what it shows "
            "by a wrapper."
        )


def check_first_step(env_id: str, env: gymnasium.Env, action_mask: bool = False) -> None:
    """Refuse an env that fails in its first steps, before a run is created.

    Args:
        env_id: of the env.
        env: from `make_env`.
        action_mask: whether its infos contain action masks.

    Raises:
        ConfigError: if `reset` or `step` fails, or does not follow Gymnasium's API.

    """
    verb, info = "reset", dict[str, Any]()
    try:
        observation, info = env.reset(seed=0)
        check_finite(_as_stored(observation, env), env.observation_space, env_id, 0)
        verb = "step"
        observation, *_ = env.step(int(np.argmax(info["action_mask"])) if action_mask else 0)
        check_finite(_as_stored(observation, env), env.observation_space, env_id, 1)
    except Exception as error:
        reason = _wrong_form(env.unwrapped)
        if reason is None and isinstance(error, TrainingError):
            raise ConfigError(one_line(error)) from error
        reason = reason or f"{type(error).__name__}: {one_line(error)}"
        if "action_mask" in info and not action_mask:
            reason += "; its infos say which actions are allowed: set --data.action_mask true."
        raise ConfigError(f"env_id: {env_id!r} fails in its first {verb}: {reason}") from error


def _as_stored(observation: Any, env: gymnasium.Env) -> NDArray[Any]:
    return np.asarray(observation).astype(stored_dtype(env.observation_space))[None]


def _wrong_form(env: gymnasium.Env) -> str | None:
    """How the results of an unwrapped env violate Gymnasium's API; None if they do not."""
    try:
        result: Any = env.reset(seed=0)
        if not isinstance(result, tuple) or len(result) != 2:
            return f"it returns {_form(result)}; return two, (observation, info), where info may be {{}}."
        result = env.step(env.action_space.sample())
        if not isinstance(result, tuple) or len(result) != 5:
            return (
                f"it returns {_form(result)}; return five, (observation, reward, terminated, truncated, info): "
                "the `done` of old is terminated where nothing comes after it, and truncated at a limit of time."
            )
    except Exception:
        return None
    return None


def _form(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"one value, of type {type(result).__name__}"


def _is_of_wrappers(error: Exception, env: gymnasium.Env) -> bool:
    """Whether an error comes from Gymnasium's or lit_dqn's wrappers, and not from the env or another library."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package not in ("gymnasium", "lit_dqn", "numpy") or frame.f_locals.get("self") is env:
            return False
    return True


def _shown(value: Any) -> str:
    return " ".join(repr(value).split())
