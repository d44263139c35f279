import logging
from functools import partial

import numpy as np
import pytest
import torch

from audit import AUDIT_ENV
from helpers import make_agent, make_data, make_trainer
from lit_dqn import (
    MLP,
    ConfigError,
    EpsilonGreedy,
    LitDQN,
    PartsNetwork,
    Play,
    Prioritized,
    ReplayCheckpointIO,
    Rollout,
    UniformRandom,
)
from parting import SIGNPOST_ENV


def filled(prefill, *, play=0, **settings):
    """The data of a run before its first update, with so many env steps of its own."""
    data = make_data(prefill=prefill, env_id=AUDIT_ENV, **({"capacity": 300} | settings))
    data.setup("fit")
    data.fill(data.store)
    if play:
        data.collector.collect(make_agent(), play, UniformRandom())
    return data


def check_no_transition_joins_episodes(buffer):
    """An observation of the audit env says its episode and its step."""
    batch = buffer.sample(np.array(buffer.starts))
    observation, next_observation = (
        seen.numpy().reshape(len(seen), -1) for seen in (batch.observation, batch.next_observation)
    )
    _, episode, t = observation[:, -3:].T
    _, next_episode, next_t = next_observation[:, -3:].T
    window = next_t - t
    assert (episode == next_episode).all()
    assert ((window >= 1) & (window <= buffer.n_step)).all()
    if buffer.frame_stack > 1:
        _, before, t_before = observation[:, -6:-3].T
        assert ((before == episode) & ((t_before == t - 1) | (t == 0))).all()


@pytest.mark.parametrize(
    ("num_envs", "n_step", "frame_stack", "shards"), [(1, 1, 1, 1), (1, 3, 2, 1), (3, 3, 2, 1), (4, 3, 1, 2)]
)
@pytest.mark.parametrize("play", [12, 600])  # 600: what the agent plays has overwritten all
def test_demonstrations_end_before_the_agent_begins(num_envs, n_step, frame_stack, shards, play):
    capacity = 240 if play > 300 else 300
    data = filled(
        [Play(61), Play(60)],
        play=play,
        num_envs=num_envs,
        n_step=n_step,
        frame_stack=frame_stack,
        shards=shards,
        capacity=capacity,
        env_steps_per_update=num_envs,
    )
    each = 61 // num_envs * num_envs + 60
    assert data.prefilled == each
    assert data.collector.env_step == play
    stores = list(data.store.replays.values()) if shards > 1 else [data.store]
    for store in stores:
        check_no_transition_joins_episodes(store.buffer)
    if play == 12:  # all windows of demonstrations are complete, those of the agent not yet
        starts = sum(len(store) for store in stores)
        assert each <= starts <= each + 12


def test_a_window_at_the_end_of_demonstrations_is_cut_as_by_a_truncation():
    """The env never ends an episode, so the only ends are those of the two demonstrations."""
    endless = {"termination": 0.0, "truncation": 0.0}
    data = filled([Play(10), Play(7)], play=5, env_kwargs=endless, n_step=3, gamma=0.5)
    batch = data.store.buffer.sample(np.array(data.store.buffer.starts))
    t, next_t = batch.observation[:, 2], batch.next_observation[:, 2]
    assert t.tolist() == [*range(10), *range(7), *range(3)]
    assert next_t.tolist() == [*range(3, 10), 10, 10, 10, *range(3, 7), 7, 7, 7, 3, 4, 5]
    assert torch.equal(batch.discount, 0.5 ** (next_t - t))  # a future: nothing has terminated


def test_demonstrations_draw_what_nobody_else_draws_and_the_same_each_time():
    frames = []
    for prefill in ([Play(40), Play(40)], [Play(40), Play(40)]):
        buffer = filled(prefill).store.buffer
        frames.append(buffer.sample(np.array(buffer.starts)))
    assert torch.equal(frames[0].reward, frames[1].reward)
    first, second = frames[0].reward.split(40)
    assert not torch.equal(first, second)
    own = make_data(env_id=AUDIT_ENV)
    own.setup("fit")
    own.collector.collect(make_agent(), 40, UniformRandom())
    assert not torch.equal(first, own.store.buffer.sample(np.array(own.store.buffer.starts)).reward)


def test_prefilled_timesteps_count_in_min_replay_size_and_in_no_other_count():
    data = make_data(prefill=[Play(30)])
    trainer = make_trainer(max_epochs=1)
    trainer.fit(make_agent(), datamodule=data)
    assert data.collector.env_step == (50 - 30) + 10  # and not 30 + 50 + 10
    assert len(data.store) == 60 - 1 + 1  # all steps are starts, for n is 1


def test_offline_nothing_is_played_and_updates_are_the_clock(monkeypatch):
    data = make_data(prefill=[Play(60)], env_steps_per_update=0, gradient_steps=2)
    monkeypatch.setattr("lit_dqn.playing.collector.Collector.collect", lambda *_, **__: pytest.fail("played"))
    agent = make_agent()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(agent, datamodule=data)
    assert (trainer.global_step, data.collector.env_step, agent.env_step) == (20, 20, 20)
    assert len(data.store) == 60
    assert trainer.callback_metrics["eval/mean_reward"] > 0  # it is evaluated by playing


@pytest.mark.parametrize("sampler", [Prioritized(alpha=0.5, beta=0.4)])
def test_offline_from_priorities(sampler):
    data = make_data(prefill=[Play(60)], env_steps_per_update=0, sampler=sampler)
    make_trainer().fit(make_agent(), datamodule=data)
    assert data.collector.env_step == 10


