"""PQN: Q(λ) over rollouts, from the data to what is learned."""

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch

from helpers import make_trainer
from lit_dqn import (
    MLP,
    ConfigError,
    DoubleQLearning,
    Linear,
    LitDQN,
    LitTD,
    MunchausenQLearning,
    Prioritized,
    ReplayDataModule,
    Rollout,
    UniformRandom,
    load_agent,
)
from lit_dqn.replay import rollout
from lit_dqn.types import Batch

LENGTH = 6


class Corridor(gymnasium.Env):
    """Six cells, one step right each time, and the last step pays 1; after `cut` steps the episode is truncated."""

    observation_space = gymnasium.spaces.Box(0, 1, (LENGTH + 1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, cut: int | None = None) -> None:
        self.cut = cut

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.place = 0 if self.cut is None else int(self.np_random.integers(LENGTH))
        return self.shown(), {}

    def step(self, action):
        self.place, self.steps = self.place + 1, self.steps + 1
        ends = self.place == LENGTH
        return self.shown(), float(ends), ends, not ends and self.steps == self.cut, {}

    def shown(self):
        return np.eye(LENGTH + 1, dtype=np.float32)[self.place]


gymnasium.register("lit_dqn_tests/Corridor-v0", entry_point=Corridor)


def make_data(**changes) -> ReplayDataModule:
    defaults = {
        "env_id": "lit_dqn_tests/Corridor-v0",
        "num_envs": 4,
        "capacity": 48,
        "min_replay_size": 0,
        "env_steps_per_update": 12,
        "gradient_steps": 4,
        "batch_size": 24,
        "updates_per_epoch": 4,
        "gamma": 0.9,
        "sampler": Rollout(0.9),
        "eval_episodes": 1,
        "seed": 0,
    }
    return ReplayDataModule(**(defaults | changes))


def make_agent(lr=1e-2, hidden_sizes=(), **changes) -> LitDQN:
    torch.manual_seed(0)
    network = partial(MLP, hidden_sizes=hidden_sizes)
    defaults = {"network": network, "optimizer": partial(torch.optim.RAdam, lr=lr), "target_update_period": None}
    return LitDQN((LENGTH + 1,), 2, **(defaults | changes))


def learn(rollouts, data=None, **changes):
    agent = make_agent(**changes)
    trainer = make_trainer(max_epochs=rollouts, limit_val_batches=0)
    trainer.fit(agent, datamodule=data or make_data())
    return agent


def values_of(agent):
    return agent.state_values(np.eye(LENGTH + 1, dtype=np.float32)[:LENGTH])


TRUE = 0.9 ** np.arange(LENGTH - 1, -1, -1)


def one_step(reward, discount, last, next_value, trace_decay):
    return reward + discount * next_value


def truncation_terminates(reward, discount, last, next_value, trace_decay):
    return rollout_returns(reward, torch.where(last, 0.0, discount), last, next_value, trace_decay)


rollout_returns = rollout.lambda_returns


def error_of_corridor():
    """After so few updates that a reward has not come six steps back by one-step targets."""
    return np.abs(values_of(learn(6, lr=0.2, optimizer=partial(torch.optim.SGD, lr=0.5))) - TRUE).max()


def test_a_reward_comes_back_over_the_rollout_at_once(monkeypatch):
    assert error_of_corridor() < 0.2
    monkeypatch.setattr(rollout, "lambda_returns", one_step)
    assert error_of_corridor() > 0.4


def error_with_truncations():
    data = make_data(env_kwargs={"cut": 2})
    return np.abs(values_of(learn(60, data, optimizer=partial(torch.optim.SGD, lr=0.5))) - TRUE).max()


def test_a_truncation_is_no_end(monkeypatch):
    assert error_with_truncations() < 0.1
    monkeypatch.setattr(rollout, "lambda_returns", truncation_terminates)
    assert error_with_truncations() > 0.4


def test_nothing_is_played_before_the_first_rollout_and_each_is_learned_from_at_once():
    data, seen = make_data(), []

    class Watching(LitDQN):
        def training_step(self, chunk, batch_idx):
            seen.append((chunk.env_step, data.collector.env_step, len(chunk.batches)))
            return super().training_step(chunk, batch_idx)

    agent = Watching((LENGTH + 1,), 2, network=partial(MLP, hidden_sizes=()), target_update_period=None)
    make_trainer(max_epochs=3, limit_val_batches=0).fit(agent, datamodule=data)
    assert seen == [(48, 48, 4), (96, 96, 4), (144, 144, 4)]


def test_no_network_is_asked_what_follows():
    agent, batch = make_agent(), Batch(torch.eye(7), torch.ones(7).long(), torch.ones(7), torch.zeros(7))
    asked = []
    agent.online.register_forward_hook(lambda module, args, output: asked.append(len(args[0])))
    for objective in (agent.objective, DoubleQLearning()):
        asked.clear()
        output = objective(agent.online, agent.target_network, batch)
        assert asked == [7]
        expected = 0.5 * (1 - agent.online(torch.eye(7))[:, 1]) ** 2
        torch.testing.assert_close(output.loss, expected)


def test_without_a_target_network_the_online_one_grades_and_a_checkpoint_knows(tmp_path):
    agent = make_agent()
    batch = Batch(torch.eye(7), torch.ones(7).long(), torch.ones(7), torch.full((7,), 0.5), torch.eye(7).flip(0))
    loss = agent.batch_loss(batch).loss
    with torch.no_grad():
        y = 1 + 0.5 * agent.online(torch.eye(7)).max(dim=1).values.flip(0)
    torch.testing.assert_close(loss, 0.5 * (y - agent.online(torch.eye(7))[:, 1]) ** 2)
    assert not hasattr(agent, "target")
    agent = learn(1)
    agent.trainer.save_checkpoint(tmp_path / "agent.ckpt")
    loaded = load_agent(tmp_path / "agent.ckpt")
    assert loaded.target_update_period is None
    np.testing.assert_array_equal(values_of(loaded), values_of(agent))


def test_policy_evaluation_learns_from_rollouts_too():
    data = make_data(policy=UniformRandom(), eval_policy=UniformRandom(), sampler=Rollout(1.0))
    torch.manual_seed(0)
    agent = LitTD(
        (LENGTH + 1,),
        2,
        network=partial(MLP, hidden_sizes=()),
        optimizer=partial(torch.optim.SGD, lr=0.5),
        target_update_period=None,
    )
    make_trainer(max_epochs=15, limit_val_batches=0).fit(agent, datamodule=data)
    np.testing.assert_allclose(values_of(agent), TRUE, atol=0.1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"play_ahead": True}, "play_ahead: true would play a rollout by weights from before the updates"),
        ({"n_step": 3}, "n_step: 3 steps in a window mean nothing to a rollout"),
        ({"n_step": Linear(10, 3, 100)}, "n_step: from 10 to 3 steps in a window mean nothing to a rollout"),
        ({"min_replay_size": 48}, "min_replay_size: 48 env steps before the first update would be forgotten"),
        ({"replay_device": "cuda"}, "replay_device: cuda would keep frames on the GPU that are soon forgotten"),
        ({"batch_size": 30}, "batch_size: 30 transitions per 12 env steps .* --data.batch_size 24"),
        ({"gradient_steps": 3, "updates_per_epoch": 6}, "gradient_steps: 3 updates of 24 .* --data.gradient_steps 4"),
        ({"capacity": 100}, "capacity: 100 timesteps, but a rollout has .* 48; set --data.capacity 48"),
        ({"num_envs": 1, "env_steps_per_update": 600, "batch_size": 600}, "num_envs: 1 envs .* --data.num_envs 3"),
    ],
)
def test_what_a_rollout_has_no_use_for_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_data(**changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target_update_period": 250}, "target_update_period: 250 updates of a target network, which a rollout"),
        ({"objective": MunchausenQLearning()}, "objective: MunchausenQLearning makes its target of what follows"),
    ],
)
def test_an_agent_that_makes_its_own_target_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        learn(1, **changes)


def test_without_a_rollout_something_must_be_there_before_the_first_update():
    with pytest.raises(ConfigError, match="min_replay_size: 0 must be at least 1"):
        make_data(sampler=Prioritized())
