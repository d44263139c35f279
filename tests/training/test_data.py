import gc
import os
import random
import re
import subprocess
import sys
import threading
import time
import weakref

import gymnasium
import lightning
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from torch import nn

from helpers import SMALL, make_agent, make_data, make_trainer
from lit_dqn import (
    ConfigError,
    EpsilonGreedy,
    Greedy,
    Latest,
    Linear,
    LitDQN,
    Play,
    Prioritized,
    RayActors,
    ReplayCheckpointIO,
    ReplayDataModule,
    Sequences,
    UniformRandom,
)
from lit_dqn.callbacks import TrainingStatistics
from lit_dqn.envs.processes import ProcessVec
from lit_dqn.playing.ahead import check_draws_nothing
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.training.dataset import ReplayDataset
from lit_dqn.training.replay_placement import ReplayDevice
from lit_dqn.types import Chunk


def test_chunk_k_is_played_by_the_policy_after_k_chunks():
    """A loader that fetched ahead would act with old weights."""
    agent, data = make_agent(), make_data(policy=Greedy(), min_replay_size=50)
    tape = []
    act, step = agent.q_values, agent.training_step
    agent.q_values = lambda observation: (tape.append("act"), act(observation))[1]
    agent.training_step = lambda chunk, batch_idx: (tape.append("learn"), step(chunk, batch_idx))[1]
    make_trainer(max_epochs=2, limit_val_batches=0).fit(agent, datamodule=data)
    assert tape == ["act", "learn"] * 20


def test_playing_ahead_acts_by_the_weights_from_before_the_updates(monkeypatch):
    agent, data = make_agent(), make_data(policy=Greedy(), min_replay_size=50, gradient_steps=5, play_ahead=True)
    acted, began = [], []
    preferences, step = LitDQN.preferences, agent.training_step

    def weights(of):
        return next(of.online.parameters()).detach().clone()

    def act(self, observation):
        time.sleep(0.002)  # the updates are done when most of these actions are chosen
        acted.append(weights(self))
        return preferences(self, observation)

    def learn(chunk, batch_idx):
        began.append(weights(agent))
        return step(chunk, batch_idx)

    monkeypatch.setattr(LitDQN, "preferences", act)
    agent.training_step = learn
    make_trainer(max_epochs=2, limit_val_batches=0).fit(agent, datamodule=data)
    assert len(began) == 4
    assert len(acted) == 20
    assert torch.equal(torch.stack(acted), torch.stack(began).repeat_interleave(5, 0))
    assert not torch.equal(began[0], began[1])
    assert data.collector.env_step == 50 + 20


class Dropping(nn.Module):
    """Draws from torch's global generator while it learns."""

    def __init__(self, observation_shape, num_outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(*observation_shape, 16), nn.Dropout(0.5), nn.Linear(16, num_outputs))

    def forward(self, observation):
        return self.layers(observation)


class Noisy(Dropping):
    """Draws from it while it acts, too."""

    def forward(self, observation):
        return super().forward(observation) + torch.randn(())


@pytest.mark.parametrize("network", [SMALL, Dropping])
def test_a_run_that_plays_ahead_does_not_depend_on_which_thread_is_faster(monkeypatch, network):
    def train(seconds_to_act, seconds_to_learn):
        torch.manual_seed(0)
        agent, data = LitDQN((4,), 2, network=network), make_data(num_envs=2, gradient_steps=2, play_ahead=True)
        preferences, step = LitDQN.preferences, LitDQN.batch_loss
        with monkeypatch.context() as patch:
            patch.setattr(LitDQN, "preferences", lambda *args: (time.sleep(seconds_to_act), preferences(*args))[1])
            patch.setattr(LitDQN, "batch_loss", lambda *args: (time.sleep(seconds_to_learn), step(*args))[1])
            make_trainer(max_epochs=2).fit(agent, datamodule=data)
        return [*agent.state_dict().values(), data.collector.store.buffer.sample(np.arange(20)).observation]

    slow_env, slow_updates = train(0.003, 0), train(0, 0.003)
    assert all(map(torch.equal, slow_env, slow_updates))


