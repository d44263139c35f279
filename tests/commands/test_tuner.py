"""The runs of a search: none is lost, none is made twice, hopeless ones are ended; with stubs in place of runs."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lit_dqn.commands.studies import crew
from lit_dqn.commands.studies.description import Job
from lit_dqn.commands.tuning import tuner as module
from lit_dqn.commands.tuning.rows import Trial
from lit_dqn.commands.tuning.tuner import Tuner, evaluations_of
from lit_dqn.errors import ConfigError
from lit_dqn.saving.lock import Lock

EVALUATIONS = 6

# In place of a run: it writes evaluations, -number of its trial - its seed / 10, waits for `go` where its folder says
# so, continues from its present state, and ends when its standard input does.
STUB = f"""
import json, os, sys, threading, time
from pathlib import Path
folder = Path(sys.argv[1])
threading.Thread(target=lambda: (os.read(0, 1), os._exit(143)), daemon=True).start()
trial, seed = (int(part.rpartition("_")[2]) for part in (folder.parents[1].name, folder.name))
with (folder / "starts").open("a") as file:
    file.write("x")
version = folder / "version_0"
version.mkdir(exist_ok=True)
lines = version / "metrics.csv"
if not lines.exists():
    lines.write_text("eval/mean_reward,step\\n")
for step in range(len(lines.read_text().splitlines()), {EVALUATIONS} + 1):
    with lines.open("a") as file:
        file.write(f"{{-trial - seed / 10}},{{step}}\\n")
    time.sleep(0.03)
    if (folder / "fails").exists():
        print("error: no luck")
        sys.exit(2)
    while (folder / "waits").exists() and step == 2:
        time.sleep(0.02)
mean = -trial - seed / 10
results = [dict(env_step=9, protocol=dict(episodes=int(sys.argv[2])), **{{"return": dict(mean=mean)}})]
(version / "results.json").write_text(json.dumps(results))
"""


class Storage:
    """Trials in memory. A trial is hopeless if its number is in `hopeless`, from the second evaluation on."""

    def __init__(self, number: int, hopeless: tuple[int, ...] = ()) -> None:
        self.number, self.hopeless = number, hopeless
        self.states: dict[int, str] = {}
        self.reports: dict[int, list[float]] = {}
        self.returns: dict[int, list[float]] = {}

    def begin(self) -> Trial | None:
        number = len(self.states)
        if number >= self.number:
            return None
        self.states[number], self.reports[number] = "running", []
        return Trial(number, {"a": number})

    def best(self) -> float | None:
        done = [sum(values) / len(values) for values in self.returns.values()]
        return max(done, default=None)

    def interrupted(self) -> list[int]:
        return [number for number, state in self.states.items() if state == "running"]

    def again(self, number: int) -> Trial | None:
        return Trial(number, {"a": number}) if self.states[number] == "running" else None

    def reported(self, trial: Trial) -> int:
        return len(self.reports[trial.number])

    def report(self, trial: Trial, number: int, value: float) -> None:
        assert number == len(self.reports[trial.number])
        self.reports[trial.number].append(value)

    def is_hopeless(self, trial: Trial) -> bool:
        return trial.number in self.hopeless and len(self.reports[trial.number]) > 1

    def end(self, trial: Trial, state: str) -> None:
        assert self.states[trial.number] == "running"
        self.states[trial.number] = state

    def complete(self, trial: Trial, returns: list[float]) -> None:
        self.end(trial, "done")
        self.returns[trial.number] = returns

    def prune(self, trial: Trial) -> None:
        self.end(trial, "pruned")

    def fail(self, trial: Trial, reason: str) -> None:
        self.end(trial, f"failed: {reason}")


class Told:
    """A view that records its events."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begins(self, trial: Trial, again: bool) -> None:
        self.lines.append(f"{trial.number} {'again' if again else 'begins'}")

    def ends(self, trial: Trial, how: str, value: float | None) -> None:
        self.lines.append(f"{trial.number} {how.split(' (')[0]}" + ("" if value is None else f" {value:.2f}"))

    def restarts(self, job: Job) -> None:
        self.lines.append(f"{job} restarts")

    def moves(self) -> None:
        pass


@pytest.fixture(autouse=True)
def stubs(folder, monkeypatch) -> None:
    (folder / "stub.py").write_text(STUB)
    monkeypatch.setattr(crew, "WORKER", (sys.executable, str(folder / "stub.py")))
    monkeypatch.setattr(crew, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)


def job(number: int, seed: int) -> Job:
    folder = Path(f"tuned/runs/trial_{number}/Pole/seed_{seed}")
    folder.mkdir(parents=True, exist_ok=True)
    return Job(f"trial_{number}", "Pole", seed, folder, "", None, 0)


def jobs_of(trial: Trial) -> list[Job]:
    if trial.chosen["a"] == 99:
        raise ConfigError("a: 99 is too much.")
    return [job(trial.number, seed) for seed in (1, 2)]


