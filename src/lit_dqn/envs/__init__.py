import difflib
from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lit_dqn.envs import grid
from lit_dqn.envs.episodes import episode_seed
from lit_dqn.envs.maximization_bias import register_maximization_bias
from lit_dqn.errors import ConfigError

__all__ = ["check_first_observation", "episode_seed", "make_env", "make_env_with_pictures", "make_vec", "stored_dtype"]

grid.register_grid_worlds()
register_maximization_bias()


def make_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> gymnasium.Env:
    """One env with discrete actions and array observations; `Discrete` observations become one-hot vectors.

    Args:
        env_id: as registered with Gymnasium; `module:id` imports the module first.
        env_kwargs: handed to `gymnasium.make`.

    Raises:
        ConfigError: if there is no such env, it cannot be made, or it is none that Q-learning can play.

    """
    try:
        env = gymnasium.make(env_id, **(env_kwargs or {}))
    except gymnasium.error.UnregisteredEnv as error:
        near = difflib.get_close_matches(env_id.split(":")[-1], gymnasium.registry, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "is the package that registers it installed?"
        raise ConfigError(f"env_id: there is no environment {env_id!r}; {hint}") from error
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"env_id: {env_id!r} with env_kwargs {dict(env_kwargs or {})} cannot be made: {reason}"
        ) from error
    try:
        return _as_arrays(env_id, env)
    except ConfigError:
        env.close()
        raise


def _as_arrays(env_id: str, env: gymnasium.Env) -> gymnasium.Env:
    if not isinstance(env.action_space, spaces.Discrete):
        raise ConfigError(
            f"env_id: {env_id!r} has the action space {env.action_space}; Q-learning needs discrete actions: "
            "choose another environment or wrap its actions."
        )
    if env.action_space.start != 0:
        raise ConfigError(
            f"env_id: {env_id!r} numbers its actions from {env.action_space.start}; wrap it to count from 0."
        )
    if isinstance(env.observation_space, spaces.Discrete):
        return gymnasium.wrappers.FlattenObservation(env)
    if not isinstance(env.observation_space, spaces.Box):
        raise ConfigError(
            f"env_id: {env_id!r} has observations of type {type(env.observation_space).__name__}; lit_dqn takes "
            "arrays (Box) and numbers (Discrete): wrap it with gymnasium.wrappers.FlattenObservation."
        )
    return env


def make_env_with_pictures(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> gymnasium.Env:
    """As `make_env`; if the env can be rendered, `render()` gives the RGB pictures of the episode so far.

    Raises:
        ConfigError: as `make_env`, and if the env needs a package to draw that is not installed.

    """
    env = make_env(env_id, env_kwargs)
    if "rgb_array" not in env.metadata.get("render_modes", []):
        return env
    env.close()
    env = make_env(env_id, {**(env_kwargs or {}), "render_mode": "rgb_array"})
    try:
        env.reset(seed=0)
        env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"env_id: {env_id!r} cannot be drawn: {' '.join(str(error).split())}") from error
    return gymnasium.wrappers.RenderCollection(env)


def make_vec(env_id: str, num_envs: int, env_kwargs: Mapping[str, Any] | None = None) -> SyncVectorEnv:
    """A vector env of `num_envs` copies that never resets itself: whoever steps it resets what ended.

    Raises:
        ConfigError: as `make_env`.

    """
    # Without auto-reset no step ever joins the end of one episode to the start of the next.
    return SyncVectorEnv([partial(make_env, env_id, env_kwargs)] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


def check_first_observation(env_id: str, env: gymnasium.Env) -> None:
    """Refuse an env that cannot even begin, before a run is made for it.

    Raises:
        ConfigError: if `reset` fails, or its observation has another shape than the env says.

    """
    try:
        observation, _ = env.reset(seed=0)
    except Exception as error:
        raise ConfigError(f"env_id: {env_id!r} fails in its first reset: {' '.join(str(error).split())}") from error
    if np.shape(observation) != env.observation_space.shape:
        raise ConfigError(
            f"env_id: {env_id!r} gives observations of shape {np.shape(observation)}, but its observation space "
            f"says {env.observation_space.shape}; mend the environment."
        )


def stored_dtype(space: spaces.Space) -> np.dtype:
    """What observations are kept as: uint8 images (two axes or more) as they are, all else as float32."""
    assert space.shape is not None
    return np.dtype(np.uint8 if space.dtype == np.uint8 and len(space.shape) >= 2 else np.float32)
