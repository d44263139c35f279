"""Pictures of a search: returns in the order of the trials, and over each key."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lit_dqn.plots.style import FAINT, RUN_COLOURS, TICK_SIZE, TITLE_SIZE, plain_axes

COLUMNS = 3

DONE_COLOUR, PRUNED_COLOUR = RUN_COLOURS[0], "#b8b8b8"


class Point(NamedTuple):
    """A trial."""

    number: int
    value: float  # its mean return
    pruned: bool
    chosen: Mapping[str, Any]


class Scale(NamedTuple):
    """The axis of a key: its choices, or numbers."""

    choices: tuple[str, ...] = ()
    log: bool = False
    whole: bool = False


def plot_history(points: Sequence[Point], target: float | None = None) -> Figure:
    """The return of each trial, and the best one up to it.

    Args:
        points: in the order of the trials.
        target: the return at which the search ends; None: no line.

    Raises:
        ValueError: if there are none.

    """
    if not points:
        raise ValueError("there is no trial to draw")
    figure = Figure(figsize=(7.0, 3.6), layout="constrained")
    axes = figure.subplots()
    _scatter(axes, [point.number for point in points], points)
    done = [point for point in points if not point.pruned]
    best = np.maximum.accumulate([point.value for point in done])
    best, last = np.append(best, best[-1:]), points[-1].number
    axes.step(
        [*(point.number for point in done), *([last] if done else [])],
        best,
        where="post",
        color=RUN_COLOURS[1],
        linewidth=2,
        label="best",
    )
    if target is not None:
        axes.axhline(target, color=FAINT, linewidth=1, linestyle="--", label=f"target {target:g}")
    axes.set_xlabel("trial", fontsize=TICK_SIZE + 1)
    axes.set_ylabel("mean return", fontsize=TICK_SIZE + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=TICK_SIZE)
    return figure


def plot_slices(points: Sequence[Point], scales: Mapping[str, Scale], importances: Mapping[str, float]) -> Figure:
    """The return of each trial over each key, with a panel for each key.

    Args:
        points: in any order.
        scales: key -> its axis.
        importances: key -> its share; missing ones are not shown.

    Raises:
        ValueError: if there are none.

    """
    if not points:
        raise ValueError("there is no trial to draw")
    columns = min(len(scales), COLUMNS)
    rows = math.ceil(len(scales) / columns)
    figure = Figure(figsize=(max(3.4 * columns, 4.0), 2.9 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(scales) :]:
        axes.set_visible(False)
    for number, (axes, (key, scale)) in enumerate(zip(grid.flat, scales.items(), strict=False)):
        x = [scale.choices.index(point.chosen[key]) if scale.choices else point.chosen[key] for point in points]
        _scatter(axes, x, points)
        if scale.choices:
            axes.set_xticks(range(len(scale.choices)), scale.choices)
            axes.set_xlim(-0.5, len(scale.choices) - 0.5)
            if max(map(len, scale.choices)) * len(scale.choices) > 24:
                axes.tick_params(axis="x", labelrotation=20)
        elif scale.log:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=scale.whole))
        share = f"\nimportance {importances[key]:.0%}" if key in importances else ""
        axes.set_title(f"{key.replace('init_args.', '')}{share}", fontsize=TITLE_SIZE - 2)
        if number % columns == 0:
            axes.set_ylabel("mean return", fontsize=TICK_SIZE + 1)
    return figure


def _scatter(axes: Axes, x: Sequence[float], points: Sequence[Point]) -> None:
    for pruned, colour, label in ((True, PRUNED_COLOUR, "pruned"), (False, DONE_COLOUR, "done")):
        shown = [(place, point.value) for place, point in zip(x, points, strict=True) if point.pruned == pruned]
        if shown:
            places, values = zip(*shown, strict=True)
            axes.scatter(places, values, s=26, color=colour, label=label, linewidth=0, zorder=2)
    plain_axes(axes)
