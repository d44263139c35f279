import gymnasium
import numpy as np
import pytest

from lit_dqn import ConfigError, EpsilonGreedy, Linear, UniformRandom
from lit_dqn.envs import make_env
from lit_dqn.envs.grid.values import policy_state_values
from lit_dqn.playing.policies import Greedy
from lit_dqn.playing.value_errors import compare, discounted_returns, stacked_observations, value_errors

WALK = {"observation": "one_hot"}
TRUTH = np.array([0, *np.arange(1, 6) / 6, 0])


class Tables:
    """State values, and preferences, of states observed as one-hot vectors or as their first number."""

    def __init__(self, values, preferences=None):
        self.num_actions = 2
        self.values = np.asarray(values)
        self.table = preferences

    def state_values(self, observation):
        return self.values[observation.argmax(axis=1)]

    def preferences(self, observation):
        return self.table[observation.argmax(axis=1)]


def errors(agent, env_id="lit_dqn/RandomWalk-v0", env_kwargs=WALK, **changes):
    settings = {"policy": UniformRandom(), "gamma": 1.0, "frame_stack": 1, "seeds": [1, 2], "max_steps": 50}
    return value_errors(agent, env_id, env_kwargs, **(settings | {"env_step": 0} | changes))


def test_the_truth_has_no_error_and_the_ends_do_not_count():
    wrong_at_the_ends = TRUTH.copy()
    wrong_at_the_ends[[0, 6]] = 99, 91
    assert errors(Tables(wrong_at_the_ends)) == pytest.approx(
        {"eval/value_rms_error": 0, "eval/value_relative_error": 0}, abs=1e-12
    )
    assert errors(Tables(TRUTH + 0.1)) == pytest.approx({"eval/value_rms_error": 0.1, "eval/value_relative_error": 0.2})


def test_the_truth_is_that_of_the_policy_and_its_env_step():
    always_right = np.tile([0.0, 1.0], (7, 1))
    assert errors(Tables([0, 1, 1, 1, 1, 1, 0], always_right), policy=Greedy())["eval/value_rms_error"] < 1e-6
    agent = Tables([0, 1, 1, 1, 1, 1, 0], always_right)
    world = make_env("lit_dqn/RandomWalk-v0", WALK).unwrapped
    probabilities = np.tile([0.2, 0.8], (7, 1))
    truth = policy_state_values(world, probabilities, 1.0)
    expected = compare(np.ones(5), truth[1:6])
    assert errors(agent, policy=EpsilonGreedy(0.4)) == pytest.approx(expected)


def test_episodes_are_played_by_the_policy_of_the_env_step_too():
    agent = Tables([0, 1, 1, 1, 1, 1, 0], np.tile([0.0, 1.0], (7, 1)))  # to the right, and as sure of it
    policy = EpsilonGreedy(Linear(start=1.0, end=0.0, env_steps=100))
    settings = {"max_steps": 1000, "reward_clip": 5.0, "policy": policy, "seeds": range(9)}
    assert errors(agent, **settings, env_step=100) == {"eval/return_rms_error": 0}
    assert errors(agent, **settings, env_step=0)["eval/return_rms_error"] > 0.3


def test_compare_takes_the_root_of_the_mean_square_and_the_share_of_the_truth():
    assert compare(np.array([1.0, -2.0]), np.array([4.0, 2.0])) == pytest.approx(
        {"eval/value_rms_error": np.sqrt((9 + 16) / 2), "eval/value_relative_error": 3.5 / 3}
    )


def test_returns_are_discounted_from_every_step():
    np.testing.assert_allclose(discounted_returns([1, 0, 4], [0.5] * 3), [2, 2, 4])
    np.testing.assert_allclose(discounted_returns([1, 0, 4], [0.5, 0, 0.5]), [1, 0, 4])  # nothing after the second


class Constant:
    """V(s) is the same everywhere."""

    num_actions = 2

    def __init__(self, value):
        self.value = value
        self.asked = []

    def state_values(self, observation):
        self.asked.append(observation)
        return np.full(len(observation), self.value)