def test_an_offline_run_resumes_exactly_without_the_source(tmp_path, monkeypatch):
    """Two epochs, and one and then another, from a checkpoint whose demonstrator is gone."""
    source = tmp_path / "source.ckpt"
    make_trainer(max_epochs=1, plugins=[ReplayCheckpointIO()]).fit(agent := make_agent(), datamodule=make_data())
    agent.trainer.save_checkpoint(source)
    prefill = [Play(30), Play(40, str(source), EpsilonGreedy(0.5))]
    settings = {"prefill": prefill, "env_steps_per_update": 0}

    def trained(epochs, resume=None):
        trainer = make_trainer(max_epochs=epochs, plugins=[ReplayCheckpointIO()])
        trainer.fit(make_agent(), datamodule=make_data(**settings), ckpt_path=resume)
        return trainer

    whole = trained(2)
    half = trained(1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    for file in [source, *tmp_path.glob("source*")]:
        if file.is_file():
            file.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Play, "timesteps", lambda *_: pytest.fail("played again"))
        resumed = trained(2, tmp_path / "half.ckpt")
    for name, weight in whole.lightning_module.state_dict().items():
        assert torch.equal(weight, resumed.lightning_module.state_dict()[name]), name
    assert resumed.datamodule.prefilled == 70
    with pytest.raises(ConfigError, match=r"source\.ckpt"):
        trained(1)


def test_a_replay_that_was_not_saved_is_filled_with_demonstrations_again(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    settings = {"prefill": [Play(60)], "env_steps_per_update": 0}
    trainer = make_trainer(max_epochs=1)
    trainer.fit(make_agent(), datamodule=make_data(**settings))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    contents = torch.load(tmp_path / "a.ckpt", weights_only=False)
    del contents["ReplayDataModule"]["replay"]
    torch.save(contents, tmp_path / "a.ckpt")
    trainer = make_trainer(max_epochs=2)
    trainer.fit(make_agent(), datamodule=(data := make_data(**settings)), ckpt_path=tmp_path / "a.ckpt")
    assert len(data.store) == data.prefilled == 60
    assert data.collector.env_step == 20
    assert "comes without its replay" in caplog.text


def test_demonstrations_added_to_a_run_that_is_resumed_are_left_out(tmp_path):
    trainer = make_trainer(max_epochs=1, plugins=[ReplayCheckpointIO()])
    trainer.fit(make_agent(), datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    data = make_data(prefill=[Play(60)])
    make_trainer(max_epochs=2, plugins=[ReplayCheckpointIO()]).fit(
        make_agent(), datamodule=data, ckpt_path=tmp_path / "a.ckpt"
    )
    assert data.prefilled == 0
    assert len(data.store) == data.collector.env_step


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"env_steps_per_update": 0},
            r"^env_steps_per_update: with 0 nothing is played, .*--data.env_steps_per_update 1",
        ),
        ({"prefill": [Play(60)], "sampler": Rollout()}, r"^prefill: only the newest rollout .*--data.prefill \[\]"),
        ({"prefill": [Play(60)], "env_steps_per_update": 0, "play_ahead": True}, "^play_ahead: .* false"),
    ],
)
def test_settings_that_cannot_be_with_demonstrations(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_data(**settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prefill": [Play(150), Play(60)]}, "^capacity: .* 210 of prefill; set --data.capacity 210"),
        (
            {"prefill": [Play(10)], "env_steps_per_update": 0},
            "^min_replay_size: .* needs 50 .* has 10, .*--data.min_replay_size 10 --data.batch_size 10",
        ),
        (
            {"prefill": [Play(1)], "num_envs": 2, "env_steps_per_update": 2},
            "^env_steps: 1 .* fewer than one .* of 2 envs",
        ),
        ({"prefill": [Play(60, "nowhere.ckpt")]}, r"nowhere\.ckpt"),
    ],
)
def test_demonstrations_that_do_not_fit(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_data(**settings).check_prefill()


def test_an_agent_of_other_observations_demonstrates_nothing(tmp_path):
    make_trainer(max_epochs=1).fit(agent := make_agent(), datamodule=make_data())
    agent.trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(ConfigError, match=r"sees \(4,\) and has 2 actions, and CartPole-v1 here \(2, 4\) and 2"):
        make_data(prefill=[Play(60, str(tmp_path / "a.ckpt"))], frame_stack=2).check_prefill()


def test_an_agent_whose_parts_lie_elsewhere_in_a_row_demonstrates_nothing(tmp_path):
    """The shapes alone are the same."""
    data = make_data(env_id=SIGNPOST_ENV, min_replay_size=16)
    agent = LitDQN(data.observation_shape, 2, network=partial(PartsNetwork, encoders={"image": MLP}))
    make_trainer(max_epochs=1).fit(agent, datamodule=data)
    agent.trainer.save_checkpoint(tmp_path / "a.ckpt")
    play = Play(60, str(tmp_path / "a.ckpt"))
    assert play.check(data.task) == 60
    parts = data.observation_shape
    for others in (dict(reversed(parts.items())), parts | {"told/left": parts["told/left"] | {"dtype": "uint8"}}):
        with pytest.raises(
            ConfigError, match=r"^prefill: the agent of .*a\.ckpt sees .* give the checkpoint of another"
        ):
            play.check(data.task._replace(observation_shape=others))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Play(0), "^env_steps: 0 of demonstrations must be at least 1"),
        (lambda: Play(10, policy=EpsilonGreedy(1.0)), "^policy: EpsilonGreedy of demonstrations asks an agent"),
    ],
)
def test_play_that_cannot_be(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
