"""Frames on the GPU, and a network that is asked by a captured call."""

import time
from functools import partial

import numpy as np
import pytest
import torch

from lit_dqn import MLP, LitDQN, NatureCNN
from lit_dqn.replay import DeviceFrames, ReplayBuffer, device_frames
from lit_dqn.types import Timestep
from test_device_frames import random_replay, same_batches

GPU = torch.device("cuda")


class OnHost:
    """Batches of the GPU, brought to the host to be compared."""

    def __init__(self, frames):
        self.frames = frames

    def batches(self, lookup, count):
        return [type(batch)(*(tensor.cpu() for tensor in batch)) for batch in self.frames.batches(lookup, count)]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"shape": (84, 84), "capacity": 200},
        {"frame_stack": 1, "n_step": 1},
        {"shape": (3, 4, 4), "frame_stack": 2},
        {"shape": (6,), "dtype": np.float32, "frame_stack": 1},
        {"shape": (4, 4), "dtype": np.bool_},
    ],
)
@pytest.mark.parametrize("staged", [10_000, 8 * 2**20])
def test_gathered_batches_are_those_of_the_replay(kwargs, staged, monkeypatch):
    monkeypatch.setattr(device_frames, "STAGED_BYTES", staged)
    steps = random_replay(250, **kwargs)
    frames = OnHost(DeviceFrames(next(steps), GPU))
    for step, replay in enumerate(steps):
        if step % 13 == 12:
            same_batches(replay, frames)


def test_new_frames_come_behind_the_updates_that_read_the_old_ones():
    *_, replay = random_replay(60, shape=(84, 84), capacity=200)
    frames = DeviceFrames(replay, GPU)
    starts = np.array(replay.starts[:32])
    expected = replay.sample(starts)
    (batch,) = frames.batches(replay.lookup(starts), 1)
    torch.cuda._sleep(200_000_000)  # a tenth of a second in which the device does nothing
    gathered = batch.observation.clone()
    generator = np.random.default_rng(5)
    for _ in range(200):  # all rows anew
        one, other = (generator.integers(0, 255, (3, 84, 84), np.uint8) for _ in range(2))
        replay.add(Timestep(one, np.zeros(3, int), np.zeros(3), np.ones(3, bool), np.zeros(3, bool), other))
    frames.update()
    assert torch.equal(gathered.cpu(), expected.observation)


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


@pytest.mark.parametrize("network", [NatureCNN, partial(MLP, hidden_sizes=(32,))])
@pytest.mark.parametrize("number", [1, 8, 64])
def test_captured_answers_are_those_of_eager(network, number):
    torch.manual_seed(0)
    shape = (4, 84, 84) if network is NatureCNN else (4,)
    agent = LitDQN(shape, 6, network=network).to(GPU)
    eager = LitDQN(shape, 6, network=network, update="eager").to(GPU)
    generator = np.random.default_rng(0)
    for turn in range(30):
        observation = generator.integers(0, 255, (number, *shape)).astype(np.uint8 if len(shape) > 1 else np.float32)
        if turn % 7 == 0:  # in place, as an optimiser does it
            with torch.no_grad():
                for parameter in agent.online.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.01)
            eager.online.load_state_dict(agent.online.state_dict())
        if turn == 22:  # the weights come to lie elsewhere
            agent.cpu().to(GPU)
        assert np.array_equal(agent.q_values(observation), eager.q_values(observation)), turn
    assert agent._asked._graphs
    assert not eager._asked._graphs


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
