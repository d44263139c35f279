import math

import pytest
import torch
from torch import nn, tensor

from lit_dqn.errors import ConfigError
from lit_dqn.learning.losses import quantile_huber
from lit_dqn.learning.networks import QuantileNetwork
from lit_dqn.learning.objectives import (
    ActorCritic,
    DoubleQLearning,
    MunchausenQLearning,
    QLearning,
    QuantileRegression,
    TDLearning,
)
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


def munchausen_targets_by_hand(alpha, temperature, lowest):
    """The target of M-DQN (Vieillard et al. 2020), action by action."""
    targets = []
    for before, after, action, reward, discount in zip(
        TARGET_OF_MUNCHAUSEN[:2], TARGET_OF_MUNCHAUSEN[2:], [0, 2], [1.0, -2.0], [0.9, 0.5], strict=True
    ):
        policies = []
        for values in (before, after):
            weights = [math.exp(value / temperature) for value in values]
            policies.append([weight / sum(weights) for weight in weights])
        bonus = max(temperature * math.log(policies[0][action]), lowest)
        soft = sum(p * (q - temperature * math.log(p)) for p, q in zip(policies[1], after, strict=True))
        targets.append(reward + alpha * bonus + discount * soft)
    return targets


TARGET_OF_MUNCHAUSEN = [1.0, 2.0, 1.5], [0.0, 3.0, -1.0], [0.5, 0.7, -0.3], [2.0, 1.9, 1.5]


@pytest.mark.parametrize(("alpha", "temperature", "lowest"), [(0.9, 0.5, -1.0), (0.5, 0.3, -10.0), (0.0, 2.0, -1.0)])
def test_munchausen_adds_the_log_policy_of_the_target_network(alpha, temperature, lowest):
    online, target = Table(*ONLINE), Table(*TARGET_OF_MUNCHAUSEN)
    output = MunchausenQLearning(alpha=alpha, temperature=temperature, lowest=lowest)(online, target, BATCH)
    errors = tensor(munchausen_targets_by_hand(alpha, temperature, lowest)) - tensor([1.0, 2.0])
    torch.testing.assert_close(output.loss, 0.5 * errors**2)
    output.loss.sum().backward()
    expected = torch.zeros(4, 3)
    expected[0, 0], expected[1, 2] = -errors
    torch.testing.assert_close(online.values.grad, expected)
    assert target.values.grad is None


def test_munchausen_without_its_bonus_and_without_heat_is_q_learning():
    cold = MunchausenQLearning(alpha=0.0, temperature=1e-3)(Table(*ONLINE), Table(*TARGET), BATCH).loss
    torch.testing.assert_close(cold, QLearning()(Table(*ONLINE), Table(*TARGET), BATCH).loss)


def test_munchausen_has_the_constants_of_the_paper_by_default():
    """α, τ and l_0 of M-DQN (Vieillard et al. 2020)."""
    assert MunchausenQLearning() == MunchausenQLearning(alpha=0.9, temperature=0.03, lowest=-1.0)


@pytest.mark.parametrize(
    ("key", "value"), [("alpha", 1.0), ("alpha", -0.1), ("temperature", 0.0), ("lowest", 0.0), ("huber_delta", 0.0)]
)
def test_values_of_munchausen_out_of_range_are_named(key, value):
    with pytest.raises(ConfigError, match=f"{key}: {value} "):
        MunchausenQLearning(**{key: value})


def quantile_table(*rows):
    """Two quantiles of three actions in each state."""
    return QuantileNetwork((1,), 3, network=lambda shape, outputs: Table(*rows), num_quantiles=2)


QUANTILES = [1, 3, 99, 99, 91, 91], [99, 99, 91, 91, 2, 4], [0] * 6, [0] * 6
# In state 2 the second action has the highest mean, 20, in state 3 the first; the third has the highest quantile.
QUANTILES_OF_TARGET = [99] * 6, [91] * 6, [10, 11, 15, 25, 0, 30], [50, 60, 54, 54, 0, 99]


