import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lit_dqn.branches import MOST
from lit_dqn.envs.actions import CombinedActions, num_combinations
from lit_dqn.envs.atari.vec import AtariGame, AtariProtocol, AtariVec, is_atari
from lit_dqn.envs.checks import CheckedEnv
from lit_dqn.envs.masks import OBSERVATION, MaskedEnv, MaskFromObservation, holds_a_mask
from lit_dqn.envs.observations import ChannelsFirst, channels_last
from lit_dqn.envs.parts import RowEnv
from lit_dqn.envs.processes import ProcessVec
from lit_dqn.errors import ConfigError, as_given, one_line

Wrapper = Callable[[gymnasium.Env], gymnasium.Env]


def make_env(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    *,
    action_mask: bool = False,
    render_mode: str | None = None,
    number: int = 0,
) -> gymnasium.Env:
    """Create one env with discrete actions and array observations.

    `Discrete` observations become one-hot vectors, and images (height, width, channels) become (channels, height,
    width), as networks take them. Observations of several parts (`Dict`, `Tuple`) become rows of bytes, whose layout is
    `observation_space.parts` (`RowEnv`). Several simultaneous discrete actions (`MultiDiscrete`) become one, with a
    number for each combination (`CombinedActions`).

    Args:
        env_id: as registered with Gymnasium; `module:id` imports the module first.
        env_kwargs: passed to `gymnasium.make`; for ALE's games, the fields of `AtariProtocol`.
        wrappers: wrappers of the env, the first one innermost.
        action_mask: whether to read the allowed actions from `info["action_mask"]`; it is then present after each reset
            and step, bool [num_actions]. A mask in observations {"observation": ..., "action_mask": ...} is moved
            there.
        render_mode: as Gymnasium's; None: no rendering.
        number: of the env over the whole run, for messages.

    Raises:
        ConfigError: if there is no such env, it cannot be created, or Q-learning cannot play it.

    """
    check_env_id(env_id)
    check_wrappers(wrappers)
    if is_atari(env_id):
        protocol = _protocol(env_id, env_kwargs, wrappers, action_mask=action_mask)
        return AtariGame(env_id, protocol, render_mode)
    if render_mode is not None:
        _draw_without_a_screen()
        env_kwargs = {**(env_kwargs or {}), "render_mode": render_mode}
    try:
        env = gymnasium.make(env_id, **(env_kwargs or {}))
    except gymnasium.error.UnregisteredEnv as error:
        near = _near(env_id)
        hint = f"did you mean {' or '.join(near)}?" if near else "is the package that registers it installed?"
        raise ConfigError(f"env_id: there is no environment {env_id!r}; {hint}") from error
    except ConfigError:
        raise
    except Exception as error:
        reason = one_line(error)
        raise ConfigError(
            f"env_id: {env_id!r} with env_kwargs {dict(env_kwargs or {})} cannot be made: {reason}"
        ) from error
    try:
        for wrapper in wrappers:
            env = _wrapped(env_id, env, wrapper)
        shown_in = OBSERVATION if holds_a_mask(env.observation_space) else "info"
        if action_mask and shown_in == OBSERVATION:
            env = MaskFromObservation(env)
        name = f"env {number} of {env_id}"
        checked = CheckedEnv(_as_arrays(env_id, env, name), name)
        return MaskedEnv(checked, name, shown_in) if action_mask else checked
    except ConfigError:
        env.close()
        raise


def check_env_id(env_id: object) -> None:
    """Refuse an env, its class or a function in place of the id under which Gymnasium can make copies.

    Raises:
        ConfigError: says how to register it.

    """
    if not isinstance(env_id, str):
        raise ConfigError(
            f"env_id: {as_given(env_id)} is no id of an environment; give that of a registered one, such as "
            "'CartPole-v1', and register your own by gymnasium.register('Mine-v0', MyEnv)."
        )


def check_wrappers(wrappers: object) -> None:
    """Refuse a wrapper that is in no list.

    Raises:
        ConfigError: shows a list.

    """
    if isinstance(wrappers, str) or not isinstance(wrappers, Sequence):
        raise ConfigError(
            f"wrappers: {as_given(wrappers)} is no list; give one, such as [gymnasium.wrappers.FlattenObservation]."
        )


def _near(env_id: str) -> list[str]:
    """Ids like an unknown one, as they must be typed; first of all those that differ only by their namespace."""
    with contextlib.suppress(ImportError):
        importlib.import_module("ale_py")  # it registers its games
    module, colon, name = env_id.rpartition(":")
    # Without `ALE/`, ale_py has each game several times, under names of old.
    ids = [
        known for known, spec in gymnasium.registry.items() if is_atari(known) or "ale_py" not in str(spec.entry_point)
    ]
    near = [known for known in ids if env_name(known) == name] or difflib.get_close_matches(name, ids, cutoff=0.5)
    return [known if is_atari(known) else f"{module}{colon}{known}" for known in near]


def _draw_without_a_screen() -> None:
    """Without a screen, tell SDL (pygame) not to look for one, which avoids its message."""
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")


def _protocol(
    env_id: str, env_kwargs: Mapping[str, Any] | None, wrappers: Sequence[Wrapper], *, action_mask: bool
) -> AtariProtocol:
    if action_mask:
        raise ConfigError(
            f"action_mask: true is not for {env_id}: a game of ALE forbids no action; set --data.action_mask false."
        )
    if wrappers:
        raise ConfigError(
            f"wrappers: {env_id} is played by ALE's own vector env, which takes no Gymnasium wrappers; "
            "its protocol is set by env_kwargs."
        )
    return AtariProtocol.of(env_id, env_kwargs or {})


