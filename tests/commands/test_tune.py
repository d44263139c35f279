"""Searches in a real storage: shared by processes, killed at any moment, no trial lost or made twice."""

import csv
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

import lit_dqn
from helpers import TINY
from lit_dqn.commands.inputs import find_config
from lit_dqn.commands.tuning.description import Pruning, Search, read_search
from lit_dqn.commands.tuning.rows import DONE, FAILED, PRUNED, RUNNING
from lit_dqn.commands.tuning.space import Choices, Span
from lit_dqn.errors import ConfigError, TrainingError

pytest.importorskip("optuna", reason="Optuna is not installed; it comes with the extra tune")

from lit_dqn.commands.tuning.trial_jobs import base_of, check_base, settings_of
from lit_dqn.commands.tuning.trials import Trials
from lit_dqn.commands.tuning.verbs import check_runs

WITH_LIT_DQN = os.environ | {
    "PYTHONPATH": os.pathsep.join(
        [str(Path(lit_dqn.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
}
SPACE = {
    "model.optimizer.init_args.lr": Span(1e-5, 1e-2, whole=False, log=True),
    "data.n_step": Span(1, 9, whole=True),
    "model.network.hidden_sizes": Choices(([16], [64, 64])),
}


def search(folder: Path, **changes: object) -> Search:
    given = {
        "name": "mine",
        "folder": folder,
        "files": ("mine.yaml",),
        "overrides": {"stop.max_env_steps": 900},
        "space": SPACE,
        "seeds": (100, 101),
        "trials": 4,
        "target": None,
        "checkpoint": "last",
        "test_episodes": 5,
        "prune": Pruning(1, 1),
        "storage": f"sqlite:///{folder}/trials.db",
        "at_once": 1,
        "threads": 1,
    }
    return Search(**(given | changes))


def test_a_storage_keeps_trials_for_every_process(folder):
    settings = {"base": {"data": {"gamma": 0.9}}, "seeds": [100, 101]}
    ours, theirs = (Trials(search(folder), settings, place) for place in ("here", "there"))
    first, second = ours.begin(), theirs.begin()
    assert (first.number, second.number) == (0, 1)
    assert first.chosen != second.chosen
    assert first.chosen.keys() == SPACE.keys()
    assert isinstance(first.chosen["data.n_step"], int)
    assert 1e-5 <= first.chosen["model.optimizer.init_args.lr"] <= 1e-2
    assert first.chosen["model.network.hidden_sizes"] in ([16], [64, 64])
    assert (ours.interrupted(), theirs.interrupted()) == ([0], [1])
    # Another process of the same folder resumes it unchanged.
    assert Trials(search(folder), settings, "here").again(0) == first
    for number, value in enumerate([-3.0, -2.0]):
        ours.report(first, number, value)
    assert ours.reported(first) == 2
    ours.complete(first, [-1.0, -2.0])
    assert ours.again(0) is None
    theirs.report(second, 0, -9.0)
    assert not theirs.is_hopeless(second)  # the first evaluation says nothing yet
    theirs.report(second, 1, -9.0)
    assert theirs.is_hopeless(second)
    theirs.prune(second)
    third, fourth = ours.begin(), ours.begin()
    assert ours.begin() is theirs.begin() is None  # four are all
    ours.fail(third, "no luck")
    assert theirs.best() == -1.5
    rows = theirs.rows()
    assert [(row.state, row.value) for row in rows] == [(DONE, -1.5), (PRUNED, -9.0), (FAILED, None), (RUNNING, None)]
    assert rows[0].returns == (-1.0, -2.0)
    assert rows[1].evaluations == (-9.0, -9.0)
    assert rows[2].reason == "no luck"
    assert rows[3].trial == fourth
    assert [row.trial for row in rows[:2]] == [first, second]


@pytest.mark.slow
def test_what_a_trial_tries_does_not_depend_on_interruptions(folder):
    """The number of a trial and those before it decide, not how many processes there were."""
    chosen = []
    for name, interrupted in (("one", False), ("two", True)):
        settings: dict = {}
        place = folder / name
        place.mkdir()
        trials = Trials(search(place, trials=11), settings, "here")
        for number in range(11):
            if interrupted and number > 8:  # the first ten are drawn at random
                trials = Trials(search(place, trials=11), settings, "here")
            trial = trials.begin()
            trials.complete(trial, [float(trial.chosen["data.n_step"]), 0.0])
            chosen.append((number, trial.chosen))
    assert chosen[:11] == chosen[11:]
    assert len({str(one) for one in chosen}) == 11


def test_a_search_keeps_its_settings(folder):
    then = {"base": {"data": {"gamma": 0.9, "reward_clip": None}}, "space": {"data.n_step": {"low": "1"}}}
    Trials(search(folder), then, "here")
    Trials(search(folder), then, "there")
    newer = {"data": {**then["base"]["data"], "prefill": []}}  # a setting that the release of then did not have
    Trials(search(folder), then | {"base": newer}, "here")
    for now, said in (
        (
            then | {"base": {"data": {"gamma": 1.0, "reward_clip": None}}},
            r"^data\.gamma: .* with 0\.9, .* with 1\.0; give",
        ),
        (
            then | {"base": {"data": {"gamma": 0.9, "reward_clip": 1.0}}},
            r"^data\.reward_clip: .* None, and would resume",
        ),
        (then | {"space": {"data.n_step": {"low": "1"}, "more": {"low": "2"}}}, r"^space\.more\.low: the search mine"),
        (then | {"space": {}}, r"^space"),
    ):
        with pytest.raises(ConfigError, match=said):
            Trials(search(folder), now, "here")


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "nosuch://me:secret@host/name"])
def test_a_storage_that_cannot_be_used_is_refused_without_its_password(folder, url):
    with pytest.raises(
        ConfigError, match=r"^storage: .* cannot be used \(.*\); see that the database is there"
    ) as error:
        Trials(search(folder, storage=url), {}, "here")
    assert "secret" not in str(error.value)


def test_a_database_that_fails_is_reported_in_a_sentence(folder):
    trials = Trials(search(folder), {}, "here")
    with sqlite3.connect(folder / "trials.db") as database:
        database.execute("DROP TABLE trials")
    said = r"^storage: sqlite.* broke off \(.*\); once it is there again, the same"
    with pytest.raises(TrainingError, match=said), trials.connected():
        trials.begin()


# --- with real runs ---

TINY_SEARCH = {
    "configs": ["cartpole"],
    "overrides": TINY
    | {
        "data.updates_per_epoch": 32,
        "data.eval_max_steps": 500,
        "stop.max_env_steps": 640,
        "trainer.check_val_every_n_epoch": 1,
    },
    "space": {
        "model.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
        "data.n_step": {"low": 1, "high": 3},
        "model.objective": ["QLearning", "DoubleQLearning"],
    },
    "trials": 5,
    "test_episodes": 3,
    "prune": {"after_trials": 2},
    "at_once": 2,
}


def start(folder: Path, *words: str) -> subprocess.Popen:
    with (folder / "output.txt").open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "lit_dqn", "tune", "tiny.yaml", *words],
            cwd=folder,
            stdout=output,
            stderr=output,
            env=WITH_LIT_DQN,
        )


