"""Actor-critic over rollouts: by whom they were played, what their advantages are, and where episodes end."""

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from torch import nn

from helpers import CONFIGS, make_trainer, run
from lit_dqn import MLP, ActorCritic, ConfigError, Latest, LitActorCritic, ReplayDataModule, Rollout, Softmax, Uniform
from lit_dqn.learning.losses import lambda_returns
from lit_dqn.replay import rollout
from lit_dqn.types import Batch

BATCH = 32
GAMMA = 0.9


class Clock(gymnasium.Env):
    """Shows how often it was looked at, so that no two looks are alike; each step pays 1, each third one truncates."""

    observation_space = gymnasium.spaces.Box(0, 10_000, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    looks = 0

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), {}

    def step(self, action):
        self.steps += 1
        return self.shown(), 1.0, False, self.steps == 3, {}

    def shown(self):
        self.looks += 1
        return np.ones(1, np.float32) if self.blind else np.array([self.looks], np.float32)


gymnasium.register("lit_dqn_tests/Clock-v0", entry_point=Clock)


def make_data(**changes) -> ReplayDataModule:
    defaults = {
        "env_id": "lit_dqn_tests/Clock-v0",
        "num_envs": 4,
        "capacity": BATCH,
        "min_replay_size": 0,
        "env_steps_per_update": BATCH,
        "batch_size": BATCH,
        "updates_per_epoch": 10,
        "gamma": GAMMA,
        "sampler": Rollout(0.9),
        "policy": Softmax(),
        "eval_episodes": 1,
        "seed": 0,
    }
    return ReplayDataModule(**(defaults | changes))


LATEST = {"sampler": Latest(), "min_replay_size": BATCH}


def ages(n_step=1, **changes) -> list[int]:
    """How many updates were made between the play of each transition and the update that learns from it."""
    played_after, found = {}, []

    class Watching(LitActorCritic):
        def preferences(self, observation):
            played_after.update(dict.fromkeys(observation[:, 0].tolist(), self.trainer.global_step))
            return super().preferences(observation)

        def batch_loss(self, batch):
            seen = batch.observation[:, 0].tolist()
            if seen[0] > 0:  # no blank, by which it is tried what fits together
                found.extend(self.trainer.global_step - played_after.get(look, -1) for look in seen)
            return super().batch_loss(batch)

    agent = Watching((1,), 2, network=partial(MLP, hidden_sizes=(4,)))
    make_trainer(limit_val_batches=0).fit(agent, datamodule=make_data(n_step=n_step, **changes))
    return found[2 * BATCH :]  # what the warm-up has played is another policy's


def test_each_transition_is_played_by_the_weights_that_learn_from_it():
    assert set(ages()) == {0}


def test_in_windows_of_n_steps_a_part_is_played_by_the_weights_before():
    assert set(ages(n_step=3, **LATEST)) == {0, 1}


