import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from audit import Audit, NobodyAsks, audit_collector
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import EpsilonGreedy, Policy, UniformRandom
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.playing.seeds import episode_seed
from lit_dqn.replay import Replay, ReplayBuffer, Uniform
from lit_dqn.replay.stacking import FrameStack
from lit_dqn.types import Episode

SEED = 7


class TapeEnv(gymnasium.Env):
    """Writes what happens to it on a tape; shows 10 x episode + t, pays 100 x action + t, ends after `length` steps."""

    action_space = gymnasium.spaces.Discrete(3)
    observation_space = gymnasium.spaces.Box(0, 1000, (1,), np.float64)

    def __init__(self, tape, index, length, terminates):
        self.tape, self.index, self.length, self.terminates = tape, index, length, terminates
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        self.episode, self.t = self.episode + 1, 0
        self.tape.append(("reset", self.index, seed))
        return np.array([10.0 * self.episode]), {}

    def step(self, action):
        self.t += 1
        self.tape.append(("step", self.index, int(action)))
        ended = self.t == self.length
        observation = np.array([10.0 * self.episode + self.t])
        return observation, 100.0 * action + self.t, ended and self.terminates, ended and not self.terminates, {}


class TapePolicy(Policy):
    """Asks the agent, then plays a fixed script."""

    def __init__(self, tape, script):
        self.tape, self.script = tape, iter(script)

    def act(self, agent, observation, env_step, generators):
        self.tape.append(("act", env_step, observation.flatten().tolist()))
        assert len(generators) == len(observation)
        return np.array(next(self.script))


def tape_collector(script):
    tape = []
    makers = [lambda: TapeEnv(tape, 0, 2, terminates=True), lambda: TapeEnv(tape, 1, 3, terminates=False)]
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.DISABLED)
    store = Replay(ReplayBuffer(16, 2, (1,), np.float32, gamma=0.5), Uniform())
    add = store.add

    def tape_add(timestep):
        tape.append(("add", *(np.asarray(field).flatten().tolist() for field in timestep if field is not None)))
        add(timestep)

    store.add = tape_add
    return Collector(Player(envs, 1, SEED), TapePolicy(tape, script), store), tape


def test_the_tape_of_four_steps_reads_act_step_add_and_resets_what_ended():
    collector, tape = tape_collector([[0, 1], [2, 0], [1, 1], [0, 2]])
    collector.collect(NobodyAsks(), 8)
    yes, no = True, False
    assert tape == [
        ("reset", 0, episode_seed(SEED, 0, 0)),
        ("reset", 1, episode_seed(SEED, 1, 0)),
        ("act", 0, [0, 0]),
        ("step", 0, 0),
        ("step", 1, 1),
        ("add", [0, 0], [0, 1], [1, 101], [yes, yes], [no, no], [1, 1]),
        ("act", 2, [1, 1]),
        ("step", 0, 2),
        ("step", 1, 0),
        ("add", [1, 1], [2, 0], [202, 2], [no, yes], [yes, no], [2, 2]),
        ("reset", 0, episode_seed(SEED, 0, 1)),  # terminated; env 1 plays on
        ("act", 4, [10, 2]),
        ("step", 0, 1),
        ("step", 1, 1),
        ("add", [10, 2], [1, 1], [101, 103], [yes, yes], [no, yes], [11, 3]),
        ("reset", 1, episode_seed(SEED, 1, 1)),  # truncated
        ("act", 6, [11, 10]),
        ("step", 0, 0),
        ("step", 1, 2),
        ("add", [11, 10], [0, 2], [2, 201], [no, yes], [yes, no], [12, 11]),
        ("reset", 0, episode_seed(SEED, 0, 2)),
    ]
    assert list(collector.finished) == [
        Episode(number=1, env=0, env_step=4, total_reward=1 + 202, length=2, terminated=True),
        Episode(number=2, env=1, env_step=6, total_reward=101 + 2 + 103, length=3, terminated=False),
        Episode(number=3, env=0, env_step=8, total_reward=101 + 2, length=2, terminated=True),
    ]
    assert (collector.env_step, collector.episodes) == (8, 3)


