"""The compiled update against the eager one."""

import copy
from functools import partial

import pytest
import torch

from helpers import ADAM, SMALL, WithBatchNorm, WithDropout, batches
from lit_dqn import (
    CNN,
    CategoricalHead,
    CategoricalQLearning,
    ConfigError,
    DoubleQLearning,
    ImplicitQuantileHead,
    ImplicitQuantileLearning,
    LitDQN,
    MunchausenQLearning,
    QLearning,
    QuantileNetwork,
    QuantileRegression,
)
from lit_dqn.learning import compiled
from lit_dqn.learning.learner import Learner, Update

CPU = torch.device("cpu")


def learn(update, *, network=SMALL, objective=None, optimizer=ADAM, shape=(4,), weight=None, count=9, **settings):
    torch.manual_seed(0)
    online = network(shape, 2)
    settings = {"target_update_period": 3, "max_grad_norm": 1.0} | settings
    target = None if settings["target_update_period"] is None else copy.deepcopy(online).requires_grad_(False)
    learner = Learner(
        online, target, objective or DoubleQLearning(), optimizer(online.parameters()), update=update, **settings
    )
    given = [batch._replace(weight=weight) for batch in batches(count, shape)]
    learned = [learner.update_many(given[:4]), learner.update_many(given[4:5])]
    learner.set_learning_rate(3e-3)
    learned.append(learner.update_many(given[5:]))
    return learner, learned


def without_priority(online, target, batch):
    """As an actor-critic has it: no target network, and no priority."""
    output = QLearning()(online, target, batch)
    return output._replace(priority=None)


def assert_alike(one, other):
    (compiled_one, said), (eager, expected) = one, other
    assert compiled_one._compiled is not None
    for name, weights in eager.online.state_dict().items():
        torch.testing.assert_close(compiled_one.online.state_dict()[name], weights, rtol=1e-4, atol=1e-6)
    for name, weights in eager.target.state_dict().items():
        torch.testing.assert_close(compiled_one.target.state_dict()[name], weights, rtol=1e-4, atol=1e-6)
    for parameter, state in zip(compiled_one.online.parameters(), eager.optimizer.state.values(), strict=True):
        for name, value in state.items():
            torch.testing.assert_close(compiled_one.optimizer.state[parameter][name], value, rtol=1e-3, atol=1e-6)
    for what, other_what in zip(said, expected, strict=True):
        assert what.metrics.keys() == other_what.metrics.keys()
        for name, values in other_what.metrics.items():
            torch.testing.assert_close(what.metrics[name], values, rtol=1e-4, atol=1e-6)
        assert (what.priority is None) == (other_what.priority is None)
        if what.priority is not None:
            torch.testing.assert_close(what.priority, other_what.priority, rtol=1e-4, atol=1e-6)


@pytest.fixture(params=["traced", pytest.param("compiled", marks=pytest.mark.slow)])
def _compiler(request, monkeypatch):
    """Traced alone, which takes a second; and compiled, which takes a minute."""
    if request.param == "traced":
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize(
    "case",
    [
        {"weight": torch.linspace(0.1, 1.0, 8)},
        pytest.param({"objective": QLearning(huber_delta=1.0), "max_grad_norm": None}, marks=pytest.mark.slow),
        pytest.param(
            {"objective": MunchausenQLearning(), "target_update_period": 1, "target_update_tau": 0.3},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {
                "network": lambda shape, actions: QuantileNetwork(shape, actions, SMALL),
                "objective": QuantileRegression(),
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"network": partial(CNN, filters=(4,), kernel_sizes=(3,), strides=(2,), dense_size=8), "shape": (2, 9, 9)},
            marks=pytest.mark.slow,
        ),
        {"network": partial(SMALL, noise=0.5, dueling=True, head=CategoricalHead), "objective": CategoricalQLearning()},
        {"network": partial(SMALL, head=ImplicitQuantileHead), "objective": ImplicitQuantileLearning(4, 4), "draws": 8},
        {"objective": without_priority, "target_update_period": None},
        pytest.param({"optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)}, marks=pytest.mark.slow),
        {"optimizer": partial(torch.optim.Adam, lr=1e-2, weight_decay=0.1, amsgrad=True)},
    ],
    ids=lambda case: " ".join(case) or "as it is",
)
def test_compiled_updates_are_the_eager_ones_within_rounding(case):
    assert_alike(learn(Update.compiled, **case), learn(Update.eager, **case))


@pytest.mark.usefixtures("_compiler")
def test_a_learning_rate_of_0_moves_nothing_not_even_units_without_a_gradient():
    torch.manual_seed(0)
    online = SMALL((4,), 2)
    with torch.no_grad():
        next(module for module in online.modules() if isinstance(module, torch.nn.Linear)).bias.fill_(-1e3)
    target = copy.deepcopy(online).requires_grad_(False)
    learner = Learner(online, target, QLearning(), ADAM(online.parameters()), update=Update.compiled)
    learner.set_learning_rate(0.0)
    learner.update_many(batches(2, (4,)))
    for name, weights in target.state_dict().items():
        assert torch.equal(online.state_dict()[name], weights), name


@pytest.mark.parametrize(
    ("network", "optimizer", "reason"),
    [
        (WithDropout, ADAM, "it draws random numbers, as dropout does"),
        (WithBatchNorm, ADAM, "the network changes its buffers"),
        (SMALL, partial(torch.optim.RMSprop, lr=0.1), "of torch's optimisers Adam and AdamW are compiled, RMSprop"),
    ],
)
def test_what_cannot_be_compiled_is_refused(network, optimizer, reason):
    agent = LitDQN((4,), 2, network=network, optimizer=optimizer, update=Update.compiled)
    with pytest.raises(ConfigError, match=f"update: compiled cannot .*{reason}.*; set --model.update eager"):
        agent.check_device(CPU)


def test_a_machine_that_cannot_compile_is_named(monkeypatch):
    def no_compiler(*args, **kwargs):
        raise RuntimeError("no g++")

    monkeypatch.setattr(compiled.torch, "compile", no_compiler)
    with pytest.raises(ConfigError, match=r"update: compiled .* torch cannot compile here \(no g\+\+\); set"):
        LitDQN((4,), 2, network=SMALL, optimizer=ADAM, update=Update.compiled).check_device(CPU)


def test_on_a_gpu_nothing_is_compiled():
    agent = LitDQN((4,), 2, network=SMALL, optimizer=ADAM, update=Update.compiled)
    with pytest.raises(ConfigError, match=r"update: compiled computes updates on a CPU, .* on cuda; set"):
        agent.check_device(torch.device("cuda"))