class States(nn.Module):
    """Preferences that are all alike, and V of each state."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, state):
        values = self.values[state.long()]
        return torch.stack([torch.zeros_like(values), torch.zeros_like(values), values], dim=1)


def test_the_advantage_is_the_generalised_one():
    """Schulman et al. 2016, eq. 16: Σ_k (γλ)^k δ_{t+k}, as far as the episode goes."""
    value, next_value = [1.0, -2.0, 4.0, 3.0, 0.5], [-2.0, 4.0, 7.0, 0.5, 6.0]  # 7: the last look before a truncation
    reward = [1.0, 0.0, 2.0, -1.0, 3.0]
    discount, last = [GAMMA, GAMMA, GAMMA, 0.0, GAMMA], [False, False, True, True, False]
    errors = [r + d * following - v for r, d, following, v in zip(reward, discount, next_value, value, strict=True)]
    decay = GAMMA * 0.8
    expected = [
        errors[0] + decay * errors[1] + decay**2 * errors[2],
        errors[1] + decay * errors[2],
        errors[2],  # truncated: V of what was seen last, and nothing of the next episode
        errors[3],  # terminated
        errors[4],  # the rollout ends
    ]
    row = partial(torch.tensor, dtype=torch.float32)
    returns = lambda_returns(row([reward]), row([discount]), torch.tensor([last]), row([next_value]), 0.8)[0]
    batch = Batch(torch.arange(5.0), torch.zeros(5, dtype=torch.int64), returns, torch.zeros(5))
    output = ActorCritic(entropy_cost=0.0, value_cost=0.0)(States(value), batch, 1.0)
    torch.testing.assert_close(output.loss / np.log(2), row(expected))


def value_of_a_life_without_end() -> float:
    torch.manual_seed(0)
    network = partial(MLP, hidden_sizes=())
    optimizer = partial(torch.optim.SGD, lr=0.1)
    objective = ActorCritic(value_cost=1.0)
    agent = LitActorCritic((1,), 2, network=network, objective=objective, optimizer=optimizer, max_grad_norm=None)
    data = make_data(env_kwargs={"blind": True}, updates_per_epoch=150)
    make_trainer(limit_val_batches=0).fit(agent, datamodule=data)
    return float(agent.state_values(np.ones((1, 1), np.float32))[0])


def test_what_is_cut_is_worth_what_could_have_followed(monkeypatch):
    assert value_of_a_life_without_end() == pytest.approx(1 / (1 - GAMMA), rel=0.05)
    whole = rollout.lambda_returns

    def truncation_terminates(reward, discount, last, next_value, trace_decay):
        return whole(reward, torch.where(last, 0.0, discount), last, next_value, trace_decay)

    monkeypatch.setattr(rollout, "lambda_returns", truncation_terminates)
    assert value_of_a_life_without_end() < 4


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"gradient_steps": 4, "env_steps_per_update": 8, "batch_size": 8, "updates_per_epoch": 8},
            "gradient_steps: 4 updates from one rollout, .*"
            "set --data.gradient_steps 1 --data.env_steps_per_update 32 --data.batch_size 32",
        ),
        ({"sampler": Uniform(), "min_replay_size": BATCH}, "sampler: LitActorCritic learns .* --data.sampler Rollout"),
    ],
)
def test_what_another_policy_has_played_is_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_trainer().fit(LitActorCritic((1,), 2, network=MLP), datamodule=make_data(**changes))


def test_noise_that_a_rollout_was_not_played_with_is_refused():
    noisy = LitActorCritic((1,), 2, network=partial(MLP, noise=0.5))
    with pytest.raises(ConfigError, match="noisy layers, which learn with other noise"):
        make_trainer().fit(noisy, datamodule=make_data())
    with pytest.raises(ConfigError, match="noisy layers, which learn with other noise"):
        noisy.check_can_learn_from(make_data(**LATEST))


@pytest.mark.slow
def test_a_run_that_began_with_the_latest_steps_is_not_resumed_from_rollouts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    old = [f"--config={CONFIGS / 'cartpole_actor_critic.yaml'}", "--data.updates_per_epoch=2", "--data.eval_episodes=1"]
    assert run(monkeypatch, "fit", *old, "--stop.max_env_steps=512") == 0, capsys.readouterr().err
    further = ["--stop.max_env_steps=1024", "--ckpt_path=lightning_logs/cartpole_actor_critic/version_0"]
    assert run(monkeypatch, "fit", *old, *further) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert run(monkeypatch, "fit", *old, f"--config={CONFIGS / 'gae.yaml'}", *further) == 2
    assert "n_step" in capsys.readouterr().err


def evaluation_returns(tmp_path, monkeypatch, capsys, config) -> list[float]:
    """The last evaluation of a config with rollouts, for three seeds."""
    monkeypatch.chdir(tmp_path)
    configs = [f"--config={CONFIGS / file}" for file in (config, "gae.yaml")]
    returns = []
    for seed in (1, 2, 3):
        assert run(monkeypatch, "fit", *configs, f"--seed_everything={seed}") == 0
        said = capsys.readouterr().err
        returns.append(float(said.split("reached: evaluation return ")[1].split(" ")[0]))
    return returns


@pytest.mark.slow
def test_cartpole_is_learned_from_rollouts_on_three_seeds(tmp_path, monkeypatch, capsys):
    returns = evaluation_returns(tmp_path, monkeypatch, capsys, "cartpole_actor_critic.yaml")
    assert np.mean(returns) >= 475, returns


@pytest.mark.slow
def test_the_maze_is_solved_from_rollouts_on_two_of_three_seeds(tmp_path, monkeypatch, capsys):
    returns = evaluation_returns(tmp_path, monkeypatch, capsys, "maze_actor_critic.yaml")
    assert sum(value == -14 for value in returns) >= 2, returns
