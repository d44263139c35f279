"""Consecutive episodes without learning, to watch an agent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import RenderCollection
from numpy.typing import NDArray

from lit_dqn.playing.episodes import Finished
from lit_dqn.playing.memory import memory_size_of
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.seeds import exploration_generator_of_episode
from lit_dqn.playing.stage import Stage
from lit_dqn.replay.stacking import observations_of_episode
from lit_dqn.types import ActionPreferences


class Step(NamedTuple):
    """One step of a watched episode."""

    observation: NDArray[Any]  # [*shape], a single frame
    action: int
    reward: float
    next_observation: NDArray[Any]
    terminated: bool
    truncated: bool  # by the env, or by the cap on the steps
    future: bool  # whether there is one for learning: not terminated, no life lost


def play_episode(
    env: gymnasium.Env,
    agent: ActionPreferences,
    policy: Policy,
    *,
    seed: int,
    max_steps: int,
    frame_stack: int = 1,
    action_mask: bool = False,
    env_step: int = 0,
) -> Iterator[Step]:
    """Play one episode without learning, step by step.

    Args:
        env: from `make_env`.
        agent: the agent that acts.
        policy: how actions follow from its preferences.
        seed: of the env and of the policy.
        max_steps: cap on the agent steps of the episode; a greedy policy can loop endlessly.
        frame_stack: frames in an observation.
        action_mask: whether the env's infos contain action masks.
        env_step: at which the policy's schedules are evaluated.

    """
    stage = Stage(
        _OneEnv(env),
        frame_stack,
        seed=None,
        max_steps=max_steps,
        action_mask=action_mask,
        memory_size=memory_size_of(agent),
    )
    generators = [exploration_generator_of_episode(seed)]
    stage.begin(np.ones(1, bool), [seed])
    finished: list[Finished] = []
    while not finished:
        action = stage.act(policy, agent, env_step, generators)
        timestep, finished = stage.step(action)
        yield Step(
            observation=timestep.observation[0].copy(),
            action=int(action[0]),
            reward=float(timestep.reward[0]),
            next_observation=timestep.next_observation[0].copy(),
            terminated=any(episode.terminated for episode in finished),
            truncated=any(not episode.terminated for episode in finished),
            future=bool(timestep.discount[0]),
        )


class _OneEnv(VectorEnv):
    """An env as a vector env of one that does not reset itself; the caller closes the env."""

    def __init__(self, env: gymnasium.Env) -> None:
        self.num_envs = 1
        self.env_id = env.spec.id if env.spec else type(env.unwrapped).__name__
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self._env = env

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        (seed,) = cast(list[int | None], seed)
        observation, info = self._env.reset(seed=seed)
        return np.asarray(observation)[None], _of_one(info)

    def step(
        self, actions: NDArray[np.integer]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        observation, reward, terminated, truncated, info = self._env.step(int(actions[0]))
        return (
            np.asarray(observation)[None],
            np.array([reward], np.float64),
            np.array([terminated]),
            np.array([truncated]),
            _of_one(info),
        )


def _of_one(info: dict[str, Any]) -> dict[str, Any]:
    """The infos of an env that a stage reads, in the form of a vector env of one."""
    return {name: np.asarray(info[name])[None] for name in ("action_mask", "life_lost") if name in info}


@dataclass
class Trajectory:
    """A watched episode; T is its length."""

    seed: int
    observation: NDArray[Any]  # [T + 1, *shape], single frames, the last one included
    action: NDArray[np.int64]  # [T]
    reward: NDArray[np.float64]  # [T]
    terminated: bool
    pictures: list[NDArray[np.uint8]]  # T + 1 of [H, W, 3], or none if the env has no pictures
    fps: float
    frame_stack: int  # frames in the agent's observations

    def seen(self, step: int) -> NDArray[Any]:
        """The agent's observation at a step from 0 to T, [*observation_shape]."""
        observation: NDArray[Any] = observations_of_episode(self.observation, self.frame_stack, np.array([step]))[0]
        return observation

    @property
    def has_images(self) -> bool:
        """Whether the agent saw images, uint8 [channels, height, width]."""
        seen = self.seen(0)
        return seen.ndim == 3 and seen.dtype == np.uint8


def play_trajectories(
    env: gymnasium.Env,
    agent: ActionPreferences,
    policy: Policy,
    *,
    seeds: Sequence[int],
    max_steps: int,
    frame_stack: int = 1,
    action_mask: bool = False,
) -> Iterator[Trajectory]:
    """Play consecutive episodes, and keep all observations.

    Args:
        env: from `make_env_with_pictures`.
        agent: the agent that acts.
        policy: how actions follow from its preferences; schedules are evaluated at env step 0.
        seeds: one episode each, of the env and of the policy.
        max_steps: cap on the agent steps of an episode.
        frame_stack: frames in an observation.
        action_mask: whether the env's infos contain action masks.

    Yields:
        One trajectory for each seed.

    """
    how: dict[str, Any] = {"max_steps": max_steps, "frame_stack": frame_stack, "action_mask": action_mask}
    for seed in seeds:
        steps = list(play_episode(env, agent, policy, seed=seed, **how))
        yield Trajectory(
            seed=seed,
            observation=np.stack([step.observation for step in steps] + [steps[-1].next_observation]),
            action=np.array([step.action for step in steps]),
            reward=np.array([step.reward for step in steps]),
            terminated=steps[-1].terminated,
            pictures=[_as_picture(picture) for picture in cast(list[Any], env.render())]
            if isinstance(env, RenderCollection)
            else [],
            fps=env.metadata.get("render_fps", 30),
            frame_stack=frame_stack,
        )


def _as_picture(rendered: NDArray[Any]) -> NDArray[np.uint8]:
    """A rendered picture as uint8; some envs return floats in [0, 1], some other integer types."""
    if rendered.dtype == np.uint8:
        return rendered
    scale = 255 if np.issubdtype(rendered.dtype, np.floating) and rendered.max(initial=0) <= 1 else 1
    picture: NDArray[np.uint8] = np.clip(np.rint(rendered * scale), 0, 255).astype(np.uint8)
    return picture
