"""Envs with several discrete actions at once."""

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from helpers import make_data, make_trainer
from lit_dqn import MLP, DiscretizedActions, LitDQN, UniformRandom
from lit_dqn.envs import make_env
from lit_dqn.errors import ConfigError


class Combination(gymnasium.Env):
    """A lock whose right combination is shown; each part that is right pays 1."""

    observation_space = spaces.Box(0, 9, (2,), np.float32)

    def __init__(self, nvec=(3, 2), start=(0, 0), masked=False):
        self.action_space = spaces.MultiDiscrete(np.array(nvec), start=np.array(start))
        self.masked = masked
        self.played = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.shown()

    def step(self, action):
        assert self.action_space.contains(action), action
        self.played.append(action.tolist())
        if self.masked:
            assert action[1] == 1
        self.t += 1
        reward = float((action == self.right).sum())
        observation, info = self.shown()
        return observation, reward, self.t == 5, False, info

    def shown(self):
        self.right = self.np_random.integers(self.action_space.nvec)
        mask = (np.ones(3, np.int8), np.array([0, 1], np.int8))
        return self.right.astype(np.float32), {"action_mask": mask} if self.masked else {}


gymnasium.register("lit_dqn_tests/Combination-v0", Combination, disable_env_checker=True)
ENV = "lit_dqn_tests/Combination-v0"


def test_each_combination_is_an_action_and_the_last_part_counts_fastest():
    env = make_env(ENV)
    assert env.action_space == spaces.Discrete(6)
    env.reset(seed=0)
    for action in range(4):
        env.step(action)
    assert env.unwrapped.played == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_parts_may_be_numbered_from_elsewhere_and_stand_in_rows():
    env = make_env(ENV, {"nvec": [[2, 2], [2, 3]], "start": [[0, 5], [0, 0]]})
    assert env.action_space.n == 24
    assert env.get_wrapper_attr("action")(23).tolist() == [[1, 6], [1, 2]]
    assert env.get_wrapper_attr("action")(3).tolist() == [[0, 5], [1, 0]]


def test_more_combinations_than_have_numbers_are_refused():
    assert make_env(ENV, {"nvec": [2] * 62, "start": [0] * 62}).action_space.n == 2**62
    with pytest.raises(ConfigError, match=r"'.*' has 9,223,372,036,854,775,808 combinations .* 2\^63 - 1 are the most"):
        make_env(ENV, {"nvec": [2] * 63, "start": [0] * 63})


def test_a_mask_for_each_part_is_one_for_the_combinations():
    env = make_env(ENV, {"masked": True}, action_mask=True)
    assert env.reset(seed=0)[1]["action_mask"].tolist() == [False, True] * 3
    data = make_data(env_id=ENV, env_kwargs={"masked": True}, action_mask=True, policy=UniformRandom())
    agent = LitDQN((2,), 6, network=partial(MLP, hidden_sizes=(8,)))
    make_trainer().fit(agent, datamodule=data)  # the env fails where what is forbidden is played
    assert data.collector.env_step > 50


class Continuous(gymnasium.Env):
    """Remembers what was done."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)

    def __init__(self, low=(-1, 0), high=(1, 4)):
        self.action_space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))
        self.played = []

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.played.append(action.tolist())
        return np.zeros(1, np.float32), 0.0, False, False, {}


gymnasium.register("lit_dqn_tests/Continuous-v0", Continuous, disable_env_checker=True)


@pytest.mark.parametrize(
    ("bins", "actions", "played"),
    [
        (3, [0, 1, 3, 4, 8], [[-1, 0], [-1, 2], [0, 0], [0, 2], [1, 4]]),
        (2, [0, 1, 2, 3], [[-1, 0], [-1, 4], [1, 0], [1, 4]]),
        ([2, 5], [0, 1, 7], [[-1, 0], [-1, 1], [1, 2]]),
    ],
)
def test_continuous_actions_take_evenly_spaced_values_with_their_limits(bins, actions, played):
    env = make_env("lit_dqn_tests/Continuous-v0", wrappers=[partial(DiscretizedActions, bins=bins)])
    assert env.action_space.n == (bins**2 if isinstance(bins, int) else 10)
    env.reset(seed=0)
    for action in actions:
        env.step(action)
    assert env.unwrapped.played == played


def test_actions_that_cannot_be_made_discrete_are_refused():
    for bins, env_id, env_kwargs, sentence in (
        (1, "lit_dqn_tests/Continuous-v0", {}, "wrappers: partial cannot be put around .* must be at least 2"),
        (3, "lit_dqn_tests/Continuous-v0", {"high": (1, np.inf)}, "wrappers: .* action space to be finite"),
        (3, "CartPole-v1", {}, "wrappers: .* only compatible with Box"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            make_env(env_id, env_kwargs, wrappers=[partial(DiscretizedActions, bins=bins)])
    with pytest.raises(ConfigError, match=r"needs discrete actions: .* a Box with lit_dqn\.DiscretizedActions"):
        make_env("lit_dqn_tests/Continuous-v0")


def test_the_right_combination_is_learned():
    shape = {
        "num_envs": 8,
        "env_steps_per_update": 4,
        "gradient_steps": 4,
        "batch_size": 64,
        "updates_per_epoch": 400,
        "min_replay_size": 64,
    }
    data = make_data(env_id=ENV, capacity=2000, gamma=0.0, eval_episodes=20, eval_envs=5, **shape)
    torch.manual_seed(0)
    agent = LitDQN((2,), 6, network=partial(MLP, hidden_sizes=(32,)), target_update_period=None, learning_rate=3e-3)
    trainer = make_trainer(max_epochs=3)
    trainer.fit(agent, datamodule=data)
    (metrics,) = trainer.validate(agent, datamodule=data, verbose=False)
    assert metrics["eval/mean_reward"] == 10.0