def test_a_run_that_plays_ahead_with_a_network_that_drops_units_is_resumed_exactly(tmp_path):
    def train(epochs, ckpt_path=None):
        torch.manual_seed(0)
        agent, data = LitDQN((4,), 2, network=Dropping), make_data(num_envs=2, gradient_steps=2, play_ahead=True)
        trainer = make_trainer(max_epochs=epochs, plugins=[ReplayCheckpointIO()])
        trainer.fit(agent, datamodule=data, ckpt_path=ckpt_path)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt", weights_only=False)
        return [*agent.state_dict().values(), data.collector.store.buffer.sample(np.arange(20)).observation]

    whole = train(4)
    train(2)
    assert all(map(torch.equal, whole, train(4, tmp_path / "2.ckpt")))


def test_playing_ahead_with_a_network_that_draws_while_it_acts_is_refused():
    agent = LitDQN((4,), 2, network=Noisy)
    agent.check_can_learn_from(make_data())
    with pytest.raises(ConfigError, match=r"play_ahead: true .* Noisy draws random numbers .* --data.play_ahead false"):
        agent.check_can_learn_from(make_data(play_ahead=True))


def test_a_network_that_is_not_yet_on_the_device_of_its_run_is_asked_where_it_is():
    agent = make_agent()
    agent._device = torch.device(
        "meta"
    )  # as Lightning has it in `setup`: the device of the run, before the weights move
    agent.check_can_learn_from(make_data(play_ahead=True))


@pytest.mark.parametrize("draw", [torch.randn, np.random.random, random.random])
def test_drawing_from_a_generator_that_all_threads_share_is_found(draw):
    check_draws_nothing("nobody", lambda: None)
    with pytest.raises(ConfigError, match="because somebody draws"):
        check_draws_nothing("somebody", lambda: draw(1) if draw is not random.random else draw())


class Breaks(gymnasium.Wrapper):
    """An env that ends with an error in its third episode."""

    episodes = 0

    def reset(self, **kwargs):
        self.episodes += 1
        return super().reset(**kwargs)

    def step(self, action):
        if self.episodes == 3:
            raise RuntimeError("the simulator is gone")
        return super().step(action)


def test_what_goes_wrong_in_an_env_that_is_played_ahead_ends_the_run():
    agent, data = make_agent(), make_data(wrappers=[Breaks], min_replay_size=16, play_ahead=True, updates_per_epoch=500)
    with pytest.raises(RuntimeError, match="the simulator is gone"):
        make_trainer(limit_val_batches=0).fit(agent, datamodule=data)
    data.teardown("fit")


def test_what_goes_wrong_in_learning_waits_for_what_is_played_ahead(monkeypatch):
    agent, data = make_agent(), make_data(play_ahead=True)
    before, step = set(threading.enumerate()), SyncVectorEnv.step
    monkeypatch.setattr(SyncVectorEnv, "step", lambda *args: (time.sleep(0.01), step(*args))[1])

    def fail(batch):
        raise RuntimeError("no loss today")

    agent.batch_loss = fail
    with pytest.raises(RuntimeError, match="no loss today"):
        make_trainer(limit_val_batches=0).fit(agent, datamodule=data)
    assert data.collector.env_step == 50 + 1
    assert not any(module.training for module in agent.modules())
    # An exception that ends a run also stops the worker, which may have ended by now.
    threads = set(threading.enumerate()) - before
    assert {thread.name for thread in threads} <= {"worker"}
    replay = weakref.ref(data.collector.store.buffer)
    del agent, data
    gc.collect()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert replay() is None


def test_env_steps_updates_and_episodes_are_counted():
    data = make_data(num_envs=4, env_steps_per_update=2, gradient_steps=4, updates_per_epoch=40, min_replay_size=52)
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(make_agent(), datamodule=data)
    assert trainer.global_step == 40
    assert data.collector.env_step == 52 + 40 * 2
    statistics = next(callback for callback in trainer.callbacks if isinstance(callback, TrainingStatistics))
    assert data.collector.episodes == len(statistics.recent) > 0