def test_quantile_regression_goes_towards_the_quantiles_of_the_action_with_the_highest_mean():
    online, target = quantile_table(*QUANTILES), quantile_table(*QUANTILES_OF_TARGET)
    output = QuantileRegression(huber_delta=2.0)(online, target, BATCH)
    chosen = tensor([[1.0, 3.0], [2.0, 4.0]])
    samples = tensor([[1 + 0.9 * 15, 1 + 0.9 * 25], [-2 + 0.5 * 50, -2 + 0.5 * 60]])
    torch.testing.assert_close(output.loss, quantile_huber(chosen, samples, 2.0))
    assert output.metrics["q_value"].item() == pytest.approx((2 + 99 + 91 + 99 + 91 + 3) / 6)
    assert output.metrics["td_error"].item() == pytest.approx(((1 + 0.9 * 20 - 2) + (-2 + 0.5 * 55 - 3)) / 2)
    output.loss.sum().backward()
    moved = online.network.values.grad.nonzero().tolist()
    assert moved == [[0, 0], [0, 1], [1, 4], [1, 5]]
    assert target.network.values.grad is None


def test_quantile_regression_with_discount_0_learns_the_rewards():
    final = BATCH._replace(discount=torch.zeros(2))
    loss = QuantileRegression()(quantile_table(*QUANTILES), quantile_table(*QUANTILES_OF_TARGET), final).loss
    torch.testing.assert_close(loss, quantile_huber(tensor([[1.0, 3.0], [2.0, 4.0]]), tensor([[1.0], [-2.0]])))


def test_a_quantile_network_is_to_others_a_network_of_its_means():
    online, target = quantile_table(*QUANTILES), quantile_table(*QUANTILES_OF_TARGET)
    assert online(BATCH.observation).tolist() == [[2, 99, 91], [99, 91, 3]]
    means = Table([2, 99, 91], [99, 91, 3]), Table([0, 0, 0], [0, 0, 0], [10.5, 20, 15], [55, 54, 49.5])
    torch.testing.assert_close(QLearning()(online, target, BATCH).loss, QLearning()(*means, BATCH).loss)


def test_quantile_regression_refuses_a_network_without_quantiles():
    with pytest.raises(
        ConfigError, match=r"QuantileRegression needs a network of quantiles, not Table; .*QuantileNetwork"
    ):
        QuantileRegression()(Table(*ONLINE), Table(*TARGET), BATCH)


@pytest.mark.parametrize("delta", [0.0, -1.0])
def test_the_kappa_of_quantile_regression_must_be_positive(delta):
    with pytest.raises(ConfigError, match=rf"huber_delta: {delta} "):
        QuantileRegression(huber_delta=delta)


# V of the same states; the decoys are the values that the other transitions bootstrap from, or start in.
V_ONLINE = [1.0], [2.0], [99.0], [91.0]
V_TARGET = [99.0], [91.0], [10.0], [60.0]
TD_ERRORS_OF_V = [1 + 0.9 * 10 - 1, -2 + 0.5 * 60 - 2]


def test_td_learning_goes_towards_the_target_networks_v():
    online, target = Table(*V_ONLINE), Table(*V_TARGET)
    output = TDLearning()(online, target, BATCH)
    torch.testing.assert_close(output.loss, 0.5 * tensor(TD_ERRORS_OF_V) ** 2)
    assert output.metrics["state_value"].item() == pytest.approx(1.5)
    assert output.metrics["td_error"].item() == pytest.approx(sum(TD_ERRORS_OF_V) / 2)
    output.loss.sum().backward()
    expected = tensor([[-TD_ERRORS_OF_V[0]], [-TD_ERRORS_OF_V[1]], [0.0], [0.0]])
    torch.testing.assert_close(online.values.grad, expected)
    assert target.values.grad is None


def test_td_learning_is_semi_gradient_even_where_both_networks_are_one():
    both = Table(*V_ONLINE)
    TDLearning()(both, both, BATCH).loss.sum().backward()
    assert both.values.grad[2:].tolist() == [[0.0], [0.0]]


def test_td_learning_beyond_huber_delta_is_linear_and_terminal_states_are_worth_nothing():
    final = BATCH._replace(discount=torch.zeros(2))
    wild = [*V_TARGET[:2], [1e30], [-1e30]]
    loss = TDLearning(huber_delta=1.0)(Table(*V_ONLINE), Table(*wild), final).loss
    assert loss.tolist() == [0, 4 - 0.5]


# Two preferences and V of each state. Softmax of (ln 3, 0) is (3/4, 1/4), of (0, ln 4) it is (1/5, 4/5).
LN3, LN4 = 1.0986123, 1.3862944
ACTOR_CRITIC = [LN3, 0.0, 1.0], [0.0, LN4, 2.0], [99.0, -91.0, 10.0], [91.0, -99.0, 60.0]
PLAYED = BATCH._replace(action=tensor([0, 1]))
ADVANTAGES = TD_ERRORS_OF_V
ENTROPIES = [0.75 * (LN4 - LN3) + 0.25 * LN4, 0.2 * 1.6094379 + 0.8 * (1.6094379 - LN4)]


