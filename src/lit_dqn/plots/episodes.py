"""Steps and return per episode of a run, of several runs, or of several seeds as a band."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from lit_dqn.plots.style import RUN_COLOURS, TICK_SIZE, plain_axes
from lit_dqn.saving.layout import EPISODES

BAND_POINTS = 400
"""The number of points on the x-axis at which the seeds of a band are compared, if it counts env steps."""

SPREAD_FROM = 30
"""The axis is logarithmic if the worst return is this many times as far from the best as a good run's median."""

TICK_FACTORS = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 8)

Clock = Literal["episode", "env_step"]
Runs = str | Path | Iterable[str | Path] | Mapping[str, Iterable[str | Path]]


class Curve(NamedTuple):
    """The moving mean of one run."""

    x: NDArray[np.float64]
    mean: NDArray[np.float64]


def plot_episodes(runs: Runs, *, smooth: int = 10, clock: Clock = "episode") -> Figure:
    """Steps per episode and return per episode.

    For a single run: each episode as a light dot, and their moving mean as a line. For several seeds: the median of
    their moving means as a line, and a band from the lowest to the highest, up to the end of the shortest run.

    Args:
        runs: one folder or several folders that hold `episodes.csv` (with at least the columns episode, env_step,
            return, length), each drawn separately; or a mapping from a name to the folders of its seeds, each drawn as
            a band.
        smooth: number of episodes in the moving mean; at the start of a run, as many as have ended.
        clock: the unit of the x-axis.

    Raises:
        ValueError: if a folder has no readable `episodes.csv`, or no episode has ended yet.

    """
    if smooth < 1:
        raise ValueError(f"smooth={smooth} is not a number of episodes; give 1 or more")
    if clock not in ("episode", "env_step"):
        raise ValueError(f"clock={clock!r} is unknown; give 'episode' or 'env_step'")
    groups = _grouped(runs)
    figure = Figure(figsize=(8, 6), layout="constrained")
    steps_axes, return_axes = figure.subplots(2, 1, sharex=True)
    all_returns = []
    for number, (name, folders) in enumerate(groups):
        colour = RUN_COLOURS[number % len(RUN_COLOURS)]
        logs = [read_episodes(folder) for folder in folders]
        all_returns += [log["return"] for log in logs]
        for axes, column in ((steps_axes, "length"), (return_axes, "return")):
            curves = [Curve(log[clock], moving_mean(log[column], smooth)) for log in logs]
            if len(logs) > 1:
                _draw_band(axes, curves, clock, colour, name)
                continue
            points = logs[0][clock], logs[0][column]
            axes.plot(*points, ".", color=colour, alpha=0.45, markersize=6, markeredgewidth=0)
            axes.plot(*curves[0], color=colour, linewidth=2, label=name)
    # Early episodes are up to a hundred times as long as late ones; a linear axis would flatten the end.
    steps_axes.set_yscale("log")
    steps_axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    steps_axes.yaxis.set_major_formatter(ScalarFormatter())
    steps_axes.yaxis.set_minor_formatter(NullFormatter())
    steps_axes.set_ylabel("steps per episode", fontsize=TICK_SIZE + 1)
    return_axes.set_ylabel("return per episode", fontsize=TICK_SIZE + 1)
    _spread_the_best(return_axes, all_returns)
    return_axes.set_xlabel(clock.replace("_", " "), fontsize=TICK_SIZE + 1)
    return_axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return_axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    for axes in (steps_axes, return_axes):
        plain_axes(axes)
    alone = any(len(folders) == 1 for _, folders in groups)
    dots = "dots: episodes; line: " if alone else ""
    title = f"{dots}mean of {smooth} episodes" if smooth > 1 else None
    figure.legend(
        *steps_axes.get_legend_handles_labels(),
        loc="outside upper center",
        title=title,
        frameon=False,
        fontsize=TICK_SIZE,
        title_fontsize=TICK_SIZE,
    )
    return figure


