"""What a search shows while it runs, and what it leaves: hand-made trials, whose numbers are known."""

import csv
import io
from pathlib import Path

import pytest
import yaml
from matplotlib.colors import to_hex
from rich.console import Console

from helpers import CONFIGS
from lit_dqn.commands.studies.description import Job
from lit_dqn.commands.tuning.description import Search
from lit_dqn.commands.tuning.report import write_report
from lit_dqn.commands.tuning.rows import DONE, FAILED, PRUNED, RUNNING, Row, Trial, best_of
from lit_dqn.commands.tuning.space import Choices, Span
from lit_dqn.commands.tuning.view import TuneView
from lit_dqn.plots.style import RUN_COLOURS
from lit_dqn.plots.tuning import Point, Scale, plot_history, plot_slices

SPACE = {
    "model.optimizer.init_args.lr": Span(1e-5, 1e-2, whole=False, log=True),
    "data.n_step": Span(1, 9, whole=True),
    "model.network.hidden_sizes": Choices(([16], [64, 64])),
}


def trial(number: int, lr: float = 1e-3, n_step: int = 3, sizes: tuple[int, ...] = (64, 64)) -> Trial:
    return Trial(number, dict(zip(SPACE, (lr, n_step, list(sizes)), strict=True)))


ROWS = [
    Row(trial(0, 0.1 + 0.2), DONE, -95.0, (-100.0, -90.0), (-200.0, -99.0)),
    Row(trial(1, 1e-4, 7, (16,)), DONE, -85.0, (-80.0, -90.0), (-150.0, -88.0)),
    Row(trial(2), PRUNED, -500.0, (), (-500.0,)),
    Row(trial(3), FAILED, None, reason="no luck | none"),
    Row(trial(4, 2e-5), RUNNING, -120.0, (), (-120.0,)),
    Row(trial(5), DONE, -85.0, (-85.0, -85.0), ()),
    Row(Trial(6, {}), RUNNING, None),
]


def search(folder: Path) -> Search:
    return Search(
        name="mine",
        folder=folder,
        files=(str(CONFIGS / "cartpole.yaml"), "mine.yaml"),
        overrides={"stop.max_env_steps": 900},
        space=SPACE,
        seeds=(100, 101),
        trials=9,
        target=-80.0,
        checkpoint="last",
        test_episodes=5,
        prune=None,
        storage="mysql://me:secret@host/name",
        at_once=1,
        threads=1,
    )


def test_the_best_is_the_first_of_equals_that_came_to_their_end():
    assert [row.trial.number for row in best_of(ROWS)] == [1, 5, 0]


def test_the_report_and_the_winner_say_where_they_come_from(folder):
    write_report(search(folder), ROWS, {"data.n_step": 0.75}, "python -m lit_dqn tune mine.yaml")
    winner = (folder / "winner.yaml").read_text()
    assert winner.startswith("# An overlay: trial 1 of the search mine, the best of those that it has done.\n")
    assert "# Mean test return -85.00: -80.00, -90.00 with the seeds 100, 101,\n" in winner
    assert "#   stop.max_env_steps: 900\n" in winner
    command = f"python -m lit_dqn fit --config cartpole --config mine.yaml --config {folder / 'winner.yaml'}"
    assert f"#   {command}\n" in winner
    assert yaml.safe_load(winner) == {
        "data": {"n_step": 7},
        "model": {"network": {"hidden_sizes": [16]}, "optimizer": {"init_args": {"lr": 1e-4}}},
    }
    page = (folder / "report.md").read_text()
    assert "7 of 9 trials: 3 done, 1 pruned, 1 failed, 2 running.\nThe best is [trial 1](winner.yaml)" in page
    assert "| 1 | -85.00 | -80.00 | -90.00 | 0.0001 | 7 | [16] |\n" in page
    assert "- trial 3: no luck | none\n" in page
    assert "- tried: data.n_step whole numbers from 1 to 9\n" in page
    assert "- no trial was ended early\n" in page
    assert "- importance (PED-ANOVA): data.n_step 75%\n" in page
    assert "secret" not in page + winner
    lines = list(csv.DictReader((folder / "runs.csv").open()))
    assert [line["state"] for line in lines] == [row.state for row in ROWS]
    assert (lines[1]["return"], lines[1]["seed_100"], lines[2]["seed_100"]) == ("-85.0", "-80.0", "")
    assert float(lines[0]["model.optimizer.init_args.lr"]) == 0.1 + 0.2  # no digit is lost
    assert {path.name for path in (folder / "figures").iterdir()} == {"history.png", "slices.png"}