def test_playing_in_two_parts_is_playing_at_once():
    script = [[0, 1], [2, 0], [1, 1], [0, 2]]
    (whole, tape), (parts, tape_of_parts) = tape_collector(script), tape_collector(script)
    whole.collect(NobodyAsks(), 8)
    for env_steps in (2, 0, 4, 2):
        parts.collect(NobodyAsks(), env_steps)
    assert tape == tape_of_parts
    assert whole.finished == parts.finished


@pytest.mark.parametrize("image", [False, True], ids=["vectors", "images"])
@pytest.mark.parametrize("frame_stack", [1, 4])
def test_the_policy_sees_the_stacks_that_gymnasium_shows(frame_stack, image):
    collector = audit_collector(3, frame_stack=frame_stack, image=image)
    audit = Audit(collector)
    seen = []

    class Watch(UniformRandom):
        def act(self, agent, observation, env_step, generators):
            seen.append(observation.copy())
            return super().act(agent, observation, env_step, generators)

    collector.policy = Watch()
    for _ in range(60):
        audit.play()
        for index, env in enumerate(audit.envs):
            shown = audit.shown[index, env.steps[-1].episode, env.steps[-1].t]
            np.testing.assert_array_equal(seen[-1][index], shown.reshape(seen[-1][index].shape))
            assert seen[-1].dtype == (np.uint8 if image else np.float32)


def played(collector):
    """By env: what was played, and with which seeds."""
    envs = [env.unwrapped for env in collector.players.envs.envs]
    return [(env.steps, env.seeds) for env in envs]


def test_an_env_plays_alike_in_pools_of_other_sizes():
    pools = []
    for num_envs in (1, 2, 5):
        collector = audit_collector(num_envs, seed=SEED)
        collector.collect(NobodyAsks(), 100 * num_envs)
        pools.append(played(collector))
    other_run = audit_collector(1, seed=SEED + 1)
    other_run.collect(NobodyAsks(), 100)
    assert played(other_run)[0] != pools[0][0]
    assert pools[0][0] == pools[1][0] == pools[2][0]
    assert pools[1][1] == pools[2][1]
    assert pools[2][0] != pools[2][1]
    for index, (_, seeds) in enumerate(pools[2]):
        assert len(seeds) > 5
        assert seeds == [episode_seed(SEED, index, episode) for episode in range(len(seeds))]


def test_the_streams_of_exploration_are_apart_from_the_seeds_of_episodes(monkeypatch):
    sequences = []
    original = np.random.SeedSequence

    def watch(*arguments, **options):
        sequences.append(original(*arguments, **options))
        return sequences[-1]

    with monkeypatch.context() as patch:
        patch.setattr(np.random, "SeedSequence", watch)
        for episode in range(5):
            episode_seed(SEED, 0, episode)
    assert len(sequences) == 5
    own = audit_collector(1, seed=SEED).state_dict()["generators"][0]
    assert all(np.random.PCG64(sequence).state != own for sequence in sequences)


def test_each_env_explores_with_its_own_generator():
    collector, draws = audit_collector(4, seed=SEED), []

    class Draws(UniformRandom):
        def act(self, agent, observation, env_step, generators):
            draws.append([generator.random() for generator in generators])
            return super().act(agent, observation, env_step, generators)

    collector.policy = Draws()
    collector.collect(NobodyAsks(), 4 * 50)
    assert np.unique(draws).size == 50 * 4
    # Each is asked as often as the others, so that none depends on their number.
    states = collector.state_dict()["generators"]
    for env, state in enumerate(states):
        own = audit_collector(env + 1, seed=SEED)
        own.policy = Draws()
        own.collect(NobodyAsks(), (env + 1) * 50)
        assert own.state_dict()["generators"][env] == state


def test_finished_episodes_are_what_the_envs_played():
    collector = audit_collector(3)
    collector.collect(NobodyAsks(), 600)
    assert [episode.number for episode in collector.finished] == list(range(1, collector.episodes + 1))
    assert len(collector.finished) > 20
    for index, (steps, _) in enumerate(played(collector)):
        own = [episode for episode in collector.finished if episode.env == index]
        ends = [number for number, step in enumerate(steps) if step.terminated or step.truncated]
        assert len(own) == len(ends)
        for episode, begin, end in zip(own, [0, *(end + 1 for end in ends)], ends, strict=False):
            of_episode = steps[begin : end + 1]
            assert episode.length == len(of_episode)
            assert episode.total_reward == pytest.approx(sum(step.reward for step in of_episode))
            assert episode.terminated == of_episode[-1].terminated
            assert episode.env_step == 3 * (end + 1)