def _wrapped(env_id: str, env: gymnasium.Env, wrapper: Wrapper) -> gymnasium.Env:
    try:
        return wrapper(env)
    except Exception as error:
        name = getattr(wrapper, "__name__", type(wrapper).__name__)
        raise ConfigError(
            f"wrappers: {name} cannot be put around {env_id!r}: {' '.join(str(error).split())}"
        ) from error


def _as_arrays(env_id: str, env: gymnasium.Env, name: str) -> gymnasium.Env:
    if isinstance(env.action_space, spaces.MultiDiscrete):
        count = num_combinations(env.action_space)
        if count > MOST:
            raise ConfigError(
                f"env_id: {env_id!r} has {count:,} combinations of its actions, and 2^63 - 1 are the most that can be "
                "numbered: choose another environment or wrap its actions."
            )
        env = CombinedActions(env)
    if not isinstance(env.action_space, spaces.Discrete):
        raise ConfigError(
            f"env_id: {env_id!r} has the action space {env.action_space}; Q-learning needs discrete actions: "
            "choose another environment or wrap its actions, a Box with lit_dqn.DiscretizedActions."
        )
    if env.action_space.start != 0:
        raise ConfigError(
            f"env_id: {env_id!r} numbers its actions from {env.action_space.start}; wrap it to count from 0."
        )
    if isinstance(env.observation_space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return gymnasium.wrappers.FlattenObservation(env)
    if holds_a_mask(env.observation_space):
        raise ConfigError(
            f"env_id: {env_id!r} says in its observations which actions are allowed; set --data.action_mask true."
        )
    if isinstance(env.observation_space, spaces.Dict | spaces.Tuple):
        return RowEnv(env, env_id, name)
    if not isinstance(env.observation_space, spaces.Box):
        raise ConfigError(
            f"env_id: {env_id!r} has observations of type {type(env.observation_space).__name__}; lit_dqn takes "
            "arrays (Box), numbers (Discrete), and several of them (Dict, Tuple); wrap it, by a class in data.wrappers "
            "that makes such of them."
        )
    shape = env.observation_space.shape
    if shape == ():
        raise ConfigError(
            f"env_id: {env_id!r} shows single numbers, observations of shape (), and a network takes arrays; set "
            "--data.wrappers '[gymnasium.wrappers.FlattenObservation]', which makes each an array of one number."
        )
    if 0 in shape:
        raise ConfigError(
            f"env_id: {env_id!r} shows observations of shape {shape}, which hold no number; give it others by a class "
            "in data.wrappers, or choose another environment."
        )
    are_bytes = env.observation_space.dtype in (np.uint8, np.bool_)
    return ChannelsFirst(env) if are_bytes and channels_last(env.observation_space) else env


def make_env_with_pictures(
    env_id: str,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    *,
    action_mask: bool = False,
) -> gymnasium.Env:
    """As `make_env`; if the env can be rendered, `render()` returns the RGB pictures of the episode so far.

    Raises:
        ConfigError: as for `make_env`, and if rendering needs a package that is not installed.

    """
    env = make_env(env_id, env_kwargs, wrappers, action_mask=action_mask)
    if "rgb_array" not in env.metadata.get("render_modes", []):
        return env
    env.close()
    env = make_env(env_id, env_kwargs, wrappers, action_mask=action_mask, render_mode="rgb_array")
    try:
        env.reset(seed=0)
        env.render()
    except gymnasium.error.DependencyNotInstalled as error:
        raise ConfigError(f"env_id: {env_id!r} cannot be drawn: {' '.join(str(error).split())}") from error
    return gymnasium.wrappers.RenderCollection(env)


def make_vec(
    env_id: str,
    num_envs: int,
    env_kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    *,
    action_mask: bool = False,
    first_env: int = 0,
    processes: bool = False,
) -> VectorEnv:
    """A vector env of `num_envs` copies that never resets itself: the caller resets finished envs.

    Its next step may overwrite the returned observations; copy them to keep them.

    Args:
        env_id: as for `make_env`.
        num_envs: number of copies.
        env_kwargs: as for `make_env`.
        wrappers: as for `make_env`.
        action_mask: as for `make_env`; the infos hold the masks of all envs that were stepped or reset, bool [N,
            num_actions].
        first_env: the number of the first env over the whole run, for messages; the others follow.
        processes: each copy runs in its own process, which pays off if a step takes milliseconds; ALE's games use
            threads instead. Envs that a script registers are unknown there: write `module:id`.

    Raises:
        ConfigError: as for `make_env`.

    """
    if is_atari(env_id):
        return AtariVec(env_id, num_envs, _protocol(env_id, env_kwargs, wrappers, action_mask=action_mask))
    # Gymnasium's own checker, a call in each step, has already checked one such env; each is checked here.
    env_kwargs = {"disable_env_checker": True, **(env_kwargs or {})}
    # Without auto-reset no step joins the end of one episode to the start of the next.
    numbers = range(first_env, first_env + num_envs)
    makes = [partial(make_env, env_id, env_kwargs, wrappers, action_mask=action_mask, number=n) for n in numbers]
    if processes:
        return ProcessVec(env_id, makes, first_env)
    return _SyncVec(env_id, makes)


class _SyncVec(SyncVectorEnv):
    """Envs in this process, one after the other, that never reset themselves."""

    def __init__(self, env_id: str, makes: Sequence[Callable[[], gymnasium.Env]]) -> None:
        super().__init__(makes, copy=False, autoreset_mode=AutoresetMode.DISABLED)
        self.env_id = env_id


def env_name(env_id: str) -> str:
    """The id without its module and namespace, for the name of a folder: `Pong-v5` of `ALE/Pong-v5`."""
    return env_id.split(":")[-1].split("/")[-1]
