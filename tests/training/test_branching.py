"""Runs where each choice of each part of an action has a value: what is learned, what goes with it, and resuming."""

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from dials import CLIMBING_ENV, DIALS_ENV
from helpers import fit, make_data, make_trainer, read_checkpoint, same
from lit_dqn import (
    MLP,
    CategoricalHead,
    CategoricalQLearning,
    CheckpointPolicy,
    ConfigError,
    DoubleQLearning,
    EpsilonGreedy,
    Greedy,
    LitActorCritic,
    LitDQN,
    LitTD,
    MunchausenQLearning,
    Play,
    Prioritized,
    QLearning,
    QuantileHead,
    RecurrentNetwork,
    Rollout,
    Sequences,
    Softmax,
    UniformRandom,
    load_agent,
)
from lit_dqn.branches import Branches
from lit_dqn.callbacks import StoppingRules
from lit_dqn.playing.policies import Policy
from lit_dqn.types import Batch
from stand_in import ThreadPlace

HUGE = {"dials": 20, "choices": 4}  # 2^40 combinations


def dials_data(**changes):
    defaults = {"env_id": DIALS_ENV, "num_envs": 2, "env_steps_per_update": 2, "gamma": 0.5}
    return make_data(**(defaults | changes))


def agent_for(data, **changes) -> LitDQN:
    torch.manual_seed(0)
    return LitDQN(data.observation_shape, data.num_actions, **({"network": partial(MLP, hidden_sizes=(8,))} | changes))


def learned_return(data, epochs, **of_agent):
    agent, trainer = agent_for(data, **of_agent), make_trainer(max_epochs=epochs)
    trainer.fit(agent, datamodule=data)
    (metrics,) = trainer.validate(agent, datamodule=data, verbose=False)
    return metrics["eval/mean_reward"]


MANY_UPDATES = {
    "num_envs": 8,
    "env_steps_per_update": 4,
    "gradient_steps": 8,
    "batch_size": 64,
    "updates_per_epoch": 400,
    "min_replay_size": 64,
    "capacity": 5000,
    "eval_episodes": 20,
    "eval_envs": 5,
}


@pytest.mark.parametrize(
    ("gamma", "objective", "best"),
    [
        (0.5, DoubleQLearning(), 5.0),
        pytest.param(0.5, QLearning(huber_delta=1.0), 5.0, marks=pytest.mark.slow),
        pytest.param(0.0, DoubleQLearning(), None, marks=pytest.mark.slow),  # what pays later is not seen
    ],
)
def test_the_right_setting_of_eight_dials_is_learned(gamma, objective, best):
    """65,536 combinations, of which one is right: at random the return is 1.25, and 5 is the most."""
    data = dials_data(policy=UniformRandom(), **(MANY_UPDATES | {"gamma": gamma}))
    assert data.num_actions == (4,) * 8
    network = partial(MLP, hidden_sizes=())
    of_agent = {"network": network, "objective": objective, "learning_rate": 3e-2, "target_update_period": 50}
    reached = learned_return(data, 2, **of_agent)
    assert reached == 5.0 if best else reached < 3


@pytest.mark.parametrize(("combine", "best"), [(None, 11.0), (False, 5.0)])
def test_what_two_parts_are_worth_together_needs_a_value_for_the_combination(combine, best):
    """Of the climbing game's table, branches learn the nearest sum of a row's and a column's value."""
    data = dials_data(
        env_id=CLIMBING_ENV, combine_actions=combine, policy=UniformRandom(), **(MANY_UPDATES | {"gradient_steps": 40})
    )
    assert learned_return(data, 1, learning_rate=1e-2) == best


def with_outputs(choices, rows):
    """An agent whose outputs for the i-th observation are the i-th row."""
    agent = LitDQN((len(rows),), tuple(choices), network=partial(MLP, hidden_sizes=()))
    (layer,) = (module for module in agent.online.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(rows, dtype=torch.float32).T)
        layer.bias.zero_()
    return agent


