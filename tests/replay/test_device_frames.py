"""Batches whose frames a device gathers, against those that the replay puts together. Here the device is the CPU."""

import copy

import numpy as np
import pytest
import torch

from helpers import fit_audit_env, make_data, make_trainer, random_replay, same_batches
from lit_dqn import ConfigError, EpsilonGreedy, LitDQN
from lit_dqn.learning.networks import MLP
from lit_dqn.replay import DeviceFrames, device_frames
from lit_dqn.training import replay_placement


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


@pytest.mark.parametrize("play_ahead", [False, True])
def test_a_run_that_gathers_on_a_device_is_the_run_that_does_not(monkeypatch, play_ahead):
    settings = {"gradient_steps": 5, "num_envs": 5, "play_ahead": play_ahead, "policy": EpsilonGreedy(0.5)}
    expected = fit_audit_env(monkeypatch, False, **settings)
    gathered = fit_audit_env(monkeypatch, True, **settings)
    assert all(torch.equal(gathered[name], weights) for name, weights in expected.items())


def test_frames_that_do_not_fit_on_the_gpu_are_refused_or_left_to_the_cpu(monkeypatch, caplog):
    gpu = torch.device("cuda")
    module = make_data(capacity=1000, min_replay_size=50)
    per_timestep = module.device_frames_bytes(1000) / 1000
    monkeypatch.setattr(replay_placement, "device_bytes", lambda device: int(900 * per_timestep))
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
