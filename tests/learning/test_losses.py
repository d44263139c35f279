import math

import pytest
import torch
from torch import tensor

from lit_dqn.learning.losses import (
    bootstrap,
    entropy,
    huber,
    policy_gradient,
    q_learning_td_error,
    quantile_huber,
    select,
    soft_value,
    squared,
    td_target,
)
from lit_dqn.types import Batch

# 99 and 91 are decoys: using an entry that was not chosen gives very different results.
Q_TM1 = tensor([[1.0, 99.0, 91.0], [99.0, 91.0, 2.0], [91.0, 3.0, 99.0]])
ACTION = tensor([0, 2, 1])
Q_T_SELECTOR = tensor([[5.0, 4.0, 3.0], [-3.0, -1.0, -2.0], [0.0, 0.0, 0.1]])
Q_T_VALUE = tensor([[10.0, 99.0, 91.0], [99.0, 20.0, 91.0], [91.0, 99.0, 30.0]])
REWARD = tensor([1.0, 0.0, -2.0])
DISCOUNT = tensor([0.5, 0.25, 0.0])


def batch(**changes):
    unused = torch.zeros(3, 1)
    return Batch(unused, ACTION, REWARD, DISCOUNT, unused)._replace(**changes)


def test_select_takes_the_chosen_entry_of_each_row():
    assert select(Q_TM1, ACTION).tolist() == [1, 2, 3]


@pytest.mark.parametrize("index", [ACTION[:, None], ACTION[:2], ACTION[0]], ids=["[B, 1]", "[B - 1]", "[]"])
def test_select_refuses_an_index_of_another_shape(index):
    with pytest.raises(ValueError, match="select takes"):
        select(Q_TM1, index)


def test_select_takes_all_numbers_of_the_chosen_action():
    values = torch.arange(18.0).view(3, 3, 2)
    assert select(values, tensor([2, 0, 1])).tolist() == [[4, 5], [6, 7], [14, 15]]


def test_select_refuses_values_without_actions():
    with pytest.raises(ValueError, match="select takes"):
        select(REWARD, ACTION)


def test_bootstrap_lets_one_network_pick_and_the_other_grade():
    assert bootstrap(Q_T_VALUE, Q_T_SELECTOR).tolist() == [10, 20, 30]


def test_bootstrap_of_one_network_is_its_maximum():
    assert bootstrap(Q_T_SELECTOR, Q_T_SELECTOR).tolist() == Q_T_SELECTOR.max(dim=1).values.tolist()


def test_bootstrap_refuses_two_shapes():
    with pytest.raises(ValueError, match="bootstrap takes"):
        bootstrap(Q_T_VALUE, Q_T_SELECTOR[:, :1])


def test_the_target_is_the_reward_plus_the_discounted_bootstrap():
    assert td_target(REWARD, DISCOUNT, tensor([10.0, 20.0, 30.0])).tolist() == [6, 5, -2]


@pytest.mark.parametrize("wrong", range(3))
@pytest.mark.parametrize("shape", [(3, 1), (1,), ()], ids=str)
def test_the_target_refuses_to_broadcast(wrong, shape):
    arguments = [REWARD, DISCOUNT, REWARD]
    arguments[wrong] = torch.zeros(shape)
    with pytest.raises(ValueError, match="td_target takes"):
        td_target(*arguments)


def test_the_target_refuses_columns_even_if_all_are_columns():
    with pytest.raises(ValueError, match="td_target takes"):
        td_target(REWARD[:, None], DISCOUNT[:, None], REWARD[:, None])


def test_the_td_error_is_the_target_minus_the_chosen_value():
    assert q_learning_td_error(Q_TM1, batch(), Q_T_VALUE, Q_T_SELECTOR).tolist() == [5, 3, -5]


@pytest.mark.parametrize("field", ["action", "reward", "discount"])
def test_the_td_error_refuses_a_stray_column(field):
    with pytest.raises(ValueError, match="takes"):
        q_learning_td_error(Q_TM1, batch(**{field: getattr(batch(), field)[:, None]}), Q_T_VALUE, Q_T_SELECTOR)


def test_the_gradient_flows_through_the_chosen_value_alone():
    q_tm1, q_t_value, q_t_selector = (q.clone().requires_grad_() for q in (Q_TM1, Q_T_VALUE, Q_T_SELECTOR))
    squared(q_learning_td_error(q_tm1, batch(), q_t_value, q_t_selector)).sum().backward()
    assert q_tm1.grad.tolist() == [[-5, 0, 0], [0, 0, -3], [0, 5, 0]]
    assert q_t_value.grad is None
    assert q_t_selector.grad is None


def test_with_discount_0_the_next_observation_has_no_influence():
    no_future = batch(discount=torch.zeros(3))
    huge = torch.full((3, 3), 1e30)
    near = q_learning_td_error(Q_TM1, no_future, Q_T_VALUE, Q_T_SELECTOR)
    assert near.tolist() == [0, -2, -5]
    assert q_learning_td_error(Q_TM1, no_future, huge, -huge).tolist() == near.tolist()