def run(storage: Storage, at_once: int = 2, target: float | None = None) -> list[str]:
    told = Told()
    search = SimpleNamespace(folder=Path("tuned"), test_episodes=5, target=target)
    tuner = Tuner(search, storage, jobs_of, told)
    crew.run_all(tuner, 5, "last", at_once, 1, tuner)
    return told.lines


def starts(number: int, seed: int) -> int:
    file = job(number, seed).folder / "starts"
    return len(file.read_text()) if file.exists() else 0


def test_each_trial_is_run_once_and_graded_by_the_mean_of_its_seeds():
    storage = Storage(2)
    assert run(storage, at_once=1) == ["0 begins", "0 done -0.15", "1 begins", "1 done -1.15"]
    assert storage.states == {0: "done", 1: "done"}
    assert storage.returns == {0: [-0.1, -0.2], 1: [-1.1, -1.2]}
    assert storage.reports[1] == pytest.approx([-1.15] * EVALUATIONS)
    assert [starts(number, seed) for number in (0, 1) for seed in (1, 2)] == [1] * 4
    assert run(storage) == []


def test_a_hopeless_trial_is_stopped_while_it_runs():
    for seed in (1, 2):
        (job(0, seed).folder / "waits").touch()  # after its second evaluation, so that it is surely seen
    storage = Storage(2, hopeless=(0,))
    lines = run(storage, at_once=4)
    assert "0 pruned by evaluation 2" in lines
    assert storage.states == {0: "pruned", 1: "done"}
    assert not (job(0, 1).folder / "version_0/results.json").exists()
    assert len(storage.reports[0]) == 2


def test_a_hopeless_trial_whose_second_seed_waits_never_starts_that():
    storage = Storage(1, hopeless=(0,))
    storage.states, storage.reports = {0: "running"}, {0: [-1.0, -1.0]}  # killed before it was stored
    assert run(storage) == ["0 again", "0 pruned by evaluation 2"]
    assert starts(0, 1) == starts(0, 2) == 0


def test_a_trial_that_fails_is_reported_and_its_other_seed_stops():
    (job(0, 1).folder / "fails").touch()
    (job(0, 2).folder / "waits").touch()
    storage = Storage(2)
    lines = run(storage, at_once=2)
    assert "0 failed: no luck" in lines
    assert storage.states[0].startswith("failed: no luck (all that it said: ")
    assert storage.states[1] == "done"


def test_settings_that_do_not_go_together_are_a_trial_that_failed(monkeypatch):
    storage = Storage(2)
    begin = storage.begin
    monkeypatch.setattr(storage, "begin", lambda: (found := begin()) and Trial(found.number, {"a": 99 - found.number}))
    assert run(storage)[:3] == ["0 begins", "0 failed: a: 99 is too much.", "1 begins"]
    assert storage.states == {0: "failed: a: 99 is too much.", 1: "done"}


def test_interrupted_runs_resume_and_tested_ones_are_not_repeated():
    storage = Storage(1)
    run(storage)
    storage.states = {0: "running"}  # killed after the tests, before the storage knew
    storage.returns = {}
    assert run(storage) == ["0 again", "0 done -0.15"]
    assert starts(0, 1) == starts(0, 2) == 1
    storage.states, storage.returns = {0: "running"}, {}
    (job(0, 2).folder / "version_0/results.json").unlink()
    assert run(storage) == ["0 again", "0 done -0.15"]
    assert (starts(0, 1), starts(0, 2)) == (1, 2)
    assert len(storage.reports[0]) == EVALUATIONS


def test_a_trial_that_another_process_runs_is_left_to_it():
    storage = Storage(2)
    storage.begin()
    job(0, 1)
    lock = Lock(Path("tuned/runs/trial_0/trial.lock"))
    lock.acquire("")
    try:
        assert run(storage) == ["1 begins", "1 done -1.15"]
        assert storage.states == {0: "running", 1: "done"}
    finally:
        lock.release()
    assert run(storage) == ["0 again", "0 done -0.15"]


def test_the_search_ends_at_its_target():
    storage = Storage(9)
    assert run(storage, at_once=1, target=-0.2) == ["0 begins", "0 done -0.15"]
    assert run(storage, target=-0.2) == []
    storage = Storage(3)
    assert len(run(storage, target=-0.1)) == 6  # it is not reached: all are run
    assert set(storage.states.values()) == {"done"}


def test_evaluations_are_read_over_resumes_and_cut_lines(folder):
    version = folder / "version_0"
    version.mkdir()
    assert evaluations_of(folder) == []
    (version / "metrics_to_env_step_20.csv").write_text("eval/mean_reward,step\n-5.0,10\n,15\n-4.0,20\n")
    (version / "metrics.csv").write_text("step,eval/mean_reward\n20,-4.0\n30,-3.0\n35,\n40,-20")
    assert evaluations_of(folder) == [-5.0, -4.0, -3.0]
    (version / "metrics.csv").write_text("step,ev")
    assert evaluations_of(folder) == [-5.0, -4.0]
    assert json.dumps(evaluations_of(folder / "nowhere")) == "[]"
