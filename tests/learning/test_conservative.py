"""CQL's regulariser (Kumar et al. 2020, eq. 4): ln Σ_a exp Q(s, a) - Q(s, a_data)."""

import math
from functools import partial

import pytest
import torch
from torch import nn, tensor

from lit_dqn import (
    MLP,
    ConfigError,
    DoubleQLearning,
    ImplicitQuantileHead,
    ImplicitQuantileLearning,
    QLearning,
    QuantileHead,
    QuantileRegression,
)
from lit_dqn.learning.learner import Learner
from lit_dqn.learning.losses import conservative_penalty, select
from lit_dqn.types import Batch

YES, NO = True, False
LN2, LN3 = math.log(2), math.log(3)


@pytest.mark.parametrize(
    ("q_values", "action", "mask", "expected"),
    [
        ([5.0, 5.0, 5.0], 1, None, LN3),  # 0 would be the maximum in place of the soft one
        ([0.0, LN2, 0.0], 0, None, math.log(4)),
        ([0.0, LN2, 0.0], 1, None, LN2),  # the action of the data, not the best, not the mean
        ([7.0, 7.0, 99.0], 0, [YES, YES, NO], LN2),  # 92: with what is forbidden
        ([7.0, -50.0, 99.0], 0, [YES, NO, NO], 0.0),  # the one action that there is cannot be too good
        ([LN2, 0.0, 99.0], 1, [YES, NO, NO], LN3),  # ln 2 without the forbidden action of the data: no bound below
        ([1e4, 0.0, 0.0], 1, None, 1e4),  # exp(1e4) alone is infinite
    ],
)
def test_the_penalty(q_values, action, mask, expected):
    mask = None if mask is None else tensor([mask])
    assert conservative_penalty(tensor([q_values]), tensor([action]), mask).tolist() == pytest.approx([expected])


def test_its_gradient_is_the_softmax_less_the_action_of_the_data():
    q_values = tensor([[0.0, LN2, 0.0]], requires_grad=True)
    conservative_penalty(q_values, tensor([2])).sum().backward()
    assert torch.allclose(q_values.grad, tensor([[0.25, 0.5, 0.25 - 1]]))


def test_shapes_are_not_broadcast():
    with pytest.raises(ValueError, match="select takes"):
        conservative_penalty(torch.zeros(2, 3), torch.zeros(1, dtype=torch.int64))


def network(head=None):
    return MLP((3,), 4, (8,), **({} if head is None else {"head": head}))


def q_of(rule, online, batch):
    """Q(s, ·) by what the loss goes through, [B, A]."""
    if isinstance(rule, ImplicitQuantileLearning):
        levels = batch.uniform[:, : rule.num_samples]
        return online.head.quantiles(online.features(batch.observation), levels).mean(dim=2)
    return online(batch.observation)


RULES = {
    "q_learning": (QLearning, None),
    "double": (partial(DoubleQLearning, huber_delta=1.0), None),
    "quantile": (QuantileRegression, partial(QuantileHead, num_quantiles=5)),
    "implicit": (partial(ImplicitQuantileLearning, num_samples=3, num_target_samples=2), ImplicitQuantileHead),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("masks", [False, True])
def test_each_objective_adds_it_to_its_loss_and_to_nothing_else(name, masks):
    make, head = RULES[name]
    torch.manual_seed(0)
    online, target = network(head), network(head)
    allowed = torch.ones(5, 4, dtype=torch.bool)
    allowed[:, 3] = False
    batch = Batch(
        torch.randn(5, 3),
        torch.tensor([0, 1, 2, 0, 1]),
        torch.randn(5),
        torch.full((5,), 0.9),
        torch.randn(5, 3),
        uniform=torch.rand(5, 5),
        **({"action_mask": allowed, "next_action_mask": allowed} if masks else {}),
    )
    plain, with_it = make()(online, target, batch), make(conservative=2.5)(online, target, batch)
    q_values = q_of(make(), online, batch)
    allowed_values = q_values[:, :3] if masks else q_values
    penalty = allowed_values.exp().sum(dim=1).log() - select(q_values, batch.action)
    assert torch.allclose(with_it.loss - plain.loss, 2.5 * penalty, atol=1e-5)
    assert with_it.metrics["conservative"] == pytest.approx(penalty.mean().item(), rel=1e-4)  # not 2.5 times that
    assert with_it.metrics.keys() - plain.metrics.keys() == {"conservative"}
    for metric, value in plain.metrics.items():
        assert torch.equal(value, with_it.metrics[metric])
    assert torch.equal(plain.priority, with_it.priority)
    (gradient,) = torch.autograd.grad(with_it.loss.sum(), [next(online.parameters())])
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("make", [make for make, _ in RULES.values()])
@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_weight_that_is_none_is_refused(make, weight):
    with pytest.raises(ConfigError, match=r"^conservative: .* must be at least 0"):
        make(conservative=weight)


def test_it_has_no_place_among_the_arguments_before_it():
    assert QuantileRegression(0.5).huber_delta == QLearning(0.5).huber_delta == 0.5


# --- learning offline, with a known answer ---

STATES, ACTIONS, GAMMA = 6, 3, 0.9
UNTRIED = 2
RIGHT = [0, 1, 1, 0, 1]  # which action goes to the right, in each state


def chain_data(rows, generator):
    """What a uniformly random choice of actions 0 and 1 gives: one goes to the right, the other back to the beginning.
    The last state ends the episode and pays 1.
    """
    state = torch.randint(0, STATES - 1, (rows,), generator=generator)
    action = torch.randint(0, 2, (rows,), generator=generator)
    goes_right = action == tensor(RIGHT)[state]
    next_state = torch.where(goes_right, state + 1, 0)
    ends = next_state == STATES - 1
    one_hot = torch.eye(STATES)
    return Batch(one_hot[state], action, ends.float(), GAMMA * (~ends).float(), one_hot[next_state])


class OptimisticTable(nn.Linear):
    """Q by a table, in which what was never tried begins by being the best."""

    def __init__(self):
        super().__init__(STATES, ACTIONS, bias=False)
        with torch.no_grad():
            self.weight.zero_()
            self.weight[UNTRIED] = 2.0


@pytest.mark.parametrize(("conservative", "expected"), [(0.1, RIGHT), (0.0, [UNTRIED] * 5)])
def test_from_random_play_it_learns_the_best_policy_and_without_it_what_was_never_tried(conservative, expected):
    """A copy of the behaviour would take either action, for it took either; the best policy is in the data alone."""
    generator = torch.Generator().manual_seed(0)
    online, target = OptimisticTable(), OptimisticTable()
    learner = Learner(
        online,
        target,
        QLearning(conservative=conservative),
        torch.optim.SGD(online.parameters(), lr=4.0),
        target_update_period=5,
    )
    learner.update_many([chain_data(500, generator)] * 400)
    greedy = online(torch.eye(STATES)[: STATES - 1]).argmax(dim=1)
    assert greedy.tolist() == expected