@pytest.mark.parametrize(("num_envs", "n_step", "size"), [(1, 1, 50), (4, 1, 50), (3, 5, 50)])
def test_warming_up_plays_until_the_replay_is_large_enough_and_no_longer(num_envs, n_step, size):
    collector = audit_collector(num_envs, n_step=n_step, termination=0, truncation=0)
    collector.warm_up(NobodyAsks(), size, transitions=8)
    assert size <= collector.env_step < size + num_envs
    collector.warm_up(NobodyAsks(), 10, transitions=size)
    assert size <= len(collector.store.buffer.starts) < size + num_envs
    assert collector.env_step == num_envs * (-(-size // num_envs) + n_step - 1)
    before = collector.env_step
    collector.warm_up(NobodyAsks(), size, transitions=size)
    assert collector.env_step == before


def test_warming_up_ends_although_short_episodes_leave_no_room_for_all_timesteps():
    collector = audit_collector(1, capacity=4000, termination=0.9, truncation=0)
    collector.warm_up(NobodyAsks(), 4000, transitions=32)
    assert collector.env_step == 4000
    assert 32 <= len(collector.store.buffer.starts) <= 4000


def test_warming_up_plays_uniformly_at_random_whatever_the_policy():
    collector = audit_collector(4, capacity=4000)
    collector.policy = EpsilonGreedy(0.0)
    collector.warm_up(NobodyAsks(), 4000, transitions=1)
    actions = [step.action for steps, _ in played(collector) for step in steps]
    assert np.bincount(actions, minlength=4) == pytest.approx(np.full(4, 1000), abs=150)
    assert isinstance(collector.policy, EpsilonGreedy)


def test_warming_up_plays_by_another_policy_if_one_is_given():
    class AlwaysTwo(Policy):
        def act(self, agent, observation, env_step, generators):
            return np.full(len(observation), 2)

    collector = audit_collector(4, capacity=400)
    collector.warm_up(NobodyAsks(), 40, transitions=1, policy=AlwaysTwo())
    assert {step.action for steps, _ in played(collector) for step in steps} == {2}


def test_a_restored_collector_continues_with_the_same_streams_and_counters():
    collector = audit_collector(2, n_step=3)
    collector.collect(NobodyAsks(), 100)
    state = collector.state_dict()
    other = audit_collector(2, n_step=3, seed=SEED)
    other.store.buffer.load_state_dict(collector.store.buffer.state_dict())
    other.load_state_dict(state, ResumeEnv.new_episode)
    assert other.state_dict() == state | {"running": []}
    assert (other.env_step, other.episodes, other.finished) == (100, collector.episodes, collector.finished)

    collector.load_state_dict(state, ResumeEnv.new_episode)
    marks = [len(steps) for steps, _ in played(collector)]
    collector.collect(NobodyAsks(), 60)
    other.collect(NobodyAsks(), 60)
    for (steps, seeds), (restored_steps, restored_seeds), mark in zip(
        played(collector), played(other), marks, strict=True
    ):
        assert [step[1:] for step in steps[mark:]] == [step[1:] for step in restored_steps]
        assert seeds[-len(restored_seeds) :] == restored_seeds
    assert other.finished == collector.finished
    assert other.episodes == len(other.finished)


def test_a_restored_collector_joins_no_episodes_in_the_replay():
    audit = Audit(audit_collector(2, n_step=3, frame_stack=2, termination=0, truncation=0))
    for step in range(40):
        audit.play()
        if step % 10 == 5:
            audit.cut()
        audit.check_newest(audit.check_transitions())
    assert audit.envs[0].episode == 4


def test_a_frame_stack_is_filled_by_the_first_frame_of_an_episode():
    stack = FrameStack(2, 3, (1,), np.int64)
    stack.reset(np.array([[1], [2]]), np.array([True, True]))
    stack.push(np.array([[3], [4]]))
    assert stack.observation[:, :, 0].tolist() == [[1, 1, 3], [2, 2, 4]]
    stack.reset(np.array([[9], [9]]), np.array([False, True]))
    assert stack.observation[:, :, 0].tolist() == [[1, 1, 3], [9, 9, 9]]
    assert stack.frames.tolist() == [[3], [9]]
