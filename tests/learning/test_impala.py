"""The residual encoder of IMPALA."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool2d

from lit_dqn import ConfigError, ImpalaCNN
from lit_dqn.learning.networks import Pool

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
        network.train()(images(2, 1, 10, 10))
    network.eval()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for number, layer in enumerate(convolutions):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item()
        assert (largest == pytest.approx(1, rel=0.02)) == (number % 5 != 0)


def test_layer_norm_stands_after_each_convolution():
    network = SMALL((1, 10, 10), 2, layer_norm=True)
    assert sum(isinstance(layer, nn.GroupNorm) for layer in network.modules()) == 15
    assert network(images(2, 1, 10, 10)).shape == (2, 2)
