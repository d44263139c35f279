"""Playing: the collector fills the replay, `play_episode` evaluates."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from lit_dqn.envs import episode_seed, stored_dtype
from lit_dqn.policies import Policy, UniformRandom
from lit_dqn.replay import ReplayBuffer, stack_frames
from lit_dqn.types import ActionPreferences, Episode, Timestep

EXPLORATION_STREAM = 1
"""Sets the generators of exploration apart from the seeds of episodes, which count from (seed, env, 0)."""


class FrameStack:
    """The newest k frames of N envs as observations, by the rule of the replay: the first frame fills the stack."""

    def __init__(self, num_envs: int, frame_stack: int) -> None:
        self._frame_stack = frame_stack
        self._frames: NDArray | None = None
        self._num_envs = num_envs

    def reset(self, frames: NDArray, mask: NDArray[np.bool_]) -> None:
        """Begin the episodes of the envs in `mask` [N] with `frames` [N, *shape]."""
        if self._frames is None:
            self._frames = np.repeat(np.zeros_like(frames)[:, None], self._frame_stack, axis=1)
        self._frames[mask] = frames[mask, None]

    def push(self, frames: NDArray) -> None:
        """Go on with `frames` [N, *shape]."""
        assert self._frames is not None
        if self._frame_stack > 1:
            self._frames[:, :-1] = self._frames[:, 1:].copy()
        self._frames[:, -1] = frames

    @property
    def frames(self) -> NDArray:
        """[N, *shape], the newest frame of each env."""
        assert self._frames is not None
        return self._frames[:, -1]

    @property
    def observation(self) -> NDArray:
        """What a network sees: [N, *stacked shape]."""
        assert self._frames is not None
        return self._frames[:, 0] if self._frame_stack == 1 else stack_frames(self._frames)


class Collector:
    """Plays a vector env, stores what happens, and lists the episodes that finish.

    Where an env's infos hold `life_lost` [N], those steps have no future for learning, and the episode goes on.

    Args:
        envs: a vector env that does not reset itself (`make_vec`).
        policy: how actions follow from action values.
        replay: where timesteps go.
        seed: of the run; the seeds of episodes and of each env's exploration follow from it.

    """

    def __init__(self, envs: VectorEnv, policy: Policy, replay: ReplayBuffer, seed: int) -> None:
        self.envs = envs
        self.policy = policy
        self.replay = replay
        self.seed = seed
        self.env_step = 0
        self.episodes = 0
        # Whoever watches takes them out; where nobody does, the list must not grow for ever.
        self.finished: deque[Episode] = deque(maxlen=10_000)
        self._generators = [np.random.default_rng((seed, env, 0, EXPLORATION_STREAM)) for env in range(envs.num_envs)]
        self._episode_of_env = np.zeros(envs.num_envs, np.int64)
        self._total_reward = np.zeros(envs.num_envs)
        self._length = np.zeros(envs.num_envs, np.int64)
        self._dtype = stored_dtype(envs.single_observation_space)
        self._stack = FrameStack(envs.num_envs, replay.frame_stack)
        self._started = False

    def collect(self, agent: ActionPreferences, env_steps: int, policy: Policy | None = None) -> None:
        """Play `env_steps` env steps, a multiple of the number of envs, by `policy` or the collector's own."""
        policy = policy or self.policy
        if not self._started:
            self._start_episodes(np.ones(self.envs.num_envs, bool))
            self._started = True
        for _ in range(env_steps // self.envs.num_envs):
            action = policy.act(agent, self._stack.observation, self.env_step, self._generators)
            next_observation, reward, terminated, truncated, info = self.envs.step(action)
            next_observation = next_observation.astype(self._dtype, copy=False)
            last = terminated | truncated
            no_future = terminated | info.get("life_lost", False)
            self.replay.add(Timestep(self._stack.frames, action, reward, ~no_future, last, next_observation))
            self.env_step += self.envs.num_envs
            self._total_reward += reward
            self._length += 1
            self._stack.push(next_observation)
            if last.any():
                self._finish_episodes(last, terminated)
                self._start_episodes(last)

    def warm_up(
        self,
        agent: ActionPreferences,
        env_steps: int,
        starts: int,
        policy: Policy = UniformRandom(),  # noqa: B008 - policies have no state
    ) -> None:
        """Play before the run's first update, as a rule uniformly at random (Mnih et al. 2015, Methods).

        Args:
            agent: as for `collect`.
            env_steps: played in all.
            starts: that the replay must hold besides, so that a batch can be drawn.
            policy: how actions are chosen meanwhile.

        """
        while self.env_step < env_steps or len(self.replay.starts) < starts:
            self.collect(agent, self.envs.num_envs, policy)

    def _finish_episodes(self, last: NDArray[np.bool_], terminated: NDArray[np.bool_]) -> None:
        for env in np.flatnonzero(last):
            self.episodes += 1
            self.finished.append(
                Episode(
                    number=self.episodes,
                    env=int(env),
                    env_step=self.env_step,
                    total_reward=float(self._total_reward[env]),
                    length=int(self._length[env]),
                    terminated=bool(terminated[env]),
                )
            )

    def _start_episodes(self, mask: NDArray[np.bool_]) -> None:
        seeds = [
            episode_seed(self.seed, env, int(self._episode_of_env[env])) if mask[env] else None
            for env in range(self.envs.num_envs)
        ]
        observation, _ = self.envs.reset(seed=seeds, options={"reset_mask": mask.copy()})  # type: ignore[arg-type]
        self._stack.reset(observation.astype(self._dtype, copy=False), mask)
        self._episode_of_env[mask] += 1
        self._total_reward[mask] = 0
        self._length[mask] = 0

    def state_dict(self) -> dict[str, Any]:
        """Counters and generators as plain numbers; the envs themselves are not in it."""
        return {
            "env_step": self.env_step,
            "episodes": self.episodes,
            "episode_of_env": self._episode_of_env.tolist(),
            "generators": [generator.bit_generator.state for generator in self._generators],
            "finished": [tuple(episode) for episode in self.finished],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; each env begins its next episode, and the replay is told so."""
        self.env_step = state["env_step"]
        self.episodes = state["episodes"]
        self._episode_of_env[:] = state["episode_of_env"]
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        self.finished.clear()
        self.finished.extend(Episode(*episode) for episode in state["finished"])
        self.replay.cut_episodes()
        self._started = False


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
                generators[env] = np.random.default_rng((seed, EXPLORATION_STREAM))
                total_reward[env], length[env] = 0, 0
            frames, _ = envs.reset(seed=env_seeds, options={"reset_mask": to_reset})  # type: ignore[arg-type]
            stack.reset(frames.astype(dtype, copy=False), to_reset)
        action = policy.act(agent, stack.observation, 0, generators)
        frames, reward, terminated, truncated, _ = envs.step(action)
        stack.push(frames.astype(dtype, copy=False))
        total_reward += reward
        length += 1
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

    observation: NDArray  # [*shape], a single frame
    action: int
    reward: float
    next_observation: NDArray
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
) -> Iterator[Step]:
    """Play one episode without learning, step by step.

    Args:
        env: as `make_env` makes it.
        agent: what it prefers.
        policy: how actions follow from them; schedules are asked for env step 0.
        seed: of the env and of the policy.
        max_steps: cap on the agent steps of the episode; a greedy policy can loop for ever.
        frame_stack: frames in an observation.

    """
    generators = [np.random.default_rng((seed, EXPLORATION_STREAM))]
    stack = FrameStack(1, frame_stack)
    dtype = stored_dtype(env.observation_space)
    observation, _ = env.reset(seed=seed)
    frame = np.asarray(observation, dtype)
    stack.reset(frame[None], np.ones(1, bool))
    for step in range(1, max_steps + 1):
        action = int(policy.act(agent, stack.observation, 0, generators)[0])
        observation, reward, terminated, truncated, _ = env.step(action)
        next_frame = np.asarray(observation, dtype)
        ended = terminated or truncated or step == max_steps
        yield Step(frame, action, float(reward), next_frame, terminated, ended and not terminated)
        if ended:
            return
        frame = next_frame
        stack.push(next_frame[None])