def test_the_soft_value_is_the_mean_of_the_policy_and_its_entropy():
    policy = (Q_TM1 / 2).softmax(dim=1)
    torch.testing.assert_close(soft_value(Q_TM1, 2.0), (policy * (Q_TM1 - 2 * policy.log())).sum(dim=1))
    torch.testing.assert_close(soft_value(Q_TM1, 1e-4), Q_TM1.max(dim=1).values)


QUANTILES = tensor([[-1.0, 0.5, 2.0], [0.0, 0.0, 4.0]])
SAMPLES = tensor([[0.0, 3.0], [-2.0, 1.0]])


def quantile_loss_by_hand(quantiles, samples, kappa):
    """Equations 9 and 10 of Dabney et al. (2018), for one transition, term by term; Huber's loss divided by kappa."""
    total = 0.0
    for i, theta in enumerate(quantiles):
        midpoint = (2 * (i + 1) - 1) / (2 * len(quantiles))
        for sample in samples:
            u = sample - theta
            huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
            total += abs(midpoint - (u < 0)) * huber / kappa / len(samples)
    return total


@pytest.mark.parametrize("kappa", [0.5, 1.0, 10.0])
def test_the_quantile_loss_is_the_papers_sum(kappa):
    expected = [quantile_loss_by_hand(*row, kappa) for row in zip(QUANTILES.tolist(), SAMPLES.tolist(), strict=True)]
    torch.testing.assert_close(quantile_huber(QUANTILES, SAMPLES, kappa), tensor(expected))


def test_quantile_regression_finds_the_quantiles_of_what_it_sees():
    generator = torch.Generator().manual_seed(0)
    quantiles = torch.zeros(1, 5, requires_grad=True)
    optimizer = torch.optim.Adam([quantiles], lr=0.01)
    for _ in range(2000):
        optimizer.zero_grad()
        quantile_huber(quantiles, torch.rand(1, 256, generator=generator) * 10, 0.01).sum().backward()
        optimizer.step()
    torch.testing.assert_close(quantiles.detach(), tensor([[1.0, 3.0, 5.0, 7.0, 9.0]]), rtol=0, atol=0.3)


def test_no_gradient_flows_through_the_samples():
    quantiles, samples = QUANTILES.clone().requires_grad_(), SAMPLES.clone().requires_grad_()
    quantile_huber(quantiles, samples).sum().backward()
    assert quantiles.grad is not None
    assert samples.grad is None


@pytest.mark.parametrize(
    ("quantiles", "samples"), [((2, 3), (3, 2)), ((2,), (2, 2)), ((2, 3), (2,)), ((2, 1, 3), (2, 2))]
)
def test_the_quantile_loss_refuses_to_broadcast(quantiles, samples):
    with pytest.raises(ValueError, match="quantile_huber takes"):
        quantile_huber(torch.zeros(quantiles), torch.zeros(samples))


TD_ERROR = torch.linspace(-4, 4, 81, dtype=torch.float64)


@pytest.mark.parametrize("delta", [0.5, 1.0, 2.5])
def test_huber_is_that_of_torch(delta):
    oracle = torch.nn.functional.huber_loss(TD_ERROR, torch.zeros_like(TD_ERROR), reduction="none", delta=delta)
    torch.testing.assert_close(huber(TD_ERROR, delta), oracle, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "slope"),
    [(huber, lambda error: error.clamp(-1, 1)), (squared, lambda error: error)],
    ids=["huber", "squared"],
)
def test_the_gradient_of_the_loss_is_the_td_error_clipped_by_huber_at_1(loss, slope):
    step = 1e-6
    numeric = (loss(TD_ERROR + step) - loss(TD_ERROR - step)) / (2 * step)
    torch.testing.assert_close(numeric, slope(TD_ERROR), rtol=0, atol=1e-6)
    error = TD_ERROR.clone().requires_grad_()
    loss(error).sum().backward()
    torch.testing.assert_close(error.grad, slope(TD_ERROR))


def test_entropy_is_that_of_the_softmax():
    logits = tensor([[0.0, 0.0, 0.0, 0.0], [1000.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(entropy(logits), tensor([math.log(4), 0.0]))
    half = tensor([[5.0, 5.0, -1e9]])
    torch.testing.assert_close(entropy(half), tensor([math.log(2)]))


def test_the_policy_gradient_weighs_the_log_probability_by_a_number():
    log_probability, advantage = tensor([-1.0, -2.0], requires_grad=True), tensor([3.0, -4.0], requires_grad=True)
    loss = policy_gradient(log_probability, advantage)
    assert loss.tolist() == [3, -8]
    loss.sum().backward()
    assert log_probability.grad.tolist() == [-3, 4]
    assert advantage.grad is None


def test_the_policy_gradient_refuses_to_broadcast():
    with pytest.raises(ValueError, match="policy_gradient takes"):
        policy_gradient(REWARD, REWARD[:, None])
