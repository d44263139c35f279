"""Known answers: a test that passes without learning is a lie."""

import re
from functools import partial

import numpy as np
import pytest
import torch

from helpers import CONFIGS, fit, make_agent, make_data, make_trainer, run
from lit_dqn import MLP, DoubleQLearning, EpsilonGreedy, LitDQN, QLearning, ReplayDataModule
from lit_dqn.callbacks import StoppingRules
from lit_dqn.learning.objectives import Objective
from lit_dqn.types import Batch


def learn(world: str, updates: int, objective: Objective, **data_settings: object) -> tuple[LitDQN, ReplayDataModule]:
    torch.manual_seed(0)
    data = ReplayDataModule(world, **({"seed": 0, "eval_episodes": 1, "eval_max_steps": 100} | data_settings))
    agent = LitDQN(
        data.observation_shape,
        data.num_actions,
        network=partial(MLP, hidden_sizes=(64,)),
        objective=objective,
        optimizer=partial(torch.optim.Adam, lr=3e-3, fused=True),
        target_update_period=50,
    )
    make_trainer(max_epochs=-1, max_steps=updates, limit_val_batches=0).fit(agent, datamodule=data)
    return agent, data


@pytest.mark.parametrize(
    ("objective", "n_step"),
    [
        (QLearning(), 1),
        (DoubleQLearning(), 3),
        pytest.param(QLearning(), 3, marks=pytest.mark.slow),
        pytest.param(DoubleQLearning(), 1, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_q_values_of_the_random_walk_are_those_of_bellmans_equation(objective, n_step):
    """From state i the best is to walk right: q*(i, right) = γ^(5 - i), q*(i, left) = γ q*(i - 1, right)."""
    agent, _ = learn(
        "lit_dqn/RandomWalk-v0",
        1500,
        objective,
        env_kwargs={"observation": "one_hot"},
        gamma=0.9,
        n_step=n_step,
        # n-step returns are those of the policy that acts: only a greedy one has the values of q*.
        policy=EpsilonGreedy(1.0 if n_step == 1 else 0.05),
        capacity=2000 if n_step == 1 else 500,
        min_replay_size=100,
    )
    q_values = agent.q_values(np.eye(7, dtype=np.float32)[1:6])
    right = 0.9 ** np.arange(4, -1, -1)
    left = 0.9 * np.concatenate([[0], right[:-1]])
    start = 2  # the episodes begin here; to the left of it a greedy agent is seldom seen
    np.testing.assert_allclose(q_values[start:, 1], right[start:], atol=0.05)
    if n_step == 1:
        np.testing.assert_allclose(q_values, np.stack([left, right], axis=1), atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [QLearning(), DoubleQLearning()], ids=lambda objective: type(objective).__name__)
def test_the_greedy_path_through_the_maze_is_as_short_as_can_be(objective):
    agent, data = learn(
        "lit_dqn/Maze-v0",
        4000,
        objective,
        env_kwargs={"observation": "one_hot", "rewards": "reward_1"},
        policy=EpsilonGreedy(0.3),
        capacity=20_000,
    )
    result = make_trainer().validate(agent, datamodule=data, verbose=False)[0]
    assert result["eval/mean_ep_length"] == 14
    assert result["eval/mean_reward"] == -14


def test_a_truncated_episode_bootstraps():
    agent, _ = learn(
        "lit_dqn/RandomWalk-v0",
        1500,
        QLearning(),
        env_kwargs={"observation": "one_hot", "rewards": [-1, -1, -1, -1], "max_episode_steps": 1, "size": [1, 9]},
        gamma=0.5,
        policy=EpsilonGreedy(1.0),
        capacity=500,
        min_replay_size=100,
    )
    # Each episode is one step, truncated: s' is never acted in, so Q(s') is what the network says of an unseen state,
    # and a bootstrap moves Q(s) away from the -1 of the reward alone.
    start, beside = np.eye(9, dtype=np.float32)[[4, 5]]
    expected = -1 + 0.5 * agent.q_values(beside[None]).max()
    assert agent.q_values(start[None])[0, 1] == pytest.approx(expected, abs=0.05)
    assert abs(expected + 1) > 0.1


def test_double_q_learning_does_not_overestimate_where_q_learning_does():
    """All actions are worth 0 and both networks err independently: max_a has a positive bias (van Hasselt 2016)."""
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(2, 4000, 10, generator=generator)

    class Table(torch.nn.Module):
        def __init__(self, table: torch.Tensor) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(table)

        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return self.table[observation[:, 0].long()]

    online, target = (
        Table(torch.cat([errors[0], torch.zeros(1, 10)])),
        Table(torch.cat([errors[1], torch.zeros(1, 10)])),
    )
    states = torch.arange(4000.0)[:, None]
    blank = torch.full((4000, 1), 4000.0)  # Q(s, ·) = 0, so that δ is the target itself
    batch = Batch(blank, torch.zeros(4000, dtype=torch.int64), torch.zeros(4000), torch.ones(4000), states)
    mean_target = {}
    for objective in (QLearning(), DoubleQLearning()):
        # dL/dQ(s, a) = -δ, and all transitions share one row.
        online.zero_grad()
        objective(online, target, batch).loss.mean().backward()
        mean_target[type(objective)] = -online.table.grad[4000, 0].item()
    assert mean_target[QLearning] > 1.3
    assert abs(mean_target[DoubleQLearning]) < 0.1


def test_cartpole_gets_better_within_a_minute(tmp_path):
    data = make_data(
        num_envs=4,
        gradient_steps=8,
        env_steps_per_update=2,
        capacity=20_000,
        min_replay_size=500,
        batch_size=64,
        updates_per_epoch=400,
        policy=EpsilonGreedy(0.1),
        eval_episodes=5,
        eval_max_steps=200,
    )
    trainer, _ = fit(tmp_path, StoppingRules(max_env_steps=8000), agent=make_agent(target_update_period=50), data=data)
    assert trainer.callback_metrics["eval/mean_reward"] > 100  # a random policy stands at 22


@pytest.mark.slow
@pytest.mark.parametrize("overlay", [[], ["double.yaml"]], ids=["dqn", "double"])
def test_the_maze_is_learned_from_pixels_on_two_of_three_seeds(tmp_path, monkeypatch, capsys, overlay):
    monkeypatch.chdir(tmp_path)
    solved = []
    for seed in (1, 2, 3):
        configs = [f"--config={CONFIGS / name}" for name in ["maze_fast.yaml", *overlay]]
        assert run(monkeypatch, "fit", *configs, f"--seed_everything={seed}") == 0
        solved.append("evaluation return -14.00" in capsys.readouterr().err)
    assert sum(solved) >= 2, solved


@pytest.mark.slow
@pytest.mark.parametrize(("config", "goal"), [("cartpole_layer_norm.yaml", 475), ("acrobot.yaml", -100)])
def test_classic_control_reaches_its_goal_on_two_of_three_seeds(tmp_path, monkeypatch, capsys, config, goal):
    monkeypatch.chdir(tmp_path)
    best = []
    for seed in (1, 2, 3):
        assert run(monkeypatch, "fit", f"--config={CONFIGS / config}", f"--seed_everything={seed}") == 0
        returns = re.findall(r"evaluation: return (-?[\d.]+)", capsys.readouterr().out)
        best.append(max(map(float, returns)))
    assert sum(value >= goal for value in best) >= 2, best
