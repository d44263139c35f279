"""Q(s, a) as the mean of the values of its parts' choices: hand-made tables, and the same numbers as the product."""

import numpy as np
import pytest
import torch

from lit_dqn import (
    ActorCritic,
    CategoricalQLearning,
    ConfigError,
    DoubleQLearning,
    ImplicitQuantileLearning,
    MunchausenQLearning,
    QLearning,
    QuantileRegression,
)
from lit_dqn.branches import Branches
from lit_dqn.learning.action_values import ActionValues, BranchValues, best_columns, columns_of
from lit_dqn.types import Batch

ONLINE = torch.tensor([[1.0, 3.0, 2.0, 8.0, -1.0]])  # at s: two parts with 2 and 3 choices
VALUE = torch.tensor([[0.0, 4.0, 1.0, 2.0, 6.0]])  # at s', of the network that evaluates
SELECTOR = torch.tensor([[5.0, 1.0, 0.0, 9.0, 1.0]])  # at s', of the network that selects
BRANCHES = Branches([2, 3])


class Table(torch.nn.Module):
    """Outputs for each state, which is its own number."""

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.nn.Parameter(rows.clone())

    def forward(self, state):
        return self.rows[state]


def batch_of(action, reward=1.0, discount=0.5, following=0):
    return Batch(
        torch.zeros(1, dtype=torch.long),
        torch.tensor([action]),
        torch.tensor([reward]),
        torch.tensor([discount]),
        None if following is None else torch.tensor([following]),
    )


def expanded(outputs, choices):
    """The value of every combination, the last part fastest: an independent way to the same numbers."""
    rows = torch.zeros(len(outputs), *choices)
    for part, values in enumerate(outputs.split(choices, dim=1)):
        shape = [len(outputs), *(1 for _ in choices)]
        shape[part + 1] = choices[part]
        rows = rows + values.reshape(shape) / len(choices)
    return rows.reshape(len(outputs), -1)


@pytest.mark.parametrize(
    ("action", "value"),
    [
        (0, 1.5),  # (0, 0): (1 + 2) / 2
        (1, 4.5),  # (0, 1): (1 + 8) / 2
        (2, 0.0),  # (0, 2): (1 - 1) / 2
        (3, 2.5),  # (1, 0): (3 + 2) / 2
        (4, 5.5),  # (1, 1): (3 + 8) / 2; with the first part fastest it would be (0, 2), 0
        (5, 1.0),  # (1, 2): (3 - 1) / 2
    ],
)
def test_the_value_of_an_action_is_the_mean_of_its_parts(action, value):
    assert BranchValues(BRANCHES).of(ONLINE, torch.tensor([action])).tolist() == [value]


def test_the_td_error_of_two_parts_by_hand():
    batch = batch_of(4)
    error = BranchValues(BRANCHES).td_error(ONLINE, batch, VALUE, SELECTOR)
    # The selector's best choices are 0 and 1: (0 + 2) / 2 = 1, y = 1 + 0.5 = 1.5.
    assert error.tolist() == [1.5 - 5.5]
    own = BranchValues(BRANCHES).td_error(ONLINE, batch, VALUE, VALUE)
    # The maxima 4 and 6 have the mean 5, y = 3.5; their sum, or a maximum over all five, would give 6 or 4.
    assert own.tolist() == [3.5 - 5.5]


@pytest.mark.parametrize(
    ("objective", "target"),
    [(QLearning(), 1 + 0.5 * 5), (DoubleQLearning(), 1 + 0.5 * (0 + 2) / 2)],
)
def test_q_learning_and_double_q_learning_of_branches(objective, target):
    online, evaluates = Table(torch.cat([ONLINE, SELECTOR])), Table(torch.cat([ONLINE, VALUE]))
    output = objective.of_branches(BRANCHES)(online, evaluates, batch_of(4, following=1))
    error = target - 5.5
    assert output.loss.item() == pytest.approx(0.5 * error**2)
    assert output.priority.item() == pytest.approx(abs(error))
    assert output.metrics["q_value"].item() == pytest.approx((2 + 3) / 2)  # not 13 / 5, the mean of all outputs
    output.loss.sum().backward()
    # Each part of the action taken gets half of the gradient; nothing else does.
    assert online.rows.grad.tolist() == [[0, -error / 2, 0, -error / 2, 0], [0] * 5]
    assert evaluates.rows.grad is None


