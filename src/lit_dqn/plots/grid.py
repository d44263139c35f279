"""The picture of a grid world: its cells, values as a heat map with numbers, arrows, and an agent's path."""

import string
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from lit_dqn.envs.grid.layouts import MOVES, Cell, GridLayout
from lit_dqn.plots.style import (
    CLIFF,
    CLIFF_HATCH,
    FAINT,
    FLOOR,
    GOAL,
    GRID_LINE,
    MARK_SIZE,
    NUMBER_SIZE,
    PATH,
    TICK_SIZE,
    TITLE_SIZE,
    VALUE_COLOURS,
    WALL,
    WIND,
    ink_on,
    write_number,
)

CELL_INCHES = 0.72
TRAIL_HEIGHT = 2.0  # cells
# Inside a cell the path runs left of and below the arrow, and above the number.
CONTENT_X, CONTENT_Y, LANE_X, LANE_Y, NUMBER_Y = 0.08, 0.18, -0.36, -0.12, -0.33

GreedyActions = Sequence[int | Sequence[int]] | NDArray[np.integer]


def draw_grid(
    layout: GridLayout,
    *,
    values: ArrayLike | None = None,
    greedy_actions: GreedyActions | None = None,
    path: Sequence[int] | None = None,
    moves: Sequence[Cell] = MOVES,
    title: str | None = None,
) -> Figure:
    """A grid world with state values, greedy actions, and an agent's path.

    Args:
        layout: the grid; a state is `row * columns + column`, rows counted from the bottom. The states of a world of
            one row are lettered from A, as in Sutton & Barto's example 6.2.
        values: V, [num_states]; a heat map with numbers. Walls, goals and cliff show no value, nor do states whose
            value is not finite.
        greedy_actions: for each state one action, -1 for none, or a sequence of actions (ties); drawn as arrows.
        path: the states of an episode, in order; drawn as a line from a ring to a filled dot. In a world of one row the
            line is below the cells, and goes down with each step.
        moves: (d_row, d_column) of each action, as in `GridWorld.moves`.
        title: a line above the grid.

    Raises:
        ValueError: if there is not exactly one value, or one entry of greedy actions, for each state.

    """
    if greedy_actions is not None and len(greedy_actions) != layout.num_states:
        raise ValueError(
            f"greedy_actions has {len(greedy_actions)} entries; give one for each of {layout.num_states} states"
        )
    passed = [] if path is None else list(path)
    trail = layout.rows == 1 and bool(passed)
    width, height = grid_inches(layout)
    figure = Figure(figsize=(width, height + TRAIL_HEIGHT * CELL_INCHES * trail), layout="constrained")
    axes = figure.add_subplot()
    prepare_axes(axes, layout, title)
    fills = paint_values(axes, layout, values)
    if trail:
        _draw_trail(axes, layout, passed)
    elif passed:
        _draw_path(axes, layout, passed, moves)
    if greedy_actions is not None:
        for state in layout.acting_states:
            actions = [int(action) for action in np.atleast_1d(np.asarray(greedy_actions[state], dtype=int))]
            _draw_arrows(axes, layout.cell_of(state), [moves[a] for a in actions if a >= 0], ink_on(fills[state]))
    return figure


def grid_inches(layout: GridLayout, cell_inches: float = CELL_INCHES) -> tuple[float, float]:
    """Width and height of a figure that holds one grid, its labels and a title."""
    return max(layout.columns * cell_inches + 0.6, 4.0), layout.rows * cell_inches + 1.0


def prepare_axes(axes: Axes, layout: GridLayout, title: str | None = None) -> None:
    """Empty axes that count rows and columns."""
    axes.set(xlim=(-0.5, layout.columns - 0.5), ylim=(-0.5, layout.rows - 0.5), aspect="equal")
    axes.set_xticks(range(layout.columns), [_column_label(layout, column) for column in range(layout.columns)])
    axes.set_yticks([] if layout.rows == 1 else range(layout.rows))
    figure, place = axes.get_figure(root=True), axes.get_subplotspec()
    assert figure is not None
    assert place is not None
    width = figure.get_figwidth() / place.get_gridspec().ncols  # inches
    scale = max(1.0, width / 9)  # wide figures are usually shown smaller
    axes.tick_params(length=0, labelsize=scale * TICK_SIZE, labelcolor=FAINT)
    if title:
        # A character of the title is about 0.55 of its size wide.
        fits = int(width * 72 / (0.55 * scale * TITLE_SIZE))
        axes.set_title(textwrap.fill(title, fits), fontsize=scale * TITLE_SIZE)


