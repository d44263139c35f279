import copy

import pytest
import torch
from torch import nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.networks import CNN, MLP, ImpalaCNN, NatureCNN, QuantileNetwork, to_float, update_target


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def random_bytes(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(1, 50, 84), (4, 84, 84), (3, 36, 36)], ids=str)
def test_the_nature_cnn_takes_images_of_any_size_from_36_pixels(shape):
    output = NatureCNN(shape, 6)(random_bytes(2, *shape))
    assert output.shape == (2, 6)
    assert output.dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 35, 84), (1, 84, 35), (35, 84), (4,), (84, 84, 3), (1, 4, 84, 84)], ids=str)
def test_the_nature_cnn_refuses_other_observations_and_names_their_shape(shape):
    with pytest.raises(ConfigError, match="network: NatureCNN takes images") as error:
        NatureCNN(shape, 6)
    small = "lit_dqn.ImpalaCNN, which takes images of any size"
    remedies = dict.fromkeys([(1, 35, 84), (1, 84, 35), (35, 84)], small)
    remedies[84, 84, 3] = "looks like (height, width, channels)"
    assert str(shape) in str(error.value)
    assert remedies.get(shape, "lit_dqn.MLP") in str(error.value)


@pytest.mark.parametrize("network", [NatureCNN, ImpalaCNN])
def test_grey_images_need_no_channels(network):
    torch.manual_seed(0)
    grey = network((44, 40), 3)
    one_channel = network((1, 44, 40), 3)
    one_channel.load_state_dict(grey.state_dict())
    for image in (random_bytes(2, 44, 40), torch.rand(2, 44, 40)):
        assert torch.equal(grey(image), one_channel(image.unsqueeze(1)))


@pytest.mark.parametrize("shape", [(3, 1, 1), (7, 5), (1, 8, 200)])
def test_the_impala_cnn_takes_images_of_any_size(shape):
    assert ImpalaCNN(shape, 3)(random_bytes(2, *shape)).shape == (2, 3)


def test_the_nature_cnn_has_the_parameters_of_the_paper():
    convolutions = (4 * 8 * 8 * 32 + 32) + (32 * 4 * 4 * 64 + 64) + (64 * 3 * 3 * 64 + 64)
    dense = (7 * 7 * 64 * 512 + 512) + (512 * 18 + 18)
    assert convolutions + dense == 1_693_362
    assert count(NatureCNN((4, 84, 84), 18)) == 1_693_362


def test_the_nature_cnn_computes_what_the_paper_says():
    network = NatureCNN((4, 84, 84), 3)
    (w1, b1), (w2, b2), (w3, b3), (w4, b4), (w5, b5) = zip(*[iter(network.parameters())] * 2, strict=True)
    images = random_bytes(2, 4, 84, 84)
    hidden = images / 255
    for weight, bias, stride in ((w1, b1, 4), (w2, b2, 2), (w3, b3, 1)):
        hidden = nn.functional.conv2d(hidden, weight, bias, stride).relu()
    expected = (hidden.flatten(1) @ w4.T + b4).relu() @ w5.T + b5
    torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [NatureCNN, MLP])
def test_bytes_and_their_fractions_of_255_give_the_same(kind):
    network = kind((1, 50, 84), 4)
    images = random_bytes(3, 1, 50, 84)
    before = images.clone()
    torch.testing.assert_close(network(images), network(images.float() / 255))
    assert torch.equal(images, before)


def test_floats_stay_as_they_are():
    observation = torch.tensor([[300.0, -1.0]])
    assert to_float(observation) is observation
    assert observation.tolist() == [[300, -1]]


@pytest.mark.parametrize("shape", [(4,), (2, 3), (3, 4, 5)], ids=str)
def test_an_mlp_flattens_any_observation(shape):
    assert MLP(shape, 5)(torch.zeros(7, *shape)).shape == (7, 5)


def test_an_mlp_has_the_layers_it_was_given():
    assert count(MLP((4,), 2, hidden_sizes=[10, 20])) == (4 * 10 + 10) + (10 * 20 + 20) + (20 * 2 + 2)
    assert count(MLP((4,), 2, hidden_sizes=())) == 4 * 2 + 2
    network = MLP((4,), 2, hidden_sizes=[3])
    first, last = (layer for layer in network if isinstance(layer, nn.Linear))
    observation = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(observation), last(first(observation).relu()))