def test_the_greedy_action_and_the_state_value_are_the_best_of_all_combinations():
    choices = [3, 2, 4]
    rows = np.random.default_rng(0).standard_normal((6, 9)).round(3)
    agent, states = with_outputs(choices, rows), np.eye(6, dtype=np.float32)
    generators = [np.random.default_rng(env) for env in range(6)]
    actions = Greedy().act(agent, states, 0, generators)
    combinations = list(product(*map(range, choices)))  # the last part fastest
    for state, row in enumerate(rows):
        values = [np.mean([row[first], row[3 + second], row[5 + third]]) for first, second, third in combinations]
        assert actions[state] == np.argmax(values)
        assert agent.state_values(states)[state] == pytest.approx(max(values), abs=1e-6)
        assert agent.act(states[state]) == np.argmax(values)
    assert not any(generator.bit_generator.state["has_uint32"] for generator in generators)


def test_ties_of_each_part_are_broken_at_random():
    agent = with_outputs([2, 3], [[1, 1, 4, 0, 4]])
    draws = [np.random.default_rng(0)]
    actions = np.array([Greedy().act(agent, np.ones((1, 1), np.float32), 0, draws)[0] for _ in range(200)])
    numbers, counts = np.unique(actions, return_counts=True)
    assert numbers.tolist() == [0, 2, 3, 5]
    assert counts.min() > 30


def test_exploration_draws_among_all_combinations():
    agent = with_outputs([2, 3], [[1, 0, 4, 0, 0]])
    draws = [np.random.default_rng(0)]
    policy, state = EpsilonGreedy(0.6), np.ones((1, 1), np.float32)
    actions = np.array([policy.act(agent, state, 0, draws)[0] for _ in range(600)])
    counts = np.bincount(actions, minlength=6)
    assert 260 < counts[0] < 340  # 0.4 + 0.1 of 600
    assert counts[1:].min() > 35
    assert len(counts) == 6


def test_there_is_no_value_for_each_action_to_be_mistaken_for_one():
    agent = with_outputs([2, 3], [[1, 0, 4, 0, 0]])
    state = np.ones((1, 1), np.float32)
    for method in (agent.q_values, agent.preferences):
        with pytest.raises(ConfigError, match="a value for each choice of each part of an action here"):
            method(state)
    assert agent.choice_values(state).tolist() == [[1, 0, 4, 0, 0]]
    assert (agent.num_actions, agent.branches.choices) == (6, (2, 3))


