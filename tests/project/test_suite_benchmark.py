"""The script behind `make results-classic` and `make results-minatar`, without its training."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from lit_dqn.commands.inputs.files import with_bases

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RUNS = [
    {"config": "cartpole", "overlay": "", "seed": seed, "env_steps": "100000", "minutes": "1.0"}
    | {"training_return": training, "greedy_return": greedy}
    for seed, training, greedy in (("2", "480", "500"), ("1", "440", "470"))
]
CURVES = [
    {"config": "cartpole", "overlay": "", "seed": seed, "env_step": str(step), "training_return": str(scale * step)}
    for seed, scale in (("1", 1), ("2", 3))
    for step in (10, 20, 30)
]
PUBLISHED = [
    {"source": "CleanRL DQN (torch)", "steps": "500000", "seeds": "3", "protocol": "training"}
    | {"CartPole-v1": "488.69", "Acrobot-v1": ""},
]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("suite")


@pytest.fixture
def page(script):
    return importlib.import_module("suite_page")


@pytest.fixture
def classic(page, tmp_path):
    envs = {"cartpole": "CartPole-v1", "acrobot": "Acrobot-v1"}
    return page.Suite("classic", envs, "CleanRL DQN (torch)", page=tmp_path / "results.md", pictures=tmp_path)


# --- the page ---


def test_the_table_has_means_intervals_and_the_worst(page, classic):
    lines = page.table(classic, RUNS).splitlines()
    assert len(lines) == 3
    training, greedy = "**460.0**; 460.0 [440.0, 480.0]; 440.0", "**485.0**; 485.0 [470.0, 500.0]; 470.0"
    assert lines[2] == f"| CartPole-v1 | the config as it is | 1, 2 | 100,000 | 1.0 | {training} | {greedy} |"


def test_what_others_publish_has_its_own_table_with_steps_and_seeds(page, classic):
    lines = page.comparison(classic, PUBLISHED).strip().splitlines()
    assert lines[0] == "| published | env steps | seeds | return | CartPole-v1 | Acrobot-v1 |"
    assert lines[2:] == ["| CleanRL DQN (torch) | 500,000 | 3 | training | 488.69 | - |"]
    assert page.comparison(classic, []) == ""


def test_overlays_have_their_own_lines_after_those_of_the_plain_configs_and_one_for_all_envs(page):
    suite = page.Suite("games", {"one": "One", "two": "Two", "three": "Three"}, relative=True)
    runs = [
        RUNS[0] | {"config": config, "overlay": overlay, "training_return": "1", "greedy_return": str(value)}
        for config, overlay, value in (("one", "", 10), ("two", "", 2), ("one", "new", 15), ("two", "new", 5))
    ]
    overview, by_env = (part.splitlines()[2:] for part in page.table(suite, runs).split("\n\n"))
    assert overview == [
        "| the config as it is | 10.0 | 2.0 | - | - | 1.0 |",
        "| new | 15.0 | 5.0 | - | **2.00**; 2.00; 1.50 | 1.0 |",  # one seed each: no interval
    ]
    assert [line.split(" | ")[:2] for line in by_env] == [
        ["| One", "the config as it is"],
        ["| One", "new"],
        ["| Two", "the config as it is"],
        ["| Two", "new"],
    ]
    assert by_env[1].endswith("| 2 | 100,000 | 1.0 | **1.0** | **15.0** |")
    (alone,) = page.table(suite, [row for row in runs if row["overlay"]]).split("\n\n")
    assert [line.split(" | ")[0] for line in alone.splitlines()[2:]] == ["| One", "| Two"]
    again = [
        row | {"seed": "7", "greedy_return": "20"} for row in runs if (row["config"], row["overlay"]) == ("one", "new")
    ]
    assert "| **1.75**; 1.75 [1.50, 2.00]; 1.50 |" in page.table(
        suite, [r for r in runs + again if r["config"] == "one"]
    )


def test_many_overlays_have_one_legend_and_each_its_own_line(page):
    suite = page.Suite("games", {"one": "One", "two": "Two"}, relative=True)
    points = [row | {"config": config} for row in CURVES if row["seed"] == "1" for config in suite.envs]

    def drawn(overlays):
        return page.picture(suite, [row | {"overlay": overlay} for overlay in overlays for row in points], [])

    few, many = drawn("abc"), drawn("abcdefghi")
    assert (len(few.legends), [axes.get_legend() is None for axes in few.axes]) == (0, [False, False])
    assert (len(many.legends), [axes.get_legend() is None for axes in many.axes]) == (1, [True, True])
    assert [text.get_text() for text in many.legends[0].get_texts()] == [f"{name}: one seed" for name in "abcdefghi"]
    assert len({(line.get_color(), line.get_linestyle()) for line in many.axes[0].get_lines()}) == 9


def test_the_curve_is_the_interquartile_mean_of_the_seeds_in_its_interval(page, classic):
    (axes,) = page.picture(classic, CURVES, PUBLISHED).axes
    line, goal = axes.get_lines()
    np.testing.assert_allclose(line.get_ydata(), 2 * line.get_xdata())
    assert goal.get_xydata().tolist() == [[500_000, 488.69]]  # where it was reached, and nowhere before
    assert line.get_label() == "lit_dqn: IQM of 2 seeds, 95 % interval"
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (10, 90)


def test_only_the_part_between_the_marks_is_rewritten(page, classic):
    begin, end = classic.marks
    classic.page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    for _ in range(2):
        page.write(classic, RUNS, CURVES, PUBLISHED)
        written = classic.page.read_text()
        assert written.startswith(f"before\n{begin}\n|  |")
        assert written.endswith(f"|\n{end}\nafter\n")
        assert "old" not in written
    assert (classic.pictures / "classic.png").stat().st_size > 5000
    classic.page.write_text("no marks")
    with pytest.raises(ValueError, match=r"results.md has no place for the table"):
        page.write(classic, RUNS, CURVES, PUBLISHED)


def test_every_config_of_the_suites_is_there_and_has_its_place_on_the_page(script):
    for suite in script.SUITES.values():
        for config, env in suite.envs.items():
            files = with_bases(str(script.ROOT / "configs" / f"{config}.yaml"))
            data = [yaml.safe_load(Path(file).read_text())["data"] for file in files]
            env_id = [each["env_id"] for each in data if "env_id" in each][-1]
            assert env_id.removeprefix("MinAtar/").startswith(env.replace(" ", ""))
        assert all(mark in suite.page.read_text() for mark in suite.marks)
    classic = script.SUITES["classic"]
    assert script.read(classic.published)[0]["source"].startswith(classic.goal)


# --- the runs ---


class Commands:
    """In place of lit_dqn: notes what is asked for, and leaves what a run leaves."""

    def __init__(self, script, root):
        self.script, self.root, self.asked = script, root, []

    def __call__(self, verb, *words):
        settings = dict(zip(words[::2], words[1::2], strict=True))
        self.asked.append((verb, settings["--seed_everything"], settings.get("--ckpt_path"), words.count("--config")))
        if settings["--seed_everything"] == "3":
            raise self.script.RunError("fit: seed 3 is broken")
        logger = "--trainer.logger.init_args."
        run = self.root / settings[logger + "save_dir"] / settings[logger + "name"] / "version_0"
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        if verb == "fit":
            lines = [f"{10 * number},{number},{6 * number}" for number in range(1, 201)]
            (run / "episodes.csv").write_text("\n".join(["env_step,return,seconds", *lines]) + "\n")
        else:
            (run / "results.json").write_text('[{"return": {"mean": 1.0}}, {"return": {"mean": 7.125}}]')


@pytest.fixture
def commands(script, page, classic, tmp_path, monkeypatch):
    commands = Commands(script, tmp_path)
    monkeypatch.setattr(script, "lit_dqn", commands)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(page, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(script.SUITES, "classic", classic)
    classic.page.write_text("".join(classic.marks))
    return commands


def call(script, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["suite.py", "classic", "--only", "cartpole", *words])
    script.main()


def test_finished_runs_are_not_repeated_and_unfinished_ones_resume(script, commands, classic, monkeypatch):
    (commands.root / "lightning_logs/classic/cartpole_2/version_0/checkpoints").mkdir(parents=True)
    (commands.root / "lightning_logs/classic/cartpole_2/version_0/checkpoints/last.ckpt").touch()
    call(script, monkeypatch, "--seeds", "1", "2", "--at-a-time", "1")
    fit = [("fit", "1", None, 1), ("fit", "2", "last", 1)]
    assert commands.asked == [fit[0], ("test", "1", "last", 1), fit[1], ("test", "2", "last", 1)]
    first = script.read(classic.runs)[0]
    assert first == {
        "config": "cartpole",
        "overlay": "",
        "seed": "1",
        "env_steps": "2000",
        "minutes": "20.0",
        "training_return": "150.50",
        "greedy_return": "7.12",
    }
    assert len(script.read(classic.curves)) == 200
    assert "| CartPole-v1 | the config as it is | 1, 2 | 2,000 |" in classic.page.read_text()
    call(script, monkeypatch, "--seeds", "1", "2", "--overlays", "-", "configs/double.yaml")
    assert sorted(commands.asked[4:]) == [(verb, seed, ckpt, 2) for verb, ckpt in (("fit", None), ("test", "last"))
                                          for seed in "12"]  # fmt: skip
    assert {row["overlay"] for row in script.read(classic.runs)} == {"", "double"}


def test_a_run_that_fails_spoils_no_other_and_is_named(script, commands, classic, monkeypatch):
    with pytest.raises(SystemExit, match="seed 3 is broken"):
        call(script, monkeypatch, "--seeds", "3", "4")
    assert [row["seed"] for row in script.read(classic.runs)] == ["4"]


def test_a_search_stays_out_of_the_report(script, commands, classic, monkeypatch, capsys):
    call(script, monkeypatch, "--seeds", "100", "101")
    assert not classic.runs.exists()
    assert classic.page.read_text() == "".join(classic.marks)
    assert len(script.read(commands.root / "lightning_logs/classic/search.csv")) == 2
    assert "| CartPole-v1 | the config as it is | 100, 101 |" in capsys.readouterr().out
    for wrong in (["--seeds", "1", "100"], ["--seeds", "10"], ["--only", "cartpol"]):
        with pytest.raises(SystemExit, match="2"):
            call(script, monkeypatch, *wrong)
    assert "a report takes 0 to 9, a search 100 to 109" in capsys.readouterr().err
