"""Noisy layers where exploration must be deep: the deep sea of bsuite (Osband et al. 2020, "Behaviour suite")."""

from functools import partial
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch

from helpers import make_trainer
from lit_dqn import MLP, Greedy, LitDQN, QLearning, ReplayDataModule, Uniform

SIZE = 10
EPISODES = 300
BY_CHANCE = 1 - (1 - 2**-SIZE) ** EPISODES
"""The probability that uniformly random actions find the treasure at least once: 25 %."""


class DeepSea(gymnasium.Env):
    """N rows and N columns: each step goes one row down, and left or right; which action goes right, each cell decides.

    Going right costs 0.01 / N. Going right N times, the only way to the corner, pays 1.
    """

    observation_space = gymnasium.spaces.Box(0, 1, (SIZE * SIZE,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    ends: ClassVar[list[bool]] = []

    def __init__(self, seed: int) -> None:
        self.right = np.random.default_rng(seed).integers(2, size=(SIZE, SIZE))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.row = self.column = 0
        return self.shown(), {}

    def step(self, action):
        right = action == self.right[self.row, self.column]
        at_the_corner = right and self.row == self.column == SIZE - 1
        self.row += 1
        self.column = min(self.column + 1, SIZE - 1) if right else max(self.column - 1, 0)
        if self.row == SIZE:
            self.ends.append(bool(at_the_corner))
        return self.shown(), float(at_the_corner) - 0.01 / SIZE * right, self.row == SIZE, False, {}

    def shown(self):
        seen = np.zeros((SIZE, SIZE), np.float32)
        if self.row < SIZE:
            seen[self.row, self.column] = 1
        return seen.ravel()


gymnasium.register("lit_dqn_tests/DeepSea-v0", entry_point=DeepSea)


def treasures(seed: int, noise: float | None) -> list[bool]:
    """Whether each training episode ends at the treasure."""
    DeepSea.ends.clear()
    data = ReplayDataModule(
        "lit_dqn_tests/DeepSea-v0",
        {"seed": seed},
        capacity=(EPISODES + 10) * SIZE,
        min_replay_size=4 * SIZE,
        env_steps_per_update=1,
        gradient_steps=SIZE,  # a training step is an episode, so the noise holds for a whole one
        batch_size=32,
        updates_per_epoch=(EPISODES - 4) * SIZE,
        policy=Greedy(),
        sampler=Uniform(replacement=True),
        seed=seed,
    )
    torch.manual_seed(seed)
    agent = LitDQN(
        (SIZE * SIZE,),
        2,
        network=partial(MLP, hidden_sizes=(), noise=noise),
        objective=QLearning(),
        optimizer=partial(torch.optim.Adam, lr=3e-3, fused=True),
        target_update_period=4 * SIZE,
    )
    make_trainer(limit_val_batches=0).fit(agent, datamodule=data)
    assert len(DeepSea.ends) == EPISODES
    return list(DeepSea.ends)


@pytest.mark.slow
def test_noise_finds_the_treasure_on_most_seeds_where_random_actions_rarely_find_it():
    assert BY_CHANCE < 0.26
    runs = [treasures(seed, noise=2.0) for seed in range(10)]
    assert sum(any(found) for found in runs) >= 8
    assert sum(sum(found[-50:]) >= 10 for found in runs) >= 8  # the agent returns to it
