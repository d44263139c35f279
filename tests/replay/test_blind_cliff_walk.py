"""Prioritised replay where it must pay: the blind cliff walk (Schaul et al. 2016, section 3.1)."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lit_dqn import Prioritized, QLearning, Uniform
from lit_dqn.learning.learner import Learner
from lit_dqn.replay import Replay, ReplayBuffer
from lit_dqn.types import Timestep

STATES = 8
GAMMA = 1 - 1 / STATES
UPDATES = 2400  # uniform replay takes some 7,000
RIGHT = [state % 2 for state in range(STATES)]  # the wrong action ends the episode, with nothing
ONE_HOT = np.eye(STATES + 1, STATES, dtype=np.float32)  # beyond the last state there is nothing to see
Q = torch.zeros(STATES, 2)
Q[range(STATES), RIGHT] = torch.tensor([GAMMA ** (STATES - 1 - state) for state in range(STATES)])


def cliff_walk(generator):
    """All 2^8 ways to act, in random order: 510 transitions, of which one has a reward."""
    replay = ReplayBuffer(510, 1, (STATES,), np.float32, gamma=GAMMA)
    ways = list(itertools.product((0, 1), repeat=STATES))
    for way in generator.permutation(len(ways)):
        for state, action in enumerate(ways[way]):
            right = action == RIGHT[state]
            final = right and state == STATES - 1
            ends = final or not right
            one, other = ONE_HOT[None, state], ONE_HOT[None, state + 1]
            replay.add(
                Timestep(one, np.array([action]), np.array([float(final)]), ~np.array([ends]), np.array([ends]), other)
            )
            if ends:
                break
    assert len(replay.starts) == 510
    return replay


def learn(store, table, updates, *, step_size, batch_size, seed, stop=lambda: False):
    """Updates made until `stop`."""
    learner = Learner(table, None, QLearning(), torch.optim.SGD(table.parameters(), lr=step_size * batch_size))
    generator = np.random.default_rng(seed)
    for update in range(updates):
        if stop():
            return update
        batches, start = store.draw(1, batch_size, generator, update)
        priority = learner.update_many(batches).priority
        if priority is not None:
            store.settle(start, priority)
    return updates


def updates_to_converge(sampler, seed):
    torch.manual_seed(seed)
    table = nn.Linear(STATES, 2, bias=False)
    nn.init.normal_(table.weight, std=0.1)
    store = Replay(cliff_walk(np.random.default_rng(seed)), sampler)
    known = lambda: (table.weight.detach().T - Q).square().mean() < 1e-3  # noqa: E731
    return learn(store, table, UPDATES, step_size=0.25, batch_size=1, seed=seed, stop=known)


@pytest.mark.slow
def test_prioritised_replay_learns_the_cliff_walk_where_uniform_replay_needs_more_than_twice_the_updates():
    for seed in range(2):
        assert updates_to_converge(Prioritized(alpha=0.8, beta=0.0), seed) < UPDATES / 2
        assert updates_to_converge(Uniform(replacement=True), seed) == UPDATES


@pytest.mark.parametrize(("beta", "expected"), [(1.0, 0.1), (0.0, 0.25)])
def test_weights_take_the_bias_of_priorities_back(beta, expected):
    """Of 100 transitions of one state ten have the reward 1: Q is their mean, 0.1. Priorities without weights balance
    Σ |δ| δ = 0 instead, which is where 90 Q² = 10 (1 - Q)², at 0.25.
    """
    replay = ReplayBuffer(100, 1, (1,), np.float32, gamma=0.9)
    one, yes = np.ones((1, 1), np.float32), np.array([True])
    for number in range(100):
        replay.add(Timestep(one, np.array([0]), np.array([float(number % 10 == 0)]), ~yes, yes, one))
    table = nn.Linear(1, 1, bias=False)
    nn.init.constant_(table.weight, 0.5)  # at 0 the transitions without a reward would be right, and never drawn again
    store = Replay(replay, Prioritized(alpha=1.0, beta=beta))
    learn(store, table, 300, step_size=0.001, batch_size=50, seed=0)
    values = []
    learn(store, table, 200, step_size=0.001, batch_size=50, seed=1, stop=lambda: values.append(table.weight.item()))
    assert np.mean(values) == pytest.approx(expected, abs=0.02)
