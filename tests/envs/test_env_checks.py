"""What is wrong with an env is said of the env, when it happens, and not of the learning rate later."""

from types import MappingProxyType

import gymnasium
import numpy as np
import pytest

from audit import NobodyAsks
from helpers import run, tiny
from lit_dqn import ReplayDataModule
from lit_dqn.envs import make_env, make_vec
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.evaluation import play_episodes
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import UniformRandom
from lit_dqn.playing.stage import Stage
from lit_dqn.playing.trajectories import play_episode
from lit_dqn.replay import Replay, ReplayBuffer, Uniform

ENV = "faulty:lit_dqn_tests/Faulty-v0"

AFTER = r" in step 7 of an episode, after action [01]"
FIVE = r"fix the environment: step returns \(observation, reward, terminated, truncated, info\)\.$"
SAYS = r"though its observation space says \(2,\); fix the environment\.$"
FAULTS = {
    "reward": rf"gives the reward nan{AFTER}; fix the environment: a reward is a finite number\.$",
    "infinite": rf"gives the reward -inf{AFTER}; ",
    "none": rf"gives the reward None{AFTER}; ",
    "word": rf"gives the reward '1'{AFTER}; ",
    "no observation": rf"shows no observation but None{AFTER}, {SAYS}",
    "shape": rf"shows an observation of shape \(3,\){AFTER}, {SAYS}",
    "four values": rf"returns{AFTER}, what its wrappers cannot read \(ValueError: .*expected 5, got 4\)\); {FIVE}",
    "nothing": rf"returns{AFTER}, what its wrappers cannot read \(TypeError: .*NoneType object\); {FIVE}",
    "two ends": rf"gives as terminated array\(\[False, False\]\){AFTER}; fix the environment: it is True or False\.$",
    "two truncations": rf"gives as truncated array\(\[False, False\]\){AFTER}; fix ",
    "no end": rf"gives as terminated None{AFTER}; fix the environment: it is True or False\.$",
    "info": rf"gives the info None{AFTER}; fix the environment: an info is a dictionary, which may be {{}}\.$",
}
OBSERVATION = (
    r"^env_id: env 0 of .*Faulty-v0 shows nan as number 2 of the 2 of its observation at step {} of its episode; "
    r"fix the environment, or bound what it shows by a wrapper"
)
IGNORED = ("ignore::UserWarning", "ignore::DeprecationWarning")  # Gymnasium's own checker of the first step
pytestmark = [pytest.mark.filterwarnings(filter) for filter in IGNORED]


def collector(num_envs=3, first_env=0, **env_kwargs):
    envs = make_vec(ENV, num_envs, env_kwargs, first_env=first_env)
    buffer = ReplayBuffer(60, num_envs, (2,), np.float32, gamma=1)
    return Collector(Player(envs, 1, 0, first_env), UniformRandom(), Replay(buffer, Uniform()))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_learned_from_is_named_when_it_comes(fault):
    playing = collector(fault=fault)
    playing.collect(NobodyAsks(), 18)
    with pytest.raises(TrainingError, match=rf"^env_id: env 0 of {ENV} {FAULTS[fault]}"):
        playing.collect(NobodyAsks(), 3)


def test_an_observation_with_nan_is_named_with_its_step_and_place():
    playing = collector(fault="observation")
    playing.collect(NobodyAsks(), 18)
    with pytest.raises(TrainingError, match=OBSERVATION.format(7)):
        playing.collect(NobodyAsks(), 3)
    assert playing.store.buffer.state_dict()  # what was stored before is there
    with pytest.raises(TrainingError, match=OBSERVATION.format(0)):
        collector(fault="observation", step=0).collect(NobodyAsks(), 3)


@pytest.mark.parametrize("processes", [False, True])
def test_the_env_of_an_observation_with_nan_is_named_by_its_id(processes):
    envs = make_vec(ENV, 2, {"fault": "observation", "step": 1}, first_env=3, processes=processes)
    stage = Stage(envs, 1, seed=0, first_env=3)
    stage.begin(np.ones(2, bool))
    with pytest.raises(TrainingError, match=f"^env_id: env 3 of {ENV} shows nan as number 2"):
        stage.step(np.zeros(2, np.int64))
    envs.close()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_number_that_float32_cannot_hold_is_not_said_to_be_infinite():
    said = f"env 0 of {ENV} shows {{}}inf, or a finite number too large for float32, as number 2 of the 2 of"
    with pytest.raises(TrainingError, match=said.format("-")):
        collector(fault="too large").collect(NobodyAsks(), 30)
    with pytest.raises(ConfigError, match=said.format("")):
        ReplayDataModule(ENV, {"fault": "too large", "step": 0})


@pytest.mark.parametrize("env_id", [ENV, "faulty:lit_dqn_tests/FaultyLimited-v0"])
def test_a_mistake_of_the_env_itself_keeps_its_own_error(env_id):
    env = make_env(env_id, {"fault": "own mistake", "step": 2})
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(ValueError, match=r"^too many values to unpack"):
        env.step(0)


