"""What is learned where actions are forbidden: nothing of a forbidden action, however good it looks."""

from functools import partial

import pytest
import torch
from torch import nn, tensor

from lit_dqn import (
    C51,
    MLP,
    ActorCritic,
    CategoricalHead,
    CategoricalQLearning,
    DoubleQLearning,
    HLGauss,
    ImplicitQuantileHead,
    ImplicitQuantileLearning,
    Munchausen,
    MunchausenQLearning,
    QLearning,
    QuantileHead,
    QuantileRegression,
)
from lit_dqn.learning.learner import Learner, Update
from lit_dqn.learning.losses import masked
from lit_dqn.learning.update_graph import _CopiedBatches
from lit_dqn.types import Batch

YES, NO = True, False


class Table(nn.Module):
    """Q-values of states that are observed as their number."""

    def __init__(self, *rows):
        super().__init__()
        self.values = nn.Parameter(tensor(rows, dtype=torch.float32))

    def forward(self, observation):
        return self.values[observation[:, 0].long()]


# Two transitions, 0 -> 2 and 1 -> 3. 1000 is forbidden where it stands, and another action in each row.
ONLINE = [1, 99, 91], [99, 91, 2], [0, 7, 1000], [4, 1000, 3]
TARGET = [99, 91, 99], [91, 99, 91], [10, 20, 1000], [60, 1000, 50]
BATCH = Batch(
    observation=tensor([[0.0], [1.0]]),
    action=tensor([0, 2]),
    reward=tensor([1.0, -2.0]),
    discount=tensor([0.9, 0.5]),
    next_observation=tensor([[2.0], [3.0]]),
    action_mask=tensor([[YES, YES, YES], [YES, NO, YES]]),
    next_action_mask=tensor([[YES, YES, NO], [YES, NO, YES]]),
)


@pytest.mark.parametrize(
    ("rule", "online", "expected"),
    [
        (QLearning, ONLINE, [1 + 0.9 * 20 - 1, -2 + 0.5 * 60 - 2]),
        (DoubleQLearning, ONLINE, [1 + 0.9 * 20 - 1, -2 + 0.5 * 60 - 2]),
        # The online network's choice among what is allowed, which the target network finds worse.
        (DoubleQLearning, [*ONLINE[:2], [8, 7, 1000], [3, 1000, 4]], [1 + 0.9 * 10 - 1, -2 + 0.5 * 50 - 2]),
    ],
)
def test_the_target_is_the_best_of_the_allowed_actions(rule, online, expected):
    loss = rule()(Table(*online), Table(*TARGET), BATCH).loss
    torch.testing.assert_close(loss, 0.5 * tensor(expected) ** 2)


def test_munchausens_policy_is_the_softmax_over_the_allowed_actions():
    target, tau, alpha = [[2, 1, 3], [0, 1000, 1], [1, 2, 1000], [1, 1000, 2]], 0.5, 0.9
    rule = MunchausenQLearning(alpha=alpha, temperature=tau, lowest=-9.0)
    found = rule(Table(*ONLINE), Table(*target), BATCH).loss
    expected = []
    for row, (action, before, after) in enumerate([(0, [2, 1, 3], [1, 2]), (1, [0, 1], [1, 2])]):
        log_policy = tau * tensor(before).div(tau).log_softmax(0)
        following = tensor(after, dtype=torch.float32)
        policy = (following / tau).softmax(0)
        soft = (policy * (following - tau * policy.log())).sum()
        y = BATCH.reward[row] + alpha * log_policy[action] + BATCH.discount[row] * soft
        expected.append(0.5 * (y - ONLINE[row][int(BATCH.action[row])]) ** 2)
    torch.testing.assert_close(found, torch.stack(expected))


NETWORK = partial(MLP, hidden_sizes=(8,))
RULES = {
    "q": (QLearning(), None),
    "double": (DoubleQLearning(), None),
    "munchausen": (MunchausenQLearning(), None),
    "quantiles": (QuantileRegression(), partial(QuantileHead, num_quantiles=5)),
    "c51": (CategoricalQLearning(C51()), CategoricalHead),
    "c51 double": (CategoricalQLearning(C51(), double=True), CategoricalHead),
    "hl-gauss": (CategoricalQLearning(HLGauss()), CategoricalHead),
    "iqn": (ImplicitQuantileLearning(3, 5), ImplicitQuantileHead),
    "iqn double": (ImplicitQuantileLearning(3, 5, double=True), ImplicitQuantileHead),
    "m-iqn": (ImplicitQuantileLearning(3, 5, munchausen=Munchausen()), ImplicitQuantileHead),
    "actor-critic": (lambda online, target, batch: ActorCritic()(online, batch, 0.7), None),
}
FORBIDDEN = (1, 2)