def test_the_history_rises_and_pruned_trials_do_not_count():
    points = [
        Point(0, -95.0, False, {}),
        Point(1, -50.0, True, {}),
        Point(2, -85.0, False, {}),
        Point(3, -90.0, False, {}),
        Point(4, -99.0, True, {}),
    ]
    (axes,) = plot_history(points, target=-80.0).axes
    best, target = axes.lines
    assert list(best.get_xdata()) == [0, 2, 3, 4]  # up to the last trial
    assert list(best.get_ydata()) == [-95, -85, -85, -85]
    assert set(target.get_ydata()) == {-80}
    pruned, done = axes.collections
    assert pruned.get_offsets().tolist() == [[1, -50], [4, -99]]
    assert len(done.get_offsets()) == 3
    assert to_hex(done.get_facecolor()[0]) == RUN_COLOURS[0]


def test_each_key_has_a_panel_with_choices_by_name():
    scales = {"a.lr": Scale(log=True), "b": Scale(("x", "y")), "c": Scale(whole=True), "d": Scale()}
    points = [Point(0, -1.0, False, {"a.lr": 0.1, "b": "y", "c": 3, "d": 0.5})]
    shown = [axes for axes in plot_slices(points, scales, {"b": 0.25}).axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["a.lr", "b\nimportance 25%", "c", "d"]
    assert shown[0].get_xscale() == "log"
    assert shown[1].collections[0].get_offsets().tolist() == [[1, -1]]
    assert [label.get_text() for label in shown[1].get_xticklabels()] == ["x", "y"]
    with pytest.raises(ValueError, match="no trial to draw"):
        plot_slices([], scales, {})
    with pytest.raises(ValueError, match="no trial to draw"):
        plot_history([])


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_moves_or_lines_tell_what_changes(terminal):
    said = io.StringIO()
    console = Console(file=said, width=120, force_terminal=terminal, color_system=None)
    with TuneView(lambda: ROWS, 9, console) as view:
        view.begins(trial(4, 2e-5), again=False)
        view.restarts(Job("trial_4", "Pole", 100, Path(), "", None, 0))
        view.ends(trial(3), "failed: no luck", None)
        view.ends(trial(5), "done", -85.0)
    lines = [line.strip() for line in said.getvalue().splitlines()]
    summary = "5 of 9 trials · 2 running · 1 pruned · 1 failed · best -85.00 (trial 1) · 0:00:00 left"
    assert any(summary in line for line in lines)
    assert any("trial 3: failed: no luck" in line for line in lines)
    if terminal:
        assert any(
            line.split() == ["1", "done", "2", "-85.00", "lr=0.0001,", "n_step=7,", "hidden_sizes=[16]"]
            for line in lines
        )
        assert any(line.split()[:4] == ["4", "running", "1", "(-120.00)"] for line in lines)
        assert not any("trial 5: done" in line for line in lines)
    else:
        assert lines[0] == "trial 4: started: lr=2e-05, n_step=3, hidden_sizes=[64, 64]"
        assert lines[1] == "trial_4, seed 100: its process was ended from outside; it will be resumed"
        assert lines[3] == f"trial 5: done: return -85.00; {summary}"