def _spread_the_best(axes: Axes, returns: Sequence[NDArray[np.float64]]) -> None:
    """If returns are costs, the first episodes of an agent cost a hundred times as much as its last ones, and on a
    linear axis all good ones would look alike: then the axis is logarithmic in the distance from the best return.
    """
    best, worst = max(run.max() for run in returns), min(run.min() for run in returns)
    # The typical differences of a good run in its second half.
    unit = max(min(best - np.median(run[len(run) // 2 :]) for run in returns), (best - worst) / 1000)
    if best > 0 or best - worst <= SPREAD_FROM * unit:
        return

    def height(y: Any) -> Any:
        distance = (best - np.asarray(y)) / unit
        return -np.sign(distance) * np.log1p(np.abs(distance))

    def returns_at(heights: NDArray[np.float64]) -> NDArray[np.float64]:
        returns: NDArray[np.float64] = best + unit * np.sign(heights) * np.expm1(np.abs(heights))
        return returns

    axes.set_yscale("function", functions=(height, returns_at))
    low, high = height(worst), height(best)
    axes.set_ylim(*returns_at(np.array([low - 0.05 * (high - low), high + 0.05 * (high - low)])))
    ticks = [best]
    for tick in sorted((-factor * 10.0**power for power in range(7) for factor in TICK_FACTORS), reverse=True):
        if worst <= tick < best and height(ticks[-1]) - height(tick) > 0.07 * (high - low):
            ticks.append(tick)
    axes.set_yticks(ticks, [f"{tick:,.4g}" for tick in ticks])
    axes.set_ylabel("return per episode\n(log of the distance to the best)", fontsize=TICK_SIZE + 1)


def runs_of_seeds(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Runs by their parent folder: `maze/version_0` and `maze/version_1` are two seeds of `maze`."""
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        groups.setdefault(folder.resolve().parent.name, []).append(folder)
    return groups


def _grouped(runs: Runs) -> list[tuple[str, list[Path]]]:
    """Names, each with the folders of its seeds."""
    if isinstance(runs, Mapping):
        return [(name, [Path(folder) for folder in folders]) for name, folders in runs.items()]
    folders = [Path(runs)] if isinstance(runs, str | Path) else [Path(folder) for folder in runs]
    return [("/".join(folder.resolve().parts[-2:]), [folder]) for folder in folders]


def _draw_band(axes: Axes, curves: Sequence[Curve], clock: Clock, colour: str, name: str) -> None:
    first, last = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    if first > last:
        raise ValueError(f"the runs of {name} have no {clock.replace('_', ' ')} in common; let them play further")
    x = np.arange(first, last + 1) if clock == "episode" else np.linspace(first, last, BAND_POINTS)
    # Between the ends of two episodes the mean is that of the earlier one.
    means = np.stack([curve.mean[np.searchsorted(curve.x, x, side="right") - 1] for curve in curves])
    axes.fill_between(x, means.min(axis=0), means.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    axes.plot(
        x,
        np.median(means, axis=0),
        color=colour,
        linewidth=2,
        label=f"{name}: median of {len(curves)} seeds, band from lowest to highest",
    )


def moving_mean(numbers: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """At each place the mean of the last `window` numbers, or of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(numbers)])
    ends = np.arange(1, len(numbers) + 1)
    starts = np.maximum(ends - window, 0)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def read_episodes(
    run_dir: Path, columns: Sequence[str] = ("episode", "env_step", "return", "length")
) -> dict[str, NDArray[np.float64]]:
    """The columns of a run's `episodes.csv`, with a number for each finished episode.

    Raises:
        ValueError: if there is no such file, or it has other contents.

    """
    path = run_dir / EPISODES
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the folder of a run that holds {EPISODES}")
    # During a run the last line may be incomplete.
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    rows = list(csv.DictReader(lines))
    if not rows:
        raise ValueError(f"{path} holds no finished episode; let the run play until its first episode ends")
    try:
        return {column: np.array([float(row[column]) for row in rows]) for column in columns}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a log of episodes ({error}); it needs numbers in {', '.join(columns)}"
        ) from error