def test_actor_critic_adds_policy_gradient_td_learning_and_entropy():
    output = ActorCritic(entropy_cost=0.5, value_cost=0.25)(Table(*ACTOR_CRITIC), PLAYED, 1.0)
    log_probabilities = [LN3 - LN4, LN4 - 1.6094379]
    expected = [
        -advantage * log_probability + 0.25 * 0.5 * advantage**2 - 0.5 * entropy
        for advantage, log_probability, entropy in zip(ADVANTAGES, log_probabilities, ENTROPIES, strict=True)
    ]
    torch.testing.assert_close(output.loss, tensor(expected))
    assert output.metrics["entropy"].item() == pytest.approx(sum(ENTROPIES) / 2, rel=1e-5)
    assert output.metrics["td_error"].item() == pytest.approx(sum(ADVANTAGES) / 2)
    assert output.metrics["state_value"].item() == pytest.approx((1 + 2) / 2)


def test_the_gradient_is_that_of_the_book_and_flows_through_nothing_else():
    network = Table(*ACTOR_CRITIC)
    ActorCritic(entropy_cost=0.0, value_cost=0.25)(network, PLAYED, 1.0).loss.sum().backward()
    # dh = -δ (1[a] - π), dV(s) = -0.25 δ; nothing for s', whose preferences are decoys.
    (first, second), grad = ADVANTAGES, network.values.grad
    torch.testing.assert_close(grad[0], tensor([-first * 0.25, first * 0.25, -0.25 * first]))
    torch.testing.assert_close(grad[1], tensor([second * 0.2, -second * 0.2, -0.25 * second]))
    assert grad[2:].count_nonzero() == 0


def test_the_entropy_bonus_alone_pulls_towards_the_uniform_policy_and_leaves_v_alone():
    network = Table(*ACTOR_CRITIC)
    ActorCritic(entropy_cost=1.0, value_cost=0.0)(
        network, PLAYED._replace(reward=tensor([1.0, 2.0]), discount=torch.zeros(2)), 1.0
    ).loss.sum().backward()  # δ = 0
    assert network.values.grad[0, 0] > 0 > network.values.grad[0, 1]
    assert network.values.grad[:, 2].count_nonzero() == 0


def test_a_temperature_divides_the_preferences_and_not_v():
    hot = [[2 * value for value in row[:2]] + row[2:] for row in ACTOR_CRITIC]
    losses = [ActorCritic()(Table(*rows), PLAYED, tau).loss for rows, tau in ((ACTOR_CRITIC, 1.0), (hot, 2.0))]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("key", ["entropy_cost", "value_cost"])
def test_a_negative_weight_is_refused(key):
    with pytest.raises(ConfigError, match=f"{key}: -0.1 "):
        ActorCritic(**{key: -0.1})


LOW = BATCH._replace(reward=tensor([1.0, -2.0 - 100.0]))  # the second TD error is negative


@pytest.mark.parametrize(
    ("rule", "networks", "td_errors"),
    [
        *[(rule(huber_delta=1.0), (Table(*ONLINE), Table(*TARGET)), errors) for rule, errors in TD_ERRORS.items()],
        (
            MunchausenQLearning(temperature=0.5),
            (Table(*ONLINE), Table(*TARGET_OF_MUNCHAUSEN)),
            [target - q for target, q in zip(munchausen_targets_by_hand(0.9, 0.5, -1.0), [1.0, 2.0], strict=True)],
        ),
        (
            QuantileRegression(),
            (quantile_table(*QUANTILES), quantile_table(*QUANTILES_OF_TARGET)),
            [1 + 0.9 * 20 - 2, -2 + 0.5 * 55 - 3],
        ),
        (TDLearning(), (Table(*V_ONLINE), Table(*V_TARGET)), TD_ERRORS_OF_V),
    ],
    ids=lambda value: type(value).__name__ if callable(value) else "",
)
def test_the_priority_is_the_size_of_the_td_error_without_gradient(rule, networks, td_errors):
    priority = rule(*networks, LOW).priority
    torch.testing.assert_close(priority, tensor([td_errors[0], 100 - td_errors[1]]).abs())
    assert not priority.requires_grad


def test_actor_critic_has_no_priority():
    assert ActorCritic()(Table(*ACTOR_CRITIC), PLAYED, 1.0).priority is None
