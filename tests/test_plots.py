from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot

from lit_dqn.envs.grid_layouts import GridLayout, cliff_walk, maze, random_walk, windy_grid
from lit_dqn.plots import draw_grid, figure_to_array, main, plot_episodes

HEADER = "episode,env_step,env,return,length,terminated,seconds\n"
LAYOUTS = [maze(6, 9), maze(16, 26), random_walk(1, 7), windy_grid(7, 10), cliff_walk(4, 12)]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def arrows(figure) -> list[tuple[float, float]]:
    """(d_row, d_column) signs of the arrows, in drawing order."""
    annotations = [text for text in figure.axes[0].texts if getattr(text, "arrow_patch", None)]
    ends = [(np.array(arrow.xy), np.array(arrow.xyann)) for arrow in annotations]
    return [tuple(np.sign(np.round(tip - tail, 6))[::-1]) for tip, tail in ends]


def path_line(figure):
    return figure.axes[0].lines[0]


def write_run(folder: Path, lengths: list[int]) -> Path:
    folder.mkdir(parents=True)
    rows = [f"{episode},{0},0,{-length},{length},True,0.1\n" for episode, length in enumerate(lengths, start=1)]
    (folder / "episodes.csv").write_text(HEADER + "".join(rows))
    return folder


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.rows}x{layout.columns}")
def test_draws_every_layout_with_everything_on_it(layout: GridLayout):
    states = range(layout.num_states)
    figure = draw_grid(
        layout,
        values=-np.linspace(0, 20, layout.num_states),
        greedy_actions=[[0, 1]] * layout.num_states,
        path=[layout.state_of(layout.start)] * 3,
        title="all of it",
    )
    picture = figure_to_array(figure)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[1] >= 50 * layout.columns
    numbers = [text for text in texts(figure) if text not in ("S", "G", "G1", "G2")]
    assert len(numbers) == sum(layout.acts_in(layout.cell_of(state)) for state in states)
    assert len(arrows(figure)) == 2 * len(numbers)


def test_values_stand_in_their_cells_with_decimals_that_fit():
    layout = maze(6, 9)
    values = np.zeros(54)
    values[27], values[0], values[1] = -13.96, np.nan, -0.001
    figure = draw_grid(layout, values=values)
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    column, row = places["-14.0"]
    assert (round(column), round(row)) == (0, 3)
    assert "nan" not in places
    assert "-0.0" not in places
    assert "G" in places
    assert "S" in places
    assert "0.33" in texts(draw_grid(layout, values=np.full(54, 1 / 3)))
    assert "1235" in texts(draw_grid(layout, values=np.full(54, 1234.5678)))


def test_brighter_cells_are_worth_more():
    layout = random_walk(1, 7)
    cells = [patch.get_facecolor()[:3] for patch in draw_grid(layout, values=np.arange(7)).axes[0].patches]
    brightness = [sum(cell) for cell in cells[1:6]]
    assert brightness == sorted(brightness)
    assert len(set(brightness)) == 5


def test_numbers_contrast_with_their_cells():
    layout = maze(6, 9)
    figure = draw_grid(layout, values=np.arange(54))
    fills = [patch.get_facecolor() for patch in figure.axes[0].patches]
    for text in figure.axes[0].texts:
        if text.get_text() in ("S", "G"):
            continue
        column, row = (round(place) for place in text.get_position())
        dark_cell = np.dot(fills[row * 9 + column][:3], (0.299, 0.587, 0.114)) < 0.5
        assert text.get_color() == ("white" if dark_cell else "black")


def test_greedy_actions_one_none_or_several():
    layout = maze(6, 9)
    greedy: list = [-1] * 54
    greedy[0], greedy[1], greedy[9] = 3, [1, 3], []
    assert arrows(draw_grid(layout, greedy_actions=greedy)) == [(1, 0), (0, 1), (1, 0)]
    assert arrows(draw_grid(layout, greedy_actions=np.array(greedy[:1] + [-1] * 53))) == [(1, 0)]
    everywhere = arrows(draw_grid(layout, greedy_actions=np.full(54, 7)))
    assert everywhere == [(1, 1)] * (54 - 7 - 1)  # none in walls and at the goal


def test_path_leads_through_its_cells_in_order():
    layout = maze(6, 9)
    path = [27, 18, 9, 10, 9, 18]
    x, y = path_line(draw_grid(layout, path=path)).get_data()
    assert [round(row) * 9 + round(column) for column, row in zip(x, y, strict=True)] == path
    assert len(set(zip(x, y, strict=True))) == len(path)  # a cell visited twice shows it


def test_path_breaks_where_the_agent_fell_from_the_cliff():
    x, _ = path_line(draw_grid(cliff_walk(4, 12), path=[0, 12, 13, 14, 0, 12])).get_data()
    assert np.flatnonzero(np.isnan(x)).tolist() == [4]


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match=r"values has shape \(53,\); give one value for each of 54 states"):
        draw_grid(maze(6, 9), values=np.zeros(53))
    with pytest.raises(ValueError, match="greedy_actions has 3 entries; give one for each of 54 states"):
        draw_grid(maze(6, 9), greedy_actions=[1, 2, 3])


def test_episodes_and_their_moving_mean(tmp_path):
    run = write_run(tmp_path / "maze" / "version_0", [100, 50, 30, 20])
    steps, returns = plot_episodes(run, smooth=2).axes
    points, means = steps.lines
    assert points.get_xydata().tolist() == [[1, 100], [2, 50], [3, 30], [4, 20]]
    assert means.get_ydata().tolist() == [100, 75, 40, 25]
    assert returns.lines[1].get_ydata().tolist() == [-100, -75, -40, -25]
    assert means.get_label() == "maze/version_0"


def test_several_runs_share_the_panels(tmp_path):
    runs = [write_run(tmp_path / name, [20, 10]) for name in ("one", "two")]
    steps, returns = plot_episodes(runs).axes
    assert len(steps.lines) == len(returns.lines) == 4
    assert len({line.get_color() for line in steps.lines}) == 2


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


def test_main_says_what_is_wrong_in_one_line(tmp_path, capsys):
    run = write_run(tmp_path / "run", [20, 10])
    assert main([str(tmp_path / "nowhere")]) == 2
    assert main([str(run), "--output", str(tmp_path / "no_folder" / "episodes.png")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "nowhere" in lines[0]
    assert "no_folder" in lines[1]


def test_plots_leave_no_figure_with_pyplot():
    # pyplot keeps every figure it makes and wants the main thread; a callback would leak one picture each time.
    figure_to_array(draw_grid(random_walk(1, 7), values=np.arange(7)))
    assert pyplot.get_fignums() == []
