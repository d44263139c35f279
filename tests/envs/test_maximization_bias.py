import importlib.util
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lit_dqn import ConfigError, DoubleQLearning, QLearning, make_env

ENV_ID = "lit_dqn/MaximizationBias-v0"
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "maximization_bias.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("maximization_bias", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_a_gymnasium_env_that_lit_dqn_takes():
    check_env(gymnasium.make(ENV_ID).unwrapped, skip_render_check=True)
    assert make_env(ENV_ID).reset(seed=0)[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("action", range(10))
def test_right_ends_the_episode_and_left_leads_to_noise_that_costs_a_tenth(action):
    env = gymnasium.make(ENV_ID).unwrapped
    rewards = []
    for seed in range(400):
        assert env.reset(seed=seed) == (0, {})
        state, reward, terminated, truncated, _ = env.step(action)
        assert (reward, truncated) == (0, False)
        assert (state, terminated) == ((1, False) if action % 2 == 0 else (2, True))
        if not terminated:
            state, reward, terminated, _, _ = env.step((action + 1) % 10)
            assert (state, terminated) == (2, True)
            rewards.append(reward)
    if rewards:
        assert np.mean(rewards) == pytest.approx(-0.1, abs=0.2)
        assert np.std(rewards) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("num_actions", [0, 7])
def test_an_odd_number_of_actions_is_refused(num_actions):
    with pytest.raises(ConfigError, match=f"num_actions={num_actions} is not possible"):
        make_env(ENV_ID, {"num_actions": num_actions})


@pytest.mark.slow
def test_double_dqn_goes_left_less_often(script):
    """The order of the book's figure 6.5, where the two differ most; 100 runs are in docs/results.md."""
    shares = [
        np.mean([script.play(objective, seed, episodes=120)[50:] for seed in range(8)])
        for objective in (QLearning(), DoubleQLearning())
    ]
    assert shares[1] < shares[0] - 0.1
    assert shares[0] > 0.4


def test_a_share_of_left_is_plotted_per_episode(script):
    shares = {"DQN": np.linspace(0.9, 0.1, 300), "Double DQN": np.full(300, 0.2)}
    (axes,) = script.plot(shares, runs=3).axes
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), 100 * shares["DQN"])
    assert "3 runs" in axes.get_title()
