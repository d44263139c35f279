"""Resets of networks and optimisers, and the share of dormant units that they are a cure for."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from helpers import ADAM, SMALL, batches
from lit_dqn import (
    CNN,
    MLP,
    CategoricalHead,
    ConfigError,
    ImpalaCNN,
    ImplicitQuantileHead,
    LitDQN,
    NatureCNN,
    QLearning,
    QuantileNetwork,
    ShrinkAndPerturb,
)
from lit_dqn.learning.dormant import dormant_units
from lit_dqn.learning.learner import Learner, Update
from lit_dqn.learning.networks import torso_parameters
from lit_dqn.learning.resets import fresh_network

IMAGE = (2, 36, 36)
DEEP = partial(MLP, hidden_sizes=(6, 5))


def test_resets_are_counted_by_env_steps_and_end():
    rule = ShrinkAndPerturb(20, 100, 0.5)
    counted = {env_step: rule.count(env_step) for env_step in (0, 19, 20, 39, 40, 79, 80, 99, 100, 10**6)}
    assert counted == {0: 0, 19: 0, 20: 1, 39: 1, 40: 2, 79: 3, 80: 4, 99: 4, 100: 4, 10**6: 4}
    assert ShrinkAndPerturb(20, None).count(1000) == 50
    assert ShrinkAndPerturb(20, 0).count(1000) == 0


def test_a_torso_moves_towards_fresh_weights_and_a_head_is_initialised_again():
    network, fresh = DEEP((4,), 2), DEEP((4,), 2)
    before = copy.deepcopy(network.state_dict())
    ShrinkAndPerturb(shrink=0.75)(network, fresh)
    torso, others = {"1.weight", "1.bias"}, {"3.weight", "3.bias", "5.weight", "5.bias"}
    assert network.state_dict().keys() == torso | others
    for name, now in network.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * fresh.state_dict()[name] if name in torso else fresh.state_dict()[name]
        torch.testing.assert_close(now, expected, msg=name)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "shape", "head"),
    [
        (DEEP, (4,), {"3", "5"}),
        (partial(MLP, hidden_sizes=()), (4,), {"1"}),
        (partial(DEEP, layer_norm=True, noise=0.5), (4,), {"4", "5", "7"}),
        (partial(DEEP, dueling=True), (4,), {"3"}),
        (partial(DEEP, head=partial(ImplicitQuantileHead, embedding_size=8)), (4,), {"3"}),
        (partial(CNN, filters=(3,), kernel_sizes=(8,), strides=(4,), head=CategoricalHead), IMAGE, {"3"}),
        (NatureCNN, IMAGE, {"7", "9"}),
        (partial(ImpalaCNN, spectral_norm=True, dense_size=8), IMAGE, {"14", "16"}),
        (partial(QuantileNetwork, network=DEEP, num_quantiles=3), (4,), {"network.3", "network.5"}),
    ],
)
def test_each_network_tells_its_torso_from_its_head(network, shape, head):
    made = network(shape, 2)
    torso = {id(parameter) for parameter in torso_parameters(made)}
    of_head = [name for name, parameter in made.named_parameters() if id(parameter) not in torso]
    parts = 2 if isinstance(made, QuantileNetwork) else 1
    assert {".".join(name.split(".")[:parts]) for name in of_head} == head


def test_fresh_weights_follow_from_the_seed_and_the_number_and_move_no_generator():
    before = torch.get_rng_state()
    drawn = [fresh_network(lambda: SMALL((4,), 2), *seed)[1].weight for seed in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])


def test_after_a_reset_spectral_norms_are_those_of_the_new_weights():
    torch.manual_seed(0)
    make = partial(ImpalaCNN, spectral_norm=True, dense_size=8)
    network, fresh = make(IMAGE, 2), make(IMAGE, 2)
    ShrinkAndPerturb(shrink=0.0)(network, fresh)
    used = [module.weight for module in network.modules() if hasattr(module, "parametrizations")]
    assert len(used) > 5
    for weight in used:
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.1)


OPTIMIZERS = {
    "adam": ADAM,
    "amsgrad": partial(torch.optim.AdamW, lr=1e-2, amsgrad=True),
    "nadam": partial(torch.optim.NAdam, lr=1e-2),  # some of whose state does not begin at 0
    "momentum": partial(torch.optim.SGD, lr=1e-2, momentum=0.9, dampening=0.5),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_after_a_reset_the_optimiser_is_as_if_it_had_never_made_a_step(optimizer):
    torch.manual_seed(0)
    online, fresh = DEEP((4,), 2), DEEP((4,), 2)
    target = copy.deepcopy(online)
    given = batches(8)
    learner = Learner(online, target, QLearning(), optimizer(online.parameters()), target_update_period=3)
    learner.update_many(given[:4])
    was_target = copy.deepcopy(target.state_dict())
    learner.reset(ShrinkAndPerturb(shrink=0.25), fresh)
    torch.testing.assert_close(target[1].weight, 0.25 * was_target["1.weight"] + 0.75 * fresh[1].weight)
    assert torch.equal(target[3].weight, fresh[3].weight)

    again = [copy.deepcopy(network) for network in (online, target)]
    new = Learner(*again, QLearning(), optimizer(again[0].parameters()), target_update_period=3, updates=4)
    for one in (learner, new):
        one.update_many(given[4:])
    for name, weights in online.state_dict().items():
        assert torch.equal(again[0].state_dict()[name], weights), name


@pytest.mark.slow
def test_a_compiled_update_continues_after_a_reset_like_an_eager_one():
    learned = []
    for update in (Update.compiled, Update.eager):
        torch.manual_seed(0)
        online, target, fresh = (DEEP((4,), 2) for _ in range(3))
        optimizer = torch.optim.AdamW(online.parameters(), lr=1e-2)
        learner = Learner(online, target.requires_grad_(False), QLearning(), optimizer, update=update)
        learner.update_many(batches(4))
        compiled = learner._compiled
        learner.reset(ShrinkAndPerturb(), fresh)
        learner.update_many(batches(4))
        assert learner._compiled is compiled
        learned.append(online.state_dict())
    for name, weights in learned[0].items():
        torch.testing.assert_close(weights, learned[1][name], rtol=1e-4, atol=1e-6)


class Untold(nn.Sequential):
    def __init__(self, shape, outputs):
        super().__init__(nn.Linear(*shape, outputs))


def test_what_cannot_be_reset_is_refused():
    with pytest.raises(ConfigError, match="every_env_steps: 0 must be at least 1"):
        ShrinkAndPerturb(0)
    with pytest.raises(ConfigError, match="until_env_steps: -1 must be at least 0, or null"):
        ShrinkAndPerturb(1, -1)
    with pytest.raises(ConfigError, match=r"shrink: 1.5 .* must lie in \[0, 1\]"):
        ShrinkAndPerturb(shrink=1.5)
    with pytest.raises(ConfigError, match="resets: Untold does not define which of its weights belong to its torso"):
        LitDQN((4,), 2, network=Untold, resets=ShrinkAndPerturb())
    with pytest.raises(ConfigError, match="resets: Untold does not define"):
        LitDQN((4,), 2, network=partial(QuantileNetwork, network=Untold), resets=ShrinkAndPerturb())


class Given(nn.Module):
    """ReLUs of numbers that are given."""

    def __init__(self):
        super().__init__()
        self.relu, self.other = nn.ReLU(), nn.ReLU()

    def forward(self, observation):
        return self.other(self.relu(observation) - 5)


def test_dormant_units_are_those_far_below_the_mean_of_their_layer():
    # Over observations the units of the first layer have 10, 0.25, 0.26 and 0 (a mean of 2.6275): at τ = 0.1 three are
    # dormant; in the second the first unit alone is awake, after a shift.
    observation = torch.tensor([[20.0, 0.5, 0.52, -3.0], [0.0, 0.0, 0.0, -9.0]])
    assert dormant_units(Given(), observation, tau=0.1) == 6 / 8
    assert dormant_units(Given(), observation, tau=0.099 * 0.25 / 0.26) == 5 / 8  # 0.26 is awake
    # Images: a filter is a unit, though most of its places are 0.
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0, 1, 1], image[0, 1] = 8.0, 1.0
    assert dormant_units(Given(), image, tau=0.1) == (1 + 2) / 6
    assert dormant_units(Given(), torch.full((2, 4), -1.0)) == 1.0  # nothing is awake
    assert dormant_units(nn.Linear(4, 2), observation) is None


def test_counting_dormant_units_leaves_no_trace():
    network = partial(ImpalaCNN, spectral_norm=True, dense_size=8, noise=0.5)(IMAGE, 2).eval()
    before = copy.deepcopy(network.state_dict())
    assert 0 <= dormant_units(network, torch.rand(2, *IMAGE)) < 1
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
