"""Q of a grid world: every cell is divided into one piece per action."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import ArrayLike, NDArray

from lit_dqn.envs.grid.layouts import MOVES, Cell, GridLayout
from lit_dqn.plots.grid import grid_inches, ground, paint_cell, prepare_axes
from lit_dqn.plots.style import FAINT, GRID_LINE, MARK_SIZE, NUMBER_SIZE, VALUE_COLOURS, ink_on, write_number

CELL_INCHES = {2: 1.25, 4: 1.15, 8: 1.55}
CORNERS = np.array([(0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)])


def draw_q_values(
    layout: GridLayout,
    q_values: ArrayLike,
    *,
    moves: Sequence[Cell] = MOVES,
    title: str | None = None,
) -> Figure:
    """Q(s, a) as numbers and heat map: each cell is divided among the directions of its actions (four triangles, two
    halves, or eight pieces), and the numbers of its greedy actions are bold.

    Args:
        layout: the grid.
        q_values: Q, [num_states, num_actions]; walls, goals and cliff show none.
        moves: (d_row, d_column) of each action, as in `GridWorld.moves`.
        title: a line above the grid.

    Raises:
        ValueError: if Q has another shape, or there are not 2, 4 or 8 actions.

    """
    values = np.asarray(q_values, dtype=float)
    num_actions = values.shape[-1] if values.ndim else 0
    if values.shape != (layout.num_states, num_actions) or num_actions not in CELL_INCHES:
        raise ValueError(
            f"q_values has shape {values.shape}; give ({layout.num_states}, number of actions), with 2, 4 or 8 actions"
        )
    moves = moves[:num_actions]
    figure = Figure(figsize=grid_inches(layout, CELL_INCHES[num_actions]), layout="constrained")
    axes = figure.add_subplot()
    prepare_axes(axes, layout, title)
    acting = layout.acting_states
    finite = values[acting][np.isfinite(values[acting])]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    largest = float(np.abs(finite).max(initial=0.0))
    pieces = [_piece(move, num_actions) for move in moves]
    for state in range(layout.num_states):
        paint_cell(axes, layout, state, ground(layout, state))
        if state in acting:
            shares = (values[state] - low) / (high - low) if high > low else np.full(num_actions, 0.5)
            _draw_cell(axes, layout.cell_of(state), values[state], shares, largest, moves, pieces)
    _mark(axes, layout, num_actions)
    return figure


def _piece(move: Cell, num_actions: int) -> NDArray[np.float64]:
    """The part of a cell in the direction of a move, as the corners of a polygon around (0, 0)."""
    direction, half = np.arctan2(*move), np.pi / num_actions
    edges = [np.array([np.cos(direction + turn), np.sin(direction + turn)]) for turn in (-half, half)]
    edges = [edge / (2 * np.abs(edge).max()) for edge in edges]
    turns = (np.arctan2(CORNERS[:, 1], CORNERS[:, 0]) - direction + np.pi) % (2 * np.pi) - np.pi
    inside = np.abs(turns) < half - 1e-9
    corners = CORNERS[inside][np.argsort(turns[inside])]
    return np.array([(0.0, 0.0), edges[0], *corners, edges[1]])


def _draw_cell(
    axes: Axes,
    cell: Cell,
    values: NDArray[np.float64],
    shares: NDArray[np.float64],
    largest: float,
    moves: Sequence[Cell],
    pieces: Sequence[NDArray[np.float64]],
) -> None:
    row, column = cell
    best = np.nanmax(values) if np.isfinite(values).any() else np.nan
    for value, share, (d_row, d_column), piece in zip(values, shares, moves, pieces, strict=True):
        if not np.isfinite(value):
            continue
        fill = VALUE_COLOURS(share)
        axes.add_patch(Polygon(piece + np.array(cell[::-1]), facecolor=fill, edgecolor=GRID_LINE, linewidth=0.6))
        # A number is wider than high, so left and right it needs more distance from the centre.
        reach_x, reach_y = (0.25, 0.35) if len(moves) < 8 else (0.335, 0.36)
        axes.text(
            column + reach_x * d_column,
            row + reach_y * d_row,
            write_number(value, largest),
            color=ink_on(fill),
            fontsize=NUMBER_SIZE,
            fontweight="bold" if value == best else "normal",
            ha="center",
            va="center",
            zorder=5,
        )
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=FAINT, linewidth=1, zorder=4))


def _mark(axes: Axes, layout: GridLayout, num_actions: int) -> None:
    """S on the start, where the numbers leave room, and G on the goals."""
    style: dict[str, Any] = {"fontweight": "bold", "ha": "center", "va": "center", "zorder": 7}
    row, column = layout.start
    x, y = (column, row) if num_actions == 8 else (column - 0.38, row + 0.38)
    axes.plot([x], [y], "o", color="white", markersize=15, markeredgecolor=FAINT, zorder=6)
    axes.text(x, y, "S", color="black", fontsize=NUMBER_SIZE - 1, **style)
    for number, (row, column) in enumerate(layout.goals, start=1):
        mark = f"G{number}" if len(layout.goals) > 1 else "G"
        axes.text(column, row, mark, color="white", fontsize=MARK_SIZE, **style)
