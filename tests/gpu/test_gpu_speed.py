"""What things take, printed; little is asserted."""

import contextlib
import time
from functools import partial

import numpy as np
import pytest
import torch
from test_gpu_updates import GPU, PIXELS, chunks, learn

from lit_dqn import DoubleQLearning, LitDQN, NatureCNN
from lit_dqn.learning.learner import Update
from lit_dqn.replay import DeviceFrames, ReplayBuffer
from lit_dqn.types import Timestep


@pytest.fixture(autouse=True)
def _aloud(capsys):
    """Whatever pytest does with what is printed."""
    yield
    with capsys.disabled():
        print(capsys.readouterr().out)


def update_in_milliseconds(way, given, rounds, precision=torch.float32):
    learner, _ = learn(
        way, DoubleQLearning(huber_delta=1.0), NatureCNN, PIXELS, given=given, period=10**6, precision=precision
    )
    torch.cuda.synchronize()
    began = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16, enabled=precision is torch.bfloat16, cache_enabled=False):
        for batches in given * rounds:
            learner.update_many(batches)
    torch.cuda.synchronize()
    return round((time.perf_counter() - began) / sum(map(len, given * rounds)) * 1e3, 4)


@contextlib.contextmanager
def switched(settings, name, value):
    before = getattr(settings, name)
    setattr(settings, name, value)
    yield
    setattr(settings, name, before)


def test_an_update_takes_less_time_from_a_graph():
    given = chunks(PIXELS, updates=16)
    eager = update_in_milliseconds(Update.eager, given[:2], 2)
    spent = {"eager": eager}
    for size in (32, 256):
        given = chunks(PIXELS, updates=16, size=size)
        graph = partial(update_in_milliseconds, Update.graph, given, 5)
        spent[f"graph, {size}"] = graph()
        spent[f"bf16, {size}"] = graph(precision=torch.bfloat16)
        with switched(torch.backends.cuda.matmul, "allow_tf32", True):
            spent[f"matrix products in TF32, {size}"] = graph()
        with switched(torch.backends.cudnn, "deterministic", False):
            spent[f"not deterministic, {size}"] = graph()
    print(f"\nms per update, float32 but for cuDNN's TF32 ({torch.backends.cudnn.allow_tf32}): {spent}")
    assert spent["graph, 32"] < eager


def test_a_large_ring_in_milliseconds():
    replay = ReplayBuffer(100_000, 64, (84, 84), np.uint8, gamma=0.99, n_step=3, frame_stack=4)
    frames = DeviceFrames(replay, GPU)
    generator = np.random.default_rng(0)
    new = generator.integers(0, 255, (64, 84, 84), np.uint8)
    timestep = Timestep(new, np.zeros(64, int), np.zeros(64), np.ones(64, bool), np.zeros(64, bool), new)
    for _ in range(100):
        replay.add(timestep)
    spent = dict.fromkeys(("add", "look up", "send", "gather 16 x 32"), 0.0)
    for turn in range(60):
        laps = [time.perf_counter()]
        replay.add(timestep)
        laps.append(time.perf_counter())
        lookup = replay.lookup(generator.integers(replay.starts.start, replay.starts.stop, 512))
        laps.append(time.perf_counter())
        batches = frames.batches(lookup, 16)
        laps.append(time.perf_counter())
        gathered = list(batches)
        torch.cuda.synchronize()
        laps.append(time.perf_counter())
        if turn >= 10:
            for name, one, other in zip(spent, laps[:-1], laps[1:], strict=True):
                spent[name] += (other - one) / 50 * 1e3
        assert len(gathered) == 16
    print("\nms for 64 envs: " + ", ".join(f"{name} {value:.3f}" for name, value in spent.items()))
    torch.cuda.synchronize()
    began = time.perf_counter()
    replay._written = None
    frames.update()
    torch.cuda.synchronize()
    print(f"all {len(replay.frames):,} frames up: {time.perf_counter() - began:.2f} s")


def test_acting_in_milliseconds():
    milliseconds = {}
    for way in ("eager", "graph"):
        for number in (8, 64):
            agent = LitDQN((4, 84, 84), 6, update=way).to(GPU)
            observation = np.random.default_rng(0).integers(0, 255, (number, 4, 84, 84), np.uint8)
            for _ in range(20):
                agent.q_values(observation)
            began = time.perf_counter()
            for _ in range(100):
                agent.q_values(observation)
            milliseconds[f"{way}, {number}"] = round((time.perf_counter() - began) / 100 * 1e3, 3)
    print(f"\nms from NumPy to NumPy: {milliseconds}")
    assert milliseconds["graph, 64"] < milliseconds["eager, 64"] * 1.5