def write(folder: Path, /, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY_SEARCH | changes, sort_keys=False))
    return folder


def children(parent: subprocess.Popen) -> list[psutil.Process]:
    try:
        return [
            child for child in psutil.Process(parent.pid).children() if "studies.worker" in " ".join(child.cmdline())
        ]
    except psutil.Error:
        return []


def lines_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "tuning/tiny/runs.csv").open()))


def until_runs(process: subprocess.Popen) -> None:
    while process.poll() is None and not children(process):
        time.sleep(0.02)


def kill_some(folder: Path, dice: random.Random, *words: str) -> list[str]:
    """Kill a run, the search, and a run again, at random moments, and resume each time; return what was killed."""
    killed = []
    process = start(folder, *words)
    for who in ("child", "parent", "child", "parent"):
        until_runs(process)
        time.sleep(dice.uniform(0, 8))
        found = children(process)
        if process.poll() is not None:
            break
        if who == "child" and found:
            dice.choice(found).kill()
        elif who == "parent":
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start(folder, *words)
        killed.append(who)
    assert process.wait(timeout=1200) == 0, (folder / "output.txt").read_text()
    return killed


def test_a_search_ends_if_a_config_file_changes_while_it_runs(folder):
    (folder / "base.yaml").write_text("data: {gamma: 0.9}\n")
    mine = search(folder, files=(find_config("cartpole"), "base.yaml"), overrides=TINY)
    settings = settings_of(mine, base_of(mine))
    check_base(mine, settings)
    (folder / "base.yaml").write_text("data: {gamma: 0.8}\n")
    with pytest.raises(
        TrainingError, match=r"^tune: a config file changed .*: data\.gamma was 0\.9, is 0\.8 now; restore it"
    ):
        check_base(mine, settings)
    (folder / "base.yaml").unlink()
    with pytest.raises(TrainingError, match=r"^tune: a config file changed .*there is no file base\.yaml"):
        check_base(mine, settings)


