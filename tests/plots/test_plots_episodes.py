from pathlib import Path

import numpy as np
import pytest

from lit_dqn.plots import plot_episodes
from lit_dqn.plots.__main__ import main

HEADER = "episode,env_step,env,return,length,terminated,seconds\n"


def write_run(folder: Path, lengths: list[int]) -> Path:
    folder.mkdir(parents=True)
    env_steps = np.cumsum(lengths)
    rows = [
        f"{episode},{env_step},0,{-length},{length},True,0.1\n"
        for episode, (length, env_step) in enumerate(zip(lengths, env_steps, strict=True), start=1)
    ]
    (folder / "episodes.csv").write_text(HEADER + "".join(rows))
    return folder


def test_episodes_and_their_moving_mean(tmp_path):
    run = write_run(tmp_path / "maze" / "version_0", [100, 50, 30, 20])
    steps, returns = plot_episodes(run, smooth=2).axes
    points, means = steps.lines
    assert points.get_xydata().tolist() == [[1, 100], [2, 50], [3, 30], [4, 20]]
    assert means.get_ydata().tolist() == [100, 75, 40, 25]
    assert returns.lines[1].get_ydata().tolist() == [-100, -75, -40, -25]
    assert means.get_label() == "maze/version_0"


@pytest.mark.filterwarnings("error")
def test_one_episode_or_several_that_are_alike_are_drawn_without_a_word(tmp_path):
    for lengths in ([100], [100, 100]):
        plot_episodes(write_run(tmp_path / str(len(lengths)), lengths)).draw_without_rendering()


def test_a_return_that_is_a_little_better_stands_well_above(tmp_path):
    """A maze's first episodes take a thousand steps; its last ones 14 or 16."""
    lengths = [1500, 900, 400, 200, 100, 60, 40, 30, 24, 20, *[16, 14] * 20]
    figure = plot_episodes(write_run(tmp_path / "run", lengths), smooth=1)
    figure.draw_without_rendering()
    _, returns = figure.axes
    good, better, worst = (returns.transData.transform((1, -length))[1] for length in (16, 14, 1500))
    assert better - good > 0.05 * returns.bbox.height
    assert returns.bbox.y0 < worst < good < better < returns.bbox.y1
    labels = [label.get_text() for label in returns.get_yticklabels()]
    assert {"-14", "-16", "-1,000"} <= set(labels)
    assert "log of the distance to the best" in returns.get_ylabel()


def test_returns_that_lie_together_keep_a_linear_axis(tmp_path):
    equal = write_run(tmp_path / "equal", [5, 5, 5])
    assert plot_episodes(equal).axes[1].get_yscale() == "linear"
    run = write_run(tmp_path / "run", list(range(200, 100, -1)))
    assert plot_episodes(run).axes[1].get_yscale() == "linear"
    (run / "episodes.csv").write_text(HEADER + "".join(f"{n},{n},0,{n},{n},True,0.1\n" for n in range(1, 500)))
    assert plot_episodes(run).axes[1].get_yscale() == "linear"


def test_several_runs_share_the_panels(tmp_path):
    runs = [write_run(tmp_path / name, [20, 10]) for name in ("one", "two")]
    steps, returns = plot_episodes(runs).axes
    assert len(steps.lines) == len(returns.lines) == 4
    assert len({line.get_color() for line in steps.lines}) == 2


def test_seeds_make_a_band_from_the_lowest_to_the_highest_as_far_as_all_of_them_got(tmp_path):
    seeds = [
        write_run(tmp_path / str(seed), lengths) for seed, lengths in enumerate([[8, 6, 4], [9, 7, 5, 1], [1, 1, 1]])
    ]
    steps, returns = plot_episodes({"dqn": seeds}, smooth=1).axes
    (median,) = steps.lines
    assert median.get_xydata().tolist() == [[1, 8], [2, 6], [3, 4]]
    assert median.get_label() == "dqn: median of 3 seeds, band from lowest to highest"
    (band,) = steps.collections
    corners = band.get_paths()[0].vertices
    assert {tuple(corner) for corner in corners.tolist()} >= {(1, 1), (1, 9), (2, 7), (3, 5)}
    assert returns.lines[0].get_ydata().tolist() == [-8, -6, -4]