def test_a_chunk_holds_the_batches_of_its_updates():
    data = make_data(gradient_steps=5, batch_size=7, gamma=0.9, n_step=3)
    data.trainer = make_trainer()
    data.trainer.strategy.connect(make_agent())
    data.setup("fit")
    chunk = next(iter(data.train_dataloader()))
    assert isinstance(chunk, Chunk)
    assert len(chunk.batches) == 5
    assert len({tuple(batch.observation.flatten().tolist()) for batch in chunk.batches}) == 5  # each is a new draw
    for batch in chunk.batches:
        assert batch.observation.shape == batch.next_observation.shape == (7, 4)
        assert batch.observation.dtype == batch.reward.dtype == torch.float32
        assert set(np.round(batch.discount.numpy(), 6)) <= {
            0.0,
            np.round(np.float32(0.9**3), 6),
            *np.round([0.9, 0.81], 6),
        }
    assert chunk.env_step == data.collector.env_step == 50 + 5


def test_data_that_play_a_part_of_the_envs_of_a_run_play_them_by_their_numbers():
    def running(num_envs, first_env):
        data = make_data(num_envs=num_envs, env_steps_per_update=num_envs)
        data.first_env = first_env
        data.setup("fit")
        data.collector.collect(make_agent(), 40 * num_envs, UniformRandom())
        return [
            (episode.seed, episode.actions.tolist(), episode.frame_hash)
            for episode in data.collector.players.stage.running()
        ]

    whole = running(3, 0)
    assert running(2, 1) == whole[1:]
    assert len({seed for seed, *_ in whole}) == 3


def chunks_of(data: ReplayDataModule) -> ReplayDataset:
    data.trainer = make_trainer()
    data.trainer.strategy.connect(make_agent())
    data.setup("fit")
    return data.train_dataloader()


@pytest.mark.parametrize("play_ahead", [False, True])
def test_the_batches_of_a_chunk_are_drawn_when_it_is_played_or_before_it_is_played_ahead(play_ahead):
    data = make_data(sampler=Latest(), batch_size=1, env_steps_per_update=4, play_ahead=play_ahead)
    drawn, newest = [], []
    dataset = chunks_of(data)
    replay = data.collector.store.buffer
    add = replay.add
    replay.add = lambda timestep, *envs: (add(timestep, *envs), newest.append(timestep.observation[0].tolist()))
    for chunk in dataset:
        drawn.append(chunk.batches[0].observation[0].tolist())
        chunk.settle(None)
    # 50 env steps of warm-up, then 4 for each of the ten chunks.
    last_of_chunk = newest[49::4]
    assert drawn == (last_of_chunk[:-1] if play_ahead else last_of_chunk[1:])
    data.teardown("fit")


def test_a_replay_that_was_not_saved_is_filled_again_once():
    saved = make_data()
    for _ in chunks_of(saved):
        pass
    state = saved.state_dict()
    del state["replay"]
    data = make_data()
    chunks_of(data)  # as Lightning does it, the state comes when the collector is there
    data.load_state_dict(state)
    env_steps = [saved.collector.env_step]
    for dataset in (data.train_dataloader(), data.train_dataloader()):
        for _ in range(2):  # epochs
            for _ in dataset:
                pass
            env_steps.append(data.collector.env_step)
    assert np.diff(env_steps).tolist() == [50 + 10, 10, 10, 10]


def test_frames_are_stacked_for_the_network():
    data = make_data(frame_stack=3)
    assert data.observation_shape == (3, 4)
    image = ReplayDataModule("lit_dqn/Maze-v0", frame_stack=4, seed=0)
    assert image.observation_shape == (4, 50, 84)
    assert image.num_actions == 4


