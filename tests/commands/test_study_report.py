"""The report of runs: hand-made records, whose numbers are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lit_dqn.commands.studies.comparison import Comparison
from lit_dqn.commands.studies.records import Record, progress_of, settings_of
from lit_dqn.commands.studies.verbs import main
from lit_dqn.errors import ConfigError


def write_run(folder: Path, returns: list[float], mean: float | None, *, seed: int = 0, env_id="Pole-v1") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"seed_everything: {seed}\ndata: {{env_id: {env_id}}}\nstop: {{max_env_steps: 1e3, max_episodes: null}}\n"
    )
    lines = [f"{n},{10 * n},0,{value},10,1,{n / 2}" for n, value in enumerate(returns, 1)]
    (folder / "episodes.csv").write_text(
        "episode,env_step,env,return,length,terminated,seconds\r\n" + "".join(f"{line}\r\n" for line in lines)
    )
    if mean is not None:
        entry = {"checkpoint": "env_step_40.ckpt", "env_step": 40, "return": {"mean": mean}}
        entry["protocol"] = {"episodes": 5, "policy": "Greedy", "seed": seed}
        other = {**entry, "return": {"mean": -1000.0}}
        (folder / "results.json").write_text(json.dumps([other, entry]))
    return folder


def record(agent: str, task: str, seed: int, mean: float, returns=(1.0, 2.0)) -> Record:
    result = {"return": {"mean": mean}, "env_step": 20, "protocol": {"episodes": 5}, "checkpoint": "best.ckpt"}
    env_step = 10.0 * np.arange(1, len(returns) + 1)
    settings = {"data": {"env_id": task}, "stop": {}}
    return Record(agent, task, seed, Path(f"{agent}{seed}"), settings, result, env_step, np.array(returns), env_step)


def test_scores_are_returns_on_the_scales_of_their_tasks():
    found = Comparison(
        [
            record("A", "Pole", 0, 100), record("A", "Pole", 1, 300), record("A", "Car", 1, -50),
            record("A", "Car", 0, -150), record("B", "Pole", 0, 500), record("B", "Car", 0, 0),
            record("C", "Pole", 0, 7),
        ],
        {"Pole": (0, 500), "Car": (-200, 0)},
    )  # fmt: skip
    assert found.whole == ["A", "B"]
    assert found.matrix("A") == [[0.2, 0.25], [0.6, 0.75]]  # a row for each seed
    measures = found.measures()
    assert measures["mean"]["A"].value == pytest.approx(0.45)
    assert measures["IQM"]["A"].value == pytest.approx((0.25 + 0.6) / 2)
    assert measures["optimality gap"]["A"].value == pytest.approx(0.55)
    assert measures["optimality gap"]["B"].value == 0
    assert found.improvements()["B", "A"] == (1, 1, 1)


def test_returns_of_two_tasks_are_not_put_together_without_scales():
    both = [record("A", "Pole", 0, 100), record("A", "Car", 0, -50)]
    assert not Comparison(both, {"Pole": (0, 500)}).can_be_aggregated
    one = Comparison(both[:1], {})
    assert one.can_be_aggregated
    assert "optimality gap" not in one.measures()
    assert one.measures()["IQM"]["A"].value == 100


def test_atari_has_the_scale_of_a_human():
    (score,) = Comparison([record("A", "ALE/Pong-v5", 0, 14.6)], {}).strata("A")
    assert score == [1.0]


def test_a_curve_is_the_iqm_of_the_means_that_there_are_as_far_as_all_runs_got():
    long, short = record("A", "Pole", 0, 0, [0.0] * 30 + [9.0] * 10), record("A", "Pole", 1, 0, [2.0] * 39)
    found = Comparison([long, short], {})
    assert found.window == 3
    curve = found.curves()["Pole"]["A"]
    assert (curve.x[0], curve.x[-1]) == (10, 390)
    assert (curve.value[0], curve.value[-1]) == (1.0, 5.5)
    before = np.flatnonzero(curve.x < 310)[-1]
    assert curve.value[before : before + 2].tolist() == [1.0, 2.5]  # 3 of the last three episodes, and no sooner
    assert (curve.low[-1], curve.high[-1]) == (2.0, 9.0)


def test_runs_in_folders_are_compared(folder, capsys):
    for seed, mean in ((0, 100.0), (1, 300.0)):
        write_run(folder / f"logs/dqn/version_{seed}", [1.0, 2.0, 3.0, 4.0], mean, seed=seed)
    write_run(folder / "logs/a/version_0", [5.0, 6.0, 7.0, 8.0], 500.0)
    words = ["logs/dqn", "New|er=logs/a", "--scales", "{Pole-v1: [0, 500]}"]
    assert main("report", words) == 0
    assert capsys.readouterr().out == "report/report.md\n"
    assert json.loads((folder / "report/report.json").read_text()) == {"dqn": [[0.2], [0.6]], "New|er": [[1.0]]}
    page = (folder / "report/report.md").read_text()
    assert "2 agents on 1 task: 3 runs." in page
    assert "| dqn | 2 | 0.40 [0.20, 0.60] | 0.40 [0.20, 0.60] | 0.60 [0.40, 0.80] |" in page
    assert "| Pole-v1 | New\\|er | 1 | 500.00 | 500.00 [500.00, 500.00] | 500.00 | 500.00 | 500.00 |" in page
    assert "| New\\|er | dqn | 1.00 [1.00, 1.00] |" in page
    assert "- training on Pole-v1: Pole-v1, until max_env_steps 1,000\n" in page
    assert "- test on Pole-v1: the last weights, episodes 5, policy Greedy\n" in page
    assert "- seeds of dqn: 0, 1\n" in page
    assert "| dqn | Pole-v1 | 20 | 0.0 |" in page
    lines = list(csv.DictReader((folder / "report/runs.csv").open()))
    assert [(line["agent"], line["seed"], line["return"], line["score"]) for line in lines] == [
        ("dqn", "0", "100.0", "0.2"),
        ("dqn", "1", "300.0", "0.6"),
        ("New|er", "0", "500.0", "1.0"),
    ]
    figures = {path.name: path.read_bytes() for path in (folder / "report/figures").iterdir()}
    assert figures.keys() == {"curves.png", "scores.png", "improvement.png"}
    assert main("report", words) == 0
    assert {path.name: path.read_bytes() for path in (folder / "report/figures").iterdir()} == figures


def test_a_study_that_is_not_done_says_what_is_missing(folder):
    run = {"agent": "A", "task": "Pole", "seed": 0, "folder": "runs/A/Pole/seed_0"}
    runs = [run, run | {"seed": 1, "folder": "runs/A/Pole/seed_1"}]
    write_run(folder / "runs/A/Pole/seed_0/version_0", [1.0, 2.0], 100.0)
    write_run(folder / "runs/A/Pole/seed_1/version_0", [1.0, 2.0], None)
    (folder / "study.json").write_text(json.dumps({"runs": runs, "test_episodes": 5, "scales": {"Pole": [0, 500]}}))
    assert main("report", ["."]) == 0
    assert "**1 run missing:**\n\n- A, Pole, seed 1: not done yet\n" in (folder / "report.md").read_text()
    # The first test of so many episodes is the study's own.
    assert json.loads((folder / "report.json").read_text()) == {"A": [[-2.0]]}


def test_what_no_report_can_be_made_of_is_said(folder, capsys):
    write_run(folder / "dqn/version_0", [1.0], 1.0)
    write_run(folder / "dqn/version_1", [1.0], 2.0)
    write_run(folder / "untested/version_0", [1.0], None)
    write_run(folder / "broken/version_0", [1.0], None).joinpath("results.json").write_text("[{}]")
    write_run(folder / "empty/version_0", [], 1.0)
    for words, said in {
        "dqn": "dqn/version_1 is seed 0 of dqn on Pole-v1 once more",
        "untested": "untested/version_0 has not been tested; do so first",
        "broken": "broken/version_0/results.json holds no results of test",
        "empty": "episodes.csv holds no finished episode",
    }.items():
        assert main("report", [words]) == 2
        assert said in capsys.readouterr().err
    assert not (folder / "report").exists()


def test_nothing_that_is_read_of_a_run_runs_code(folder):
    run = write_run(folder / "dqn/version_0", [1.0], 1.0)
    (run / "config.yaml").write_text("data: {env_id: !!python/object/apply:os.mkdir [made]}\n")
    with pytest.raises(ConfigError):
        settings_of(run)
    assert not (folder / "made").exists()


def test_how_far_a_run_is_stands_at_the_end_of_its_episodes(folder):
    run = folder / "run"
    assert progress_of(run) == (0, 0, None)
    write_run(run / "version_0", [0.0] * 400 + [1.0] * 50 + [3.0] * 50, None)
    with (run / "version_0/episodes.csv").open("a") as file:
        file.write("501,50")  # half a line
    assert progress_of(run) == (5000, 500, 2.0)
    (run / "version_0/episodes.csv").write_text("nothing\nof,the\nkind\n")
    assert progress_of(run) == (0, 0, None)
