import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import make_agent, make_data, make_trainer, read_checkpoint, same
from lit_dqn import ConfigError, Linear, Prioritized, TrainingError
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.io import ReplayCheckpointIO


def train(path: Path, updates: int, resume: Path | None = None, **settings):
    """A run of that many updates in all, saved to `path`."""
    agent, data = make_agent(), make_data(**settings)
    trainer = make_trainer(max_epochs=-1, max_steps=updates, limit_val_batches=0, plugins=[ReplayCheckpointIO()])
    trainer.fit(agent, datamodule=data, ckpt_path=resume)
    trainer.save_checkpoint(path, weights_only=False)
    return agent, data, trainer


def test_a_run_resumes_where_it_stopped(tmp_path):
    path = tmp_path / "last.ckpt"
    first, first_data, first_trainer = train(path, 10, num_envs=2, gradient_steps=2)
    second, second_data, second_trainer = train(tmp_path / "second.ckpt", 10, resume=path, num_envs=2, gradient_steps=2)
    assert second_trainer.global_step == 10
    assert same(first.state_dict(), second.state_dict())
    moments = [trainer.optimizers[0].state_dict()["state"] for trainer in (first_trainer, second_trainer)]
    assert all(torch.equal(moments[0][i]["exp_avg"], moments[1][i]["exp_avg"]) for i in moments[0])
    old, new = first_data.collector, second_data.collector
    assert (old.env_step, old.episodes, first.env_step) == (new.env_step, new.episodes, second.env_step)
    assert old.state_dict()["generators"] == new.state_dict()["generators"]
    assert first_data.state_dict()["sampling"] == second_data.state_dict()["sampling"]
    old_arrays, new_arrays = old.store.buffer.state_dict()["arrays"], new.store.buffer.state_dict()["arrays"]
    assert torch.equal(old_arrays["observation"], new_arrays["observation"])
    third, third_data, third_trainer = train(tmp_path / "third.ckpt", 16, resume=path, num_envs=2, gradient_steps=2)
    assert third_trainer.global_step == 16
    assert third_data.collector.env_step == old.env_step + 6
    assert not same(first.state_dict(), third.state_dict())


@pytest.mark.parametrize("play_ahead", [False, True])
def test_a_run_with_priorities_that_is_resumed_is_the_run_that_never_stopped(tmp_path, play_ahead):
    settings = {
        "num_envs": 2,
        "gradient_steps": 2,
        "capacity": 60,  # the ring goes round
        "n_step": 2,
        "play_ahead": play_ahead,
        "sampler": Prioritized(alpha=0.9, beta=Linear(0.4, 1.0, env_steps=90)),
    }
    whole, whole_data, _ = train(tmp_path / "whole.ckpt", 40, **settings)
    train(tmp_path / "half.ckpt", 20, **settings)
    resumed, data, _ = train(tmp_path / "resumed.ckpt", 40, resume=tmp_path / "half.ckpt", **settings)
    assert same(whole.state_dict(), resumed.state_dict())
    for name, array in whole_data.store.sampler.arrays.items():
        assert np.array_equal(array, data.store.sampler.arrays[name]), name
    assert len(np.unique(data.store.sampler.arrays["priority"])) > 30


def test_priorities_that_are_none_are_refused_with_their_checkpoint(tmp_path):
    train(tmp_path / "last.ckpt", 4, sampler=Prioritized())
    write = ReplayCheckpointIO.save_checkpoint
    with pytest.MonkeyPatch.context() as patch:

        def spoiled(self, checkpoint, path, storage_options=None):
            checkpoint["ReplayDataModule"]["replay"]["rewritten"]["priority"][7] = -1.0
            write(self, checkpoint, path)

        patch.setattr(ReplayCheckpointIO, "save_checkpoint", spoiled)
        train(tmp_path / "last.ckpt", 4, sampler=Prioritized())
    with pytest.raises(ConfigError, match="replay of the checkpoint cannot be read: its priorities are not positive"):
        train(tmp_path / "next.ckpt", 6, resume=tmp_path / "last.ckpt", sampler=Prioritized())


def test_the_replay_is_beside_the_checkpoint_and_goes_with_it(tmp_path):
    path = tmp_path / "last.ckpt"
    train(path, 4, capacity=5000)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "last.replay"]
    assert path.stat().st_size < 60_000
    train(path, 6, capacity=5000)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.2.replay", "last.ckpt"]
    ReplayCheckpointIO().remove_checkpoint(path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_holds_tensors_and_plain_values_only(tmp_path):
    train(tmp_path / "last.ckpt", 4)
    torch.load(tmp_path / "last.ckpt", weights_only=True)


def test_broken_checkpoints_are_refused_in_a_sentence(tmp_path):
    path = tmp_path / "last.ckpt"
    train(path, 4)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"ckpt_path: .*last\.ckpt is damaged"):
        read_checkpoint(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ConfigError, match="is not a checkpoint of lit_dqn"):
        read_checkpoint(path)
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "no.ckpt")


@pytest.mark.parametrize(("key", "value"), [("capacity", 300), ("num_envs", 2), ("n_step", 3), ("frame_stack", 2)])
def test_other_settings_of_the_replay_are_named(tmp_path, key, value):
    train(tmp_path / "last.ckpt", 4)
    saved = Checkpoint.read(tmp_path / "last.ckpt")
    make_data().check_can_resume(saved)
    with pytest.raises(ConfigError, match=f"{key}: the checkpoint was made with .* not {value}"):
        make_data(**{key: value, "gradient_steps": 2}).check_can_resume(saved)


def test_a_checkpoint_alone_can_be_graded_and_says_what_it_lacks_for_training(tmp_path):
    train(tmp_path / "last.ckpt", 4)
    shutil.rmtree(tmp_path / "last.replay")
    trainer = make_trainer(plugins=[ReplayCheckpointIO(load_replay=False)])
    assert trainer.test(make_agent(), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt", verbose=False)
    with pytest.raises(ConfigError, match="cannot be read"):
        train(tmp_path / "next.ckpt", 6, resume=tmp_path / "last.ckpt")
    with pytest.raises(TrainingError, match=r"plugins=\[lit_dqn.ReplayCheckpointIO\(\)\]"):
        make_trainer(max_epochs=2).fit(make_agent(), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt")


def test_a_checkpoint_written_by_lightning_can_be_resumed_too(tmp_path):
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(make_agent(), datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "api.ckpt", weights_only=False)
    _, data, trainer = train(tmp_path / "next.ckpt", 14, resume=tmp_path / "api.ckpt")
    assert trainer.global_step == 14
    assert data.collector.env_step == 50 + 14
