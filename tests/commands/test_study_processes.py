"""The processes of a study: none is lost, none is made twice, none outlives it."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

import lit_dqn
from lit_dqn.commands import cli
from lit_dqn.commands.studies import crew, worker
from lit_dqn.commands.studies.description import Job
from lit_dqn.commands.studies.view import StudyView

WITH_LIT_DQN = os.environ | {"PYTHONPATH": str(Path(lit_dqn.__file__).parents[1])}
STEPS = 12

# In place of a run: it counts to STEPS in a file, continues from there, ends when its standard input does, and fails or
# is killed where its folder says so.
STUB = f"""
import json, os, sys, threading, time
from pathlib import Path
folder = Path(sys.argv[1])
threading.Thread(target=lambda: (os.read(0, 1), os._exit(143)), daemon=True).start()
with (folder / "starts").open("a") as file:
    file.write("x")
version = folder / "version_0"
version.mkdir(exist_ok=True)
lines = version / "episodes.csv"
if not lines.exists():
    lines.write_text("episode,env_step,return\\n")
for step in range(len(lines.read_text().splitlines()), {STEPS} + 1):
    with lines.open("a") as file:
        file.write(f"{{step}},{{step}},1.0\\n")
    time.sleep(0.03)
    if (folder / f"fail_at_{{step}}").exists():
        print("much is said\\nerror: the seed is bad")
        sys.exit(2)
    if (folder / f"kill_at_{{step}}").exists():
        (folder / f"kill_at_{{step}}").unlink()
        os.kill(os.getpid(), 9)
assert os.environ["OMP_NUM_THREADS"] == "3"
results = [dict(env_step={STEPS}, protocol=dict(episodes=int(sys.argv[2])), **{{"return": dict(mean=7.0)}})]
(version / "results.json").write_text(json.dumps(results))
"""


@pytest.fixture
def jobs(folder, monkeypatch) -> list[Job]:
    (folder / "stub.py").write_text(STUB)
    monkeypatch.setattr(crew, "WORKER", (sys.executable, str(folder / "stub.py")))
    monkeypatch.setattr(crew, "POLL_SECONDS", 0.02)
    made = [Job("DQN", "Pole", seed, folder / f"seed_{seed}", "", STEPS, 0) for seed in range(4)]
    for job in made:
        job.folder.mkdir()
    return made


def starts(job: Job) -> int:
    return len((job.folder / "starts").read_text())


def counted(job: Job) -> list[str]:
    return [line.split(",")[0] for line in (job.folder / "version_0/episodes.csv").read_text().splitlines()[1:]]


def run_all(jobs: list[Job], width: int = 100) -> tuple[dict[Job, str], list[str]]:
    """The failures, and the lines that were said."""
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, width=width, record=True)
        with StudyView(jobs, [], 5, 2, console) as view:
            failed = crew.run_all(jobs, 5, "last", 2, 3, view)
    return failed, console.export_text().splitlines()


def test_a_run_whose_process_is_killed_resumes_and_one_that_fails_is_reported(jobs):
    (jobs[1].folder / "kill_at_5").touch()
    (jobs[2].folder / "fail_at_3").touch()
    failed, said = run_all(jobs)
    assert [starts(job) for job in jobs] == [1, 2, 1, 1]
    assert failed == {jobs[2]: f"the seed is bad (all that it said: {jobs[2].folder / 'log.txt'})"}
    whole = [str(step) for step in range(1, STEPS + 1)]
    assert [counted(job) == whole for job in jobs] == [True, True, False, True]
    assert said[:2] == ["DQN, Pole, seed 0: started", "DQN, Pole, seed 1: started"]
    assert "DQN, Pole, seed 1: its process was ended from outside; it will be resumed" in said
    assert "DQN, Pole, seed 1: resumed" in said
    assert any(line.startswith("DQN, Pole, seed 2: failed: the seed is bad") for line in said)
    assert said[-1].startswith("DQN, Pole, seed 3: return 7.00; 3 of 4 runs done · 0 running · 1 failed")


def test_a_run_that_is_killed_again_and_again_is_given_up(jobs, monkeypatch):
    monkeypatch.setattr(crew, "RESTARTS", 2)
    for step in (2, 4, 6, 8):
        (jobs[0].folder / f"kill_at_{step}").touch()
    failed, _ = run_all(jobs[:1])
    assert starts(jobs[0]) == 3
    assert list(failed) == jobs[:1]


def test_ctrl_c_ends_the_runs_and_the_next_time_they_go_on(jobs):
    def interrupt():
        while not (jobs[1].folder / "starts").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    children = psutil.Process().children()  # of other tests in this process
    threading.Thread(target=interrupt).start()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(crew.Interrupted) as ended:
        run_all(jobs)
    assert ended.value.signal_number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    assert set(psutil.Process().children()) <= set(children)
    assert not (jobs[2].folder / "starts").exists()
    failed, _ = run_all(jobs)
    assert not failed
    assert [starts(job) for job in jobs] == [2, 2, 1, 1]
    assert all(len(counted(job)) == len(set(counted(job))) == STEPS for job in jobs)


def test_no_run_outlives_a_study_that_is_killed(jobs, folder):
    script = f"""
        import sys
        from pathlib import Path
        from lit_dqn.commands.studies import crew
        from unittest.mock import Mock
        from lit_dqn.commands.studies.description import Job
        crew.WORKER = (sys.executable, {str(folder / "stub.py")!r})
        job = Job("DQN", "Pole", 0, Path({str(jobs[0].folder)!r}), "", {STEPS}, 0)
        crew.run_all([job], 5, "last", 1, 3, Mock())
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=WITH_LIT_DQN)
    while not (jobs[0].folder / "starts").exists():
        assert parent.poll() is None
        time.sleep(0.01)
    (child,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    child.wait(timeout=10)
    assert len(counted(jobs[0])) < STEPS
    failed, _ = run_all(jobs[:1])
    assert not failed
    assert counted(jobs[0]) == [str(step) for step in range(1, STEPS + 1)]


# --- one run ---


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """What the command line was asked for; without standard input, which would end the test's own process."""
    words: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda: words.append(sys.argv[1:]))
    monkeypatch.setattr(worker, "_end_with_the_study", lambda: None)
    monkeypatch.setattr(sys, "argv", ["worker"])
    return words


