import os
import re
import signal
from multiprocessing import forkserver

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from audit import AUDIT_ENV, AuditEnv
from lit_dqn import ChannelsFirst, ReplayDataModule
from lit_dqn.envs import check_first_step, make_env, make_env_with_pictures, make_vec, stored_dtype
from lit_dqn.envs.checks import CheckedEnv
from lit_dqn.errors import ConfigError, TrainingError


class Odd(AuditEnv):
    """An env with other spaces, and pictures."""

    def __init__(self, observation_space=None, action_space=None, render_mode=None, **env_kwargs):
        super().__init__(**env_kwargs)
        self.observation_space = observation_space or self.observation_space
        self.action_space = action_space or self.action_space
        self.render_mode = render_mode

    def render(self):
        return np.full((2, 3, 3), self.t, np.uint8)


class Pictured(Odd):
    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 10}  # noqa: RUF012


gymnasium.register("lit_dqn_tests/Odd-v0", Odd, disable_env_checker=True)
gymnasium.register("lit_dqn_tests/Pictured-v0", Pictured, disable_env_checker=True)


def refusal(*arguments):
    with pytest.raises(ConfigError) as error:
        make_env(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("env_id", "near"),
    [("CartPol-v1", "CartPole-v1"), ("CartPole-v99", "CartPole-v1"), ("lit_dqn/Mase-v0", "lit_dqn/Maze-v0")],
)
def test_an_unknown_env_is_refused_with_near_names(env_id, near):
    message = refusal(env_id)
    assert message.startswith("env_id: ")
    assert repr(env_id) in message
    assert near in message.split("did you mean")[1]


@pytest.mark.parametrize(
    ("env_id", "near"),
    [
        ("faulty:lit_dqn_tests/Faulty-v1", "faulty:lit_dqn_tests/Faulty-v0"),
        ("faulty:Faulty-v0", "faulty:lit_dqn_tests/Faulty-v0"),
        ("Maze-v0", "lit_dqn/Maze-v0"),
    ],
)
def test_a_near_name_is_one_to_type(env_id, near):
    assert f"; did you mean {near} or " in refusal(env_id).replace("?", " or ")
    make_env(near).close()


@pytest.mark.parametrize("env_id", ["Pong-v5", "ale_py:Pong-v5"])
def test_a_game_of_ale_is_found_without_its_namespace(env_id):
    pytest.importorskip("ale_py")
    assert refusal(env_id) == f"env_id: there is no environment '{env_id}'; did you mean ALE/Pong-v5?"


def test_an_env_without_near_names_hints_at_its_package():
    message = refusal("Xyzzy_qqq")
    assert "'Xyzzy_qqq'" in message
    assert "did you mean" not in message
    assert "package" in message


def test_an_env_of_a_missing_module_is_refused():
    assert "no_such_module" in refusal("no_such_module:Thing-v0")


def test_bad_env_kwargs_are_refused_with_keys_and_values():
    message = refusal("CartPole-v1", {"gravity_of_mars": 3.7})
    assert "'CartPole-v1'" in message
    assert "env_kwargs {'gravity_of_mars': 3.7}" in message


def test_continuous_actions_are_refused():
    message = refusal("Pendulum-v1")
    assert "'Pendulum-v1'" in message
    assert "Box(-2.0, 2.0" in message
    assert "discrete actions" in message


def test_actions_that_do_not_count_from_0_are_refused():
    message = refusal("lit_dqn_tests/Odd-v0", {"action_space": spaces.Discrete(3, start=1)})
    assert "'lit_dqn_tests/Odd-v0'" in message
    assert "from 1" in message


@pytest.mark.parametrize("space", [spaces.Text(5), spaces.Sequence(spaces.Discrete(2))])
def test_observations_that_are_no_arrays_are_refused_by_their_type(space):
    message = refusal("lit_dqn_tests/Odd-v0", {"observation_space": space})
    assert "'lit_dqn_tests/Odd-v0'" in message
    assert type(space).__name__ in message


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((), "shows single numbers, .* set --data.wrappers '\\[gymnasium.wrappers.FlattenObservation\\]', which"),
        ((0,), "shows observations of shape \\(0,\\), which hold no number; give it others"),
        ((3, 0), "shows observations of shape \\(3, 0\\), which hold no number"),
    ],
)
def test_observations_without_an_axis_or_a_number_are_refused(shape, sentence):
    space = spaces.Box(0, 1, shape, np.float32)
    assert re.match(
        f"env_id: 'lit_dqn_tests/Odd-v0' {sentence}", refusal("lit_dqn_tests/Odd-v0", {"observation_space": space})
    )


