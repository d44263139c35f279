from functools import partial

import numpy as np
import pytest
import torch

from helpers import CONFIGS, make_trainer, run
from lit_dqn import (
    MLP,
    CheckpointPolicy,
    ConfigError,
    EpsilonGreedy,
    Greedy,
    LitDQN,
    LitTD,
    ReplayDataModule,
    Uniform,
    UniformRandom,
    load_agent,
)

LINEAR = partial(MLP, hidden_sizes=())
WALK = {"observation": "one_hot"}


def walk(**changes) -> ReplayDataModule:
    defaults = {
        "env_kwargs": WALK,
        "num_envs": 4,
        "gradient_steps": 4,
        "env_steps_per_update": 4,
        "capacity": 3000,
        "batch_size": 128,
        "gamma": 1.0,
        "sampler": Uniform(replacement=True),
        "policy": UniformRandom(),
        "eval_policy": UniformRandom(),
        "eval_episodes": 2,
        "seed": 0,
    }
    return ReplayDataModule("lit_dqn/RandomWalk-v0", **(defaults | changes))


def evaluate_policy(data: ReplayDataModule, updates: int, network=LINEAR, lr: float = 3e-3, **arguments) -> LitTD:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.Adam, lr=lr, fused=True)
    agent = LitTD(data.observation_shape, data.num_actions, network=network, optimizer=optimizer, **arguments)
    make_trainer(max_epochs=-1, max_steps=updates, limit_val_batches=0).fit(agent, datamodule=data)
    return agent


@pytest.mark.parametrize("n_step", [1, 3])
def test_v_of_the_random_walk_is_i_over_6(n_step):
    data = walk(n_step=n_step)
    agent = evaluate_policy(data, 800, lr=5e-3)
    values = agent.state_values(np.eye(7, dtype=np.float32)[1:6])
    assert np.sqrt(np.mean((values - np.arange(1, 6) / 6) ** 2)) < 0.05
    (result,) = make_trainer().validate(agent, datamodule=data, verbose=False)
    assert result["eval/value_rms_error"] == pytest.approx(np.sqrt(np.mean((values - np.arange(1, 6) / 6) ** 2)))


def test_only_the_online_network_learns_and_the_target_follows_at_its_period():
    agent = evaluate_policy(walk(), 12, target_update_period=8)
    behind = evaluate_policy(walk(), 8, target_update_period=8)
    for online, target, earlier in zip(
        agent.online.parameters(), agent.target.parameters(), behind.online.parameters(), strict=True
    ):
        assert torch.equal(target, earlier)
        assert not torch.equal(online, target)


def test_the_best_v_is_the_one_with_the_smallest_error():
    agent = LitTD((7,), 2, network=LINEAR)
    returns = {"eval/mean_reward": torch.tensor(9.0)}
    assert agent.grade(returns) == float("-inf")
    grades = [agent.grade(returns | {"eval/value_rms_error": torch.tensor(error)}) for error in (0.3, 0.1)]
    assert grades[0] < grades[1]
    grades = [agent.grade(returns | {"eval/return_rms_error": torch.tensor(error)}) for error in (3.0, 1.0)]
    assert grades[0] < grades[1]


def test_v_of_a_checkpoints_policy_is_that_policys(tmp_path):
    """A checkpoint that always goes right: from everywhere the return is γ to the number of steps in between."""
    player = LitDQN((7,), 2, network=LINEAR)
    with torch.no_grad():
        for parameter in player.online.parameters():
            parameter.zero_()
        player.online[1].bias[1] = 1.0
    trainer = make_trainer(limit_train_batches=0, limit_val_batches=0)
    data = ReplayDataModule("lit_dqn/RandomWalk-v0", WALK, min_replay_size=50, eval_episodes=1)
    trainer.fit(player, datamodule=data)
    trainer.save_checkpoint(tmp_path / "player.ckpt", weights_only=False)

    policy = CheckpointPolicy(str(tmp_path / "player.ckpt"), EpsilonGreedy(0.2))
    other = walk(policy=policy, warm_up_policy=policy, eval_policy=policy, gamma=0.9, capacity=5000)
    agent = evaluate_policy(other, 800, lr=5e-3)
    (result,) = make_trainer().validate(agent, datamodule=other, verbose=False)
    assert result["eval/value_rms_error"] < 0.05
    # It is on-policy from the first step, which is still there; after a uniformly random warm-up as many would go left.
    assert other.collector.store.buffer.starts[0] == 0
    assert other.collector.store.buffer.sample(np.arange(200)).action.float().mean() > 0.8
    probabilities = policy.probabilities(agent, np.eye(7, dtype=np.float32), 0)
    np.testing.assert_allclose(probabilities, np.tile([0.1, 0.9], (7, 1)))