def state_names(layout: GridLayout) -> list[str]:
    """The names of the states: A, B, C ... in a world of one row (Sutton & Barto, example 6.2), otherwise numbers.

    States without actions have no letter.
    """
    acting = layout.acting_states
    if layout.rows > 1 or len(acting) > len(string.ascii_uppercase):
        return [str(state) for state in range(layout.num_states)]
    letters = dict(zip(acting, string.ascii_uppercase, strict=False))
    return [letters.get(state, "") for state in range(layout.num_states)]


def paint_values(
    axes: Axes,
    layout: GridLayout,
    values: ArrayLike | None = None,
    *,
    colours: Colormap = VALUE_COLOURS,
    limits: tuple[float, float] | None = None,
    number_at: tuple[float, float] = (CONTENT_X, NUMBER_Y),
) -> list[Any]:
    """Colour every cell by its value, if it has one, and write the value into it.

    Args:
        axes: from `prepare_axes`.
        layout: the grid.
        values: [num_states], or None for the world without values.
        colours: from the lowest to the highest value.
        limits: the values at the two ends of the colours; None: the lowest and the highest shown value.
        number_at: (x, y) from the centre of a cell to its number.

    Returns:
        The colour of each state's cell.

    Raises:
        ValueError: if there is not one value for each state.

    """
    shown = np.full(layout.num_states, np.nan)
    if values is not None:
        given = np.asarray(values, dtype=float)
        if given.shape != (layout.num_states,):
            raise ValueError(f"values has shape {given.shape}; give one value for each of {layout.num_states} states")
        acting = layout.acting_states
        shown[acting] = np.where(np.isfinite(given), given, np.nan)[acting]
    finite = shown[np.isfinite(shown)]
    low, high = limits or ((finite.min(), finite.max()) if finite.size else (0.0, 0.0))
    fills = [
        colours((value - low) / (high - low) if high > low else 0.5) if np.isfinite(value) else ground(layout, state)
        for state, value in enumerate(shown)
    ]
    for state, fill in enumerate(fills):
        paint_cell(axes, layout, state, fill)
    mark_cells(axes, layout, fills)
    largest = float(np.abs(finite).max(initial=0.0))
    for state in np.flatnonzero(np.isfinite(shown)).tolist():
        row, column = layout.cell_of(state)
        number = axes.text(
            column + number_at[0],
            row + number_at[1],
            write_number(shown[state], largest),
            color=ink_on(fills[state]),
            fontsize=NUMBER_SIZE,
            ha="center",
            va="center",
            zorder=5,
        )
        number.set_path_effects([patheffects.withStroke(linewidth=2, foreground=fills[state])])
    return fills


def ground(layout: GridLayout, state: int) -> str:
    """The colour of a cell without a value."""
    cell = layout.cell_of(state)
    if cell in layout.walls:
        return WALL
    if cell in layout.cliff:
        return CLIFF
    return GOAL if cell in layout.goals else FLOOR


def paint_cell(axes: Axes, layout: GridLayout, state: int, fill: Any) -> None:
    """A cell in a single colour; the cliff is hatched."""
    row, column = cell = layout.cell_of(state)
    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=fill, edgecolor=GRID_LINE, linewidth=0.8))
    if cell in layout.cliff:
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor=CLIFF_HATCH, linewidth=0))


def mark_cells(axes: Axes, layout: GridLayout, fills: Sequence[Any]) -> None:
    """S on the start, G on the goals, and a triangle for each cell that the wind pushes."""
    style: dict[str, Any] = {"fontweight": "bold", "ha": "center", "va": "center", "zorder": 5}
    row, column = layout.start
    ink = ink_on(fills[layout.state_of(layout.start)])
    axes.text(column + 0.38, row + 0.36, "S", color=ink, fontsize=NUMBER_SIZE, **style)
    for number, (row, column) in enumerate(layout.goals, start=1):
        mark = f"G{number}" if len(layout.goals) > 1 else "G"
        axes.text(column + CONTENT_X, row + CONTENT_Y, mark, color="white", fontsize=MARK_SIZE, **style)
    gusts = [
        (column + 0.4, row + 0.12 - 0.17 * gust)
        for row, column in map(layout.cell_of, layout.acting_states)
        for gust in range(layout.wind_at(column))
    ]
    if gusts:
        x, y = np.array(gusts).T
        axes.scatter(x, y, s=30, marker="^", color=WIND, edgecolors="white", linewidths=0.5, zorder=5)


