"""Runs whose networks are reset: when, with what, and exactly so when they are killed and resumed."""

from functools import partial

import pytest
import torch

from helpers import SMALL, make_data, make_trainer
from lit_dqn import ConfigError, Linear, LitActorCritic, LitDQN, ReplayCheckpointIO, ShrinkAndPerturb
from lit_dqn.learning.learner import Learner

RESETS = ShrinkAndPerturb(every_env_steps=20, until_env_steps=85, shrink=0.5)


def train(tmp_path, epochs, ahead=False, ckpt_path=None, monkeypatch=None, **kwargs):
    """(env step, updates before) of each reset, and the weights."""
    seen = []
    reset = Learner.reset
    torch.manual_seed(0)
    settings = {"resets": RESETS, "optimizer": partial(torch.optim.AdamW, lr=1e-2)} | kwargs
    agent = LitDQN((4,), 2, network=SMALL, target_update_period=3, **settings)

    def watch(learner, rule, fresh):
        seen.append((agent.env_step, learner.updates))
        reset(learner, rule, fresh)
        assert not any(value.any() for state in learner.optimizer.state.values() for value in state.values())

    monkeypatch.setattr(Learner, "reset", watch)
    data = make_data(gradient_steps=2, play_ahead=ahead)
    trainer = make_trainer(max_epochs=epochs, plugins=[ReplayCheckpointIO()])
    trainer.fit(agent, datamodule=data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt", weights_only=False)
    monkeypatch.undo()
    return seen, agent.state_dict()


def test_resets_come_at_their_env_steps_and_not_before_the_first_update(tmp_path, monkeypatch):
    # The replay is filled with 50 env steps, in which two would have been due; two env steps a training step.
    seen, _ = train(tmp_path, 6, monkeypatch=monkeypatch)
    assert seen == [(60, 8), (80, 28)]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_that_is_reset_is_resumed_exactly(tmp_path, monkeypatch, ahead, epochs):
    """Epochs end at env steps 60, with a reset in the last training step, at 70, and at 80, also with one."""
    whole, weights = train(tmp_path, 4, ahead, monkeypatch=monkeypatch)
    before, _ = train(tmp_path, epochs, ahead, monkeypatch=monkeypatch)
    after, again = train(tmp_path, 4, ahead, tmp_path / f"{epochs}.ckpt", monkeypatch)
    assert before + after == whole
    assert len(before) == {1: 1, 2: 1, 3: 2}[epochs]
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_runs_without_resets_are_other_runs_and_a_checkpoint_keeps_the_rule(tmp_path, monkeypatch):
    _, weights = train(tmp_path, 2, monkeypatch=monkeypatch)
    seen, others = train(tmp_path, 1, monkeypatch=monkeypatch, resets=None)
    assert seen == []
    assert not all(torch.equal(weights[name], others[name]) for name in weights)
    loaded = LitDQN.load_from_checkpoint(tmp_path / "2.ckpt")
    assert vars(loaded.resets) == vars(RESETS)
    assert LitDQN.load_from_checkpoint(tmp_path / "1.ckpt").resets is None


def test_weight_decay_follows_its_schedule_by_env_steps(monkeypatch):
    decays = []
    step = torch.optim.AdamW.step

    def watch(optimizer, *args, **kwargs):
        decays.append(optimizer.param_groups[0]["weight_decay"])
        return step(optimizer, *args, **kwargs)

    agent = LitDQN(
        (4,), 2, network=SMALL, optimizer=partial(torch.optim.AdamW, lr=1e-2), weight_decay=Linear(0.5, 0.1, 58)
    )
    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    make_trainer().fit(agent, datamodule=make_data())
    assert decays == pytest.approx([0.5 - 0.4 * min((50 + update) / 58, 1) for update in range(1, 11)])
    assert LitDQN((4,), 2, network=SMALL, weight_decay=0.1).weight_decay(5) == 0.1


def test_a_weight_decay_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"weight_decay: -0.1 must be at least 0"):
        LitDQN((4,), 2, network=SMALL, weight_decay=Linear(0.1, -0.1, 10))
    with pytest.raises(ConfigError, match="weight_decay: Rprop lets no weights decay"):
        LitDQN((4,), 2, network=SMALL, optimizer=torch.optim.Rprop, weight_decay=0.1)
    compiled = LitDQN((4,), 2, network=SMALL, update="compiled", weight_decay=Linear(0.2, 0.1, 10))
    with pytest.raises(ConfigError, match=r"update: compiled takes .* from 0\.2 to 0\.1"):
        compiled.check_device(torch.device("cpu"))
    with pytest.raises(TypeError, match="resets"):
        LitActorCritic((4,), 2, network=SMALL, resets=RESETS)
