"""Batches whose frames a device gathers, against those that the replay puts together. Here the device is the CPU."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from audit import AUDIT_ENV
from lit_dqn import ConfigError, EpsilonGreedy, LitDQN, QLearning, ReplayDataModule, data
from lit_dqn.networks import MLP
from lit_dqn.replay import DeviceFrames, ReplayBuffer, device_frames
from lit_dqn.types import Timestep
from test_dqn import make_data, make_trainer


def random_replay(steps, *, shape=(5, 5), dtype=np.uint8, n_step=3, frame_stack=4, num_envs=3, capacity=60):
    generator = np.random.default_rng(0)
    replay = ReplayBuffer(
        capacity, num_envs, shape, dtype, gamma=0.9, n_step=n_step, frame_stack=frame_stack, reward_clip=1.0
    )
    yield replay
    draw = lambda: generator.integers(0, 255, (num_envs, *shape)).astype(dtype)  # noqa: E731
    frames = draw()
    for _ in range(steps):
        following, last = draw(), generator.random(num_envs) < 0.1
        reward = generator.normal(size=num_envs)
        replay.add(Timestep(frames, generator.integers(0, 4, num_envs), reward, ~last, last, following))
        frames = np.where(last.reshape(-1, *[1] * len(shape)), draw(), following).astype(dtype)
        yield replay


def same_batches(replay, frames, count=3, size=7):
    starts = np.random.default_rng(1).integers(replay.starts.start, replay.starts.stop, count * size)
    expected = replay.sample(starts)
    gathered = frames.batches(replay.lookup(starts), count)
    assert len(gathered) == count
    for number, batch in enumerate(gathered):
        for name, one, other in zip(batch._fields, batch, expected, strict=True):
            assert torch.equal(one, other[number * size : (number + 1) * size]), name


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"frame_stack": 1, "n_step": 1},
        {"shape": (3, 4, 4), "frame_stack": 2},
        {"shape": (6,), "dtype": np.float32, "frame_stack": 1},
        {"shape": (4, 4), "dtype": np.bool_},
    ],
)
@pytest.mark.parametrize("staged", [1, 8 * 2**20])
def test_gathered_batches_are_those_of_the_replay_also_when_the_ring_goes_round(kwargs, staged, monkeypatch):
    monkeypatch.setattr(device_frames, "STAGED_BYTES", staged)
    steps = random_replay(200, **kwargs)
    frames = DeviceFrames(next(steps), "cpu")
    for step, replay in enumerate(steps):
        if step % 13 == 12:
            same_batches(replay, frames)


def test_only_frames_that_are_new_go_up():
    steps = random_replay(30)
    replay = next(steps)
    replay.take_written()
    next(steps)
    assert len(replay.take_written()) == 6  # the first frames of the episodes, and the ones after
    for _ in range(20):
        next(steps)
    assert len(replay.take_written()) < 20 * 3 + 20
    assert len(replay.take_written()) == 0


def test_a_restored_replay_is_brought_up_whole():
    *_, replay = random_replay(40)
    restored = next(random_replay(0))
    frames = DeviceFrames(restored, "cpu")
    restored.load_state_dict(copy.deepcopy(replay.state_dict()))
    same_batches(restored, frames)
    same_batches(replay, DeviceFrames(replay, "cpu"))


def fit(monkeypatch, on_device, **kwargs):
    if on_device:
        monkeypatch.setattr(ReplayDataModule, "device_of_frames", lambda self, device: torch.device("cpu"))
    torch.manual_seed(0)
    module = make_data(env_id=AUDIT_ENV, env_kwargs={"image": True}, frame_stack=2, n_step=2, **kwargs)
    agent = LitDQN(module.observation_shape, 4, network=partial(MLP, hidden_sizes=(8,)), objective=QLearning())
    make_trainer(max_epochs=2).fit(agent, datamodule=module)
    return agent.online.state_dict()


@pytest.mark.parametrize("play_ahead", [False, True])
def test_a_run_that_gathers_on_a_device_is_the_run_that_does_not(monkeypatch, play_ahead):
    settings = {"gradient_steps": 5, "num_envs": 5, "play_ahead": play_ahead, "policy": EpsilonGreedy(0.5)}
    expected = fit(monkeypatch, False, **settings)
    gathered = fit(monkeypatch, True, **settings)
    assert all(torch.equal(gathered[name], weights) for name, weights in expected.items())


def test_frames_that_do_not_fit_on_the_gpu_are_refused_or_left_to_the_cpu(monkeypatch, caplog):
    gpu = torch.device("cuda")
    module = make_data(capacity=1000, min_replay_size=50)
    per_timestep = module.device_frames_bytes(1000) / 1000
    monkeypatch.setattr(data, "device_bytes", lambda device: int(900 * per_timestep))
    with caplog.at_level("INFO", logger="lit_dqn"):
        assert module.device_of_frames(gpu) is None
    assert "batches are put together by the CPU: the frames of 1,000 timesteps take" in caplog.text
    module = make_data(capacity=1000, min_replay_size=50, replay_device="cuda")
    with pytest.raises(ConfigError, match=r"replay_device: .* set --data.replay_device cpu, or --data.capacity (\d+)"):
        module.device_of_frames(gpu)
    assert make_data(replay_device="cpu").device_of_frames(gpu) is None
    assert make_data(capacity=200).device_of_frames(gpu) == gpu
    with pytest.raises(
        ConfigError, match=r"replay_device: cuda needs a GPU .* run on cpu; set --data.replay_device auto"
    ):
        make_trainer().fit(LitDQN((4,), 2, network=MLP), datamodule=module)