def test_env_kwargs_reach_the_env():
    assert make_env(AUDIT_ENV, {"truncation": 0.25}).unwrapped.chances == (0.1, 0.25)


def test_numbers_as_observations_become_one_hot():
    env = make_env("FrozenLake-v1", {"is_slippery": False})
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [1] + 15 * [0]
    assert env.observation_space.shape == (16,)
    observation, *_ = env.step(2)
    assert observation.argmax() == 1


def test_a_vector_env_never_resets_itself():
    envs = make_vec(AUDIT_ENV, 3, {"termination": 1.0})
    assert envs.num_envs == 3
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    envs.reset(seed=[1, 2, 3])
    observation, _, terminated, _, _ = envs.step(np.zeros(3, int))
    assert terminated.all()
    assert observation.tolist() == [[0, 0, 1]] * 3
    assert [env.unwrapped.seeds for env in envs.envs] == [[1], [2], [3]]


def test_a_vector_env_refuses_what_a_single_env_refuses():
    with pytest.raises(ConfigError, match="CartPole-v1"):
        make_vec("CartPol-v1", 2)


def test_pictures_are_collected_where_an_env_has_some():
    env = make_env_with_pictures("lit_dqn_tests/Pictured-v0", {"termination": 0.0, "truncation": 0.0})
    env.reset(seed=0)
    env.step(0)
    env.step(0)
    assert [picture[0, 0, 0] for picture in env.render()] == [0, 1, 2]


def test_an_env_without_pictures_can_be_played_all_the_same():
    env = make_env_with_pictures("lit_dqn_tests/Odd-v0")
    env.reset(seed=0)
    assert env.step(0)[0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("shape", "dtype", "stored"),
    [
        ((4, 4), np.uint8, np.uint8),
        ((2,), np.uint8, np.float32),
        ((2,), np.float64, np.float32),
        ((2,), np.float32, np.float32),
        ((2,), np.int64, np.float32),
    ],
)
def test_images_of_bytes_are_stored_as_they_are_and_all_else_as_float32(shape, dtype, stored):
    assert stored_dtype(spaces.Box(0, 1, shape, dtype)) == stored


class FailsAtOnce(gymnasium.Env):
    observation_space = spaces.Box(0, 1, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        raise RuntimeError("no display")


class LiesAboutItsShape(FailsAtOnce):
    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}


