import copy
from functools import partial

import numpy as np
import pytest
import torch

from helpers import CONFIGS, make_trainer, run
from lit_dqn import (
    MLP,
    ActorCritic,
    ConfigError,
    EpsilonGreedy,
    Latest,
    Linear,
    LitActorCritic,
    ReplayDataModule,
    Rollout,
    Softmax,
    Uniform,
    load_agent,
)
from lit_dqn.types import Batch

SMALL = partial(MLP, hidden_sizes=(32,))
BATCH = 32


def walk(**changes) -> ReplayDataModule:
    defaults = {
        "env_kwargs": {"observation": "one_hot"},
        "num_envs": 8,
        "capacity": BATCH,
        "min_replay_size": BATCH,
        "batch_size": BATCH,
        "env_steps_per_update": BATCH,
        "n_step": 3,
        "sampler": Latest(),
        "policy": Softmax(),
        "eval_episodes": 3,
        "eval_max_steps": 50,
        "seed": 0,
    }
    return ReplayDataModule("lit_dqn/RandomWalk-v0", **(defaults | changes))


def make_agent(**arguments) -> LitActorCritic:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.Adam, lr=1e-2, fused=True)
    return LitActorCritic((7,), 2, network=SMALL, optimizer=optimizer, **arguments)


def learn(agent: LitActorCritic, data: ReplayDataModule, updates: int) -> LitActorCritic:
    make_trainer(max_epochs=-1, max_steps=updates, limit_val_batches=0).fit(agent, datamodule=data)
    return agent


ROLLOUTS = {"sampler": Rollout(0.9), "n_step": 1, "min_replay_size": 0}


@pytest.mark.parametrize("store", [{}, ROLLOUTS], ids=["latest", "rollouts"])
def test_it_learns_to_walk_right_and_what_that_is_worth(store):
    data = walk(gamma=0.9, **store)
    agent = learn(make_agent(objective=ActorCritic(entropy_cost=0.001)), data, 300)
    observation = np.eye(7, dtype=np.float32)[1:6]
    probabilities = Softmax().probabilities(agent, observation, 0)
    assert (probabilities[2:, 1] > 0.9).all()
    np.testing.assert_allclose(agent.state_values(observation)[2:], 0.9 ** np.arange(2, -1, -1), atol=0.1)
    (result,) = make_trainer().validate(agent, datamodule=data, verbose=False)
    assert result["eval/mean_ep_length"] == 3
    assert agent.act(observation[2]) == 1


def test_each_transition_is_learned_from_once_or_hardly_twice():
    """The latest batch, and as many env steps between two updates: starts that repeat come from episode ends alone."""
    data, drawn = walk(n_step=1), []
    sample = Latest.sample

    class Watching(Latest):
        def sample(self, starts, batch_size, generator):
            drawn.append(sample(self, starts, batch_size, generator))
            return drawn[-1]

    data.sampler = Watching()
    learn(make_agent(), data, 20)
    numbers = np.concatenate(drawn)
    assert len(numbers) == 20 * BATCH
    np.testing.assert_array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers)))


def test_there_is_one_network_and_the_optimizer_holds_it_whole():
    agent = make_agent()
    held = {id(parameter) for group in agent.configure_optimizers().param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in agent.parameters()}
    assert not hasattr(agent, "target")


def test_actor_and_critic_share_all_layers_but_the_last():
    agent = learn(make_agent(), walk(), 1)
    before = copy.deepcopy(agent.online.state_dict())
    batch = Batch(torch.eye(7), torch.zeros(7, dtype=torch.int64), torch.ones(7), torch.zeros(7), torch.eye(7))
    agent.online.zero_grad()
    agent.objective(agent.online, batch, 1.0).loss.mean().backward()
    assert all(parameter.grad is not None for parameter in agent.online.parameters())
    assert before["3.weight"].shape == (3, 32)
    outputs = agent.online(torch.eye(7)).detach().numpy()
    np.testing.assert_array_equal(agent.preferences(np.eye(7, dtype=np.float32)), outputs[:, :2])
    np.testing.assert_array_equal(agent.state_values(np.eye(7, dtype=np.float32)), outputs[:, 2])


def test_the_loss_knows_the_temperature_of_the_policy_that_plays(monkeypatch):
    temperatures = []
    objective = ActorCritic()

    class Watching(ActorCritic):
        def __call__(self, network, batch, temperature):
            temperatures.append(float(temperature))
            return objective(network, batch, temperature)

    agent = make_agent()
    agent.objective = Watching()
    learn(agent, walk(policy=Softmax(Linear(2.0, 1.0, env_steps=10 * BATCH)), n_step=1), 12)
    # The warm-up is one batch, so that the first update comes after two.
    assert temperatures == pytest.approx([2 - 0.1 * min(update + 1, 10) for update in range(1, 13)])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"policy": EpsilonGreedy()}, "policy: LitActorCritic learns from its own policy, which EpsilonGreedy is not"),
        ({"sampler": Uniform()}, "sampler: LitActorCritic learns from what its policy has just played"),
        ({"play_ahead": True}, "play_ahead: true would let LitActorCritic learn"),
        ({"env_steps_per_update": 8}, "batch_size: 32 transitions from 8 env steps"),
    ],
)
def test_other_data_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_trainer().fit(make_agent(), datamodule=walk(**changes))


def test_the_command_line_refuses_them_before_it_makes_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = f"--config={CONFIGS / 'cartpole_actor_critic.yaml'}"
    assert run(monkeypatch, "fit", config, "--data.policy=Greedy") == 2
    assert "error: policy: LitActorCritic learns from its own policy" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_gives_the_agent_back(tmp_path):
    agent = learn(make_agent(objective=ActorCritic(entropy_cost=0.3)), walk(), 3)
    agent.trainer.save_checkpoint(tmp_path / "agent.ckpt", weights_only=False)
    loaded = load_agent(tmp_path / "agent.ckpt")
    assert type(loaded) is LitActorCritic
    assert loaded.objective == agent.objective
    observation = np.eye(7, dtype=np.float32)
    np.testing.assert_array_equal(loaded.preferences(observation), agent.preferences(observation))


@pytest.mark.slow
def test_cartpole_is_learned_on_three_seeds(tmp_path, monkeypatch, capsys):
    returns = evaluation_returns(tmp_path, monkeypatch, capsys, "cartpole_actor_critic.yaml")
    assert np.mean(returns) >= 475, returns


@pytest.mark.slow
def test_the_maze_is_solved_in_14_steps_on_two_of_three_seeds(tmp_path, monkeypatch, capsys):
    returns = evaluation_returns(tmp_path, monkeypatch, capsys, "maze_actor_critic.yaml")
    assert sum(value == -14 for value in returns) >= 2, returns


def evaluation_returns(tmp_path, monkeypatch, capsys, config) -> list[float]:
    """The last evaluation of a config, for three seeds."""
    monkeypatch.chdir(tmp_path)
    returns = []
    for seed in (1, 2, 3):
        assert run(monkeypatch, "fit", f"--config={CONFIGS / config}", f"--seed_everything={seed}") == 0
        said = capsys.readouterr().err
        returns.append(float(said.split("reached: evaluation return ")[1].split(" ")[0]))
    return returns