def test_evaluation_plays_the_same_episodes_each_time_and_leaves_training_alone():
    agent, data = make_agent(), make_data(eval_episodes=3, eval_max_steps=500)
    trainer = make_trainer()
    first = trainer.validate(agent, datamodule=data, verbose=False)
    assert first == trainer.validate(agent, datamodule=data, verbose=False)
    assert first[0]["eval/episodes"] == 3
    assert first[0]["eval/mean_reward"] == first[0]["eval/mean_ep_length"] > 1
    assert data.collector is None


@pytest.mark.parametrize(("env_processes", "kind"), [(False, SyncVectorEnv), (True, ProcessVec)])
def test_evaluation_plays_in_processes_where_training_does(env_processes, kind):
    class Look(lightning.Callback):
        def on_validation_start(self, trainer, pl_module):
            assert isinstance(trainer.val_dataloaders.envs, kind)
            looked.append(trainer.val_dataloaders.envs.num_envs)

    looked = []
    data = make_data(env_processes=env_processes, eval_envs=2, eval_max_steps=3)
    make_trainer(callbacks=[Look()]).validate(make_agent(), datamodule=data, verbose=False)
    assert looked == [2]


@pytest.mark.slow  # each of the processes imports torch
def test_a_script_without_a_guard_is_told_of_it_and_starts_no_run_in_the_processes_of_envs(tmp_path):
    script = tmp_path / "script.py"
    settings = {"data.env_processes": True, "data.num_envs": 2, "stop.max_env_steps": 1200}
    script.write_text(f"from lit_dqn import Run\nRun.from_config('cartpole', {settings}).fit()\n")
    ended = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert "freeze_support" not in ended.stderr  # as multiprocessing says in each process that starts others
    assert "if a script starts the run, let it do so after if __name__ == '__main__': only" in ended.stderr
    assert len(list((tmp_path / "lightning_logs/cartpole").iterdir())) <= 1


def test_a_cap_on_the_steps_is_reported_as_truncation():
    trainer = make_trainer()
    result = trainer.test(make_agent(), datamodule=make_data(eval_max_steps=3), verbose=False)
    assert result[0]["eval/truncated_episodes"] == 2
    assert result[0]["eval/mean_ep_length"] == 3


def test_predict_gives_whole_trajectories_with_pictures():
    agent = LitDQN((1, 50, 84), 4)
    data = ReplayDataModule("lit_dqn/Maze-v0", eval_episodes=1, eval_max_steps=6, seed=0)
    (trajectory,) = make_trainer().predict(agent, datamodule=data)
    assert trajectory.observation.shape == (7, 1, 50, 84)
    assert trajectory.action.shape == trajectory.reward.shape == (6,)
    assert len(trajectory.pictures) == 7
    assert not trajectory.terminated


def test_a_choice_may_be_given_by_its_name_as_in_a_config():
    data = make_data(resume_env="new_episode", replay_device="cpu")
    assert data.resume_env is ResumeEnv.new_episode
    assert data.replay_device is ReplayDevice.cpu
    with pytest.raises(ConfigError, match="replay_device: cuda"):
        make_data(sampler=Sequences(4, 0, 0), replay_device="cuda")