def networks():
    torch.manual_seed(0)
    online, target = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    online(torch.randn(8, 3)).sum().backward()
    return online, target.requires_grad_(False)


def test_with_tau_1_the_target_is_an_exact_separate_copy():
    online, target = networks()
    update_target(online, target)
    for name, value in online.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)
    with torch.no_grad():
        online[0].weight.add_(1)
    assert not torch.equal(target[0].weight, online[0].weight)


@pytest.mark.parametrize("tau", [0.005, 0.25, 0.0])
def test_with_a_smaller_tau_the_target_moves_by_that_fraction(tau):
    online, target = networks()
    before = copy.deepcopy(target)
    update_target(online, target, tau)
    for new, old, source in zip(target.parameters(), before.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(new, tau * source.detach() + (1 - tau) * old)
    assert torch.equal(target[1].running_mean, online[1].running_mean)


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_the_target_keeps_no_gradient_and_the_online_network_is_left_alone(tau):
    online, target = networks()
    before = copy.deepcopy(online.state_dict())
    gradients = [parameter.grad.clone() for parameter in online.parameters()]
    update_target(online, target, tau)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in target.parameters())
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())
    assert all(torch.equal(parameter.grad, g) for parameter, g in zip(online.parameters(), gradients, strict=True))
    assert all(parameter.requires_grad for parameter in online.parameters())


def test_a_mean_is_taken_from_every_pixel():
    shape = (3, 20, 24)
    sizes = {"filters": [4, 5], "kernel_sizes": [6, 3], "strides": [2, 1], "dense_size": 7}
    centred = CNN(shape, 2, **sizes, pixel_mean=0.4)
    plain = CNN(shape, 2, **sizes)
    plain.load_state_dict(centred.state_dict())
    image = torch.rand(8, *shape)
    torch.testing.assert_close(centred(image), plain(image - 0.4))
    assert (centred(image) - plain(image)).abs().max() > 1e-3
    for network, seen in ((centred, image), (plain, image - 0.4)):
        network(seen).square().sum().backward()
    for one, other in zip(centred.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_the_head_keeps_single_precision_in_mixed_precision():
    """bfloat16 near 2 goes in steps of 1/64."""
    network = CNN((1, 20, 20), 3, filters=[4], kernel_sizes=[6], strides=[2], dense_size=16)
    with torch.autocast("cpu", torch.bfloat16):
        values = network(torch.rand(64, 1, 20, 20)) + 2
    assert values.dtype == torch.float32
    assert not torch.equal(values, values.bfloat16().float())


def test_a_cnn_has_the_layers_that_are_asked_for():
    network = CNN((4, 84, 84), 6)  # Mnih et al. 2013
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size, c.stride) for c in convolutions] == [
        (16, (8, 8), (4, 4)),
        (32, (4, 4), (2, 2)),
    ]
    assert [layer.out_features for layer in network if isinstance(layer, nn.Linear)] == [256, 6]
    assert network(torch.zeros(2, 4, 84, 84, dtype=torch.uint8)).shape == (2, 6)
    with pytest.raises(ConfigError, match=r"CNN takes images of at least 20 x 20 pixels, not 19 x 84"):
        CNN((4, 19, 84), 6)
    with pytest.raises(
        ConfigError, match=r"one filters, kernel_sizes and strides for each convolution, not 1, 2 and 2"
    ):
        CNN((4, 84, 84), 6, filters=[16])


def test_a_bool_image_is_zeros_and_ones():
    image = torch.rand(2, 1, 20, 20) > 0.5
    network = CNN((1, 20, 20), 3, filters=[4], kernel_sizes=[6], strides=[2], dense_size=16)
    torch.testing.assert_close(network(image), network(image.float()))


def test_a_quantile_network_asks_for_all_quantiles_and_says_their_means():
    network = QuantileNetwork((4,), 3, num_quantiles=5, network=MLP)
    observation = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    quantiles = network.quantiles(observation)
    assert quantiles.shape == (2, 3, 5)
    assert torch.equal(quantiles.flatten(1), network.network(observation))
    torch.testing.assert_close(network(observation), quantiles.mean(dim=2))


def test_a_quantile_network_refuses_what_does_not_fit():
    with pytest.raises(ConfigError, match=r"num_quantiles: 0 must be at least 1"):
        QuantileNetwork((4,), 3, num_quantiles=0, network=MLP)
    with pytest.raises(ConfigError, match="network: NatureCNN takes images"):
        QuantileNetwork((4,), 3)
