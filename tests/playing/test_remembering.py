"""Acting with a memory: it goes on with each step of an episode, and begins anew with the next."""

from functools import partial

import numpy as np
import pytest
import torch

from audit import AUDIT_ENV, NobodyAsks, Remembering, audit_collector
from lit_dqn import ConfigError, EpsilonGreedy, Greedy, LitDQN, RecurrentNetwork, Sequences, UniformRandom
from lit_dqn.envs import make_vec
from lit_dqn.envs.t_maze import T_MAZE_ID
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.episodes import RunningEpisode
from lit_dqn.playing.evaluation import play_episodes
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.playing.seeds import exploration_generator_of_episode
from lit_dqn.playing.stage import Stage
from lit_dqn.playing.trajectories import play_trajectories
from lit_dqn.replay import ReplayBuffer, SequenceStore

SEQUENCES = Sequences(length=4, burn_in=2, overlap=2)


def make_agent() -> LitDQN:
    torch.manual_seed(0)
    return LitDQN((3,), 4, network=partial(RecurrentNetwork, lstm_size=6))


@pytest.mark.parametrize("policy", [UniformRandom(), EpsilonGreedy(0.5), Greedy()], ids=lambda one: type(one).__name__)
def test_memory_goes_on_at_each_step_whatever_the_policy_asks(policy):
    stage = Stage(make_vec(AUDIT_ENV, 3), 1, 7, memory_size=3)
    for index, env in enumerate(stage.envs.envs):
        env.unwrapped.index = index
    generators = [exploration_generator_of_episode(env) for env in range(3)]
    stage.begin(np.ones(3, bool))
    ended = 0
    for _ in range(60):
        for env, (remembered, length) in enumerate(zip(stage.memory.tolist(), stage.length.tolist(), strict=True)):
            assert remembered == ([env + 1, stage.envs.envs[env].unwrapped.episode + 1, length] if length else [0] * 3)
        before = stage.memory
        timestep, finished = stage.step(stage.act(policy, Remembering(), 0, generators))
        assert timestep.memory is before
        if finished:
            ended += len(finished)
            stage.begin(timestep.last)
    assert ended > 5


def test_what_the_replay_keeps_is_what_the_network_had_when_it_acted():
    """By weights that stay as they are, each memory is what the network comes to from the start of the episode."""
    agent, collector = make_agent(), audit_collector(3, 90, sequences=SEQUENCES)
    player = collector.players
    player.stage = Stage(player.envs, 1, 7, memory_size=agent.memory_size)
    kept = {}

    def record(timestep, finished):
        for env, (env_number, episode, t) in enumerate(timestep.observation.astype(int).tolist()):
            kept[env_number, episode, t] = timestep.memory[env].copy()

    collector.record = record
    player.play(agent, EpsilonGreedy(0.5), 40, 0, collector)
    network = agent.online.eval()
    for (env, episode, t), memory in kept.items():
        state = torch.zeros(1, agent.memory_size)
        for step in range(t):
            _, state = network.remember(torch.tensor([[env, episode, step]], dtype=torch.float32), state)
        np.testing.assert_allclose(memory, state.detach().numpy()[0], atol=1e-5)
    assert max(t for *_, t in kept) > 5


class Counting(NobodyAsks):
    """Remembers how many steps there were."""

    memory_size = 1

    def remember(self, observation, memory):
        return np.zeros((len(observation), 4), np.float32), memory + 1


def maze_collector() -> Collector:
    buffer = ReplayBuffer(90, 3, (4,), np.float32, gamma=0.9, memory_size=1)
    player = Player(make_vec(T_MAZE_ID, 3, {"length": 2}), 1, 7, memory_size=1)
    return Collector(player, UniformRandom(), SequenceStore(buffer, SEQUENCES))


@pytest.mark.parametrize("resume_env", ResumeEnv)
def test_a_collector_that_is_restored_remembers_what_it_did(resume_env):
    one = maze_collector()
    one.collect(Counting(), 3 * 17)
    state = one.state_dict()
    remembered = one.players.stage.memory.copy()
    assert len(set(remembered[:, 0])) > 1
    assert state["running"][0]["memory"].dtype == torch.float32
    other = maze_collector()
    other.store.load_state_dict(one.store.state_dict())
    other.load_state_dict(state, resume_env)
    if resume_env is ResumeEnv.new_episode:
        other.collect(Counting(), 3)
        assert other.store.buffer.arrays["memory"].max() > 1
        assert other.players.stage.memory.tolist() == [[1], [1], [1]]
        return
    assert np.array_equal(remembered, other.players.stage.memory)
    for collector in (one, other):
        collector.collect(Counting(), 3 * 20)
    arrays = [collector.store.buffer.arrays for collector in (one, other)]
    assert all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0])


@pytest.mark.parametrize("memory", [None, torch.zeros(2), torch.full((1,), torch.nan)])
def test_a_memory_that_cannot_be_the_agents_is_refused(memory):
    collector = maze_collector()
    collector.collect(Counting(), 15)
    state = collector.state_dict()
    del state["running"][1]["memory"]
    if memory is not None:
        state["running"][1]["memory"] = memory
    with pytest.raises(ConfigError, match="do not have a memory of 1 numbers, as this agent has"):
        collector.load_state_dict(state)


def test_episodes_without_memory_are_saved_as_before():
    episode = RunningEpisode(1, np.array([1, 0]), 2.0, "hash")
    assert episode.state_dict().keys() == {"seed", "actions", "total_reward", "frame_hash"}
    assert RunningEpisode.from_state_dict(episode.state_dict()).memory is None


def test_evaluation_episodes_are_the_same_in_any_number_of_envs_and_as_trajectories():
    agent = make_agent()
    agent.online[-1].outputs[0][0].bias.data.zero_()
    how = {"seeds": range(6), "max_steps": 30}

    def played(num_envs):
        envs = make_vec(AUDIT_ENV, num_envs, {"termination": 0.05, "truncation": 0.0})
        return [(e.total_reward, e.length) for e in play_episodes(envs, agent, Greedy(), **how)]

    one = played(1)
    assert len(set(one)) == 6
    assert played(4)[0] == one[0]
    env = make_vec(AUDIT_ENV, 1, {"termination": 0.05, "truncation": 0.0}).envs[0]
    assert len(next(play_trajectories(env, agent, Greedy(), **how)).action) == one[0][1]


class Half(Policy):
    """Asks about some of the envs."""

    def act(self, agent, observation, env_step, generators):
        return agent.preferences(observation[:1]).argmax(axis=1).repeat(2)


def test_a_policy_that_asks_about_some_envs_is_told_to_ask_about_all():
    stage = Stage(make_vec(AUDIT_ENV, 2), 1, 7, memory_size=3)
    stage.begin(np.ones(2, bool))
    with pytest.raises(ConfigError, match="asks an agent with a memory about 1 observations, and there are 2 envs"):
        stage.act(Half(), Remembering(), 0, [])