def test_a_run_is_begun_resumed_or_left_alone(folder, asked):
    config = f"--config={folder / 'config.yaml'}"
    test = ["test", config, "--ckpt_path=best", "--data.eval_episodes=7"]
    (folder / "version_0").mkdir()
    (folder / "version_0/half").touch()
    worker.main(folder, 7, "best")
    assert asked == [["fit", config], test]
    assert not (folder / "version_0").exists()  # it was killed before its first checkpoint
    asked.clear()
    (folder / "version_0/checkpoints").mkdir(parents=True)
    (folder / "version_0/checkpoints/env_step_8.ckpt").touch()
    worker.main(folder, 7, "best")
    assert asked == [["fit", config, "--ckpt_path=last"], test]
    asked.clear()
    result = {"env_step": 8, "protocol": {"episodes": 3}, "return": {"mean": 1.0}}
    (folder / "version_0/results.json").write_text(json.dumps([result]))
    worker.main(folder, 7, "best")
    assert len(asked) == 2  # a test of other episodes is not the study's
    asked.clear()
    (folder / "version_0/results.json").write_text(json.dumps([result, {**result, "protocol": {"episodes": 7}}]))
    worker.main(folder, 7, "best")
    assert asked == []


def test_the_process_of_a_run_waits_for_an_earlier_one_of_the_same_run(folder, asked):
    holder = f"""
        import time
        from pathlib import Path
        from lit_dqn.saving.lock import Lock
        Lock(Path({str(folder / "run.lock")!r})).acquire("")
        print("held", flush=True)
        time.sleep(0.3)
        print(time.monotonic())
    """
    other = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(holder)], stdout=subprocess.PIPE, text=True, env=WITH_LIT_DQN
    )
    assert other.stdout.readline() == "held\n"
    worker.main(folder, 7, "last")
    now = time.monotonic()
    assert float(other.communicate()[0]) < now
    assert [words[0] for words in asked] == ["fit", "test"]
