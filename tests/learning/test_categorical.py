"""Distributions over a fixed support, against the loops of the papers."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from lit_dqn import C51, MLP, CategoricalHead, CategoricalQLearning, ConfigError, HLGauss
from lit_dqn.learning.losses import gaussian_histogram, project
from lit_dqn.types import Batch

SUPPORT = torch.linspace(-2.0, 2.0, 5)


def projected_by_the_paper(probabilities, returns, v_min, v_max):
    """Algorithm 1 of Bellemare et al. (2017), for one transition; a mass on an atom stays there."""
    count = len(probabilities)
    delta = (v_max - v_min) / (count - 1)
    m = [0.0] * count
    for p, z in zip(probabilities, returns, strict=True):
        b = (min(max(z, v_min), v_max) - v_min) / delta
        low, high = math.floor(b), math.ceil(b)
        if low == high:
            m[low] += p
        else:
            m[low] += p * (high - b)
            m[high] += p * (b - low)
    return m


def test_the_projection_is_the_one_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(6, 5, generator=generator).softmax(dim=1)
    reward, discount = torch.tensor([0.0, 0.3, 1.0, -5.0, 7.0, -0.5]), torch.tensor([1.0, 0.9, 0.0, 0.9, 0.5, 0.5])
    returns = reward.unsqueeze(1) + discount.unsqueeze(1) * SUPPORT
    rows = zip(probabilities.tolist(), returns.tolist(), strict=True)
    expected = torch.tensor([projected_by_the_paper(p, z, -2.0, 2.0) for p, z in rows])
    torch.testing.assert_close(project(probabilities, returns, SUPPORT), expected)
    batch = Batch(None, None, reward, discount, None)
    torch.testing.assert_close(C51().distribution(batch, probabilities, SUPPORT), expected)


def test_a_histogram_of_a_normal_distribution_is_the_one_of_the_paper():
    """Farebrother et al. (2024), eq. 5 and 6, bin by bin."""

    def below(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    values, sigma = [0.3, -1.9, 9.0], 0.75
    for row, value in zip(gaussian_histogram(torch.tensor(values), SUPPORT, sigma), values, strict=True):
        mean = min(max(value, -2.0), 2.0)
        masses = [below((z + 0.5 - mean) / sigma) - below((z - 0.5 - mean) / sigma) for z in SUPPORT.tolist()]
        torch.testing.assert_close(row, torch.tensor([mass / sum(masses) for mass in masses]))


class Logits(nn.Module):
    """Logits of states that are observed as their number."""

    def __init__(self, rows):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(rows))

    def forward(self, features):
        return self.values[features[:, 0].long()]


class Table(nn.Module):
    """Three actions, three atoms, four states; it has a head and features as the networks of lit_dqn have."""

    def __init__(self, rows):
        super().__init__()
        self.logits = Logits(rows)
        self.head = CategoricalHead(self, v_min=-1.0, v_max=1.0, num_atoms=3)

    num_features = 1

    def build(self, per_action):
        return self.logits

    def features(self, observation):
        return observation

    def forward(self, observation):
        return self.head.q_values(observation)


LOW, MIDDLE, HIGH = [9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]
ONLINE = [[MIDDLE, LOW, HIGH], [LOW, HIGH, MIDDLE], [HIGH, LOW, LOW], [LOW, LOW, HIGH]]
TARGET = [[LOW] * 3, [HIGH] * 3, [MIDDLE, HIGH, LOW], [HIGH, LOW, MIDDLE]]
BATCH = Batch(
    observation=torch.tensor([[0.0], [1.0]]),
    action=torch.tensor([0, 2]),
    reward=torch.tensor([0.25, 0.0]),
    discount=torch.tensor([0.5, 1.0]),
    next_observation=torch.tensor([[2.0], [3.0]]),
)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("goal", [C51(), HLGauss(sigma=0.5)])
def test_the_loss_is_the_cross_entropy_towards_the_target_of_the_action_that_is_picked(double, goal):
    online, target = Table(ONLINE), Table(TARGET)
    output = CategoricalQLearning(goal, double=double)(online, target, BATCH)
    best = [0, 2] if double else [1, 0]  # in states 2 and 3, by the network that picks
    support = torch.linspace(-1, 1, 3)
    next_probabilities = torch.tensor([TARGET[2][best[0]], TARGET[3][best[1]]]).softmax(dim=1)
    expected = goal.distribution(BATCH, next_probabilities, support)
    said = torch.tensor([MIDDLE, MIDDLE]).log_softmax(dim=1)
    torch.testing.assert_close(output.loss, -(expected * said).sum(dim=1))
    torch.testing.assert_close(output.priority, (expected * (expected.log() - said)).sum(dim=1))
    error = expected @ support - said.exp() @ support
    assert output.metrics["td_error"].item() == pytest.approx(error.abs().mean().item(), rel=1e-4)
    output.loss.sum().backward()
    gradient = online.logits.values.grad
    assert gradient.abs().sum(dim=2).nonzero().tolist() == [[0, 0], [1, 2]]
    torch.testing.assert_close(gradient[[0, 1], [0, 2]], said.exp() - expected)
    assert target.logits.values.grad is None


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("goal", [C51(), HLGauss(sigma=0.5)])
def test_mixed_precision_rounds_neither_targets_nor_the_values_by_which_actions_are_picked(double, goal):
    # Means that differ only beyond the digits of bfloat16: rounded, the first action would win each tie.
    close = [[0.0, math.log(p), 0.0] for p in (0.5003, 0.5, 0.5001)]
    nearly = [[[value, middle, value + 0.001 * number] for number, (value, middle, _) in enumerate(close)]] * 4
    outputs = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs.append(CategoricalQLearning(goal, double=double)(Table(nearly), Table(nearly), BATCH))
            assert Table(nearly)(BATCH.observation).dtype == torch.float32
    assert torch.equal(*(output.loss for output in outputs))
    assert torch.equal(*(output.priority for output in outputs))
    assert outputs[0].metrics == outputs[1].metrics


def test_with_discount_0_the_next_observation_has_no_influence():
    final = BATCH._replace(discount=torch.zeros(2))
    losses = [CategoricalQLearning()(Table(ONLINE), Table(rows), final).loss for rows in (TARGET, TARGET[::-1])]
    torch.testing.assert_close(*losses)


def test_action_values_are_the_means_of_the_distributions():
    network = MLP((4,), 3, head=partial(CategoricalHead, v_min=-3.0, v_max=5.0, num_atoms=9))
    seen = torch.randn(2, 4)
    logits = network.head.logits(network.features(seen))
    assert logits.shape == (2, 3, 9)
    expected = (logits.softmax(dim=2) * torch.arange(-3.0, 6.0)).sum(dim=2)
    torch.testing.assert_close(network(seen), expected)


def test_what_does_not_fit_is_refused():
    head = r"CategoricalQLearning needs a network with a CategoricalHead, .*set --model.network.head"
    with pytest.raises(ConfigError, match=head):
        CategoricalQLearning()(MLP((1,), 3), MLP((1,), 3), BATCH)
    for settings in ({"v_min": 1.0, "v_max": 1.0}, {"num_atoms": 1}):
        with pytest.raises(ConfigError, match=f"{next(iter(settings))}: 1"):
            MLP((1,), 3, head=partial(CategoricalHead, **settings))
    with pytest.raises(ConfigError, match=r"sigma: 0\.0 must be positive"):
        HLGauss(0.0)
