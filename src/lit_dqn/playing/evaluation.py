"""Playing without learning: to grade an agent, or to watch it."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import RenderCollection
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from lit_dqn.envs import check_finite, stored_dtype
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.seeds import exploration_generator_of_episode
from lit_dqn.replay.stacking import FrameStack, observations_of_episode
from lit_dqn.types import ActionPreferences, Episode

Played = TypeVar("Played")


def play_episodes(
    envs: VectorEnv,
    agent: ActionPreferences,
    policy: Policy,
    *,
    seeds: Sequence[int],
    max_steps: int,
    frame_stack: int = 1,
) -> Iterator[Episode]:
    """Play episodes side by side without learning, each env the next one of `seeds` when it is free.

    An episode has its own seed and its own generator of exploration, so that it is the same in whichever env it is
    played (as far as float sums do not depend on the size of a batch).

    Args:
        envs: as `make_vec` makes them.
        agent: what it prefers.
        policy: how actions follow from them; schedules are asked for env step 0.
        seeds: one episode each, of the env and of the policy.
        max_steps: cap on the agent steps of an episode; a greedy policy can loop for ever.
        frame_stack: frames in an observation.

    Yields:
        The episodes in the order of their seeds, numbered from 1.

    """
    num_envs = envs.num_envs
    stack = FrameStack(num_envs, frame_stack)
    dtype = stored_dtype(envs.single_observation_space)
    waiting = deque(enumerate(seeds))
    playing: list[int | None] = [None] * num_envs
    generators = [np.random.default_rng()] * num_envs
    total_reward, length = np.zeros(num_envs), np.zeros(num_envs, np.int64)
    done: dict[int, Episode] = {}
    given = 0
    to_reset = np.ones(num_envs, bool)
    while given < len(seeds):
        if to_reset.any():
            env_seeds: list[int | None] = [None] * num_envs
            for env in np.flatnonzero(to_reset):
                # An env that has nothing left to play goes on, and nobody looks.
                playing[env], seed = waiting.popleft() if waiting else (None, 0)
                env_seeds[env] = seed
                generators[env] = exploration_generator_of_episode(seed)
                total_reward[env], length[env] = 0, 0
            frames, _ = envs.reset(seed=env_seeds, options={"reset_mask": to_reset})  # type: ignore[arg-type]
            frames = frames.astype(dtype, copy=False)
            check_finite(frames, envs, 0)
            stack.reset(frames, to_reset)
        action = policy.act(agent, stack.observation, 0, generators)
        frames, reward, terminated, truncated, _ = envs.step(action)
        frames = frames.astype(dtype, copy=False)
        stack.push(frames)
        total_reward += reward
        length += 1
        check_finite(frames, envs, length)
        to_reset = terminated | truncated | (length == max_steps)
        for env in np.flatnonzero(to_reset):
            index = playing[env]
            if index is not None:
                done[index] = Episode(
                    number=index + 1,
                    env=int(env),
                    env_step=0,
                    total_reward=float(total_reward[env]),
                    length=int(length[env]),
                    terminated=bool(terminated[env]),
                )
        while given in done:
            yield done.pop(given)
            given += 1


class Step(NamedTuple):
    """One step of an episode that is being watched."""

    observation: NDArray[Any]  # [*shape], a single frame
    action: int
    reward: float
    next_observation: NDArray[Any]
    terminated: bool
    truncated: bool  # by the env, or by the cap on the steps


def play_episode(
    env: gymnasium.Env,
    agent: ActionPreferences,
    policy: Policy,
    *,
    seed: int,
    max_steps: int,
    frame_stack: int = 1,
    env_step: int = 0,
) -> Iterator[Step]:
    """Play one episode without learning, step by step.

    Args:
        env: as `make_env` makes it.
        agent: what it prefers.
        policy: how actions follow from them.
        seed: of the env and of the policy.
        max_steps: cap on the agent steps of the episode; a greedy policy can loop for ever.
        frame_stack: frames in an observation.
        env_step: what the policy's schedules are asked for.

    """
    generators = [exploration_generator_of_episode(seed)]
    stack = FrameStack(1, frame_stack)
    dtype = stored_dtype(env.observation_space)
    observation, _ = env.reset(seed=seed)
    frame = np.asarray(observation, dtype)
    check_finite(frame[None], env, 0)
    stack.reset(frame[None], np.ones(1, bool))
    for step in range(1, max_steps + 1):
        action = int(policy.act(agent, stack.observation, env_step, generators)[0])
        observation, reward, terminated, truncated, _ = env.step(action)
        next_frame = np.asarray(observation, dtype)
        check_finite(next_frame[None], env, step)
        ended = terminated or truncated or step == max_steps
        yield Step(frame, action, float(reward), next_frame, terminated, ended and not terminated)
        if ended:
            return
        frame = next_frame
        stack.push(next_frame[None])


@dataclass
class Trajectory:
    """An episode that was played to be watched; T is its length."""

    seed: int
    observation: NDArray[Any]  # [T + 1, *shape], single frames, the last one included
    action: NDArray[np.int64]  # [T]
    reward: NDArray[np.float64]  # [T]
    terminated: bool
    pictures: list[NDArray[np.uint8]]  # T + 1 of [H, W, 3], or none if the env has no pictures
    fps: float
    frame_stack: int  # frames in what the agent saw

    def seen(self, step: int) -> NDArray[Any]:
        """What the agent saw at a step from 0 to T, [*observation_shape]."""
        return observations_of_episode(self.observation, self.frame_stack, np.array([step]))[0]

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
) -> Iterator[Trajectory]:
    """Play episodes one after the other, with all that was seen.

    Args:
        env: as `make_env_with_pictures` makes it.
        agent: what it prefers.
        policy: how actions follow from them; schedules are asked for env step 0.
        seeds: one episode each, of the env and of the policy.
        max_steps: cap on the agent steps of an episode.
        frame_stack: frames in an observation.

    Yields:
        One trajectory for each seed.

    """
    for seed in seeds:
        steps = list(play_episode(env, agent, policy, seed=seed, max_steps=max_steps, frame_stack=frame_stack))
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
    """What an env has drawn, as uint8; some draw in shares of one, some in whole numbers of another type."""
    if rendered.dtype == np.uint8:
        return rendered
    scale = 255 if np.issubdtype(rendered.dtype, np.floating) and rendered.max(initial=0) <= 1 else 1
    return np.clip(np.rint(rendered * scale), 0, 255).astype(np.uint8)


class PlayedDataset(IterableDataset[Played]):
    """Episodes that are played when they are asked for, with the agent as it is then.

    Args:
        envs: an env or a vector env.
        seeds: one episode each.
        play: plays them: (envs, seeds=seeds) -> what an episode is to be.

    """

    def __init__(
        self, envs: gymnasium.Env | VectorEnv, seeds: Sequence[int], play: Callable[..., Iterator[Played]]
    ) -> None:
        self.envs = envs
        self.seeds = seeds
        self.play = play

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[Played]:
        return self.play(self.envs, seeds=self.seeds)
