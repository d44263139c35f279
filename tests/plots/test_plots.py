import re

import numpy as np
import pytest
from matplotlib import pyplot

from lit_dqn.envs.grid.layouts import MOVES, GridLayout, cliff_walk, maze, random_walk, windy_grid
from lit_dqn.plots import (
    draw_grid,
    draw_q_values,
    draw_value_error,
    draw_values_beside_truth,
    figure_to_array,
    plot_state_values,
)

LAYOUTS = [maze(6, 9), maze(16, 26), random_walk(1, 7), windy_grid(7, 10), cliff_walk(4, 12)]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def numbers_of(figure) -> list[str]:
    return [text for text in texts(figure) if re.fullmatch(r"-?[\d.]+", text)]


def arrows(figure) -> list[tuple[float, float]]:
    """(d_row, d_column) signs of the arrows, in drawing order."""
    annotations = [text for text in figure.axes[0].texts if getattr(text, "arrow_patch", None)]
    ends = [(np.array(arrow.xy), np.array(arrow.xyann)) for arrow in annotations]
    return [tuple(np.sign(np.round(tip - tail, 6))[::-1]) for tip, tail in ends]


def path_line(figure):
    return figure.axes[0].lines[0]


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
    numbers = numbers_of(figure)
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


def test_a_walk_to_and_fro_goes_down_with_time_below_its_one_row():
    path = [3, 2, 3, 4, 3, 4, 5, 6]
    figure = draw_grid(random_walk(1, 7), path=path)
    x, y = path_line(figure).get_data()
    assert x.tolist() == path
    assert (np.diff(y) < 0).all()
    assert y[0] < -0.5
    assert figure.axes[0].get_ylim()[0] < y[-1]


def test_path_breaks_where_the_agent_fell_from_the_cliff():
    x, _ = path_line(draw_grid(cliff_walk(4, 12), path=[0, 12, 13, 14, 0, 12])).get_data()
    assert np.flatnonzero(np.isnan(x)).tolist() == [4]


def test_the_states_of_a_walk_have_letters_and_the_wind_blows_where_it_does():
    ticks = draw_grid(random_walk(1, 7)).axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["", "A", "B", "C", "D", "E", ""]
    ticks = draw_grid(random_walk(1, 61)).axes[0].get_xticklabels()  # more states than letters
    assert [tick.get_text() for tick in ticks[:3]] == ["0", "1", "2"]
    windy = windy_grid(7, 10)
    (triangles,) = draw_grid(windy).axes[0].collections
    blown = [(round(row), round(column)) for column, row in triangles.get_offsets()]
    for cell in map(windy.cell_of, range(windy.num_states)):
        assert blown.count(cell) == (windy.wind_at(cell[1]) if windy.acts_in(cell) else 0)


def test_a_long_title_is_broken_into_lines():
    title = draw_grid(random_walk(1, 5), title="env step 10,814, episode 200: the last episode took 14 steps")
    assert "\n" in title.axes[0].get_title()
    assert "\n" not in draw_grid(maze(16, 26), title="env step 10,814, episode 200").axes[0].get_title()


def pieces_of(figure, state: int, columns: int) -> dict[tuple[int, int], tuple]:
    """The colours of the pieces of a cell, by the direction in which they lie."""
    middle = np.array(divmod(state, columns)[::-1])
    found = {}
    for patch in figure.axes[0].patches:
        corners = patch.get_xy()
        if not isinstance(corners, np.ndarray) or not np.allclose(corners[0], middle):
            continue
        direction = np.round(2 * (corners[1:-1].mean(axis=0) - middle) / 0.9).astype(int)
        found[tuple(direction.tolist()[::-1])] = patch.get_facecolor()
    return found


