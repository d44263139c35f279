"""Noisy layers: the equations of Fortunato et al. (2018), and who draws which noise when."""

import copy
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from helpers import ADAM, batches, make_agent, make_data, make_trainer
from lit_dqn import MLP, ConfigError, DoubleQLearning, Greedy, ImplicitQuantileHead, ImplicitQuantileLearning, LitDQN
from lit_dqn.learning.learner import Learner
from lit_dqn.learning.networks import Noise, NoisyLinear, update_target

NOISY = partial(MLP, hidden_sizes=(16,), noise=0.5)


def noise_of(network):
    return torch.cat([buffer.clone() for layer in network.modules() if isinstance(layer, NoisyLinear)
                      for buffer in (layer.noise_in, layer.noise_out)])  # fmt: skip


def test_a_noisy_layer_computes_what_the_paper_says():
    """w = μ + σ ⊙ f(ε_out) f(ε_in)ᵀ, b = μ + σ ⊙ f(ε_out), f(x) = sgn(x) √|x|."""
    layer, seen = NoisyLinear(3, 2), torch.randn(4, 3)
    with torch.no_grad():
        layer.weight_sigma.uniform_(0.1, 1)
        layer.bias_sigma.uniform_(0.1, 1)
    torch.testing.assert_close(layer(seen), seen @ layer.weight.T + layer.bias)
    Noise(layer).draw(7, 0)
    drawn = np.random.default_rng((7, 0)).standard_normal(5, np.float32)
    f = torch.tensor([np.sign(x) * abs(x) ** 0.5 for x in drawn])
    weight = layer.weight + layer.weight_sigma * torch.outer(f[3:], f[:3])
    bias = layer.bias + layer.bias_sigma * f[3:]
    torch.testing.assert_close(layer(seen), seen @ weight.T + bias)
    layer(seen).sum().backward()
    torch.testing.assert_close(layer.weight_sigma.grad, torch.outer(f[3:], (seen * f[:3]).sum(0)))
    Noise(layer).silence()
    torch.testing.assert_close(layer(seen), seen @ layer.weight.T + layer.bias)


def test_a_noisy_layer_begins_as_the_paper_says():
    layer = NoisyLinear(100, 50, sigma0=0.4)
    for mean in (layer.weight, layer.bias):
        assert 0.08 < mean.abs().max() <= 0.1
    assert torch.equal(layer.weight_sigma, torch.full((50, 100), 0.04))
    assert torch.equal(layer.bias_sigma, torch.full((50,), 0.04))
    assert not any("noise" in key for key in layer.state_dict())
    for wrong in (0.0, -1.0, float("inf")):
        with pytest.raises(ConfigError, match=f"noise: {wrong} must be positive"):
            NoisyLinear(3, 2, wrong)


@pytest.mark.parametrize("dueling", [False, True])
def test_all_dense_layers_of_a_head_are_noisy(dueling):
    network = MLP((4,), 3, noise=0.5, dueling=dueling)
    dense = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert [isinstance(layer, NoisyLinear) for layer in dense] == [False] + [True] * (4 if dueling else 2)


def test_an_update_of_the_target_leaves_each_network_its_own_noise():
    online, target = (NOISY((4,), 2) for _ in range(2))
    for number, network in enumerate((online, target)):
        Noise(network).draw(number)
    before = noise_of(target)
    update_target(online, target)
    assert torch.equal(noise_of(target), before)
    assert not torch.equal(noise_of(online), before)
    assert all(torch.equal(a, b) for a, b in zip(online.parameters(), target.parameters(), strict=True))


class Watched(DoubleQLearning):
    """Remembers the noise of both networks."""

    seen = ()

    def __call__(self, online, target, batch):
        Watched.seen += ((noise_of(online), noise_of(target)),)
        return super().__call__(online, target, batch)


def test_noise_is_drawn_once_for_the_updates_of_a_chunk_for_each_network_and_is_silent_afterwards():
    Watched.seen = ()
    torch.manual_seed(0)
    online = NOISY((4,), 2)
    target = copy.deepcopy(online).requires_grad_(False)
    learner = Learner(online, target, Watched(), ADAM(online.parameters()), target_update_period=2, seed=3)
    learner.update_many(batches(3))
    learner.update_many(batches(3))
    first, *_, last = Watched.seen
    assert [torch.equal(seen[0], first[0]) for seen in Watched.seen] == [True] * 3 + [False] * 3
    assert [torch.equal(seen[1], first[1]) for seen in Watched.seen] == [True] * 3 + [False] * 3
    assert not torch.equal(*last)
    assert noise_of(online).count_nonzero() == noise_of(target).count_nonzero() == 0
    Watched.seen = ()
    again = Learner(online, target, Watched(), ADAM(online.parameters()), updates=3, seed=3)
    again.update(batches(1)[0])  # of a run that was resumed
    assert torch.equal(Watched.seen[0][0], last[0])
    other = Learner(online, target, Watched(), ADAM(online.parameters()), updates=3, seed=4)
    other.update(batches(1)[0])
    assert not torch.equal(Watched.seen[1][0], last[0])


class Remembering(Greedy):
    """A policy that remembers with which noise the agent acts."""

    seen = ()

    def act(self, agent, observation, env_step, generators):
        Remembering.seen += (noise_of(agent.online),)
        return super().act(agent, observation, env_step, generators)


@pytest.mark.parametrize("ahead", [False, True])
def test_an_agent_acts_with_noise_of_each_chunk_and_is_graded_without(ahead):
    Remembering.seen = ()
    torch.manual_seed(0)
    agent = LitDQN((4,), 2, network=NOISY, optimizer=ADAM)
    data = make_data(policy=Remembering(), play_ahead=ahead, env_steps_per_update=2, updates_per_epoch=4, seed=5)
    make_trainer(limit_val_batches=0).fit(agent, datamodule=data)
    noise = Remembering.seen[:8]
    assert all(part.count_nonzero() > 0 for part in noise)
    same = [torch.equal(one, other) for one, other in itertools.pairwise(noise)]
    assert same == [True, False, True, False, True, False, True]
    assert noise_of(agent.online).count_nonzero() == 0
    Remembering.seen = ()
    graded = make_data(eval_policy=Remembering())
    make_trainer().validate(agent, datamodule=graded, verbose=False)
    assert Remembering.seen
    assert all(part.count_nonzero() == 0 for part in Remembering.seen)


def test_what_an_objective_draws_follows_from_the_seed_and_the_count_of_updates():
    drawn = []

    class Drawing(ImplicitQuantileLearning):
        def __call__(self, online, target, batch):
            drawn.append(batch.uniform)
            return super().__call__(online, target, batch)

    torch.manual_seed(0)
    online = MLP((4,), 2, head=ImplicitQuantileHead)
    target, state = copy.deepcopy(online).requires_grad_(False), torch.get_rng_state()

    def learner(**kwargs):
        return Learner(online, target, Drawing(4, 3), ADAM(online.parameters()), draws=7, **kwargs)

    learner(seed=1).update_many(batches(3))
    learner(seed=1, updates=2).update(batches(1)[0])
    learner(seed=2).update(batches(1)[0])
    assert all(numbers.shape == (8, 7) and numbers.min() >= 0 and numbers.max() < 1 for numbers in drawn)
    assert torch.equal(drawn[3], drawn[2])
    assert len({tuple(numbers.flatten().tolist()) for numbers in drawn}) == 4
    assert torch.equal(torch.get_rng_state(), state)


def test_an_agent_without_noisy_layers_draws_nothing():
    agent = make_agent()
    with agent.exploring():
        assert agent._noise._layers == []