def test_seeds_are_compared_at_the_same_env_step(tmp_path):
    seeds = [write_run(tmp_path / "a", [10, 10, 10]), write_run(tmp_path / "b", [20, 20])]
    steps, returns = plot_episodes({"dqn": seeds}, smooth=1, clock="env_step").axes
    (median,) = steps.lines
    assert (median.get_xdata()[0], median.get_xdata()[-1]) == (20, 30)
    assert set(median.get_ydata()) == {15}  # one seed's episodes take 10 steps, the other's 20
    assert steps.get_shared_x_axes().joined(steps, returns)
    short = [write_run(tmp_path / "c", [5]), write_run(tmp_path / "d", [100])]
    with pytest.raises(ValueError, match=r"the runs of short have no env step in common"):
        plot_episodes({"short": short}, clock="env_step")
    with pytest.raises(ValueError, match="clock='frames' is unknown"):
        plot_episodes(short, clock="frames")


def test_a_half_written_last_line_is_left_out(tmp_path):
    run = write_run(tmp_path / "run", [20, 10])
    with (run / "episodes.csv").open("a") as file:
        file.write("3,0,0,-1")
    assert len(plot_episodes(run).axes[0].lines[0].get_xdata()) == 2


def test_unreadable_runs_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.episodes\.csv does not exist; give the folder of a run"):
        plot_episodes(tmp_path / "nowhere")
    run = write_run(tmp_path / "empty", [])
    with pytest.raises(ValueError, match="holds no finished episode"):
        plot_episodes(run)
    (run / "episodes.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(ValueError, match="is not a log of episodes"):
        plot_episodes(run)
    with pytest.raises(ValueError, match="smooth=0"):
        plot_episodes(run, smooth=0)


def test_main_saves_the_plot(tmp_path, capsys):
    run = write_run(tmp_path / "run", [20, 10])
    output = tmp_path / "episodes.png"
    assert main([str(run), "--output", str(output)]) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == str(output)
    assert main([str(run)]) == 0
    assert (run / "episodes.png").read_bytes().startswith(b"\x89PNG")


def test_main_names_the_file_that_it_writes(tmp_path, capsys):
    run = write_run(tmp_path / "run", [20, 10])
    assert main([str(run), "--output", str(tmp_path / "curves")]) == 0
    written = Path(capsys.readouterr().out.strip())
    assert written == tmp_path / "curves.png"
    assert written.read_bytes().startswith(b"\x89PNG")
    assert main([str(run), "--output", str(tmp_path)]) == 2
    said = f"error: --output {tmp_path} is a folder; give a file, such as {tmp_path / 'episodes.png'}\n"
    assert capsys.readouterr().err == said
    assert {path.name for path in tmp_path.iterdir()} == {"run", "curves.png"}


def test_main_joins_the_runs_of_a_folder_as_seeds(tmp_path, capsys):
    runs = [str(write_run(tmp_path / "maze" / f"version_{seed}", [20, 10])) for seed in (0, 1)]
    assert main([*runs, "--band", "--clock", "env_step"]) == 0
    picture = (tmp_path / "maze/version_0/episodes.png").read_bytes()
    assert main(runs) == 0
    assert (tmp_path / "maze/version_0/episodes.png").read_bytes() != picture


def test_main_says_what_is_wrong_in_one_line(tmp_path, capsys):
    run = write_run(tmp_path / "run", [20, 10])
    assert main([str(tmp_path / "nowhere")]) == 2
    assert main([str(run), "--output", str(tmp_path / "no_folder" / "episodes.png")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "nowhere" in lines[0]
    assert "no_folder" in lines[1]
