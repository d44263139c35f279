import pytest
import torch
from torch import nn, tensor

from lit_dqn.errors import ConfigError
from lit_dqn.objectives import DoubleQLearning, QLearning
from lit_dqn.types import Batch


class Table(nn.Module):
    """Q-values of states that are observed as their number."""

    def __init__(self, *rows):
        super().__init__()
        self.values = nn.Parameter(tensor(rows, dtype=torch.float32))

    def forward(self, observation):
        return self.values[observation[:, 0].long()]


# Two transitions, 0 -> 2 and 1 -> 3. 99 and 91 are decoys.
ONLINE = [1, 99, 91], [99, 91, 2], [0, 7, 5], [4, 3, 9]
TARGET = [99, 91, 99], [91, 99, 91], [10, 20, 30], [60, 50, 40]
BATCH = Batch(
    observation=tensor([[0.0], [1.0]]),
    action=tensor([0, 2]),
    reward=tensor([1.0, -2.0]),
    discount=tensor([0.9, 0.5]),
    next_observation=tensor([[2.0], [3.0]]),
)
# Q-learning: 1 + 0.9 x 30 - 1 and -2 + 0.5 x 60 - 2; Double: 1 + 0.9 x 20 - 1 and -2 + 0.5 x 40 - 2.
TD_ERRORS = {QLearning: [27.0, 26.0], DoubleQLearning: [18.0, 16.0]}

rules = pytest.mark.parametrize("rule", TD_ERRORS)


@rules
def test_the_loss_is_half_the_squared_td_error_of_each_transition(rule):
    loss = rule()(Table(*ONLINE), Table(*TARGET), BATCH).loss
    torch.testing.assert_close(loss, 0.5 * tensor(TD_ERRORS[rule]) ** 2)


@rules
@pytest.mark.parametrize("delta", [1.0, 17.0])
def test_huber_delta_makes_the_loss_linear_beyond_it(rule, delta):
    loss = rule(huber_delta=delta)(Table(*ONLINE), Table(*TARGET), BATCH).loss
    error = tensor(TD_ERRORS[rule])
    expected = torch.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))
    torch.testing.assert_close(loss, expected)


@rules
def test_only_the_chosen_values_of_the_online_network_get_a_gradient(rule):
    online, target = Table(*ONLINE), Table(*TARGET)
    rule()(online, target, BATCH).loss.sum().backward()
    expected = torch.zeros(4, 3)
    expected[0, 0], expected[1, 2] = (-error for error in TD_ERRORS[rule])
    torch.testing.assert_close(online.values.grad, expected)
    assert target.values.grad is None


@rules
def test_metrics_are_means_without_gradient(rule):
    metrics = rule()(Table(*ONLINE), Table(*TARGET), BATCH).metrics
    assert metrics["q_value"].item() == pytest.approx((1 + 99 + 91 + 99 + 91 + 2) / 6)
    assert metrics["td_error"].item() == pytest.approx(sum(TD_ERRORS[rule]) / 2)
    assert not any(metric.requires_grad for metric in metrics.values())


def test_double_equals_single_when_both_networks_agree():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4, 3, generator=generator).tolist()
    losses = [rule()(Table(*rows), Table(*rows), BATCH).loss for rule in (QLearning, DoubleQLearning)]
    assert torch.equal(*losses)


@rules
def test_with_discount_0_the_next_observation_has_no_influence(rule):
    final = BATCH._replace(discount=torch.zeros(2))
    wild = [*TARGET[:2], [1e30, -1e30, 1e30], [-1e30, 1e30, 0]]
    losses = [rule()(Table(*ONLINE), Table(*rows), final).loss for rows in (TARGET, wild)]
    assert losses[0].tolist() == losses[1].tolist() == [0, 0.5 * 4**2]


@rules
def test_bytes_reach_both_networks_as_fractions_of_255(rule):
    images = torch.randint(0, 256, (2, 2, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    online, target = (nn.Sequential(Bytes(), nn.Linear(5, 3)) for _ in range(2))
    as_bytes = BATCH._replace(observation=images[0], next_observation=images[1])
    as_floats = BATCH._replace(observation=images[0] / 255, next_observation=images[1] / 255)
    torch.testing.assert_close(rule()(online, target, as_bytes).loss, rule()(online, target, as_floats).loss)


class Bytes(nn.Module):
    def forward(self, observation):
        return observation / 255 if observation.dtype == torch.uint8 else observation


@rules
@pytest.mark.parametrize("delta", [0.0, -1.0])
def test_a_huber_delta_that_is_not_positive_is_refused_with_key_and_value(rule, delta):
    with pytest.raises(ConfigError, match=rf"huber_delta: {delta} "):
        rule(huber_delta=delta)