RUNS = {
    "prioritised, dueling, n steps": (
        {"sampler": Prioritized(), "n_step": 3},
        {"network": partial(MLP, hidden_sizes=(8,), dueling=True), "objective": DoubleQLearning()},
    ),
    "ahead, shards, noise": (
        {"play_ahead": True, "shards": 2, "gradient_steps": 2},
        {"network": partial(MLP, hidden_sizes=(8,), noise=0.5)},
    ),
    "memory": (
        {"sampler": Sequences(length=6, burn_in=3, overlap=3), "batch_size": 4},
        {"network": partial(RecurrentNetwork, lstm_size=8)},
    ),
    "rollout": (
        {"sampler": Rollout(), "min_replay_size": 0, "batch_size": 4, "capacity": 16, "gradient_steps": 8},
        {"target_update_period": None},
    ),
    "huge": ({"env_kwargs": HUGE}, {"objective": QLearning(conservative=0.1)}),
    "processes, means of quantiles": (
        {"env_processes": True, "env_id": f"dials:{DIALS_ENV}"},
        {"network": partial(MLP, hidden_sizes=(8,), head=QuantileHead)},
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_with_branches_learn_and_evaluate(name):
    of_data, of_agent = RUNS[name]
    data = dials_data(**({"updates_per_epoch": 16} | of_data))
    agent = agent_for(data, **of_agent)
    before = {key: weight.clone() for key, weight in agent.online.state_dict().items()}
    trainer = make_trainer(max_epochs=1)
    trainer.fit(agent, datamodule=data)
    learned = [key for key, weight in agent.online.state_dict().items() if not torch.equal(weight, before[key])]
    assert len(learned) >= len(before) - 4
    assert all(torch.isfinite(weight).all() for weight in agent.state_dict().values())
    assert trainer.callback_metrics["eval/episodes"] == 2


def test_the_place_where_envs_are_played_changes_nothing():
    weights = []
    for place in (None, ThreadPlace(2, 1, lambda actor, chunk: (actor, chunk) == (1, 3))):
        data = dials_data(num_envs=2, place=place)
        agent = agent_for(data)
        make_trainer(max_epochs=1).fit(agent, datamodule=data)
        weights.append(agent.online.state_dict())
    assert data.collector.players.deaths == 1
    assert same(*weights)


def test_dueling_branches_have_one_value_of_the_state():
    """With equally many choices of each part, Q = V + mean over the parts of A_i - its own mean (Tavakoli et al. 2018,
    eq. 1, averaged over the branches).
    """
    agent = LitDQN((3,), (4, 4), network=partial(MLP, hidden_sizes=(8,), dueling=True))
    dueling = agent.online.head.outputs
    features = torch.randn(5, dueling.value[0].in_features)
    values = dueling(features).squeeze(2).unflatten(1, (2, 4))
    advantages = dueling.advantage(features).squeeze(2).unflatten(1, (2, 4))
    own = advantages - advantages.mean(dim=2, keepdim=True)
    state = dueling.value(features)
    for first, second in product(range(4), range(4)):
        q = (values[:, 0, first] + values[:, 1, second]) / 2
        torch.testing.assert_close(q, state.squeeze(1) + (own[:, 0, first] + own[:, 1, second]) / 2)


@pytest.mark.parametrize("env_kwargs", [{}, HUGE], ids=["few", "huge"])
def test_a_run_that_is_resumed_is_the_run_that_was_not(tmp_path, env_kwargs):
    def fitted(folder, env_steps, resume=None):
        data = dials_data(env_kwargs=env_kwargs, num_envs=4, env_steps_per_update=4, sampler=Prioritized())
        agent = agent_for(data, objective=DoubleQLearning())
        fit(tmp_path / folder, StoppingRules(max_env_steps=env_steps), agent=agent, data=data, resume=resume)
        arrays = data.store.buffer.arrays
        return agent.online.state_dict(), arrays["action"].copy(), arrays["reward"].copy()

    fitted("parts", 130)
    checkpoint = next(tmp_path.rglob("*.ckpt"))
    settings = read_checkpoint(checkpoint)["hyper_parameters"]
    assert settings["num_actions"] == [4] * env_kwargs.get("dials", 8)
    resumed, actions, rewards = fitted("resumed", 230, checkpoint)
    whole, all_actions, all_rewards = fitted("whole", 230)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert np.array_equal(actions, all_actions)
    assert np.array_equal(rewards, all_rewards)
    if env_kwargs:
        assert actions.max() > 2**32
    loaded = load_agent(checkpoint)
    assert loaded.branches.choices == (4,) * env_kwargs.get("dials", 8)


def test_agents_with_branches_play_for_others(tmp_path):
    data = dials_data()
    fit(tmp_path, StoppingRules(max_env_steps=80), agent=agent_for(data), data=data)
    checkpoint = str(next(tmp_path.rglob("*.ckpt")))
    shown = dials_data(prefill=[Play(100, checkpoint, Greedy())], eval_policy=CheckpointPolicy(checkpoint))
    agent = agent_for(shown)
    make_trainer(max_steps=1).fit(agent, datamodule=shown)
    assert shown.prefilled == 100
    td = LitTD(shown.observation_shape, shown.num_actions, network=partial(MLP, hidden_sizes=(8,)))
    assert td.num_actions == 4**8
    with pytest.raises(ConfigError, match=r"policy: CheckpointPolicy cannot play .*: LitDQN has a value for each"):
        dials_data(policy=CheckpointPolicy(checkpoint, Softmax()))


def test_a_target_of_branches_moves_nothing_but_the_choices_that_were_made():
    data = dials_data()
    agent = agent_for(data, network=partial(MLP, hidden_sizes=()))
    observation = torch.zeros(1, 33)
    batch = Batch(observation, torch.tensor([1]), torch.ones(1), torch.zeros(1), observation)
    agent.batch_loss(batch).loss.sum().backward()
    (bias,) = (p.grad for name, p in agent.online.named_parameters() if "bias" in name)
    moved = [4 * part for part in range(7)] + [29]  # action 1: the last dial is at 1
    assert bias.nonzero().flatten().tolist() == moved


class Loudest(Policy):
    """A policy of a user, which compares all actions."""

    def act(self, agent, observation, env_step, generators):
        return agent.preferences(observation).argmax(axis=1)


@pytest.mark.parametrize(
    ("of_data", "of_agent", "sentence"),
    [
        ({}, {"objective": MunchausenQLearning()}, "objective: MunchausenQLearning needs outputs for each action.*set"),
        (
            {},
            {"objective": CategoricalQLearning(), "network": partial(MLP, head=CategoricalHead)},
            "objective: CategoricalQLearning needs outputs for each action, and here are 8 actions at once",
        ),
        ({"policy": Softmax()}, {}, "policy: Softmax compares all actions.*set --data.policy EpsilonGreedy"),
        ({"policy": Loudest()}, {}, "policy: Loudest compares all actions"),
        ({"eval_policy": Softmax()}, {}, "eval_policy: Softmax compares all.*set --data.eval_policy Greedy"),
    ],
)
def test_what_needs_a_value_for_each_action_is_refused(of_data, of_agent, sentence):
    data = dials_data(**of_data)
    with pytest.raises(ConfigError, match=sentence):
        agent_for(data, **of_agent).check_can_learn_from(data)


def test_an_actor_critic_is_refused():
    with pytest.raises(ConfigError, match=r"num_actions: LitActorCritic has .* 16 .* set --data.combine_actions null"):
        LitActorCritic((3,), (4, 4), network=MLP)
    with pytest.raises(ConfigError, match=r"num_actions: .* each of 65,536 .* 1,024 are the most; learn with a LitDQN"):
        LitActorCritic((3,), (4,) * 8, network=MLP)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"combine_actions": True}, r"combine_actions: true, but .* has 65,536 combinations .* 1,024 are the most"),
        ({"env_id": "CartPole-v1", "combine_actions": False}, "combine_actions: false, but CartPole-v1 takes one act"),
        ({"action_mask": True}, "action_mask: true forbids combinations .* set --data.action_mask false"),
        (
            {"action_mask": True, "combine_actions": False, "env_id": CLIMBING_ENV},
            "action_mask: true forbids combinations .* set --data.combine_actions null",
        ),
    ],
)
def test_settings_that_do_not_go_with_the_actions_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        dials_data(**settings)


def test_few_combinations_are_actions_unless_a_setting_says_otherwise():
    assert dials_data(env_id=CLIMBING_ENV).num_actions == 9
    assert dials_data(env_id=CLIMBING_ENV, combine_actions=True).num_actions == 9
    assert dials_data(env_id=CLIMBING_ENV, combine_actions=False).num_actions == (3, 3)
    assert dials_data().num_actions == (4,) * 8
    assert Branches(dials_data().num_actions).num_actions == dials_data().num_combinations == 4**8


@pytest.mark.slow
def test_onnx_gives_the_values_of_the_choices(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    data = dials_data()
    agent = agent_for(data, network=partial(MLP, hidden_sizes=(8,), dueling=True))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(agent, datamodule=data)
    from lit_dqn.commands.export import export_agent

    seen = torch.from_numpy(data.store.buffer.arrays["observation"][0, :16].copy())
    export_agent(agent.online, seen, {}, Path(tmp_path), output_name=agent.output_name)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["choice_values"], {"observation": seen.numpy()})
    np.testing.assert_allclose(found, agent.choice_values(seen.numpy()), atol=1e-5)
    assert found.shape == (16, 32)
