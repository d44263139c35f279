"""Known answers for distributions."""

import copy
from functools import partial

import pytest
import torch

from lit_dqn import (
    C51,
    MLP,
    CategoricalHead,
    CategoricalQLearning,
    HLGauss,
    ImplicitQuantileHead,
    ImplicitQuantileLearning,
    QuantileHead,
    QuantileRegression,
)
from lit_dqn.learning.learner import Learner
from lit_dqn.types import Batch

GAMMA = 0.9


def risky_chain(generator, size=64):
    """From state 0 the safe action ends with 0.4; the risky one leads to state 1, where both end with 2 or with -1."""
    state = torch.randint(0, 2, (size,), generator=generator)
    action = torch.randint(0, 2, (size,), generator=generator)
    lucky = torch.rand(size, generator=generator) < 0.5
    reward = torch.where(state == 1, torch.where(lucky, 2.0, -1.0), torch.where(action == 0, 0.4, 0.0))
    discount = torch.where((state == 0) & (action == 1), GAMMA, 0.0)
    one_hot = torch.eye(2)
    return Batch(one_hot[state], action, reward, discount, one_hot[torch.ones_like(state)])


def spread_of_quantiles(network, seen):
    quantiles = network.head.quantiles(network.features(seen))
    return quantiles.std(dim=2, correction=0)


def spread_of_atoms(network, seen):
    probabilities, support = network.head.logits(network.features(seen)).softmax(dim=2), network.head.support(seen)
    return (probabilities @ support**2 - (probabilities @ support) ** 2).sqrt()


def spread_of_levels(network, seen):
    levels = ((torch.arange(64) + 0.5) / 64).expand(len(seen), -1)
    return network.head.quantiles(network.features(seen), levels).std(dim=2, correction=0)


ATOMS = partial(CategoricalHead, v_min=-3.0, v_max=3.0)
LEARNERS = {
    "quantiles": (partial(QuantileHead, num_quantiles=32), QuantileRegression(0.05), spread_of_quantiles),
    "c51": (ATOMS, CategoricalQLearning(C51()), spread_of_atoms),
    "c51_double": (ATOMS, CategoricalQLearning(C51(), double=True), spread_of_atoms),
    "hl_gauss": (ATOMS, CategoricalQLearning(HLGauss()), None),
    "implicit": (ImplicitQuantileHead, ImplicitQuantileLearning(32, 32, huber_delta=0.05), spread_of_levels),
}


CASES = [
    *(pytest.param(name, False, marks=[] if name in ("quantiles", "c51") else [pytest.mark.slow]) for name in LEARNERS),
    pytest.param("implicit", True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "dueling"), CASES)
def test_a_risky_action_has_the_right_mean_and_the_right_spread(name, dueling):
    head, objective, spread = LEARNERS[name]
    torch.manual_seed(0)
    torch.set_flush_denormal(True)  # as runs do: the tails of distributions would take most of the time
    online = MLP((2,), 2, hidden_sizes=(32, 32), head=head, dueling=dueling)
    target = copy.deepcopy(online).requires_grad_(False)
    optimizer = torch.optim.Adam(online.parameters(), lr=2e-3, fused=True)
    learner = Learner(online, target, objective, optimizer, target_update_period=20, draws=objective.draws)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        learner.update_many([risky_chain(generator) for _ in range(10)])
    with torch.no_grad():
        means = online(torch.eye(2))
        assert means.tolist() == [pytest.approx([0.4, GAMMA * 0.5], abs=0.1), pytest.approx([0.5, 0.5], abs=0.12)]
        if spread is not None:
            spreads = spread(online, torch.eye(2))
            expected = [[0.0, GAMMA * 1.5], [1.5, 1.5]]
            assert spreads.tolist() == [pytest.approx(row, abs=0.25) for row in expected]