def test_a_policy_that_asks_for_preferences_is_refused():
    agent = LitTD((7,), 2, network=LINEAR)
    for key in ("policy", "warm_up_policy", "eval_policy"):
        with pytest.raises(ConfigError, match=f"{key}: Greedy chooses what the agent prefers"):
            make_trainer().fit(agent, datamodule=walk(**{key: Greedy()}))
    with pytest.raises(ConfigError, match="prefer no action"):
        agent.act(np.zeros(7))


def test_the_network_has_one_output():
    with pytest.raises(ConfigError, match=r"not to \(2, 1\): V\(s\) alone"):
        LitTD((7,), 2, network=lambda shape, outputs: torch.nn.Linear(7, 2))


def test_a_checkpoint_says_which_agent_it_holds(tmp_path):
    data = walk()
    agent = evaluate_policy(data, 4)
    agent.trainer.save_checkpoint(tmp_path / "td.ckpt", weights_only=False)
    for loaded in (load_agent(tmp_path / "td.ckpt"), LitTD.load_from_checkpoint(tmp_path / "td.ckpt")):
        assert type(loaded) is LitTD
        observation = np.eye(7, dtype=np.float32)
        np.testing.assert_array_equal(loaded.state_values(observation), agent.state_values(observation))
        assert (loaded.target_update_period, loaded.env_step) == (1, agent.env_step)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("configs", "measure", "goal"),
    [
        (["random_walk_td.yaml"], "value_rms_error", 0.05),
        (["random_walk_td.yaml", "random_walk_image.yaml"], "value_rms_error", 0.05),
        (["random_walk_td.yaml", "random_walk_19.yaml"], "value_rms_error", 0.1),
        (["maze_td.yaml"], "value_relative_error", 0.05),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_the_configs_come_close_to_the_truth_on_three_seeds(tmp_path, monkeypatch, capsys, configs, measure, goal):
    monkeypatch.chdir(tmp_path)
    files = [f"--config={CONFIGS / name}" for name in configs]
    for seed in (1, 2, 3):
        arguments = [*files, f"--seed_everything={seed}"]
        assert run(monkeypatch, "fit", *arguments) == 0
        capsys.readouterr()
        assert run(monkeypatch, "validate", *arguments, "--ckpt_path=last") == 0
        table = capsys.readouterr().out
        (line,) = [line for line in table.splitlines() if measure in line]
        assert float(line.replace("│", " ").split()[-1]) < goal, (seed, line)


def test_the_agent_of_a_checkpoint_must_see_what_this_env_shows(tmp_path):
    agent, trainer = LitTD((7,), 2, network=LINEAR), make_trainer(limit_train_batches=0, limit_val_batches=0)
    trainer.fit(agent, datamodule=walk())
    trainer.save_checkpoint(tmp_path / "walker.ckpt", weights_only=False)
    policy = CheckpointPolicy(str(tmp_path / "walker.ckpt"))
    sentence = (
        r"warm_up_policy: CheckpointPolicy cannot play CartPole-v1: the agent of .* sees \(7,\) and has 2 actions, not"
    )
    with pytest.raises(ConfigError, match=sentence):
        ReplayDataModule("CartPole-v1", warm_up_policy=policy)


def test_a_test_holds_v_against_other_episodes_than_those_that_chose_the_best(monkeypatch):
    seeds = []
    monkeypatch.setattr("lit_dqn.training.td.value_errors", lambda *args, **kwargs: seeds.append(kwargs["seeds"]) or {})
    data, agent = walk(), LitTD((7,), 2, network=LINEAR)
    make_trainer().validate(agent, datamodule=data, verbose=False)
    make_trainer().test(agent, datamodule=data, verbose=False)
    assert seeds == [data.evaluation_seeds, data.test_seeds]
    assert not set(seeds[0]) & set(seeds[1])
