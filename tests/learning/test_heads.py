"""Torso, features, head: what networks are put together of."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn

from lit_dqn import CNN, MLP, CategoricalHead, ImplicitQuantileHead, NatureCNN, QuantileHead
from lit_dqn.learning.networks.heads import Dueling

SMALL_CNN = partial(CNN, filters=(4,), kernel_sizes=(4,), strides=(2,), dense_size=8)
QUANTILES = partial(QuantileHead, num_quantiles=5)


def observations(shape, count=3):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def test_dueling_adds_the_value_to_the_advantages_less_their_mean_number_by_number():
    """Two numbers for each of three actions, in two states; by hand."""
    value = [[1.0, 10.0], [2.0, -5.0]]
    advantage = [[[1.0, 7.0], [2.0, 7.0], [6.0, 1.0]], [[0.0, 3.0], [0.0, 0.0], [0.0, -3.0]]]
    dueling = Dueling(lambda _: torch.tensor(value), lambda _: torch.tensor(advantage))
    expected = [[[-1, 12], [0, 12], [4, 6]], [[2, -2], [2, -5], [2, -8]]]
    assert dueling(torch.zeros(2, 1)).tolist() == expected


@pytest.mark.parametrize(("network", "shape"), [(MLP, (4,)), (SMALL_CNN, (2, 8, 8)), (NatureCNN, (1, 36, 36))])
@pytest.mark.parametrize("head", [None, QUANTILES])
def test_a_dueling_network_has_two_streams_of_hidden_layers_and_its_values_have_a_common_level(network, shape, head):
    made = network(shape, 3, dueling=True, head=head)
    seen = observations(shape)
    before = made(seen)
    assert before.shape == (3, 3)
    streams = made.head.outputs
    with torch.no_grad():
        streams.advantage[0][-1].bias.add_(7)  # of all actions alike: the level is V's business
        torch.testing.assert_close(made(seen), before)
        streams.value[-1].bias.add_(7)
    torch.testing.assert_close(made(seen), before + 7)
    widths = {stream[0].out_features for stream in (streams.value, streams.advantage[0])}
    assert len(widths) == 1
    assert not any(p is q for p, q in itertools.combinations(streams.parameters(), 2))


def test_a_dueling_network_computes_what_the_paper_says():
    network = MLP((4,), 3, hidden_sizes=(5, 6), dueling=True)
    seen = observations((4,))
    (w1, b1), (w2, b2), (w3, b3), (w4, b4), (w5, b5) = zip(*[iter(network.parameters())] * 2, strict=True)
    features = (seen @ w1.T + b1).relu()
    value = (features @ w2.T + b2).relu() @ w3.T + b3
    advantage = (features @ w4.T + b4).relu() @ w5.T + b5
    assert (value.shape, advantage.shape) == ((3, 1), (3, 3))
    torch.testing.assert_close(network(seen), value + advantage - advantage.mean(dim=1, keepdim=True))


@pytest.mark.parametrize("dueling", [False, True])
def test_a_quantile_head_says_the_quantiles_whose_means_are_the_action_values(dueling):
    network = MLP((4,), 3, dueling=dueling, head=QUANTILES)
    seen = observations((4,))
    quantiles = network.head.quantiles(network.features(seen))
    assert quantiles.shape == (3, 3, 5)
    torch.testing.assert_close(network(seen), quantiles.mean(dim=2))


@pytest.mark.parametrize("network", [MLP, SMALL_CNN])
def test_a_network_without_a_head_is_layer_by_layer_what_it_has_always_been(network):
    made = network((2, 8, 8), 3)
    assert made.head is None
    assert [type(layer) for layer in made][-3:] == [nn.Linear, nn.ReLU, nn.Linear]
    torch.testing.assert_close(made[-1](made.features(observations((2, 8, 8)))), made(observations((2, 8, 8))))


def test_layer_norm_stands_before_each_relu_and_makes_a_layer_blind_to_the_scale_of_its_inputs():
    for network, shape in ((partial(MLP, hidden_sizes=(5, 6)), (4,)), (SMALL_CNN, (2, 8, 8))):
        made = network(shape, 3, layer_norm=True)
        assert sum(isinstance(layer, nn.LayerNorm | nn.GroupNorm) for layer in made) == 2
        for before, layer in itertools.pairwise(made):
            assert not isinstance(layer, nn.ReLU) or isinstance(before, nn.LayerNorm | nn.GroupNorm)
        nn.init.zeros_(made[0].bias if network is SMALL_CNN else made[1].bias)
        seen = observations(shape) * 10
        torch.testing.assert_close(made(seen), made(seen * 100), rtol=1e-3, atol=1e-3)
        assert not torch.allclose(network(shape, 3)(seen), network(shape, 3)(seen * 100))


@pytest.mark.parametrize("head", [None, QUANTILES, CategoricalHead, ImplicitQuantileHead])
def test_the_outputs_of_every_head_keep_single_precision_in_mixed_precision(head):
    network = SMALL_CNN((2, 8, 8), 3, dueling=True, head=head)
    with torch.autocast("cpu", torch.bfloat16):
        values = network(observations((2, 8, 8), 64))
    assert values.dtype == torch.float32
    assert not torch.equal(values, values.bfloat16().float())
