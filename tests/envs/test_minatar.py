import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RenderCollection

from lit_dqn.envs import make_env, make_env_with_pictures, make_vec, stored_dtype
from lit_dqn.envs.minatar import CELL_PIXELS, GAMES
from lit_dqn.errors import ConfigError

CHANNELS = {"Asterix": 4, "Breakout": 4, "Freeway": 7, "Seaquest": 10, "SpaceInvaders": 6}
ACTIONS = {"Asterix": 5, "Breakout": 3, "Freeway": 3, "Seaquest": 6, "SpaceInvaders": 4}


def test_without_the_package_the_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "minatar", None)
    with pytest.raises(ConfigError, match=r"^env_id: .* needs the package MinAtar, .*'lit-dqn\[minatar\]'"):
        make_env("MinAtar/Breakout-v1")


@pytest.mark.parametrize(
    ("env_kwargs", "sentence"),
    [
        ({"sticky_action_prob": 1}, r"^env_kwargs.sticky_action_prob: 1 must lie in \[0, 1\)"),
        ({"sticky_action_prob": "often"}, r"^env_kwargs.sticky_action_prob: 'often' must lie in \[0, 1\)"),
        ({"difficulty_ramping": 1}, "^env_kwargs.difficulty_ramping: 1 must be of type bool"),
        ({"use_minimal_action_set": "no"}, "^env_kwargs.use_minimal_action_set: 'no' must be of type bool"),
        ({"sticky": 0.1}, "unexpected keyword argument 'sticky'"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(env_kwargs, sentence):
    for make in (make_env, lambda *args: make_vec(args[0], 2, args[1])):
        with pytest.raises(ConfigError, match=sentence):
            make("MinAtar/Breakout-v1", env_kwargs)


@pytest.fixture
def package():
    return pytest.importorskip("minatar")


@pytest.mark.parametrize("game", GAMES)
def test_every_step_is_the_packages_own(package, game):
    name = game.title().replace("_", "")
    theirs, ours = package.Environment(game), make_vec(f"MinAtar/{name}-v1", 3)
    assert ours.single_observation_space.shape == (CHANNELS[name], 10, 10)
    assert stored_dtype(ours.single_observation_space) == np.bool_
    assert ours.single_action_space.n == ACTIONS[name]
    theirs.seed(5)
    theirs.reset()
    observation, _ = ours.reset(seed=[4, 5, 6])
    actions = np.random.default_rng(0).integers(0, ACTIONS[name], (400, 3))
    ended = np.zeros(3, bool)
    for action in actions:
        np.testing.assert_array_equal(observation[1], theirs.state().transpose(2, 0, 1))
        if ended.any():
            if ended[1]:
                return
            ours.reset(options={"reset_mask": ended})
        observation, reward, ended, truncated, _ = ours.step(action)
        assert (reward[1], ended[1]) == theirs.act(theirs.minimal_action_set()[action[1]])
        assert not truncated.any()


def test_the_older_id_takes_all_six_actions(package):
    assert make_env("MinAtar/Breakout-v0").action_space.n == 6
    assert make_env("MinAtar/Breakout-v1", {"use_minimal_action_set": False}).action_space.n == 6


def test_an_episode_follows_from_its_seed_and_actions_whatever_was_played_before(package):
    """The package lets the last action of the episode before stick, and so move the paddle of this one."""

    def paddle(env):
        env.reset(seed=3)
        return env.step(0)[0][0, 9].argmax()

    env_kwargs = {"sticky_action_prob": 0.9}  # with this seed the first action is not the one that is given
    fresh, used = (make_env("MinAtar/Breakout-v1", env_kwargs) for _ in range(2))
    used.reset(seed=2)
    for _ in range(30):
        used.step(1)
    assert used.unwrapped._game.last_action == 1
    assert paddle(used) == paddle(fresh) == 4


def test_a_cap_truncates(package):
    env = make_env("MinAtar/Freeway-v1", {"max_episode_steps": 3})
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


def test_difficulty_is_what_is_said(package):
    for ramping in (True, False):
        env = make_env("MinAtar/Seaquest-v1", {"difficulty_ramping": ramping})
        assert env.unwrapped._game.env.ramping is ramping


def test_pictures_have_a_colour_for_each_channel_and_the_player_on_top(package):
    env = make_env_with_pictures("MinAtar/Breakout-v1")
    assert isinstance(env, RenderCollection)
    observation, _ = env.reset(seed=0)
    (picture,) = env.render()
    assert picture.shape == (10 * CELL_PIXELS, 10 * CELL_PIXELS, 3)
    assert picture.dtype == np.uint8
    cells = picture[::CELL_PIXELS, ::CELL_PIXELS]
    np.testing.assert_array_equal(picture, cells.repeat(CELL_PIXELS, 0).repeat(CELL_PIXELS, 1))
    assert (cells[~observation.any(axis=0)] == 0).all()
    paddle, ball, trail, brick = (tuple(cells[tuple(np.argwhere(channel)[0])]) for channel in observation)
    assert len({paddle, ball, brick, (0, 0, 0)}) == 4
    assert trail == ball  # at the start they lie on each other
    plain = gymnasium.make("MinAtar/Breakout-v1")
    plain.reset()
    assert plain.render() is None
