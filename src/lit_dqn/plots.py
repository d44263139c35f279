"""Pictures of a run, drawn without a screen: what an agent thinks of a grid world, and its episodes over time.

`python -m lit_dqn.plots RUN` saves the second one.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

from lit_dqn.envs.grid_layouts import MOVES, Cell, GridLayout

EPISODES_FILE = "episodes.csv"

# Beside cividis (blue to yellow), Okabe & Ito's vermilion and green stay apart for colour-blind eyes.
VALUE_COLOURS = colormaps["cividis"]
FLOOR, WALL, CLIFF, CLIFF_HATCH, GOAL, PATH = "#faf9f5", "#3c3f46", "#d55e00", "#963a00", "#009e73", "#d55e00"
RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

CELL_INCHES = 0.72
# Inside a cell the path keeps to a lane left of and below the arrow, and above the number.
CONTENT_X, LANE_X, LANE_Y, NUMBER_Y = 0.08, -0.33, -0.13, -0.35


def draw_grid(
    layout: GridLayout,
    *,
    values: ArrayLike | None = None,
    greedy_actions: Sequence[int | Sequence[int]] | NDArray[np.integer] | None = None,
    path: Sequence[int] | None = None,
    moves: Sequence[Cell] = MOVES,
    title: str | None = None,
) -> Figure:
    """A grid world with state values, greedy actions, and the way that an agent went.

    Args:
        layout: the grid; a state is `row * columns + column`, rows counted from the bottom.
        values: V, [num_states]; a heat map with numbers. Walls, goals and cliff show none, nor do values that are
            not finite.
        greedy_actions: for each state one action, -1 for none, or a sequence of actions (ties); drawn as arrows.
        path: the states that an episode passed, in order; drawn as a line from a ring to a filled dot.
        moves: (d_row, d_column) of each action, as `GridWorld.moves`.
        title: a line above the grid.

    Raises:
        ValueError: if there is not exactly one value, or one entry of greedy actions, for each state.

    """
    figure = Figure(figsize=(layout.columns * CELL_INCHES + 0.6, layout.rows * CELL_INCHES + 0.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(-0.5, layout.columns - 0.5), ylim=(-0.5, layout.rows - 0.5), aspect="equal")
    axes.set_xticks(range(layout.columns), [_column_label(layout, column) for column in range(layout.columns)])
    axes.set_yticks(range(layout.rows))
    axes.tick_params(length=0, labelsize=8, labelcolor="#666666")
    if title:
        axes.set_title(title, fontsize=10)

    acting = [state for state in range(layout.num_states) if layout.acts_in(layout.cell_of(state))]
    shown = np.full(layout.num_states, np.nan)
    if values is not None:
        given = np.asarray(values, dtype=float)
        if given.shape != (layout.num_states,):
            raise ValueError(f"values has shape {given.shape}; give one value for each of {layout.num_states} states")
        shown[acting] = np.where(np.isfinite(given), given, np.nan)[acting]
    if greedy_actions is not None and len(greedy_actions) != layout.num_states:
        raise ValueError(
            f"greedy_actions has {len(greedy_actions)} entries; give one for each of {layout.num_states} states"
        )

    fills = _fill_cells(axes, layout, shown)
    _mark_start_and_goals(axes, layout, fills)
    if path is not None and len(path):
        _draw_path(axes, layout, path, moves)
    _write_values(axes, layout, shown, fills)
    if greedy_actions is not None:
        for state in acting:
            actions = [int(action) for action in np.atleast_1d(np.asarray(greedy_actions[state], dtype=int))]
            _draw_arrows(axes, layout.cell_of(state), [moves[a] for a in actions if a >= 0], _ink_on(fills[state]))
    return figure


def figure_to_array(figure: Figure) -> NDArray[np.uint8]:
    """The figure as RGB pixels, uint8 [height, width, 3], at the figure's own dots per inch."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3].copy()