@pytest.mark.parametrize(("layout", "num_actions"), [(random_walk(1, 7), 2), (maze(6, 9), 4), (maze(6, 9), 8)])
def test_each_action_has_the_piece_of_the_cell_that_lies_in_its_direction(layout, num_actions):
    q_values = np.zeros((layout.num_states, num_actions))
    state, best = layout.state_of(layout.start), num_actions - 1
    q_values[state, best] = 1.0
    figure = draw_q_values(layout, q_values)
    pieces = pieces_of(figure, state, layout.columns)
    assert set(pieces) == set(MOVES[:num_actions])
    brightest = max(pieces, key=lambda move: sum(pieces[move][:3]))
    assert brightest == MOVES[best]
    bold = [text for text in figure.axes[0].texts if text.get_text() == "1.00"]
    assert [text.get_fontweight() for text in bold] == ["bold"]
    x, y = bold[0].get_position()
    assert np.sign([round(y - layout.start[0], 2), round(x - layout.start[1], 2)]).tolist() == list(MOVES[best])
    acting = sum(layout.acts_in(layout.cell_of(state)) for state in range(layout.num_states))
    assert len(numbers_of(figure)) == acting * num_actions


def test_the_pieces_of_a_cell_cover_it_once():
    for num_actions in (2, 4, 8):
        areas = []
        for patch in draw_q_values(maze(6, 9), np.zeros((54, num_actions))).axes[0].patches:
            corners = patch.get_xy()
            if isinstance(corners, np.ndarray) and np.allclose(corners[0], (0, 3)):
                x, y = corners.T
                areas.append(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)
        assert len(areas) == num_actions
        assert sum(areas) == pytest.approx(1)


def test_the_error_stands_beside_the_truth_with_its_rms():
    layout = random_walk(1, 7)
    truth = np.arange(7) / 6
    values = truth + np.array([99, 0.1, -0.1, 0.1, -0.1, 0.1, 99])  # what the ends say does not count
    figure = draw_value_error(layout, values, truth)
    assert "RMS error 0.1" in figure.axes[0].get_title()
    assert numbers_of(figure) == ["0.10", "-0.10", "0.10", "-0.10", "0.10"]
    above, below = (patch.get_facecolor()[:3] for patch in figure.axes[0].patches[1:3])
    assert above[0] > above[2]  # orange
    assert below[2] > below[0]  # purple
    v, true, error = draw_values_beside_truth(layout, values, truth).axes
    assert [axes.get_title() for axes in (v, true)] == ["V", "true values"]
    assert error.get_title() == figure.axes[0].get_title()
    assert "0.27" in [text.get_text() for text in v.texts]
    with pytest.raises(ValueError, match=r"true_values has shape \(3,\)"):
        draw_value_error(layout, values, truth[:3])


def test_small_errors_look_like_nothing():
    layout = random_walk(1, 7)
    truth = np.arange(7) / 6
    patches = draw_value_error(layout, truth + 1e-6, truth).axes[0].patches[1:6]
    assert all(min(patch.get_facecolor()[:3]) > 0.9 for patch in patches)


def test_values_of_a_walk_as_lines():
    layout = random_walk(1, 7)
    (axes,) = plot_state_values(layout, {"one": np.full(7, 0.5)}, np.arange(7) / 6).axes
    true, one = axes.lines
    assert one.get_xydata().tolist() == [[state, 0.5] for state in range(1, 6)]
    assert true.get_ydata() == pytest.approx(np.arange(1, 6) / 6)
    with pytest.raises(ValueError, match="layout has 6 rows"):
        plot_state_values(maze(6, 9), {})


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match=r"values has shape \(53,\); give one value for each of 54 states"):
        draw_grid(maze(6, 9), values=np.zeros(53))
    with pytest.raises(ValueError, match="greedy_actions has 3 entries; give one for each of 54 states"):
        draw_grid(maze(6, 9), greedy_actions=[1, 2, 3])
    for shape in [(53, 4), (54, 3), (54,)]:
        with pytest.raises(ValueError, match="give \\(54, number of actions\\), with 2, 4 or 8 actions"):
            draw_q_values(maze(6, 9), np.zeros(shape))


def test_plots_leave_no_figure_with_pyplot():
    # pyplot keeps every figure it makes and wants the main thread; a callback would leak one picture each time.
    figure_to_array(draw_grid(random_walk(1, 7), values=np.arange(7)))
    assert pyplot.get_fignums() == []
