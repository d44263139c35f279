"""Studies as users run them: checked first, complete at the end, whichever process was killed meanwhile."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml

import lit_dqn
from helpers import TINY
from lit_dqn.commands.studies import crew
from lit_dqn.commands.studies.description import Job, read_study
from lit_dqn.commands.studies.jobs import jobs_of, write_jobs
from lit_dqn.commands.studies.verbs import main
from lit_dqn.errors import ConfigError
from lit_dqn.replay.memory import RESERVE

WITH_LIT_DQN = os.environ | {"PYTHONPATH": str(Path(lit_dqn.__file__).parents[1])}
TINY_STUDY = {
    "agents": {"DQN": ["cartpole", "plain.yaml"], "Double": ["cartpole"]},
    "overrides": TINY
    | {
        "data.updates_per_epoch": 32,
        "data.eval_max_steps": 500,
        "model.learning_rate": 0.01,
        "stop.max_env_steps": 640,
    },
    "seeds": [0, 1],
    "scales": {"CartPole-v1": [0, 500]},
    "test_episodes": 3,
    "at_once": 2,
}


def write(folder: Path, /, **changes: object) -> Path:
    (folder / "plain.yaml").write_text("model: {objective: QLearning}\n")
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY_STUDY | changes, sort_keys=False))
    return file


@pytest.fixture
def never_run(monkeypatch):
    """Nothing is trained; every run that would be is noted."""
    started: list = []
    monkeypatch.setattr(crew, "_start", lambda job, *_: pytest.fail(f"{job} was started"))
    return started


@pytest.mark.usefixtures("never_run")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"overrides": {"data.capacty": 5}}, "DQN: data.capacty: there is no such key; did you mean capacity?"),
        ({"overrides": {"data.n_step": [1, -1]}}, "DQN, n_step=-1: n_step: -1 must be"),
        ({"agents": {"A": ["cartpole"], "B": ["acrobot"]}}, "agents: they play CartPole-v1 and Acrobot-v1; give each"),
        (
            {"agents": {"A": ["cartpole"]}, "scales": {"Pong": [0, 1]}},
            "scales: there is no task Pong; the study has CartPole-v1",
        ),
        ({"agents": {"A": ["cartpole"]}, "overrides": {"data.capacity": 10**12}}, "A: capacity: a replay of"),
    ],
)
def test_every_config_of_the_grid_is_checked_before_the_first_run(folder, capsys, changes, said):
    write(folder, **changes)
    assert main("study", ["tiny.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert sorted(path.name for path in folder.iterdir()) == ["plain.yaml", "tiny.yaml"]


@pytest.mark.usefixtures("never_run")
def test_a_folder_that_cannot_be_written_to_is_named_by_the_studys_own_key(folder, capsys):
    (folder / "closed").write_text("a file, where no folder can be\n")
    write(folder, folder="closed/study")
    assert main("study", ["tiny.yaml"]) == 2
    assert "error: folder: closed/study cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["study"], "study: the following arguments are required: STUDY.yaml; write: python -m lit_dqn study [-h]"),
        (["study", "tiny.yaml", "--at_once", "0"], "0 must be a whole number, at least 1"),
        (["report", "nowhere"], "report: there is no folder nowhere; give that of a run"),
        (["report", "."], "report: . is not a run, and has no version of one; give the folder of a run"),
        (["report", ".", "--scales", "{a"], "scales: {a is not YAML"),
    ],
)
def test_wrong_words_are_one_sentence(folder, capsys, words, said):
    write(folder)
    assert main(words[0], words[1:]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_what_a_study_has_begun_it_does_not_change(folder):
    study = read_study(write(folder))
    jobs = jobs_of(study)
    assert [str(job) for job in jobs] == [
        f"{agent}, CartPole-v1, seed {seed}" for seed in (0, 1) for agent in ("DQN", "Double")
    ]
    write_jobs(study, jobs)
    config = yaml.safe_load((folder / "studies/tiny/runs/Double/CartPole-v1/seed_1/config.yaml").read_text())
    assert config["seed_everything"] == 1
    assert config["model"]["init_args"]["objective"]["class_path"] == "lit_dqn.DoubleQLearning"
    assert config["trainer"]["logger"]["init_args"]["name"] == "Double/CartPole-v1/seed_1"
    before = (folder / "studies/tiny/study.json").read_bytes()
    for other, changed, said in (
        (study, [replace(jobs[0], config=jobs[0].config.replace("batch_size: 8", "batch_size: 9")), *jobs[1:]],
         "data.batch_size: DQN, CartPole-v1, seed 0 was begun with 8, and would resume with 9; give the study that"),
        (replace(study, test_episodes=4), jobs, "test_episodes: the runs in studies/tiny are tested with 3"),
        (replace(study, checkpoint="best"), jobs, "checkpoint: the runs in studies/tiny are tested with last"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as error:
            write_jobs(other, changed)
        assert said in str(error.value)
    assert (folder / "studies/tiny/study.json").read_bytes() == before
    # A config of an earlier release, which had not all settings of today.
    path = jobs[0].folder / "config.yaml"
    path.write_text(re.sub(r"(?m)^  shards: .*\n", "", path.read_text()))
    assert "shards" in jobs[0].config
    assert "shards" not in path.read_text()
    more = replace(jobs[0], seed=2, folder=jobs[0].folder.with_name("seed_2"))
    write_jobs(study, [*jobs, more])
    assert len(json.loads((folder / "studies/tiny/study.json").read_text())["runs"]) == 5


def test_a_run_of_several_processes_is_none_of_a_study(folder):
    # Lightning would start the others by the command of the study's own process, whose words are no run.
    several = {"data.shards": 2, "trainer.strategy": "ddp", "trainer.devices": 2}
    study = read_study(write(folder, agents={"A": ["cartpole"]}, overrides=several))
    with pytest.raises(ConfigError, match=r"A: trainer\.strategy: ddp shares a run by 2 processes, and here each run"):
        jobs_of(study)


def test_runs_at_once_must_fit_into_memory_together(folder, monkeypatch):
    monkeypatch.setattr("lit_dqn.commands.studies.jobs.available_bytes", lambda: 2 * RESERVE + 10**6)
    study = read_study(write(folder, agents={"A": ["cartpole"]}, at_once=3, seeds=[0, 1, 2]))
    with pytest.raises(ConfigError, match=r"at_once: 3 runs take 1\.50 GiB together, but .* free; set at_once: 2\."):
        jobs_of(study)
    assert len(jobs_of(replace(study, at_once=2))) == 3


def test_runs_that_fail_are_named_and_one_study_runs_at_a_time(folder, capsys, monkeypatch):
    jobs = [Job("DQN", "Pole", seed, Path(f"studies/tiny/runs/{seed}"), "", 9, 0) for seed in (0, 1)]
    monkeypatch.setattr("lit_dqn.commands.studies.jobs.jobs_of", lambda study: jobs)
    monkeypatch.setattr(crew, "run_all", lambda rest, *_: dict.fromkeys(rest, "not now"))
    write(folder)
    assert main("study", ["tiny.yaml"]) == 2
    said = capsys.readouterr().err
    assert said == "error: 2 of 2 runs failed, the first of them DQN, Pole, seed 0: not now\n"
    again: list[int] = []
    monkeypatch.setattr(crew, "run_all", lambda *_: again.append(main("study", ["tiny.yaml"])) or {})
    assert main("study", ["tiny.yaml"]) == 2
    assert again == [2]
    assert "the study studies/tiny is being run by process" in capsys.readouterr().err


# --- with real runs ---


def start(folder: Path) -> subprocess.Popen:
    with (folder / "output.txt").open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "lit_dqn", "study", "tiny.yaml"],
            cwd=folder,
            stdout=output,
            stderr=output,
            env=WITH_LIT_DQN,
        )


def children(parent: subprocess.Popen) -> list[psutil.Process]:
    try:
        return [
            child for child in psutil.Process(parent.pid).children() if "studies.worker" in " ".join(child.cmdline())
        ]
    except psutil.Error:
        return []


def learns(folder: Path) -> bool:
    """Whether a run has a checkpoint and no result."""
    runs = {path.parents[1] for path in (folder / "studies/tiny/runs").glob("*/*/*/version_*/checkpoints/last.ckpt")}
    return any(not (run / "results.json").exists() for run in runs)


def kill_some(folder: Path, dice: random.Random) -> list[str]:
    """Kill a run at its start, then the study and a run in training, and resume each time; return what was killed."""
    killed = []
    process = start(folder)
    for who in ("child", "parent", "child"):
        while process.poll() is None and not (children(process) and (learns(folder) or not killed)):
            time.sleep(0.02)
        time.sleep(dice.uniform(0, 1.5))
        found = children(process)
        if process.poll() is not None or not found:
            break
        if who == "child":
            dice.choice(found).kill()
        else:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = start(folder)
        killed.append(who)
    assert process.wait(timeout=1200) == 0, (folder / "output.txt").read_text()
    return killed


def without_times(folder: Path) -> dict[str, object]:
    """All that a report says but for how long it took."""
    study = folder / "studies/tiny"
    lines = list(csv.DictReader((study / "runs.csv").open()))
    page, heading, _ = (study / "report.md").read_text().partition("\n## Time\n")
    assert heading
    episodes = {
        path.relative_to(study): [line.rpartition(",")[0] for line in path.read_text().splitlines()]
        for path in sorted(study.rglob("episodes.csv"))
    }
    return {
        "page": page,
        "scores": (study / "report.json").read_bytes(),
        "lines": [
            {key: value for key, value in line.items() if key not in ("seconds", "env_steps_per_second")}
            for line in lines
        ],
        "figures": {path.name: path.read_bytes() for path in sorted((study / "figures").iterdir())},
        "episodes": episodes,
    }


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 5])
def test_a_study_that_is_killed_gives_the_report_of_one_that_was_not(tmp_path, seeds):
    said = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        write(folder, seeds=list(range(seeds)))
        if name == "whole":
            assert start(folder).wait(timeout=1200) == 0, (folder / "output.txt").read_text()
        else:
            killed = kill_some(folder, random.Random(seeds))
            assert len(killed) >= 2, killed
        said.append(without_times(folder))
        runs = sorted((folder / "studies/tiny/runs").glob("*/*/seed_*"))
        assert len(runs) == 2 * seeds
        for run in runs:
            (version,) = run.glob("version_*")
            assert len(json.loads((version / "results.json").read_text())) == 1
    whole, killed = said
    for part in whole:
        assert whole[part] == killed[part], part
    scores = json.loads(whole["scores"])
    assert {agent: (len(rows), len(rows[0])) for agent, rows in scores.items()} == {
        "DQN": (seeds, 1),
        "Double": (seeds, 1),
    }
    assert whole["figures"].keys() == {"curves.png", "scores.png", "improvement.png"}
    assert re.search(r"\| DQN \| \d \| 0\.\d\d \[", whole["page"])
