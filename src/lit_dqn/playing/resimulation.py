"""An env is not saved but played again: the seed of its episode and its actions so far lead to where it was."""

import hashlib
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import DTypeLike, NDArray

from lit_dqn.replay.stacking import FrameStack


class ResumeEnv(Enum):
    """What becomes of the episodes that were running when a run was saved."""

    exact = "exact"
    """They go on: each is played again from its seed by its actions. The env must be a function of the two."""

    new_episode = "new_episode"
    """They are cut as by a truncation, and new ones begin: for envs that are not deterministic, or slow."""


class RunningEpisode(NamedTuple):
    """What leads to where an env is."""

    seed: int  # of its reset
    actions: NDArray[np.integer]  # [T], since the episode began
    total_reward: float  # so far
    frame_hash: str  # of the frame that it shows now

    def state_dict(self) -> dict[str, Any]:
        """Plain values and a tensor as small as the actions allow."""
        dtype = np.uint8 if self.actions.max(initial=0) < 256 else np.int32
        return self._asdict() | {"actions": torch.from_numpy(self.actions.astype(dtype))}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "RunningEpisode":
        """The other way."""
        return cls(**state | {"actions": state["actions"].numpy()})


class ActionLog:
    """The actions of the episodes that N envs are playing. Noting a step costs the same however long they are."""

    def __init__(self, num_envs: int) -> None:
        self._actions = np.zeros((num_envs, 1024), np.int32)
        self._envs = np.arange(num_envs)

    def write(self, step: NDArray[np.int64], action: NDArray[np.integer]) -> None:
        """Note the actions [N] of the steps [N], counted from 0 in each episode."""
        self._make_room(int(step.max()) + 1)
        self._actions[self._envs, step] = action

    def replace(self, env: int, actions: NDArray[np.integer]) -> None:
        """Take over the actions of an env's episode."""
        self._make_room(len(actions))
        self._actions[env, : len(actions)] = actions

    def of(self, env: int, length: int) -> NDArray[np.int32]:
        """The first `length` actions of an env's episode, a copy."""
        return self._actions[env, :length].copy()

    def _make_room(self, steps: int) -> None:
        while steps > self._actions.shape[1]:
            self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)], axis=1)


def frame_hash(frame: NDArray[Any]) -> str:
    """128 bits that tell frames apart."""
    return hashlib.blake2b(np.ascontiguousarray(frame).tobytes(), digest_size=16).hexdigest()


def resimulate(
    envs: VectorEnv, episodes: Sequence[RunningEpisode], stack: FrameStack, dtype: DTypeLike
) -> list[str | None]:
    """Bring each env to where its episode was, and the stack with it.

    The envs step together, for some cannot step alone: each one's episode begins when as many steps are left as it is
    long. Until then the env plays its action 0.

    Args:
        envs: N, that do not reset themselves.
        episodes: N.
        stack: takes the frames.
        dtype: of the frames in the stack.

    Returns:
        For each env None if it is where it was, or what is different.

    """
    length = np.array([len(episode.actions) for episode in episodes])
    begin = length.max() - length
    actions = np.zeros((len(episodes), length.max() + 1), np.int64)
    for env, episode in enumerate(episodes):
        actions[env, begin[env] : begin[env] + length[env]] = episode.actions
    total_reward = np.zeros(len(episodes))
    ended_early = np.zeros(len(episodes), bool)
    ended = np.zeros(len(episodes), bool)

    def reset(mask: NDArray[np.bool_]) -> None:
        seeds = [episode.seed if chosen else None for episode, chosen in zip(episodes, mask, strict=True)]
        frames, _ = envs.reset(seed=seeds, options={"reset_mask": mask.copy()})  # type: ignore[arg-type]
        stack.reset(np.asarray(frames).astype(dtype, copy=False), mask)

    reset(np.ones(len(episodes), bool))
    for step in range(length.max() + 1):
        begins = (begin == step) & (step > 0)
        if (begins | ended).any():
            reset(begins | ended)
        if step == length.max():
            break
        frames, reward, terminated, truncated, _ = envs.step(actions[:, step])
        stack.push(np.asarray(frames).astype(dtype, copy=False))
        ended = terminated | truncated
        playing = begin <= step
        total_reward[playing] += reward[playing]
        ended_early |= ended & playing
    return [
        "its episode ended before"
        if ended_early[env]
        else "it paid other rewards"
        if total_reward[env] != episode.total_reward
        else "it shows another frame"
        if frame_hash(stack.frames[env]) != episode.frame_hash
        else None
        for env, episode in enumerate(episodes)
    ]
