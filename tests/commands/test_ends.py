"""However a run with `env_processes: true` ends, it ends, with the exit code that belongs to it; no process stays."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import lightning
import numpy as np
import pytest

from ends import ENV, WAYS, Ends
from helpers import make_agent, make_data, make_trainer
from lit_dqn import ConfigError
from lit_dqn.envs import make_vec, processes

CODES = {
    "limit": 0,
    "SIGINT": 130,
    "SIGINT twice": 130,
    "SIGTERM": 143,
    "SIGKILL": -9,
    "NaN": 2,
    "bug": 1,
    "raise": 1,
    "die": 2,
    "hang": 2,
    "test raises": 1,
}


def ends_of(folder: Path, start_method: str, ways) -> dict:
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, tests / "ends.py", folder, start_method, *ways]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("start_method", "ways"),
    [
        ("fork", ("die",)),
        pytest.param("forkserver", WAYS, marks=pytest.mark.slow),
    ],
)
def test_a_run_ends_with_its_code_and_leaves_no_process(tmp_path, start_method, ways):
    for way, end in ends_of(tmp_path, start_method, ways).items():
        assert (end["code"], end["left"]) == (CODES[way], []), f"{way}: {end['said']}"


def test_each_way_has_its_code():
    assert CODES.keys() == set(WAYS)


# --- the parts ---


class AtHomeOnly(Ends):
    """An env that cannot be made in another process, such as one that a script has registered."""

    def __init__(self):
        if multiprocessing.parent_process() is not None:
            os._exit(1)
        super().__init__()


gymnasium.register("lit_dqn_tests/AtHomeOnly-v0", AtHomeOnly, disable_env_checker=True)


@pytest.fixture
def forked(monkeypatch):
    monkeypatch.setattr(processes, "START_METHOD", "fork")
    yield
    assert multiprocessing.active_children() == []


def test_an_env_that_cannot_be_made_in_a_process_is_refused_and_leaves_none(forked):
    with pytest.raises(ConfigError, match=r"env_processes: 'lit_dqn_tests/AtHomeOnly-v0' cannot be made .* module:id"):
        make_vec("lit_dqn_tests/AtHomeOnly-v0", 2, processes=True)


def test_envs_that_are_in_the_middle_of_a_step_are_ended_after_a_while(forked, monkeypatch):
    monkeypatch.setattr(processes, "CLOSE_SECONDS", 0.5)
    envs = make_vec(ENV, 2, {"fault": "hang"}, processes=True)
    envs.reset(seed=[1, 2])
    for _ in range(19):
        envs.step(np.zeros(2, int))
    envs.step_async(np.zeros(2, int))
    begin = time.monotonic()
    envs.close()
    assert time.monotonic() - begin < 20


def test_an_error_of_the_envs_own_is_not_taken_for_its_death(forked):
    envs = make_vec(ENV, 2, {"fault": "raise"}, processes=True)
    envs.reset(seed=[1, 2])
    for _ in range(19):
        envs.step(np.zeros(2, int))
    with pytest.raises(FileNotFoundError, match="no such level"):
        envs.step(np.zeros(2, int))
    envs.close()


class Stops(lightning.Callback):
    def __init__(self, hook: str, error: BaseException) -> None:
        setattr(self, hook, self.stop)
        self.error = error

    def stop(self, *args) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("hook", "error", "verb"),
    [
        ("on_train_start", ValueError(), "fit"),
        ("on_train_batch_end", KeyboardInterrupt(), "fit"),
        ("on_validation_batch_end", ValueError(), "fit"),
        ("on_test_batch_end", ValueError(), "test"),
    ],
)
def test_whatever_ends_a_trainer_its_envs_are_closed_at_once(forked, hook, error, verb):
    data = make_data(num_envs=2, eval_envs=2, gradient_steps=2, env_processes=True)
    with pytest.raises((SystemExit, ValueError)):
        getattr(make_trainer(callbacks=[Stops(hook, error)]), verb)(make_agent(), datamodule=data)
    assert multiprocessing.active_children() == []