def test_the_seed_is_the_one_of_seed_everything(monkeypatch):
    monkeypatch.setitem(os.environ, "PL_GLOBAL_SEED", "123")
    assert make_data(seed=None).seed == 123
    assert make_data(seed=5).seed == 5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"gamma": 1.5}, r"gamma: 1\.5"),
        ({"gamma": -0.1}, r"gamma: -0\.1"),
        ({"batch_size": 300}, "batch_size: 300 .* capacity 200; set --data.capacity 300"),
        ({"min_replay_size": 8}, "min_replay_size: 8 must lie between batch_size 16 and capacity 200"),
        ({"min_replay_size": 201}, "min_replay_size: 201"),
        ({"updates_per_epoch": 10, "gradient_steps": 4}, "updates_per_epoch: 10 must be a multiple"),
        ({"num_envs": 3}, "num_envs: 3 .* must be a multiple of 3"),
        ({"n_step": 0}, "n_step: 0 must be at least 1"),
        ({"seed": -1}, "seed: -1 must lie between 0 and 4294967295"),
        ({"sampler": Latest(), "gradient_steps": 2}, "sampler Latest would draw the same one each time"),
        ({"env_id": "CartPol-v1"}, "env_id: there is no environment 'CartPol-v1'; did you mean CartPole-v1"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_made(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_data(**settings)


CARTPOLE = gymnasium.make("CartPole-v1")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"env_id": CARTPOLE}, "env_id: an object of type TimeLimit is no id .* gymnasium.register('Mine-v0', MyEnv)."),
        ({"env_id": type(CARTPOLE), "env_processes": True}, "env_id: the class TimeLimit is no id of an environment"),
        (
            {"wrappers": gymnasium.wrappers.FlattenObservation},
            "wrappers: the class FlattenObservation is no list; give one, such as [gymnasium.wrappers.Flatten",
        ),
        ({"wrappers": "mine"}, "wrappers: 'mine' is no list"),
        ({"policy": EpsilonGreedy}, "policy: the class EpsilonGreedy is no policy; .*, such as EpsilonGreedy(0.1)."),
        ({"policy": 0.1}, "policy: 0.1 is no policy; give an object, such as EpsilonGreedy(0.1)."),
        ({"warm_up_policy": "random"}, "warm_up_policy: 'random' is no policy; .*, such as UniformRandom()."),
        ({"eval_policy": Greedy}, "eval_policy: the class Greedy is no policy; give an object, such as Greedy()."),
        ({"sampler": Prioritized}, "sampler: the class Prioritized is no sampler; give an object, such as Uniform()."),
        ({"place": RayActors}, "place: the class RayActors is no place; give an object, such as RayActors(actors=1)."),
        ({"prefill": Play(100)}, "prefill: an object of type Play is no list; give one, such as [Play(1000)]."),
        ({"prefill": [Play]}, "prefill: the class Play is no object; give one, such as Play(1000)."),
        ({"gamma": Linear}, "gamma: the class Linear is no number and no schedule; give one, such as 0.99."),
        ({"n_step": "3"}, "n_step: '3' is no number and no schedule; give one, such as 1."),
        ({"capacity": 1e3}, "capacity: 1000.0 must be a whole number, of type int."),
        ({"seed": 1.5}, "seed: 1.5 must be a whole number, of type int."),
        ({"resume_env": "nope"}, "resume_env: 'nope' is unknown; give one of exact, new_episode."),
        ({"replay_device": "gpu"}, "replay_device: 'gpu' is unknown; give one of auto, cpu, cuda."),
    ],
    ids=lambda given: "" if isinstance(given, str) else next(iter(given)),  # without addresses
)
def test_what_a_script_passes_in_place_of_what_is_needed_is_told_in_one_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence).replace(re.escape('.*'), '.*')}"):
        make_data(**settings)


class Own:
    """Neither a Policy nor a Sampler, and both."""

    asks_agent, random, is_rollout = True, True, False

    def act(self, agent, observation, env_step, generators): ...

    def sample(self, starts, batch_size, generator): ...


def test_a_policy_and_a_sampler_of_ones_own_need_no_base_class_and_numbers_may_be_numpys():
    data = make_data(policy=Own(), sampler=Own(), capacity=np.int64(200), gamma=np.float32(0.9))
    assert data.capacity == 200


def test_a_replay_that_does_not_fit_is_refused_for_training_and_for_nothing_else():
    data = make_data(capacity=10**13)
    make_trainer().validate(make_agent(), datamodule=data, verbose=False)
    with pytest.raises(
        ConfigError, match=r"capacity: a replay of 10,000,000,000,000 timesteps .* set --data\.capacity"
    ):
        data.setup("fit")


def test_the_memory_of_a_replay_counts_what_its_sampler_keeps():
    without, with_priorities = make_data(), make_data(sampler=Prioritized())
    assert with_priorities.replay_bytes(10_000) == without.replay_bytes(10_000) + Prioritized().bytes_for(10_000)
