"""Tianshou's replay buffer with frames stored once, and its n-step returns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tianshou.algorithm.algorithm_base import Algorithm
from tianshou.data import Batch, VectorReplayBuffer

from contestants.buffers.stacks import Stacks
from replay import BATCH_SIZE, GAMMA, N_STEP, NUM_ENVS, STACK


def make(capacity: int) -> tuple[Callable, Callable]:
    """How to write and how to draw."""
    replay = VectorReplayBuffer(capacity, NUM_ENVS, stack_num=STACK, ignore_obs_next=True, save_only_last_obs=True)
    stacks = Stacks(NUM_ENVS)
    columns = np.arange(NUM_ENVS)
    truncated = np.zeros(NUM_ENVS, bool)

    def add(played: Any) -> None:
        stack, _ = stacks.push(played)
        replay.add(
            Batch(
                obs=stack,
                act=played.action,
                rew=played.reward,
                terminated=played.terminated,
                truncated=truncated,
                info=Batch(),
            ),
            buffer_ids=columns,
        )

    def sample() -> Any:
        batch, indices = replay.sample(BATCH_SIZE)
        following = []

        def target_q(buffer: Any, ends: Any) -> torch.Tensor:
            following.append(buffer[ends].obs_next)  # as its DQN does
            return torch.zeros(len(ends), 1)

        return Algorithm.compute_nstep_return(batch, replay, indices, target_q, GAMMA, N_STEP), following

    return add, sample
