"""Pictures of several runs: learning curves with intervals, aggregates, probabilities of improvement."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lit_dqn.plots.style import FAINT, RUN_COLOURS, TICK_SIZE, TITLE_SIZE, plain_axes

COLUMNS = 3
"""Number of tasks in a row."""

ROW_HEIGHT = 0.42
"""Height of an agent or a pair of agents, in inches."""


class Estimate(NamedTuple):
    """A number and its interval."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """A curve and its interval at each point, all [points]."""

    x: NDArray[np.float64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def plot_learning_curves(curves: Mapping[str, Mapping[str, Band]], label: str = "return") -> Figure:
    """Learning curves of agents, with a panel for each task.

    Args:
        curves: task -> agent -> its curve over env steps.
        label: of the y-axis.

    Raises:
        ValueError: if there are none.

    """
    if not any(curves.values()):
        raise ValueError("there is no curve to draw")
    columns = min(len(curves), COLUMNS)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(max(4.4 * columns, 6.0), 3.4 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    colours = _colours([agent for of_task in curves.values() for agent in of_task])
    for number, (axes, (task, of_task)) in enumerate(zip(grid.flat, curves.items(), strict=False)):
        for agent, band in of_task.items():
            axes.fill_between(band.x, band.low, band.high, color=colours[agent], alpha=0.2, linewidth=0)
            axes.plot(band.x, band.value, color=colours[agent], linewidth=2, label=agent)
        axes.set_title(task, fontsize=TITLE_SIZE)
        axes.set_xlabel("env step", fontsize=TICK_SIZE + 1)
        if number % columns == 0:
            axes.set_ylabel(label, fontsize=TICK_SIZE + 1)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        plain_axes(axes)
    _legend(figure, grid.flat[: len(curves)])
    return figure


def plot_estimates(measures: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """One row per agent, one panel per measure: the interval as a bar, the number as a line across it.

    Args:
        measures: name of the measure -> agent -> estimate; with the same agents for all measures.

    Raises:
        ValueError: if there are none.

    """
    if not any(measures.values()):
        raise ValueError("there is no estimate to draw")
    agents = list(next(iter(measures.values())))
    colours = _colours(agents)
    figure = Figure(figsize=(2.2 + 3.2 * len(measures), 1.0 + ROW_HEIGHT * len(agents)), layout="constrained")
    (panels,) = figure.subplots(1, len(measures), squeeze=False, sharey=True)
    for axes, (name, of_agent) in zip(panels, measures.items(), strict=True):
        for row, agent in enumerate(agents):
            _draw_estimate(axes, row, of_agent[agent], colours[agent])
        axes.set_title(name, fontsize=TITLE_SIZE)
    _name_rows(panels[0], agents)
    return figure


def plot_improvements(pairs: Mapping[tuple[str, str], Estimate]) -> Figure:
    """The probability that the first agent of each pair is better than the second; the line in the middle is a tie.

    Args:
        pairs: (X, Y) -> P(X > Y).

    Raises:
        ValueError: if there are none.

    """
    if not pairs:
        raise ValueError("there is no pair of agents to draw")
    names = [f"{x}  >  {y}" for x, y in pairs]
    width = 4.5 + 0.07 * max(map(len, names))
    figure = Figure(figsize=(width, 1.0 + ROW_HEIGHT * len(pairs)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0.5, color=FAINT, linewidth=1, linestyle="--")
    for row, estimate in enumerate(pairs.values()):
        _draw_estimate(axes, row, estimate, RUN_COLOURS[0])
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel("probability of improvement", fontsize=TICK_SIZE + 1)
    _name_rows(axes, names)
    return figure


def _draw_estimate(axes: Axes, row: int, estimate: Estimate, colour: str) -> None:
    axes.use_sticky_edges = False  # so that a bar does not begin at the frame
    axes.barh(row, estimate.high - estimate.low, 0.6, left=estimate.low, color=colour, alpha=0.6, linewidth=0)
    axes.vlines(estimate.value, row - 0.3, row + 0.3, color="black", linewidth=2)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    plain_axes(axes)


def _name_rows(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _colours(names: list[str]) -> dict[str, str]:
    return {name: RUN_COLOURS[number % len(RUN_COLOURS)] for number, name in enumerate(dict.fromkeys(names))}


def _legend(figure: Figure, panels: NDArray[np.object_]) -> None:
    """One legend for all panels."""
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    columns = 1 if max(map(len, handles)) > 40 else min(len(handles), 3)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=columns,
        frameon=False,
        fontsize=TICK_SIZE,
    )