def test_the_runs_of_another_search_are_not_taken_for_its_own(folder):
    mine = search(folder)
    trials = Trials(mine, {}, "here")
    check_runs(folder, trials.any_of_this_place())
    run = folder / "runs/trial_0/CartPole-v1/seed_100"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"^folder: .* has runs of another search, named or stored differently; give"):
        check_runs(folder, trials.any_of_this_place())
    assert trials.begin() is not None
    check_runs(folder, trials.any_of_this_place())
    assert not Trials(mine, {}, "there").any_of_this_place()


@pytest.mark.slow
def test_a_search_that_is_killed_is_the_search_that_was_not(tmp_path):
    # One run at a time: which trials were known when another began is then the same, too.
    whole, killed = (write(tmp_path / name, at_once=1) for name in ("whole", "killed"))
    assert start(whole).wait(timeout=1200) == 0, (whole / "output.txt").read_text()
    assert "parent" in kill_some(killed, random.Random(1))
    assert lines_of(whole) == lines_of(killed)
    assert {line["state"] for line in lines_of(whole)} <= {"done", "pruned"}
    assert [line["trial"] for line in lines_of(whole)] == [str(number) for number in range(5)]
    for name in ("winner.yaml", "figures/history.png", "figures/slices.png", "report.md"):
        assert (whole / "tuning/tiny" / name).read_bytes() == (killed / "tuning/tiny" / name).read_bytes(), name
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lit_dqn",
            "fit",
            "--config=cartpole",
            "--config=tuning/tiny/winner.yaml",
            "--print_config",
        ],
        cwd=whole,
        capture_output=True,
        text=True,
        env=WITH_LIT_DQN,
    )
    best = max((line for line in lines_of(whole) if line["state"] == "done"), key=lambda line: float(line["return"]))
    assert f"n_step: {best['data.n_step']}\n" in done.stdout, done.stderr


# --- PostgreSQL ---


