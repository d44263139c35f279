"""A network that remembers, and its loss over sequences, against loops that take one step after the other."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from lit_dqn import (
    CNN,
    MLP,
    ConfigError,
    DoubleQLearning,
    ImplicitQuantileHead,
    ImplicitQuantileLearning,
    LitDQN,
    QLearning,
    QuantileHead,
    QuantileRegression,
    RecurrentNetwork,
    Sequences,
    ShrinkAndPerturb,
)
from lit_dqn.learning.losses import weighed_mean
from lit_dqn.replay import ReplayBuffer, SequenceStore
from lit_dqn.types import Timestep

GAMMA, N_STEP = 0.9, 3
NETWORK = partial(RecurrentNetwork, encoder=partial(MLP, hidden_sizes=(6,)), lstm_size=5)


def made(objective=None, network=NETWORK, shape=(3,)) -> LitDQN:
    """An agent whose target network is another than its online one."""
    torch.manual_seed(0)
    agent = LitDQN(shape, 2, network=network, objective=objective or QLearning())
    with torch.no_grad():
        for weight in agent.target.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return agent


def stored(steps=60, burn_in=2, memory_size=10) -> SequenceStore:
    """Episodes of 1 to 9 steps in two envs, with memories that nobody would guess."""
    generator = np.random.default_rng(0)
    buffer = ReplayBuffer(200, 2, (3,), np.float32, gamma=GAMMA, n_step=N_STEP, memory_size=memory_size)
    shown = generator.standard_normal((2, 3)).astype(np.float32)
    begins = np.ones((2, 1), bool)
    for _ in range(steps):
        following = generator.standard_normal((2, 3)).astype(np.float32)
        terminated, truncated = generator.random((2, 2)) < 0.1
        last = terminated | truncated
        memory = np.where(begins, 0, generator.standard_normal((2, memory_size))).astype(np.float32)
        buffer.add(
            Timestep(
                shown, generator.integers(2, size=2), generator.random(2), ~terminated, last, following, memory=memory
            )
        )
        begins = last[:, None]
        shown = np.where(begins, generator.standard_normal((2, 3)), following).astype(np.float32)
    return SequenceStore(buffer, Sequences(length=4, burn_in=burn_in, overlap=2))


def batch_of(store, size=12):
    return store.draw(1, size, np.random.default_rng(1), 0).batches[0]


def naive_loss(agent: LitDQN, batch, double: bool, through_burn_in=False) -> torch.Tensor:
    """Sequence by sequence and step by step, as the papers say it."""
    count, length = len(batch.memory), len(batch.action) // len(batch.memory)

    def q_values(network, sequence):
        """Q at each observation of the sequence, after its burn-in."""
        memory = batch.memory[sequence : sequence + 1]
        if batch.burned_in[sequence] and batch.burn_in is not None:
            for observation in batch.burn_in[sequence]:
                _, memory = network.remember(observation[None], memory)
        if not through_burn_in:
            memory = memory.detach()
        said = []
        for observation in batch.observation[sequence]:
            q, memory = network.remember(observation[None], memory)
            said.append(q[0])
        return said

    losses = []
    for sequence in range(count):
        online = q_values(agent.online, sequence)
        with torch.no_grad():
            target = q_values(agent.target, sequence)
        for step in range(length):
            row = sequence * length + step
            if batch.weight[row] == 0:
                continue
            at, following = (int(place[row]) - sequence * batch.observation.shape[1] for place in batch.place)
            picked = (online if double else target)[following].detach().argmax()
            y = batch.reward[row] + batch.discount[row] * target[following][picked]
            losses.append((y - online[at][batch.action[row]]) ** 2 / 2)
    return torch.stack(losses).mean()


def loss_of(agent: LitDQN, batch) -> torch.Tensor:
    return weighed_mean(agent.batch_loss(agent.batch_by_parts(batch)).loss, batch.weight)


def gradient_of(agent: LitDQN, loss: torch.Tensor) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, list(agent.online.parameters()), allow_unused=True)
    return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])


@pytest.mark.parametrize("burn_in", [0, 2])
@pytest.mark.parametrize("objective", [QLearning(huber_delta=None), DoubleQLearning(huber_delta=None)], ids=str)
def test_the_loss_of_sequences_and_its_gradient_are_those_of_a_loop_over_their_steps(objective, burn_in):
    agent, batch = made(objective), batch_of(stored(burn_in=burn_in))
    assert (batch.weight == 0).any()
    assert batch.burned_in.any()
    assert not batch.burned_in.all()
    loss, naive = loss_of(agent, batch), naive_loss(agent, batch, isinstance(objective, DoubleQLearning))
    torch.testing.assert_close(loss, naive)
    gradient = gradient_of(agent, naive)
    torch.testing.assert_close(gradient_of(agent, loss), gradient)
    if burn_in:  # a decoy: the gradient that would go through the burn-in is another
        decoy = gradient_of(agent, naive_loss(agent, batch, isinstance(objective, DoubleQLearning), True))
        assert not torch.allclose(decoy, gradient, rtol=1e-3)


def test_the_loss_asks_for_the_stored_state_and_for_the_burn_in_and_not_for_what_is_padded():
    agent, batch = made(), batch_of(stored())
    loss = loss_of(agent, batch)

    def is_other(changed):
        return not torch.allclose(loss_of(agent, changed), loss, rtol=1e-4)

    assert is_other(batch._replace(memory=torch.zeros_like(batch.memory)))
    assert is_other(batch._replace(burn_in=torch.zeros_like(batch.burn_in)))
    assert is_other(batch._replace(burned_in=torch.zeros_like(batch.burned_in)))
    assert is_other(batch._replace(burned_in=torch.ones_like(batch.burned_in)))
    reward = torch.where(batch.weight == 0, 1e3, batch.reward)
    assert torch.equal(loss_of(agent, batch._replace(reward=reward)), loss)


def test_a_step_is_the_equations_of_the_lstm():
    """Hochreiter & Schmidhuber 1997 with forget gates: c' = f c + i g, h' = o tanh(c')."""
    torch.manual_seed(0)
    network = RecurrentNetwork((3,), 2, lstm_size=4)
    observation, memory = torch.randn(5, 3), torch.randn(5, 8)
    lstm = network[1]
    hidden, cells = memory.chunk(2, dim=1)
    gates = observation @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + hidden @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
    i, f, g, o = gates.chunk(4, dim=1)
    cells = f.sigmoid() * cells + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * cells.tanh()
    q_values, after = network.remember(observation, memory)
    torch.testing.assert_close(after, torch.cat([hidden, cells], dim=1))
    torch.testing.assert_close(q_values, network[-1].q_values(hidden))
    # A single observation begins an episode.
    torch.testing.assert_close(network(observation), network.remember(observation, torch.zeros(5, 8))[0])


@pytest.mark.parametrize(
    ("shape", "encoder", "features"),
    [
        ((3,), None, 3),
        ((3,), partial(MLP, hidden_sizes=(7, 6)), 6),
        ((1, 40, 44), None, 512),
        ((40, 44), partial(CNN, dense_size=9), 9),
        ({"image": (1, 40, 44), "told": (2,)}, None, 512),
        ((2, 3), None, 6),
    ],
)
def test_the_lstm_takes_what_the_encoder_makes(shape, encoder, features):
    network = RecurrentNetwork(shape, 2, encoder=encoder, lstm_size=4)
    assert network[1].input_size == features
    assert network.memory_size == 8
    agent = LitDQN(
        shape
        if isinstance(shape, tuple)
        else {
            name: {"shape": list(of_part), "dtype": "float32", "image": len(of_part) == 3, "frames": 1}
            for name, of_part in shape.items()
        },
        2,
        network=partial(RecurrentNetwork, encoder=encoder, lstm_size=4),
    )
    rows = np.zeros((3, *(shape if isinstance(shape, tuple) else agent.parts.row_shape)), np.float32)
    rows = rows if isinstance(shape, tuple) else rows.astype(np.uint8)
    preferences, memory = agent.remember(rows, np.zeros((3, 8), np.float32))
    assert preferences.shape == (3, 2)
    assert memory.shape == (3, 8)
    np.testing.assert_allclose(preferences, agent.q_values(rows), atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "head"),
    [(QuantileRegression(), QuantileHead), (ImplicitQuantileLearning(4, 4), ImplicitQuantileHead)],
    ids=["quantiles", "implicit"],
)
def test_heads_and_their_objectives_learn_from_sequences(objective, head):
    agent = made(objective, partial(NETWORK, head=head, dueling=True, hidden_size=4, noise=0.5))
    batch = batch_of(stored())
    if objective.draws:
        batch = batch._replace(uniform=torch.rand(len(batch.reward), objective.draws))
    output = agent.batch_loss(agent.batch_by_parts(batch))
    assert output.loss.shape == batch.reward.shape
    output.loss.mean().backward()
    assert all(weight.grad is not None for weight in agent.online.parameters())


def test_resets_shrink_the_lstm_and_begin_the_head_anew():
    network, fresh = NETWORK((3,), 2), NETWORK((3,), 2)
    before = copy.deepcopy(network)
    ShrinkAndPerturb(every_env_steps=1, shrink=0.5)(network, fresh)
    torch.testing.assert_close(network[1].weight_hh_l0, 0.5 * before[1].weight_hh_l0 + 0.5 * fresh[1].weight_hh_l0)
    assert all(torch.equal(*pair) for pair in zip(network[-1].parameters(), fresh[-1].parameters(), strict=True))


def test_bad_sizes_and_encoders_are_refused():
    with pytest.raises(ConfigError, match=r"network: lstm_size \[0\] of RecurrentNetwork must each lie between 1"):
        RecurrentNetwork((3,), 2, lstm_size=0)
    with pytest.raises(ConfigError, match=r"network: its encoder: .* --model.network.encoder lit_dqn.MLP"):
        RecurrentNetwork((3,), 2, encoder=CNN)
