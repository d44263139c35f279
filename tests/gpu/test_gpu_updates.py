"""Updates that are replayed from a CUDA graph, against the same updates made one operation after the other."""

import copy
from functools import partial

import pytest
import torch

from lit_dqn import (
    CNN,
    MLP,
    DoubleQLearning,
    ImpalaCNN,
    MunchausenQLearning,
    NatureCNN,
    QLearning,
    QuantileNetwork,
    QuantileRegression,
)
from lit_dqn.learning.learner import Learner, Update
from lit_dqn.learning.objectives import ActorCritic, TDLearning
from lit_dqn.types import Batch

RATE = 2**-10
"""Learning rates are float32 in a graph, and this one is the same number in float64."""
FUSED = partial(torch.optim.Adam, lr=RATE, eps=1.5e-4, fused=True)
SMALL = partial(MLP, hidden_sizes=(32,))
PIXELS, NUMBERS = (4, 84, 84), (4,)
GPU = torch.device("cuda")


def actor_critic(online, target, batch):
    return ActorCritic()(online, batch, 0.7)


def chunks(shape, count=4, updates=4, size=32):
    """Chunks of batches on the GPU, the same each time."""
    generator = torch.Generator().manual_seed(3)

    def observations():
        if len(shape) == 1:
            return torch.randn(size, *shape, generator=generator)
        return torch.randint(0, 256, (size, *shape), dtype=torch.uint8, generator=generator)

    def batch():
        action = torch.randint(0, 3, (size,), generator=generator)
        reward = torch.randn(size, generator=generator)
        values = observations(), action, reward, torch.full((size,), 0.97), observations()
        return Batch(*(value.to(GPU) for value in values))

    return [[batch() for _ in range(updates)] for _ in range(count)]


def learn(
    way,
    objective,
    network,
    shape,
    outputs=3,
    *,
    optimizer=FUSED,
    period=3,
    tau=1.0,
    max_grad_norm=10.0,
    precision=torch.float32,
    given=None,
):
    """(learner, metrics of each chunk) after some chunks from the same start."""
    torch.manual_seed(0)
    online = network(shape, outputs).to(GPU)
    target = copy.deepcopy(online).requires_grad_(False)
    learner = Learner(
        online,
        target if period else None,
        objective,
        optimizer(online.parameters()),
        target_update_period=period,
        target_update_tau=tau,
        max_grad_norm=max_grad_norm,
        update=way,
    )
    metrics = []
    for batches in given or chunks(shape):
        with torch.autocast("cuda", torch.bfloat16, enabled=precision is torch.bfloat16, cache_enabled=False):
            metrics.append(learner.update_many(batches).metrics)
    torch.cuda.synchronize()
    assert learner.captured is (way is not Update.eager)
    return learner, metrics


def assert_same(one, other, tolerance=None):
    """Weights of both networks, the optimiser's state, and what was reported; all differences are reported at once."""
    (learner, metrics), (expected, expected_metrics) = one, other
    pairs = {}
    for name in ("online", "target"):
        now = getattr(learner, name).state_dict()
        pairs |= {f"{name}.{key}": (now[key], value) for key, value in getattr(expected, name).state_dict().items()}
    states = learner.optimizer.state_dict()["state"], expected.optimizer.state_dict()["state"]
    for number, state in states[1].items():
        pairs |= {f"optimiser.{number}.{key}": (states[0][number][key].to(GPU), v.to(GPU)) for key, v in state.items()}
    for chunk, values in enumerate(expected_metrics):
        pairs |= {f"chunk {chunk}.{key}": (metrics[chunk][key], value) for key, value in values.items()}
    wrong = {}
    for name, (value, wanted) in pairs.items():
        error = (value.double() - wanted.double()).abs().max().item()
        allowed = 0.0 if tolerance is None else tolerance * max(wanted.double().abs().max().item(), 1e-3)
        if not error <= allowed:
            wrong[name] = error
    assert not wrong, f"{len(wrong)} of {len(pairs)} differ: {dict(list(wrong.items())[:6])}"
    assert learner.updates == expected.updates