@pytest.fixture
def postgres(tmp_path) -> Iterator[str]:
    """The URL of an empty database of a server of its own."""
    pytest.importorskip("psycopg", reason="psycopg, the driver of PostgreSQL, is not installed")
    initdb = shutil.which("initdb")
    if initdb is None or shutil.which("postgres") is None:
        pytest.skip("PostgreSQL is not there")
    data = tmp_path / "server"
    data.mkdir()
    user: dict = {}
    if os.name == "posix" and os.geteuid() == 0:  # the server refuses root
        shutil.chown(data, "nobody")
        for parent in [data, *data.parents][1:4]:
            parent.chmod(0o755)
        user = {"user": "nobody"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": data} | user
    subprocess.run([initdb, "-D", str(data / "db"), "-U", "me", "-A", "trust", "--no-sync"], check=True, **quiet)
    options = ["-D", str(data / "db"), "-p", str(port), "-h", "127.0.0.1", "-k", str(data), "-F"]
    server = subprocess.Popen([shutil.which("postgres"), *options], **quiet)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"postgresql+psycopg://me@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # after SIGTERM it would wait for this process to disconnect
        server.wait()


ASKING = """
import sys, time
from pathlib import Path
from lit_dqn.commands.tuning.description import read_search
from lit_dqn.commands.tuning.trials import Trials
url, place = sys.argv[1:]
trials = Trials(read_search(Path("mine.yaml"), storage=url), {}, place)
Path(f"asks_{place}").touch()
while True:
    for number in trials.interrupted():  # of the one of this place that was killed
        trial = trials.again(number)
        trials.complete(trial, [float(number)])
    trial = trials.begin()
    if trial is None:
        break
    with open(f"tried_{place}", "a") as file:
        print(trial.number, file=file)
    time.sleep(0.05)
    trials.complete(trial, [float(trial.number)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_processes_that_ask_at_the_same_moment_share_trials_and_lose_none(folder, kind, request):
    url = f"sqlite:///{folder}/trials.db" if kind == "sqlite" else request.getfixturevalue("postgres")
    places = ["a", "b", "c"]
    (folder / "mine.yaml").write_text("configs: cartpole\ntrials: 24\nspace: {data.n_step: {low: 1, high: 9}}\n")
    everything = read_search(folder / "mine.yaml", storage=url)
    Trials(everything, {}, "a")  # the tables are there

    def asks(place: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", ASKING, url, place], env=WITH_LIT_DQN)

    running = {place: asks(place) for place in places}
    dice = random.Random(0)
    while not all((folder / f"asks_{place}").exists() for place in places):
        time.sleep(0.01)
    for _ in range(4):
        place = dice.choice(places)
        time.sleep(dice.uniform(0, 0.3))
        running[place].kill()
        running[place].wait()
        running[place] = asks(place)
    assert [process.wait(timeout=120) for process in running.values()] == [0, 0, 0]
    rows = Trials(everything, {}, "a").rows()
    # Two that asked for the last one at the same moment have noted the one too many.
    assert [(row.trial.number, row.state) for row in rows[:24]] == [(number, DONE) for number in range(24)]
    assert all(row.state == FAILED for row in rows[24:])
    tried = [file.read_text().split() for file in folder.glob("tried_*")]
    assert len(tried) > 1
    numbers = [number for of_a_place in tried for number in of_a_place]
    assert len(numbers) == len(set(numbers))


@pytest.mark.slow
def test_two_processes_share_a_search_on_postgresql(tmp_path, postgres):
    # Each in its own folder, as on two machines; one is killed and resumes.
    folders = [write(tmp_path / name, at_once=1, trials=8) for name in ("one", "two")]
    other = start(folders[1], "--storage", postgres)
    assert "parent" in kill_some(folders[0], random.Random(3), "--storage", postgres)
    assert other.wait(timeout=1200) == 0, (folders[1] / "output.txt").read_text()
    assert start(folders[0], "--storage", postgres).wait(timeout=1200) == 0
    lines = lines_of(folders[0])
    assert [line["trial"] for line in lines] == [str(number) for number in range(8)]
    assert {line["state"] for line in lines} <= {"done", "pruned"}
    here, there = ({path.name for path in folder.glob("tuning/tiny/runs/trial_*")} for folder in folders)
    assert here
    assert there
    assert not here & there
    assert here | there == {f"trial_{number}" for number in range(8)}
    for folder in folders:
        for run in folder.glob("tuning/tiny/runs/trial_*/*/seed_*"):
            assert len(list(run.glob("version_*"))) == 1, run