def plot_episodes(run_dirs: str | Path | Iterable[str | Path], *, smooth: int = 10) -> Figure:
    """Steps per episode and return per episode of one or more runs: each episode light, their moving mean strong.

    Args:
        run_dirs: folders that hold `episodes.csv` (with at least the columns episode, return, length).
        smooth: episodes in the moving mean; at the start of a run it takes those there are.

    Raises:
        ValueError: if a folder has no readable `episodes.csv`, or no episode has ended yet.

    """
    if smooth < 1:
        raise ValueError(f"smooth={smooth} is not a number of episodes; give 1 or more")
    folders = [Path(run_dirs)] if isinstance(run_dirs, str | Path) else [Path(run_dir) for run_dir in run_dirs]
    runs = [_read_episodes(folder) for folder in folders]

    figure = Figure(figsize=(8, 6), layout="constrained")
    steps_axes, return_axes = figure.subplots(2, 1, sharex=True)
    for number, (folder, run) in enumerate(zip(folders, runs, strict=True)):
        colour = RUN_COLOURS[number % len(RUN_COLOURS)]
        for axes, column in ((steps_axes, "length"), (return_axes, "return")):
            axes.plot(run["episode"], run[column], ".", color=colour, alpha=0.45, markersize=6, markeredgewidth=0)
            means = _moving_mean(run[column], smooth)
            axes.plot(run["episode"], means, color=colour, linewidth=2, label="/".join(folder.resolve().parts[-2:]))
    # Early episodes are a hundred times as long as late ones; a linear axis would flatten the end.
    steps_axes.set_yscale("log")
    steps_axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    steps_axes.yaxis.set_major_formatter(ScalarFormatter())
    steps_axes.yaxis.set_minor_formatter(NullFormatter())
    steps_axes.set_ylabel("steps per episode")
    return_axes.set_ylabel("return per episode")
    return_axes.set_xlabel("episode")
    return_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (steps_axes, return_axes):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    steps_axes.legend(title=f"mean of {smooth} episodes" if smooth > 1 else None, frameon=False, fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m lit_dqn.plots RUN [RUN ...]`: save the episodes plot; 0, or 2 with one sentence if it cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_dqn.plots", description="Plot steps and return per episode of one or more runs."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help=f"a run's folder, which holds {EPISODES_FILE}")
    parser.add_argument("--output", help="the picture to write (default: episodes.png in the first run's folder)")
    parser.add_argument("--smooth", type=int, default=10, help="episodes in the moving mean (default: %(default)s)")
    options = parser.parse_args(arguments)
    output = options.output or str(Path(options.runs[0]) / "episodes.png")
    try:
        plot_episodes(options.runs, smooth=options.smooth).savefig(output, dpi=120)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: --output {output} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(output)
    return 0


def _column_label(layout: GridLayout, column: int) -> str:
    wind = layout.wind_at(column)
    return f"{column}\nwind {wind}" if wind else str(column)


def _fill_cells(axes: Axes, layout: GridLayout, values: NDArray[np.float64]) -> list[Any]:
    """Paint every cell; the colours, by state."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    fills: list[Any] = []
    for state, value in enumerate(values):
        cell = layout.cell_of(state)
        row, column = cell
        fill: Any = FLOOR
        if cell in layout.walls:
            fill = WALL
        elif cell in layout.cliff:
            fill = CLIFF
        elif cell in layout.goals:
            fill = GOAL
        elif np.isfinite(value):
            fill = VALUE_COLOURS((value - low) / (high - low) if high > low else 0.5)
        fills.append(fill)
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=fill, edgecolor="#dcdad2", linewidth=0.8))
        if cell in layout.cliff:
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor=CLIFF_HATCH, linewidth=0))
    return fills


def _mark_start_and_goals(axes: Axes, layout: GridLayout, fills: list[Any]) -> None:
    style: dict[str, Any] = {"fontweight": "bold", "ha": "center", "va": "center", "zorder": 5}
    row, column = layout.start
    ink = _ink_on(fills[layout.state_of(layout.start)])
    axes.text(column + 0.4, row + 0.36, "S", color=ink, fontsize=9, **style)
    for number, (row, column) in enumerate(layout.goals, start=1):
        mark = f"G{number}" if len(layout.goals) > 1 else "G"
        axes.text(column + CONTENT_X, row + 0.16, mark, color="white", fontsize=15, **style)


def _ink_on(fill: Any) -> str:
    red, green, blue = to_rgb(fill)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def _write_values(axes: Axes, layout: GridLayout, values: NDArray[np.float64], fills: list[Any]) -> None:
    """Numbers at the bottom of their cells, with as many decimals as there is room for."""
    largest = np.nanmax(np.abs(values), initial=0.0)
    decimals = 2 if largest < 10 else 1 if largest < 100 else 0
    for state in np.flatnonzero(np.isfinite(values)):
        row, column = layout.cell_of(int(state))
        rounded = round(values[state], decimals) + 0.0  # no "-0.00"
        text = f"{rounded:.{decimals}f}" if largest < 1e5 else f"{values[state]:.0e}"
        ink = _ink_on(fills[state])
        number = axes.text(
            column + CONTENT_X, row + NUMBER_Y, text, color=ink, fontsize=8.5, ha="center", va="center", zorder=5
        )
        number.set_path_effects([patheffects.withStroke(linewidth=2, foreground=fills[state])])


def _draw_arrows(axes: Axes, cell: Cell, moves: Sequence[Cell], ink: str) -> None:
    row, column = cell
    middle = (column + CONTENT_X, row + 0.16)
    for d_row, d_column in moves:
        reach = 0.22 / max(1.0, np.hypot(d_row, d_column))
        tip = (middle[0] + reach * d_column, middle[1] + reach * d_row)
        tail = middle if len(moves) > 1 else (middle[0] - reach * d_column, middle[1] - reach * d_row)
        style = {"arrowstyle": "-|>,head_width=0.22,head_length=0.35", "color": ink, "linewidth": 1.5}
        axes.annotate("", tip, tail, arrowprops={**style, "shrinkA": 0, "shrinkB": 0}, zorder=4)


def _draw_path(axes: Axes, layout: GridLayout, path: Sequence[int], moves: Sequence[Cell]) -> None:
    cells = np.array([layout.cell_of(int(state)) for state in path], dtype=float)
    # A line that comes back to a cell drifts from its first to its last step, so that it does not hide itself.
    drift = np.linspace(-0.07, 0.07, len(cells)) if len(set(path)) < len(path) else 0.0
    x, y = cells[:, 1] + LANE_X + drift, cells[:, 0] + LANE_Y + drift
    if layout.cliff:
        # A fall from the cliff lands at the start; a line across the grid would look like a walk.
        steps = np.diff(cells, axis=0)
        walked = [tuple(step) in {*moves, (0, 0)} for step in steps.astype(int).tolist()]
        falls = np.flatnonzero(~np.array(walked, dtype=bool)) + 1
        x, y = np.insert(x, falls, np.nan), np.insert(y, falls, np.nan)
    crowd = len(cells) / layout.num_states
    width, alpha = (2.2, 0.9) if crowd < 2 else (1.0, 0.55)
    (line,) = axes.plot(x, y, color=PATH, linewidth=width, alpha=alpha, solid_joinstyle="round", zorder=2)
    line.set_path_effects([patheffects.withStroke(linewidth=width + 1.4, foreground="white")])
    axes.plot(x[:1], y[:1], "o", markersize=7, markerfacecolor="white", markeredgecolor=PATH, zorder=3)
    axes.plot(x[-1:], y[-1:], "o", markersize=7, color=PATH, markeredgecolor="white", zorder=3)


def _moving_mean(numbers: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(numbers)])
    ends = np.arange(1, len(numbers) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _read_episodes(run_dir: Path) -> dict[str, NDArray[np.float64]]:
    path = run_dir / EPISODES_FILE
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder of a run that holds {EPISODES_FILE}")
    # While the run still plays, its last line may be half written.
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    rows = list(csv.DictReader(lines))
    if not rows:
        raise ValueError(f"{path} holds no finished episode; let the run play until its first episode ends")
    try:
        return {column: np.array([float(row[column]) for row in rows]) for column in ("episode", "return", "length")}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a log of episodes ({error}); it needs numbers in episode, return and length"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
