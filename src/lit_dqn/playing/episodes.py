"""The running episodes: what is needed to restore each env."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lit_dqn.types import ALL

Seeds = Sequence[int | None]


class Finished(NamedTuple):
    """An episode that a step ended."""

    env: int  # its number over the whole run
    total_reward: float  # the undiscounted return, with rewards as the env returned them
    length: int  # agent steps
    terminated: bool  # False: truncated, by the env or by the cap on the steps


class RunningEpisode(NamedTuple):
    """What is needed to restore an env."""

    seed: int  # of its reset
    actions: NDArray[np.integer]  # [T], since the episode began
    total_reward: float  # so far
    frame_hash: str  # of its present frame
    memory: NDArray[np.float32] | None = None  # [M], the agent's memory before its next action; None: no memory

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors; the actions have the smallest dtype that holds them."""
        dtype = next(of for of in (np.uint8, np.int32, np.int64) if self.actions.max(initial=0) <= np.iinfo(of).max)
        state = self._asdict() | {"actions": torch.from_numpy(self.actions.astype(dtype))}
        memory = state.pop("memory")
        return state if memory is None else state | {"memory": torch.from_numpy(memory)}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "RunningEpisode":
        """The inverse of `state_dict`."""
        arrays = {name: state[name].numpy() for name in ("actions", "memory") if name in state}
        return cls(**state | arrays)


class EpisodeLog:
    """The running episodes of N envs: seeds, actions, and rewards so far.

    Args:
        num_envs: N.
        first_env: the number of the first one over the whole run.

    Attributes:
        total_reward: of each env's episode so far, [N].
        length: agent steps of each env's episode so far, [N].

    """

    def __init__(self, num_envs: int, first_env: int = 0) -> None:
        self._first_env = first_env
        self.total_reward = np.zeros(num_envs)
        self.length = np.zeros(num_envs, np.int64)
        self._seeds = [0] * num_envs
        self._actions = ActionLog(num_envs)

    def begin(self, seeds: Seeds) -> None:
        """Begin the next episodes of some envs, by their seeds; None: the env's episode continues."""
        for env, seed in enumerate(seeds):
            if seed is not None:
                self._seeds[env] = seed
                self.total_reward[env] = 0
                self.length[env] = 0

    def step(self, actions: NDArray[np.integer], reward: NDArray[np.floating], envs: slice = ALL) -> None:
        """One agent step of some envs: actions [n], rewards [n] as the envs returned them."""
        self._actions.write(self.length, actions, envs)
        self.total_reward[envs] += reward
        self.length[envs] += 1

    def finished(self, last: NDArray[np.bool_], terminated: NDArray[np.bool_], envs: slice = ALL) -> list[Finished]:
        """The episodes that the last step ended, in the order of their envs.

        Args:
            last: [n], whether the episode of an env ended.
            terminated: [n], whether it terminated.
            envs: the envs of the step, a range.

        """
        return [
            Finished(
                self._first_env + (envs.start or 0) + env,
                float(self.total_reward[envs][env]),
                int(self.length[envs][env]),
                bool(terminated[env]),
            )
            for env in map(int, np.flatnonzero(last))
        ]

    def take_over(self, episodes: Sequence["RunningEpisode"]) -> None:
        """Continue with these episodes [N]."""
        for env, episode in enumerate(episodes):
            self._seeds[env] = episode.seed
            self.total_reward[env] = episode.total_reward
            self.length[env] = len(episode.actions)
            self._actions.take_over(env, episode.actions)

    def running(self, frames: NDArray[Any]) -> list["RunningEpisode"]:
        """What is needed to restore each env, [N].

        Args:
            frames: the envs' present frames, [N, *shape].

        """
        return [self.running_in(env, frame) for env, frame in enumerate(frames)]

    def running_in(self, env: int, frame: NDArray[Any]) -> "RunningEpisode":
        """Likewise, of one env."""
        return RunningEpisode(
            seed=self._seeds[env],
            actions=self._actions.of(env, int(self.length[env])),
            total_reward=float(self.total_reward[env]),
            frame_hash=frame_hash(frame),
        )


class ActionLog:
    """The actions of the running episodes of N envs. Recording a step takes the same time at any length."""

    def __init__(self, num_envs: int) -> None:
        self._actions = np.zeros((num_envs, 1024), np.int64)
        self._envs = np.arange(num_envs)
        self._room = 0  # steps that certainly fit: each makes an episode one step longer, or begins another one

    def write(self, step: NDArray[np.int64], action: NDArray[np.integer], envs: slice = ALL) -> None:
        """Record the actions [n] of some envs at their steps; all envs' steps [N], counted from 0 in each episode."""
        if self._room == 0:
            longest = int(step.max())
            while longest >= self._actions.shape[1]:
                self._double()
            self._room = self._actions.shape[1] - longest
        self._room -= 1
        self._actions[self._envs[envs], step[envs]] = action

    def _double(self) -> None:
        self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)], axis=1)

    def take_over(self, env: int, actions: NDArray[np.integer]) -> None:
        """Set all actions [T] of an env's episode so far."""
        while len(actions) > self._actions.shape[1]:
            self._double()
        self._room = 0
        self._actions[env, : len(actions)] = actions

    def of(self, env: int, length: int) -> NDArray[np.int64]:
        """The first `length` actions of an env's episode, a copy."""
        return self._actions[env, :length].copy()


def frame_hash(frame: NDArray[Any]) -> str:
    """A hash of 128 bits that distinguishes frames."""
    return hashlib.blake2b(np.ascontiguousarray(frame).tobytes(), digest_size=16).hexdigest()