def test_elsewhere_values_are_held_against_the_returns_of_episodes():
    agent = Constant(0.0)
    found = errors(agent, "CartPole-v1", {}, gamma=0.0)
    assert found == {"eval/return_rms_error": 1.0}  # every reward is 1, and γ = 0
    lengths = [len(observation) for observation in agent.asked]
    squares = np.concatenate([np.arange(length, 0, -1.0) ** 2 for length in lengths])
    assert errors(Constant(0.0), "CartPole-v1", {})["eval/return_rms_error"] == pytest.approx(np.sqrt(squares.mean()))


class Lives(gymnasium.Env):
    """Twelve steps, a reward of 1 each; every fourth costs a life. It shows how many steps the life has left."""

    observation_space = gymnasium.spaces.Box(0, 4, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def _seen(self):
        return np.array([4 - self.time % 4], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._seen(), {}

    def step(self, action):
        self.time += 1
        return self._seen(), 1.0, self.time == 12, False, {"life_lost": self.time % 4 == 0}


def test_a_lost_life_ends_returns_as_it_does_for_learning(monkeypatch):
    class Left(Constant):
        def state_values(self, observation):
            return (1 - 0.5 ** observation[:, 0]) / (1 - 0.5)

    monkeypatch.setitem(gymnasium.registry, "Lives-v0", gymnasium.envs.registration.EnvSpec("Lives-v0", Lives))
    assert errors(Left(0.0), "Lives-v0", {}, gamma=0.5) == {"eval/return_rms_error": pytest.approx(0, abs=1e-6)}
    # Cut in the second life: the first one was seen to its end, and counts; the other was not.
    assert errors(Left(0.0), "Lives-v0", {}, gamma=0.5, max_steps=6)["eval/return_rms_error"] < 1e-6


def test_clipped_rewards_are_held_against_clipped_returns():
    found = errors(Constant(0.0), "CartPole-v1", {}, gamma=0.0, reward_clip=0.25)
    assert found == {"eval/return_rms_error": 0.25}
    assert set(errors(Constant(0.0), reward_clip=1.0)) == {"eval/return_rms_error"}


def test_a_policy_that_never_ends_an_episode_has_no_values_without_a_discount():
    left_and_right = np.tile([[1.0, 0.0], [0.0, 1.0]], (4, 1))[:7]
    with pytest.raises(ConfigError, match=r"gamma: .* give less, such as --data\.gamma"):
        errors(Tables(np.zeros(7), left_and_right), policy=Greedy())


def test_a_wrapped_grid_world_counts_as_elsewhere_and_is_seen_through_its_wrappers():
    seen = []

    class Halved(gymnasium.ObservationWrapper):
        def observation(self, observation):
            return (observation / 2).astype(np.float32)

    class Watching(Constant):
        def state_values(self, observation):
            seen.append(observation.max())
            return super().state_values(observation)

    assert set(errors(Watching(0.0), wrappers=[Halved])) == {"eval/return_rms_error"}
    assert set(seen) == {0.5}


def test_what_a_cut_episode_did_not_show_is_left_out():
    # Cut after 5 steps with γ = 0.2: 0.2^3 < 1 %, so only the first 3 steps count; their returns are known to 1 %.
    agent = Constant(1 / (1 - 0.2))
    assert errors(agent, "CartPole-v1", {}, gamma=0.2, max_steps=5)["eval/return_rms_error"] < 0.01
    assert errors(agent, "CartPole-v1", {}, gamma=0.99, max_steps=5) == {}


def test_frames_are_stacked_as_while_playing():
    agent = Constant(0.0)
    errors(agent, "CartPole-v1", {}, frame_stack=3, seeds=[1])
    (stacks,) = agent.asked
    assert stacks.shape[1:] == (3, 4)
    np.testing.assert_array_equal(stacks[0], np.tile(stacks[0, 0], (3, 1)))
    np.testing.assert_array_equal(stacks[2, :2], stacks[1, 1:])
    world = make_env("lit_dqn/Maze-v0", {}).unwrapped
    assert stacked_observations(world, 2).shape == (54, 2, 50, 84)