CASES = {
    "q_learning, mlp": (QLearning(), SMALL, NUMBERS, {}),
    "double, nature": (DoubleQLearning(huber_delta=1.0), NatureCNN, PIXELS, {}),
    "double, cnn, pixel mean, no clipping": (
        DoubleQLearning(),
        partial(CNN, pixel_mean=0.34),
        PIXELS,
        {"max_grad_norm": None},
    ),
    "munchausen, nature, polyak": (MunchausenQLearning(huber_delta=1.0), NatureCNN, PIXELS, {"period": 1, "tau": 0.1}),
    "quantiles, nature": (
        QuantileRegression(),
        partial(QuantileNetwork, network=NatureCNN, num_quantiles=20),
        PIXELS,
        {},
    ),
    "double, spectral norm": (
        DoubleQLearning(),
        partial(ImpalaCNN, dense_size=16, spectral_norm=True),
        PIXELS,
        {},
    ),
    "td, mlp": (TDLearning(), SMALL, NUMBERS, {"outputs": 1, "period": 1}),
    "actor-critic, nature": (actor_critic, NatureCNN, PIXELS, {"outputs": 4, "period": None, "max_grad_norm": 0.5}),
}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_a_graph_makes_the_updates_of_eager_bit_for_bit(case, precision):
    objective, network, shape, settings = CASES[case]
    eager = learn(Update.eager, objective, network, shape, precision=precision, **settings)
    assert_same(learn(Update.graph, objective, network, shape, precision=precision, **settings), eager)


def test_the_same_updates_twice_are_the_same_bits():
    arguments = DoubleQLearning(huber_delta=1.0), NatureCNN, PIXELS
    for way in (Update.eager, Update.graph):
        assert_same(learn(way, *arguments), learn(way, *arguments))


def test_with_tf32():
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        arguments = DoubleQLearning(huber_delta=1.0), NatureCNN, PIXELS
        assert_same(learn(Update.graph, *arguments), learn(Update.eager, *arguments))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.Adam, lr=RATE),
        partial(torch.optim.AdamW, lr=RATE, fused=True),
        partial(torch.optim.RMSprop, lr=RATE, centered=True),
        partial(torch.optim.RAdam, lr=RATE),
        partial(torch.optim.Adam, lr=1e-3, fused=True),
    ],
    ids=["Adam, not fused", "AdamW", "RMSprop", "RAdam", "a rate that is no float32"],
)
def test_other_optimisers_agree_within_rounding(optimizer):
    # A captured step computes with float32 tensors what is else a float64 of Python: rates and bias corrections.
    arguments = QLearning(huber_delta=1.0), SMALL, NUMBERS
    eager = learn(Update.eager, *arguments, optimizer=optimizer)
    assert_same(learn(Update.graph, *arguments, optimizer=optimizer), eager, tolerance=2e-4)


def test_the_learning_rate_is_filled_in_place():
    learner, _ = learn(Update.graph, QLearning(), SMALL, NUMBERS)
    before = copy.deepcopy(learner.online.state_dict())
    learner.set_learning_rate(0.0)
    learner.update_many(chunks(NUMBERS)[0])
    assert all(torch.equal(value, before[name]) for name, value in learner.online.state_dict().items())
    assert all(value.isfinite().all() for state in learner.optimizer.state.values() for value in state.values())
    learner.set_learning_rate(0.125)
    learner.update_many(chunks(NUMBERS)[0])
    assert not any(torch.equal(value, before[name]) for name, value in learner.online.state_dict().items())


def test_after_release_updates_continue_eagerly():
    given = chunks(NUMBERS)
    learner, metrics = learn(Update.graph, QLearning(), SMALL, NUMBERS, given=given[:3])
    groups = copy.deepcopy(learner.optimizer.state_dict())["param_groups"]
    learner.release()
    learner._captures = False
    metrics.append(learner.update_many(given[3]).metrics)
    assert_same((learner, metrics), learn(Update.eager, QLearning(), SMALL, NUMBERS, given=given))
    assert learner.optimizer.param_groups[0]["capturable"] is False
    assert learner.optimizer.param_groups[0]["lr"] == RATE
    assert isinstance(groups[0]["lr"], torch.Tensor)


def test_batches_of_another_size_are_captured_again():
    given = [*chunks(NUMBERS), *chunks(NUMBERS, size=16), *chunks(NUMBERS, updates=2)]
    arguments = QLearning(), SMALL, NUMBERS
    assert_same(learn(Update.graph, *arguments, given=given), learn(Update.eager, *arguments, given=given))