@pytest.mark.parametrize("fault", ["four values", "nothing"])
def test_what_a_wrapper_cannot_read_is_said_of_the_env(fault):
    env = make_env("faulty:lit_dqn_tests/FaultyLimited-v0", {"fault": fault})
    env.reset(seed=0)
    for _ in range(6):
        env.step(0)
    with pytest.raises(TrainingError, match=f"^env_id: env 0 of .*/FaultyLimited-v0 {FAULTS[fault]}"):
        env.step(0)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (
            "nothing",
            r"returns after a reset, what .* NoneType object\); fix the environment: reset returns \(obs.*, info\)",
        ),
        ("info", "gives the info None after a reset; fix the environment: an info is a dictionary"),
    ],
)
def test_a_reset_that_goes_wrong_is_said_of_the_env(fault, sentence):
    envs = make_vec(ENV, 2, {"fault": fault, "step": 0}, [gymnasium.wrappers.FlattenObservation])
    with pytest.raises(TrainingError, match=f"^env_id: env 0 of {ENV} {sentence}"):
        envs.reset(seed=[0, 1])


def test_flags_that_are_numbers_are_none_that_are_wrong():
    class Numbers(gymnasium.Wrapper):
        def step(self, action):
            observation, reward, terminated, truncated, info = self.env.step(action)
            return observation, reward, np.uint8(terminated), np.array(int(truncated)), MappingProxyType(info)

    env = make_env(ENV, wrappers=[Numbers])
    env.reset(seed=0)
    assert [bool(env.step(0)[3]) for _ in range(20)] == 19 * [False] + [True]


def test_an_env_is_named_by_its_number_over_the_whole_run():
    playing = collector(fault="none", first_env=5)
    with pytest.raises(TrainingError, match=f"^env_id: env 5 of {ENV}"):
        playing.collect(NobodyAsks(), 30)


def test_large_numbers_are_none_that_are_wrong():
    playing = collector(fault="large")  # its square overflows
    playing.collect(NobodyAsks(), 60)
    assert playing.store.buffer.sample(np.array([18])).next_observation.max() == pytest.approx(3e38)


@pytest.mark.parametrize("fault", ["none", "observation"])
def test_evaluations_are_looked_at_as_well(fault):
    sentence = FAULTS.get(fault, OBSERVATION.format(7))
    arguments = {"agent": NobodyAsks(), "policy": UniformRandom(), "max_steps": 50}
    with pytest.raises(TrainingError, match=sentence):
        list(play_episodes(make_vec(ENV, 2, {"fault": fault}), seeds=[0, 1], **arguments))
    with pytest.raises(TrainingError, match=sentence):
        list(play_episode(make_env(ENV, {"fault": fault}), seed=0, **arguments))


@pytest.mark.parametrize("fault", ["none", "shape"])
def test_in_a_separate_process_too(fault):
    envs = make_vec(ENV, 2, {"fault": fault, "step": 2}, first_env=6, processes=True)
    try:
        envs.reset(seed=[0, 1])
        envs.step(np.zeros(2, np.int64))
        with pytest.raises(TrainingError, match=r"env [67] of .* (the reward None|of shape \(3,\)) in step 2"):
            envs.step(np.zeros(2, np.int64))
    finally:
        envs.close(terminate=True)


@pytest.mark.parametrize(
    ("fault", "step", "sentence"),
    [
        ("no info", 0, r"fails in its first reset: it returns one value, of type ndarray; return two, \(observation,"),
        ("four values", 1, r"fails in its first step: it returns 4 values; return five, \(observation, reward, term"),
        ("one value", 1, r"fails in its first step: it returns one value, of type ndarray; return five"),
        ("none", 1, "gives the reward None in step 1"),
        ("observation", 1, OBSERVATION.format(1)),
        ("observation", 0, OBSERVATION.format(0)),
        ("shape", 0, r"shows an observation of shape \(3,\) after a reset, though its observation space says \(2,\)"),
        ("no observation", 0, "shows no observation but None after a reset"),
        ("info", 0, "fails in its first reset: .* was not a dictionary"),
        ("info", 1, "fails in its first step: .* must be a python dictionary"),
        ("no end", 1, "gives as terminated None in step 1 of an episode, after action 0; fix the environment: it is"),
    ],
)
def test_what_is_wrong_from_the_start_is_refused_before_there_is_a_run(fault, step, sentence):
    with pytest.raises(ConfigError, match=sentence) as refusal:
        ReplayDataModule(ENV, {"fault": fault, "step": step})
    assert str(refusal.value).startswith("env_id: ")


def test_a_run_ends_with_the_sentence_and_no_word_of_the_learning_rate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    faulty = (f"--data.env_id={ENV}", "--data.env_kwargs.fault=reward", "--data.env_kwargs.step=19")
    assert run(monkeypatch, "fit", *faulty, "--model.network=lit_dqn.MLP", *tiny()) == 2
    said = capsys.readouterr().err
    assert f"error: env_id: env 0 of {ENV} gives the reward nan in step 19 of an episode" in said
    assert "learning rate" not in said
    assert "Traceback" not in said
