import numpy as np
import pytest

from audit import NobodyAsks
from lit_dqn.errors import ConfigError
from lit_dqn.playing.policies import EpsilonGreedy, Greedy, Policy, Softmax, UniformRandom
from lit_dqn.schedules import Exponential, Linear

DRAWS = 20_000


class Table:
    """Action values that are looked up: the observation is the number of the state."""

    def __init__(self, *rows):
        self.values = np.array(rows, np.float32)
        self.num_actions = self.values.shape[1]
        self.asked = 0

    def preferences(self, observation):
        self.asked += 1
        return self.values[observation]


def generators(num_envs, seed=0):
    return [np.random.default_rng((seed, env)) for env in range(num_envs)]


def frequencies(policy, agent, env_step=0):
    """How often each action is drawn in state 0, by one env that draws again and again."""
    generator = np.random.default_rng(0)
    draws = [policy.act(agent, np.zeros(100, int), env_step, [generator] * 100) for _ in range(DRAWS // 100)]
    return np.bincount(np.concatenate(draws), minlength=agent.num_actions) / DRAWS


def assert_close(frequency, probability):
    """Within five standard deviations."""
    probability = np.asarray(probability)
    assert (np.abs(frequency - probability) <= 5 * np.sqrt(probability * (1 - probability) / DRAWS) + 1e-12).all()


POLICIES = [UniformRandom(), Greedy(), EpsilonGreedy(0.5), Softmax(2.0)]
by_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)


@by_policy
def test_actions_are_one_integer_per_env(policy):
    action = policy.act(Table([1, 2, 3], [1, 1, 1]), np.array([0, 1, 0, 1]), 0, generators(4))
    assert action.shape == (4,)
    assert action.dtype == np.int64
    assert ((action >= 0) & (action < 3)).all()


@by_policy
def test_the_stream_of_an_env_does_not_depend_on_the_others(policy):
    agent = Table([1, 1, 0], [0, 2, 2], [0, 0, 0])
    alone, pool = generators(1), generators(3)
    for step in range(200):
        state = step % 3
        own = policy.act(agent, np.array([state]), step, alone)
        others = policy.act(agent, np.array([state, (step // 2) % 3, (step // 5) % 3]), step, pool)
        assert own[0] == others[0]


def test_greedy_takes_the_best_action_of_each_env():
    agent = Table([1, 5, 3], [9, -1, 2], [-3, -2, -1])
    assert Greedy().act(agent, np.array([0, 1, 2, 0]), 0, generators(4)).tolist() == [1, 0, 2, 1]


def test_greedy_breaks_ties_uniformly():
    assert_close(frequencies(Greedy(), Table([7, 1, 7, 7])), [1 / 3, 0, 1 / 3, 1 / 3])


def test_greedy_draws_nothing_without_a_tie():
    streams = generators(1)
    Greedy().act(Table([0, 1]), np.array([0]), 0, streams)
    assert streams[0].random() == generators(1)[0].random()


def test_uniform_random_asks_nobody_and_is_uniform():
    assert_close(frequencies(UniformRandom(), NobodyAsks()), [0.25] * 4)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0])
def test_epsilon_greedy_explores_with_probability_epsilon(epsilon):
    expected = np.full(4, epsilon / 4)
    expected[2] += 1 - epsilon
    assert_close(frequencies(EpsilonGreedy(epsilon), Table([0, 1, 2, 0])), expected)


def test_the_agent_is_not_asked_if_every_env_explores():
    EpsilonGreedy(1.0).act(NobodyAsks(), np.zeros(8, int), 0, generators(8))


def test_the_agent_is_asked_once_for_all_envs():
    agent = Table([0, 1])
    EpsilonGreedy(0.0).act(agent, np.zeros(8, int), 0, generators(8))
    assert agent.asked == 1


def test_epsilon_follows_its_schedule():
    policy = EpsilonGreedy(Linear(1.0, 0.0, env_steps=100))
    agent = Table([0, 0, 0, 1])
    assert_close(frequencies(policy, agent, env_step=0), [0.25] * 4)
    assert_close(frequencies(policy, agent, env_step=40), [0.15, 0.15, 0.15, 0.55])
    assert_close(frequencies(policy, agent, env_step=500), [0, 0, 0, 1])
    assert policy.metrics(40) == {"exploration_rate": pytest.approx(0.6)}


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax_draws_in_proportion_to_exp_of_value_over_temperature(temperature):
    weights = np.exp(np.array([0.0, 1.0, -1.0, 0.5]) / temperature)
    assert_close(frequencies(Softmax(temperature), Table([0, 1, -1, 0.5])), weights / weights.sum())


def test_softmax_has_temperature_1_by_default():
    """Sutton & Barto (2020), eq. 13.2, has no temperature."""
    weights = np.exp([0.0, 1.0, -1.0, 0.5])
    probabilities = Softmax().probabilities(Table([0, 1, -1, 0.5]), np.array([0]), env_step=0)
    assert probabilities[0] == pytest.approx(weights / weights.sum())


@pytest.mark.parametrize("offset", [-1e6, 1e6])
def test_softmax_does_not_overflow(offset):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert_close(frequencies(Softmax(1.0), Table([offset, offset, offset - 2000])), [0.5, 0.5, 0])
        assert_close(frequencies(Softmax(1e-3), Table([offset - 50, offset, offset - 50])), [0, 1, 0])


def test_temperature_follows_its_schedule():
    policy = Softmax(Exponential(100.0, 0.01, env_steps=10))
    assert_close(frequencies(policy, Table([0, 1]), env_step=99), [0, 1])
    assert frequencies(policy, Table([0, 1]), env_step=0)[0] == pytest.approx(0.4975, abs=0.02)
    assert policy.metrics(99) == {"temperature": pytest.approx(0.01)}


def test_policies_tell_the_log_how_much_they_explore():
    assert UniformRandom().metrics(5) == {"exploration_rate": 1}
    assert Greedy().metrics(5) == {"exploration_rate": 0}


@pytest.mark.parametrize("epsilon", [-0.1, 1.5, Linear(2.0, 0.1, 10), Linear(1.0, -0.5, 10)])
def test_an_epsilon_outside_0_and_1_is_refused_with_key_and_value(epsilon):
    with pytest.raises(ConfigError, match=r"epsilon: (-0\.1|1\.5|2\.0|-0\.5) "):
        EpsilonGreedy(epsilon)


@pytest.mark.parametrize("temperature", [0.0, -1.0, Linear(1.0, 0.0, 10)])
def test_a_temperature_that_is_not_positive_is_refused_with_key_and_value(temperature):
    with pytest.raises(ConfigError, match=r"temperature: (0\.0|-1\.0) "):
        Softmax(temperature)


@by_policy
def test_probabilities_are_those_of_the_actions_that_are_drawn(policy):
    agent = Table([1, 2, 2])
    probabilities = policy.probabilities(agent, np.array([0, 0]), env_step=0)
    assert probabilities.shape == (2, 3)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])
    assert_close(frequencies(policy, agent), probabilities[0])


def test_probabilities_follow_the_schedule():
    agent = Table([0, 1])
    policy = EpsilonGreedy(Linear(1.0, 0.0, env_steps=10))
    assert policy.probabilities(agent, np.array([0]), env_step=5).tolist() == [[0.25, 0.75]]


def test_a_policy_that_does_not_say_its_probabilities_is_named():
    class Silent(Policy):
        def act(self, agent, observation, env_step, generators):
            raise AssertionError("nobody plays")

    with pytest.raises(ConfigError, match="policy: Silent does not say its probabilities"):
        Silent().probabilities(Table([0, 1]), np.array([0]), 0)
