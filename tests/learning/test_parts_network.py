"""Networks with an encoder for each part of an observation."""

from functools import partial

import pytest
import torch
from torch import nn

from lit_dqn import (
    CNN,
    MLP,
    CategoricalHead,
    CategoricalQLearning,
    ConfigError,
    NatureCNN,
    PartsNetwork,
    QuantileHead,
    QuantileNetwork,
)
from lit_dqn.learning.networks import NoisyLinear, blank_observations, build_network
from lit_dqn.learning.objectives.objective import head_of

SHAPES = {"image": (3, 44, 40), "place": (5,), "sign/inner": (2,)}


def observations(batch=4):
    torch.manual_seed(1)
    return {
        "image": torch.randint(256, (batch, 3, 44, 40), dtype=torch.uint8),
        "place": torch.randn(batch, 5),
        "sign/inner": torch.rand(batch, 2) < 0.5,
    }


VARIANTS = {
    "default": {},
    "encoders": {"encoders": {"image": partial(CNN, dense_size=9), "place": partial(MLP, hidden_sizes=(7, 6))}},
    "dueling": {"dueling": True, "layer_norm": True},
    "quantiles": {"dueling": True, "noise": 0.5, "head": QuantileHead},
    "noisy encoder": {"encoders": {"place": partial(MLP, noise=0.5)}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_part_matters_and_every_weight_learns(variant):
    torch.manual_seed(0)
    network = build_network(partial(PartsNetwork, dense_size=16, **VARIANTS[variant]), SHAPES, 3, "values")
    seen = observations()
    values = network(seen)
    assert values.shape == (4, 3)
    for name, part in seen.items():
        other = part.flip(0) if part.dtype != torch.bool else ~part
        assert not torch.allclose(network({**seen, name: other}), values), name
    for module in network.modules():
        if isinstance(module, NoisyLinear):
            module.noise_in.normal_()
            module.noise_out.normal_()
    network(seen).pow(2).sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_the_features_of_an_encoder_are_what_its_last_layer_would_take():
    network = PartsNetwork(SHAPES, 3, {"place": partial(MLP, hidden_sizes=(7, 6))}, dense_size=16)
    seen = observations()
    features = network[0](seen)
    assert features.shape == (4, 512 + 6 + 2)
    image, place, _ = network[0].encoders
    assert torch.equal(features[:, :512], NatureCNN.features(image, seen["image"]))
    assert torch.equal(features[:, 512:518], MLP.features(place, seen["place"]))
    assert torch.equal(features[:, 518:], seen["sign/inner"].float())
    head = {id(weight) for weight in network.parameters()} - {id(weight) for weight in network.torso_parameters()}
    assert sum(weight.numel() for weight in network.parameters() if id(weight) in head) == 521 * 16 + 17 * 3


class Own(nn.Linear):
    def __init__(self, observation_shape, num_outputs):
        super().__init__(*observation_shape, num_outputs)


def test_a_class_of_ones_own_is_asked_for_features():
    network = PartsNetwork(SHAPES, 3, {"place": Own}, dense_size=16)
    assert network[0](observations()).shape == (4, 512 + 16 + 2)
    inside = QuantileNetwork(SHAPES, 3, partial(PartsNetwork, dense_size=16), num_quantiles=5)
    assert inside.quantiles(observations()).shape == (4, 3, 5)


def test_small_arrays_of_two_axes_are_no_images():
    network = PartsNetwork({"board": (6, 7)}, 2)
    assert network[0](blank_observations({"board": (6, 7)})).shape == (2, 42)


@pytest.mark.parametrize(
    ("make", "shape", "sentence"),
    [
        (PartsNetwork, (4,), r"these are one array of shape \(4,\); set --model.network lit_dqn.MLP."),
        (PartsNetwork, (1, 84, 84), "set --model.network lit_dqn.NatureCNN."),
        (MLP, SHAPES, "MLP takes one array, and observations have the parts image, place, sign/inner; set --model.net"),
        (NatureCNN, SHAPES, "NatureCNN takes one array, .* set --model.network lit_dqn.PartsNetwork"),
        (Own, SHAPES, "Own cannot be made from .* set --model.network lit_dqn.PartsNetwork"),
        (
            partial(PartsNetwork, encoders={"imag": CNN}),
            SHAPES,
            "encoders of PartsNetwork names imag, which",
        ),
        (partial(PartsNetwork, encoders={"place": CNN}), SHAPES, "of the part place: CNN takes images"),
        (PartsNetwork, {"image": (3, 20, 20)}, "of the part image: NatureCNN takes images of at least 36 x 36"),
        (PartsNetwork, {"a\\q": (3, 20, 20)}, r"or use --model.network.encoders '{a\\q: lit_dqn.ImpalaCNN}', which"),
        (partial(PartsNetwork, dense_size=0), SHAPES, r"dense_size \[0\] of PartsNetwork must"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(make, shape, sentence):
    with pytest.raises(ConfigError, match=f"^network: .*{sentence}"):
        build_network(make, shape, 3, "values")


def test_an_objective_that_needs_a_head_names_it():
    sentence = "PartsNetwork has none here; set --model.network.head lit_dqn.CategoricalHead"
    with pytest.raises(ConfigError, match=sentence):
        head_of(PartsNetwork(SHAPES, 3), CategoricalHead, CategoricalQLearning(), observations())
