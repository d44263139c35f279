"""lit_dqn's replay."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lit_dqn.replay import ReplayBuffer, Uniform
from lit_dqn.types import Timestep
from replay import BATCH_SIZE, GAMMA, N_STEP, NUM_ENVS, STACK


def make(capacity: int) -> tuple[Callable, Callable]:
    """How to write and how to draw."""
    # Frames come as [84, 84] from lit_dqn's games of ALE.
    replay = ReplayBuffer(
        capacity, NUM_ENVS, (84, 84), np.uint8, gamma=GAMMA, n_step=N_STEP, frame_stack=STACK, reward_clip=1
    )
    sampler, generator = Uniform(replacement=True), np.random.default_rng(1)

    def add(played: Any) -> None:
        replay.add(
            Timestep(
                played.frame, played.action, played.reward, ~played.terminated, played.terminated, played.next_frame
            )
        )

    def sample() -> Any:
        return replay.sample(sampler.sample(replay.starts, BATCH_SIZE, generator))

    return add, sample