def network_of(head, seed, outputs=4):
    torch.manual_seed(seed)
    return NETWORK((3,), outputs) if head is None else NETWORK((3,), outputs, head=head)


def tempt(network, by):
    """Let the forbidden actions look good, or very bad."""
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    categorical = isinstance(getattr(network, "head", None), CategoricalHead)
    per_action = len(last.bias) // 4 if getattr(network, "head", None) is not None else 1
    with torch.no_grad():
        for action in FORBIDDEN:
            row = action * per_action
            if categorical:
                last.bias[row + (per_action - 1 if by > 0 else 0)] += 50  # the best return, or the worst
            else:
                last.bias[row : row + per_action] += by


def batch_of(draws, masked_actions):
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[:, FORBIDDEN] = False
    return Batch(
        torch.randn(6, 3, generator=generator),
        tensor([0, 3, 0, 3, 3, 0]),
        torch.randn(6, generator=generator),
        tensor([0.9, 0.9, 0.9, 0.9, 0.0, 0.9]),
        torch.randn(6, 3, generator=generator),
        uniform=torch.rand(6, draws, generator=generator) if draws else None,
        action_mask=mask if masked_actions else None,
        next_action_mask=mask if masked_actions else None,
    )


def loss_of(name, by, *, masked_actions):
    rule, head = RULES[name]
    outputs = 5 if name == "actor-critic" else 4
    online, target = network_of(head, 0, outputs), network_of(head, 1, outputs)
    tempt(online, by), tempt(target, by)
    return rule(online, target, batch_of(getattr(rule, "draws", 0), masked_actions)).loss


@pytest.mark.parametrize("name", RULES)
def test_forbidden_actions_that_look_good_are_learned_from_as_if_they_were_hopeless(name):
    # So low that a softmax gives them nothing, and no maximum finds them.
    expected = loss_of(name, -1e4, masked_actions=False)
    torch.testing.assert_close(loss_of(name, 1e4, masked_actions=True), expected)
    assert not torch.allclose(loss_of(name, 1e4, masked_actions=False), expected)


@pytest.mark.parametrize("name", RULES)
def test_a_mask_that_allows_all_changes_no_bit_and_one_that_forbids_makes_no_nan(name):
    rule, head = RULES[name]
    outputs = 5 if name == "actor-critic" else 4
    online, target = network_of(head, 0, outputs), network_of(head, 1, outputs)
    batch = batch_of(getattr(rule, "draws", 0), masked_actions=True)
    everything = torch.ones(6, 4, dtype=torch.bool)
    plain = rule(online, target, batch._replace(action_mask=None, next_action_mask=None)).loss
    assert torch.equal(
        rule(online, target, batch._replace(action_mask=everything, next_action_mask=everything)).loss, plain
    )
    rule(online, target, batch).loss.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in online.parameters() if parameter.grad is not None)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"one shape, not \(2, 3\) and \(2, 4\)"):
        masked(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool))


@pytest.mark.slow
@pytest.mark.parametrize("objective", [DoubleQLearning(), MunchausenQLearning()], ids=lambda rule: type(rule).__name__)
def test_a_compiled_update_learns_the_same(objective):
    weights = []
    for way in (Update.eager, Update.compiled):
        online, target = network_of(None, 0), network_of(None, 1)
        learner = Learner(online, target, objective, torch.optim.Adam(online.parameters(), lr=1e-2), update=way)
        tempt(target, 1e4)
        learner.update_many([batch_of(0, masked_actions=True)] * 5)
        weights.append(list(online.parameters()))
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("weight", [None, torch.rand(6)], ids=["", "weighed"])
def test_batches_that_are_copied_to_one_place_keep_their_masks(weight):
    batch = batch_of(0, masked_actions=True)._replace(weight=weight)
    other = batch._replace(reward=-batch.reward, action_mask=~batch.action_mask)
    copied = _CopiedBatches([batch, batch], torch.device("cpu"))
    assert copied.take([other, batch])
    for found, expected in zip(copied, [other, batch], strict=True):
        assert found.given.keys() == expected.given.keys()
        assert all(torch.equal(found.given[name], field) for name, field in expected.given.items())
