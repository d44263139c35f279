"""What is wrong with an env is said of the env, when it happens, and not of the learning rate later."""

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
from lit_dqn.playing.trajectories import play_episode
from lit_dqn.replay import Replay, ReplayBuffer, Uniform

ENV = "faulty:lit_dqn_tests/Faulty-v0"

AFTER = r" in step 7 of an episode, after action [01]"
SAYS = r"though its observation space says \(2,\); fix the environment\.$"
FAULTS = {
    "reward": rf"gives the reward nan{AFTER}; fix the environment: a reward is a finite number\.$",
    "infinite": rf"gives the reward -inf{AFTER}; ",
    "none": rf"gives the reward None{AFTER}; ",
    "word": rf"gives the reward '1'{AFTER}; ",
    "no observation": rf"shows no observation but None{AFTER}, {SAYS}",
    "shape": rf"shows an observation of shape \(3,\){AFTER}, {SAYS}",
}
OBSERVATION = (
    r"shows nan as number 2 of the 2 of its observation at step {} of its episode; fix the environment, or bound what "
    r"it shows by a wrapper"
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