@pytest.mark.parametrize(
    ("env", "sentence"),
    [(FailsAtOnce(), "fails in its first reset: RuntimeError: no display"), (LiesAboutItsShape(), r"shape \(3,\)")],
)
def test_an_env_that_cannot_begin_is_refused(env, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_first_step("Some-v0", CheckedEnv(env, "env 0 of Some-v0"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [((gymnasium.make, {}), "env_id: an object of type function is no id"),
     (("CartPole-v1", {}, gymnasium.wrappers.FlattenObservation), "wrappers: the class FlattenObservation is no list")],
)  # fmt: skip
def test_an_env_has_an_id_and_its_wrappers_are_a_list(arguments, sentence):
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        make_env(*arguments)


class Rows(gymnasium.ObservationWrapper):
    """A wrapper with an argument, for the tests: keeps the first rows of an image."""

    def __init__(self, env, rows=2):
        super().__init__(env)
        box = env.observation_space
        self.rows = rows
        self.observation_space = spaces.Box(box.low[:rows], box.high[:rows], dtype=box.dtype)

    def observation(self, observation):
        return observation[: self.rows]


def test_images_come_channels_first_however_the_env_has_them():
    for dtype, high, wrappers in ((np.uint8, 255, []), (np.bool_, 1, []), (np.float32, 1, [ChannelsFirst])):
        space = spaces.Box(0, high, (6, 5, 3), dtype)
        env = make_env("lit_dqn_tests/Odd-v0", {"observation_space": space}, wrappers)
        inner = np.arange(90).reshape(6, 5, 3).astype(dtype)
        env.unwrapped.observe = lambda inner=inner: inner
        assert env.observation_space.shape == (3, 6, 5)
        assert stored_dtype(env.observation_space) == dtype
        observation, _ = env.reset(seed=0)
        np.testing.assert_array_equal(observation[2], inner[:, :, 2])
    for shape in ((3, 6, 5), (4, 84, 84), (1, 50, 84)):
        space = spaces.Box(0, 255, shape, np.uint8)
        assert make_env("lit_dqn_tests/Odd-v0", {"observation_space": space}).observation_space.shape == shape
    floats = {"observation_space": spaces.Box(0, 1, (6, 5, 3), np.float32)}  # which may be anything
    assert make_env("lit_dqn_tests/Odd-v0", floats).observation_space.shape == (6, 5, 3)
    with pytest.raises(ConfigError, match="wrappers: ChannelsFirst cannot be put around 'CartPole-v1': it shows Box"):
        make_env("CartPole-v1", {}, [ChannelsFirst])


@pytest.mark.parametrize(
    ("space", "shown", "seen"),
    [
        (spaces.Discrete(3, start=5), 6, [0, 1, 0]),
        (spaces.MultiDiscrete([2, 3]), [1, 0], [0, 1, 1, 0, 0]),
        (spaces.MultiBinary(3), [1, 0, 1], [1, 0, 1]),
    ],
)
def test_numbers_become_vectors_of_ones_and_zeros(space, shown, seen):
    env = make_env("lit_dqn_tests/Odd-v0", {"observation_space": space})
    env.unwrapped.observe = lambda: np.asarray(shown)
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == seen
    assert env.observation_space.shape == (len(seen),)
    assert stored_dtype(env.observation_space) == np.float32


def test_wrappers_go_around_the_env_the_first_one_innermost():
    space = spaces.Box(0, 255, (6, 5), np.uint8)
    kwargs = {"observation_space": space}
    assert make_env("lit_dqn_tests/Odd-v0", kwargs, [Rows]).observation_space.shape == (2, 5)
    flat = [Rows, gymnasium.wrappers.FlattenObservation]
    assert make_env("lit_dqn_tests/Odd-v0", kwargs, flat).observation_space.shape == (10,)
    with pytest.raises(ConfigError, match="wrappers: ResizeObservation cannot be put"):
        make_env("CartPole-v1", {}, [gymnasium.wrappers.ResizeObservation])


def test_processes_play_what_one_process_plays():
    together, apart = make_vec("CartPole-v1", 2), make_vec("CartPole-v1", 2, first_env=4, processes=True)
    for envs in (together, apart):
        envs.reset(seed=[1, 2])
    for t in range(40):
        action = np.array([t % 2, 1])
        one, other = together.step(action), apart.step(action)
        for a, b in zip(one[:4], other[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        ended = one[2] | one[3]
        if ended.any():
            for envs in (together, apart):
                envs.reset(seed=[t, t + 1], options={"reset_mask": ended.copy()})
    for process in apart.processes:  # as a terminal does to all at Ctrl-C
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGUSR1)
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGTERM)  # as `timeout` does to the whole group
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGUSR1)
    apart.reset(seed=[1, 2])
    apart.step(action)
    os.kill(apart.processes[1].pid, signal.SIGKILL)
    with pytest.raises(TrainingError, match=r"env 5 of CartPole-v1 failed in step 42: its process was"):
        apart.step(action)


def test_a_process_that_hangs_is_given_up(monkeypatch):
    envs = make_vec("CartPole-v1", 1, processes=True)
    envs.reset(seed=[1])
    monkeypatch.setattr("lit_dqn.envs.processes.ANSWER_SECONDS", 0.5)
    os.kill(envs.processes[0].pid, signal.SIGSTOP)
    with pytest.raises(
        TrainingError, match=r"one of the 1 envs of CartPole-v1 failed in step 1: no answer within 0.5 s"
    ):
        envs.step(np.array([0]))


def test_games_of_ale_need_no_processes():
    with pytest.raises(ConfigError, match="env_processes: true is not for ALE/Pong-v5"):
        ReplayDataModule("ALE/Pong-v5", env_processes=True)