def _column_label(layout: GridLayout, column: int) -> str:
    if layout.rows == 1:
        return state_names(layout)[column]
    wind = layout.wind_at(column)
    return f"{column}\nwind {wind}" if wind else str(column)


def _draw_arrows(axes: Axes, cell: Cell, moves: Sequence[Cell], ink: str) -> None:
    row, column = cell
    middle = (column + CONTENT_X, row + CONTENT_Y)
    for d_row, d_column in moves:
        reach = 0.22 / max(1.0, np.hypot(d_row, d_column))
        tip = (middle[0] + reach * d_column, middle[1] + reach * d_row)
        tail = middle if len(moves) > 1 else (middle[0] - reach * d_column, middle[1] - reach * d_row)
        style = {"arrowstyle": "-|>,head_width=0.26,head_length=0.4", "color": ink, "linewidth": 1.8}
        axes.annotate("", tip, tail, arrowprops={**style, "shrinkA": 0, "shrinkB": 0}, zorder=4)


def _draw_trail(axes: Axes, layout: GridLayout, path: Sequence[int]) -> None:
    """In a single row a walk to and fro would overlap itself, so it is drawn below the cells, going down with time."""
    columns = [layout.cell_of(int(state))[1] for state in path]
    steps = -0.75 - np.linspace(0, TRAIL_HEIGHT - 0.5, len(columns))
    axes.set_ylim(-0.5 - TRAIL_HEIGHT, 0.5)
    axes.axhspan(-0.5 - TRAIL_HEIGHT, -0.5, color=FLOOR, zorder=0)
    borders = np.arange(layout.columns - 1) + 0.5
    axes.vlines(borders, -0.5 - TRAIL_HEIGHT, -0.5, color=GRID_LINE, linewidth=0.8, zorder=1)
    axes.set_ylabel("time ↓", loc="bottom", fontsize=TICK_SIZE, color=FAINT)
    axes.xaxis.tick_top()
    _draw_line(axes, np.array(columns, float), steps, crowd=len(columns) / 30)


def _draw_path(axes: Axes, layout: GridLayout, path: Sequence[int], moves: Sequence[Cell]) -> None:
    cells = np.array([layout.cell_of(int(state)) for state in path], dtype=float)
    # The line drifts from its first to its last step, so that it does not overlap itself when it returns to a cell.
    drift = np.linspace(-0.07, 0.07, len(cells)) if len(set(path)) < len(path) else 0.0
    x, y = cells[:, 1] + LANE_X + drift, cells[:, 0] + LANE_Y + drift
    if layout.cliff:
        # A fall from the cliff ends at the start; a line across the grid would look like a walk.
        steps = np.diff(cells, axis=0)
        walked = [tuple(step) in {*moves, (0, 0)} for step in steps.astype(int).tolist()]
        falls = np.flatnonzero(~np.array(walked, dtype=bool)) + 1
        x, y = np.insert(x, falls, np.nan), np.insert(y, falls, np.nan)
    _draw_line(axes, x, y, crowd=len(cells) / layout.num_states)


def _draw_line(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], crowd: float) -> None:
    """From a ring to a filled dot; thinner if it crosses itself often."""
    width, alpha = (2.2, 0.9) if crowd < 2 else (1.0, 0.55)
    (line,) = axes.plot(x, y, color=PATH, linewidth=width, alpha=alpha, solid_joinstyle="round", zorder=2)
    line.set_path_effects([patheffects.withStroke(linewidth=width + 1.4, foreground="white")])
    axes.plot(x[:1], y[:1], "o", markersize=7, markerfacecolor="white", markeredgecolor=PATH, zorder=3)
    axes.plot(x[-1:], y[-1:], "o", markersize=7, color=PATH, markeredgecolor="white", zorder=3)