def test_complete_returns_are_learned_without_a_target():
    output = QLearning().of_branches(BRANCHES)(Table(ONLINE), Table(ONLINE), batch_of(1, reward=7.0, following=None))
    assert output.priority.item() == 7 - 4.5


@pytest.mark.parametrize("choices", [[3, 2], [2, 2, 2], [4], [1, 5, 2]])
@pytest.mark.parametrize("kind", [QLearning, DoubleQLearning])
@pytest.mark.parametrize("conservative", [0.0, 0.7])
def test_branches_and_product_agree_where_values_add_up(choices, kind, conservative):
    generator = torch.Generator().manual_seed(sum(choices))
    branches = Branches(choices)
    online, target = (torch.randn(12, branches.num_outputs, generator=generator) for _ in range(2))
    batch = Batch(
        torch.arange(6),
        torch.randint(branches.num_actions, (6,), generator=generator),
        torch.randn(6, generator=generator),
        torch.rand(6, generator=generator),
        torch.arange(6, 12),
    )
    objective = kind(huber_delta=1.0, conservative=conservative)
    apart = objective.of_branches(branches)(Table(online), Table(target), batch)
    together = objective(Table(expanded(online, choices)), Table(expanded(target, choices)), batch)
    torch.testing.assert_close(apart.loss, together.loss)
    torch.testing.assert_close(apart.priority, together.priority)
    assert apart.metrics.keys() == together.metrics.keys()
    for name, metric in apart.metrics.items():
        torch.testing.assert_close(metric, together.metrics[name])


def test_columns_and_choices_of_numpy_and_torch_are_the_same():
    branches = Branches([3, 1, 4, 2])
    actions = np.arange(branches.num_actions)
    starts = np.array([0, 3, 4, 8])
    columns = columns_of(torch.from_numpy(actions), branches.choices).numpy()
    assert np.array_equal(columns - starts, np.stack(branches.parts_of(actions), axis=1))
    assert np.array_equal(branches.action_of(branches.parts_of(actions)), actions)


def test_the_largest_numbers_of_combinations_are_exact():
    branches = Branches([2] * 62)
    action = 2**62 - 2  # all parts but the last
    assert [int(part) for part in branches.parts_of(action)] == [1] * 61 + [0]
    columns = columns_of(torch.tensor([action]), branches.choices)
    assert columns.tolist() == [[2 * part + 1 for part in range(61)] + [122]]
    assert branches.action_of([np.array([1])] * 61 + [np.array([0])]).tolist() == [action]
    outputs = torch.zeros(1, 124).scatter(1, columns, 1.0)
    assert best_columns(outputs, branches.choices).tolist() == columns.tolist()


@pytest.mark.parametrize("choices", [[], [2, 0], [2] * 63])
def test_numbers_of_choices_that_cannot_be_are_refused(choices):
    with pytest.raises(ConfigError, match=r"num_actions: .* fewer than 2\^63 combinations"):
        Branches(choices)


@pytest.mark.parametrize(
    "objective",
    [MunchausenQLearning(), QuantileRegression(), CategoricalQLearning(), ImplicitQuantileLearning()],
    ids=lambda objective: type(objective).__name__,
)
def test_other_objectives_are_refused_by_name(objective):
    with pytest.raises(ConfigError, match=f"objective: {type(objective).__name__} needs outputs for each action"):
        objective.of_branches(BRANCHES)
    assert not hasattr(ActorCritic, "of_branches")


def test_without_branches_the_rule_is_the_one_of_the_outputs():
    assert type(QLearning()._values) is ActionValues
    assert QLearning().of_branches(BRANCHES) == QLearning()  # the same settings
    assert type(QLearning()._values) is ActionValues
