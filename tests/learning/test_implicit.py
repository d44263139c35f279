"""Implicit quantile networks, against the equations of the papers."""

import copy
import math

import pytest
import torch

from lit_dqn import MLP, ConfigError, ImplicitQuantileHead, ImplicitQuantileLearning, Munchausen
from lit_dqn.types import Batch

HEAD = ImplicitQuantileHead


def pair():
    torch.manual_seed(0)
    networks = [MLP((4,), 3, hidden_sizes=(8, 8), head=HEAD) for _ in range(2)]
    return networks[0], networks[1].requires_grad_(False)


def batch(num_uniform, size=5):
    generator = torch.Generator().manual_seed(1)
    seen, then = torch.randn(2, size, 4, generator=generator)
    return Batch(
        seen,
        torch.tensor([0, 1, 2, 1, 0]),
        torch.randn(size, generator=generator),
        torch.tensor([0.9, 0.0, 0.5, 0.9, 1.0]),
        then,
        uniform=torch.rand(size, num_uniform, generator=generator),
    )


def test_the_quantiles_are_those_of_the_paper():
    """Equation 4, with i from 0 on; a dense layer, ReLU, and the outputs of the product with the features."""
    network, _ = pair()
    head, seen, levels = network.head, torch.randn(2, 4), torch.rand(2, 7)
    features = network.features(seen)
    found = head.quantiles(features, levels)
    assert found.shape == (2, 3, 7)
    layer, dense = head.embedding[0], head.outputs
    for row in range(2):
        for number in range(7):
            cosines = torch.tensor([math.cos(math.pi * i * levels[row, number].item()) for i in range(64)])
            mixed = features[row] * (layer.weight @ cosines + layer.bias).relu()
            torch.testing.assert_close(found[row, :, number], dense(mixed).squeeze(-1), rtol=1e-4, atol=1e-5)


def test_action_values_are_means_over_fixed_midpoints():
    network, _ = pair()
    seen = torch.randn(6, 4)
    levels = (torch.arange(32) + 0.5) / 32
    expected = network.head.quantiles(network.features(seen), levels.repeat(6, 1)).mean(dim=2)
    torch.testing.assert_close(network(seen), expected)
    assert torch.equal(network(seen), network(seen))


def loss_by_the_loop(online, target, given, n, m, double=False, munchausen=None, kappa=1.0):
    """Algorithm 1 of the paper, number by number; M-IQN as in Vieillard et al. (2020), appendix B."""
    features, then = online.features(given.observation), target.features(given.next_observation)
    theta = online.head.quantiles(features, given.uniform[:, :n])
    z = target.head.quantiles(then, given.uniform[:, n:])
    losses = []
    for row in range(len(given.reward)):
        action, d = given.action[row], given.discount[row]
        if munchausen is None:
            picks = (online if double else target)(given.next_observation)[row]
            y = [given.reward[row] + d * z[row, picks.argmax(), j] for j in range(m)]
        else:
            tau = munchausen.temperature
            log_before = (target(given.observation)[row] / tau).log_softmax(dim=0)
            log_after = (target(given.next_observation)[row] / tau).log_softmax(dim=0)
            bonus = min(max(tau * log_before[action].item(), munchausen.lowest), 0)
            y = [
                given.reward[row]
                + munchausen.alpha * bonus
                + d * sum(log_after[a].exp() * (z[row, a, j] - tau * log_after[a]) for a in range(3))
                for j in range(m)
            ]
        loss = 0.0
        for i in range(n):
            for j in range(m):
                u = (y[j] - theta[row, action, i]).item()
                huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                loss += abs(given.uniform[row, i].item() - (u < 0)) * huber / kappa / m
        losses.append(loss)
    return torch.tensor(losses)


VARIANTS = [{}, {"double": True}, {"munchausen": Munchausen(temperature=0.3)}]


@pytest.mark.parametrize("variant", VARIANTS, ids=["iqn", "double", "m_iqn"])
@pytest.mark.parametrize("kappa", [1.0, 0.2])
def test_the_loss_is_the_one_of_the_papers(variant, kappa):
    online, target = pair()
    given = batch(5 + 4)
    objective = ImplicitQuantileLearning(num_samples=5, num_target_samples=4, huber_delta=kappa, **variant)
    assert objective.draws == 9
    output = objective(online, target, given)
    with torch.no_grad():
        expected = loss_by_the_loop(online, target, given, 5, 4, **variant, kappa=kappa)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    assert output.priority.shape == (5,)
    output.loss.sum().backward()
    assert all(parameter.grad is not None for parameter in online.parameters())
    plain = ImplicitQuantileLearning(num_samples=5, num_target_samples=4, huber_delta=kappa)(online, target, given)
    assert not variant or not torch.allclose(output.loss, plain.loss)


def test_only_the_action_that_was_taken_gets_a_gradient():
    online, target = pair()
    given = batch(8)._replace(action=torch.ones(5, dtype=torch.int64))
    ImplicitQuantileLearning(num_samples=4, num_target_samples=4)(online, target, given).loss.sum().backward()
    last = online.head.outputs[0][-1]
    assert last.bias.grad[1] != 0
    assert last.bias.grad[[0, 2]].tolist() == [0, 0]
    assert all(parameter.grad is None for parameter in target.parameters())


def test_the_constants_are_those_of_the_paper():
    assert ImplicitQuantileLearning() == ImplicitQuantileLearning(64, 64, 1.0, False, None)
    assert (pair()[0].head.embedding_size, pair()[0].head.num_midpoints) == (64, 32)


def test_what_does_not_fit_is_refused():
    network = MLP((4,), 3)
    with pytest.raises(ConfigError, match="ImplicitQuantileLearning needs a network with a ImplicitQuantileHead"):
        ImplicitQuantileLearning()(network, copy.deepcopy(network), batch(128))
    with pytest.raises(ConfigError, match="double: true picks one action"):
        ImplicitQuantileLearning(double=True, munchausen=Munchausen())
    with pytest.raises(ConfigError, match=r"alpha: 1\.0"):
        Munchausen(alpha=1.0)
    for key in ("num_samples", "num_target_samples", "huber_delta"):
        with pytest.raises(ConfigError, match=f"{key}: 0"):
            ImplicitQuantileLearning(**{key: 0})
