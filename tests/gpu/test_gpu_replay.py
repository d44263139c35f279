"""Frames on the GPU, and a network that is asked by a captured call."""

from functools import partial

import numpy as np
import pytest
import torch

from helpers import random_replay, same_batches
from lit_dqn import MLP, LitDQN, NatureCNN
from lit_dqn.replay import DeviceFrames, device_frames
from lit_dqn.types import Timestep

GPU = torch.device("cuda")


class OnHost:
    """Batches of the GPU, brought to the host to be compared."""

    def __init__(self, frames):
        self.frames = frames

    def batches(self, lookup, count):
        return [
            type(batch)(*(tensor.cpu() for tensor in batch.tensors)) for batch in self.frames.batches(lookup, count)
        ]


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
    for _ in range(200):  # all rows are rewritten
        one, other = (generator.integers(0, 255, (3, 84, 84), np.uint8) for _ in range(2))
        replay.add(Timestep(one, np.zeros(3, int), np.zeros(3), np.ones(3, bool), np.zeros(3, bool), other))
    frames.update()
    assert torch.equal(gathered.cpu(), expected.observation)


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
    assert agent._inference._graphs
    assert not eager._inference._graphs
