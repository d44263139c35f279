"""Stable-Baselines3's replay buffers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from contestants.buffers.stacks import Stacks
from replay import BATCH_SIZE, GAMMA, N_STEP, NUM_ENVS


def make(capacity: int, optimize_memory: bool) -> tuple[Callable, Callable]:
    """How to write and how to draw.

    Args:
        capacity: timesteps.
        optimize_memory: store s' as the s of the next step; the buffer for n-step returns cannot.

    """
    place: tuple[Any, ...] = (capacity, spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6), "cpu", NUM_ENVS)
    if optimize_memory:
        replay = ReplayBuffer(*place, optimize_memory_usage=True, handle_timeout_termination=False)
    else:
        replay = NStepReplayBuffer(*place, n_steps=N_STEP, gamma=GAMMA)
    stacks = Stacks(NUM_ENVS)
    infos: list[dict[str, Any]] = [{}] * NUM_ENVS

    def add(played: Any) -> None:
        stack, next_stack = stacks.push(played)
        replay.add(stack, next_stack, played.action, played.reward, played.terminated, infos)

    return add, lambda: replay.sample(BATCH_SIZE)
