"""The residual encoder of IMPALA."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool2d

from helpers import batches
from lit_dqn import ConfigError, DoubleQLearning, ImpalaCNN, LitDQN
from lit_dqn.learning.learner import Learner
from lit_dqn.learning.networks import Pool, SpectralNorms
from lit_dqn.learning.networks.spectral import add_spectral_norm
from lit_dqn.learning.update_graph import why_not_repeated

SMALL = partial(ImpalaCNN, dense_size=8)


def images(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_encoder_computes_what_the_paper_shows():
    """Figure 3 of Espeholt et al. (2018), written out."""
    network, seen = SMALL((2, 21, 20), 3), images(2, 2, 21, 20)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [16] * 5 + [32] * 10
    hidden = seen / 255
    for block in range(3):
        first, *others = convolutions[5 * block : 5 * block + 5]
        hidden = max_pool2d(first(hidden), 3, stride=2, padding=1)
        for one, two in (others[:2], others[2:]):
            hidden = hidden + two(one(hidden.relu()).relu())
    dense = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert dense[0].in_features == 32 * 3 * 3
    expected = dense[1](dense[0](hidden.relu().flatten(1)).relu())
    torch.testing.assert_close(network(seen), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("pool", "features"), [("flatten", 32 * 11 * 11), ("average", 32), ("adaptive_max", 32 * 36)])
def test_pooling_says_what_becomes_of_the_places(pool, features):
    network, seen = SMALL((1, 84, 84), 2, pool=pool), images(2, 1, 84, 84)
    assert network[-3].in_features == features
    torso = nn.Sequential(*[layer for layer in network][:13])  # three blocks of four, and a ReLU
    places = torso(seen / 255)
    pools = {"flatten": nn.Identity(), "average": nn.AdaptiveAvgPool2d(1), "adaptive_max": nn.AdaptiveMaxPool2d(6)}
    expected = network[-1](network[-2](network[-3](pools[pool](places).flatten(1))))
    torch.testing.assert_close(network(seen), expected, rtol=1e-4, atol=1e-5)
    assert Pool(pool) in Pool


def test_width_multiplies_the_filters_and_any_size_of_image_is_taken():
    network = SMALL((4, 10, 10), 2, width=2)
    assert next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d)).out_channels == 32
    assert network(images(3, 4, 10, 10)).shape == (3, 2)
    for wrong in ({"width": 0}, {"dense_size": 0}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} .* of ImpalaCNN must each lie between"):
            SMALL((4, 10, 10), 2, **wrong)
    with pytest.raises(ConfigError, match="ImpalaCNN takes images"):
        SMALL((4,), 2)


def test_spectral_norm_is_for_the_residual_blocks_and_keeps_their_largest_singular_value_at_1():
    torch.manual_seed(0)
    network = SMALL((1, 10, 10), 2, spectral_norm=True)
    for _ in range(50):
        SpectralNorms(network).step()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for number, layer in enumerate(convolutions):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item()
        assert (largest == pytest.approx(1, rel=0.02)) == (number % 5 != 0)


def test_layer_norm_stands_after_each_convolution():
    network = SMALL((1, 10, 10), 2, layer_norm=True)
    assert sum(isinstance(layer, nn.GroupNorm) for layer in network.modules()) == 15
    assert network(images(2, 1, 10, 10)).shape == (2, 2)


def test_power_iteration_is_that_of_torch_and_a_forward_pass_makes_no_step():
    """Torch makes one step in each forward pass of training; here `SpectralNorms.step` does."""
    ours = nn.Conv2d(3, 4, 3)
    theirs = copy.deepcopy(ours)
    add_spectral_norm(ours)
    nn.utils.parametrizations.spectral_norm(theirs)
    norm, other = ours.parametrizations.weight[0], theirs.parametrizations.weight[0]
    norm.u.copy_(other._u), norm.v.copy_(other._v)
    for _ in range(3):
        SpectralNorms(ours).step()
        seen = torch.rand(2, 3, 5, 5)
        said, expected = ours.train()(seen), theirs.train()(seen)
        torch.testing.assert_close(said, expected)
        torch.testing.assert_close(norm.u, other._u)
        said.square().mean().backward(), expected.square().mean().backward()
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            for layer in (ours, theirs):
                for parameter in layer.parameters():
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None


def test_each_update_makes_one_step_of_power_iteration_whatever_its_passes():
    torch.manual_seed(0)
    network = SMALL((1, 10, 10), 2, spectral_norm=True)
    plain = copy.deepcopy(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    learner = Learner(network, None, DoubleQLearning(), optimizer)  # which asks the network three times
    learner.update_many(batches(3, (1, 10, 10)))
    for _ in range(3):
        SpectralNorms(plain).step()
    for name, value in plain.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert why_not_repeated(network, (1, 10, 10)) is None
    agent = LitDQN((1, 10, 10), 2, network=partial(SMALL, spectral_norm=True), update="compiled")
    with pytest.raises(ConfigError, match=r"update: compiled cannot .*: spectral norm is estimated between updates"):
        agent.check_device(torch.device("cpu"))
