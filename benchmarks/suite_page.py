"""What a suite's runs look like on a page: a picture of the curves, and a table."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from lit_dqn.commands.studies.statistics import confidence_interval, interquartile_mean

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
WINDOW, TEST_EPISODES, POINTS = 100, 100, 100
COLOURS, GOAL_COLOUR = ["#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"], "#d55e00"
LEGEND_LINES = 4  # more would hide the curves
AS_IT_IS = "the config as it is"
GREEDY = "greedy_return"
RETURNS = {
    "training_return": f"training return, last {WINDOW} episodes",
    GREEDY: f"return of the last weights, {TEST_EPISODES} episodes",
}
FIGURES = "mean; IQM [95 % interval]; worst"

Row = dict[str, str]


@dataclass(frozen=True)
class Suite:
    """Configs that are reported together.

    Args:
        name: of its files.
        envs: config below configs/, without its ending -> what its env is called on the page.
        goal: what the source of the published figure begins with that the picture shows; None for none.
        relative: whether returns are shares of something, so that what overlays make of all envs together can be told
            beside the configs as they are.
        base: a file that is put over each config; None: there is none.

    """

    name: str
    envs: dict[str, str]
    goal: str | None = None
    relative: bool = False
    base: Path | None = None
    page: Path = ROOT / "docs" / "results.md"
    pictures: Path = ROOT / "docs" / "images"

    @property
    def runs(self) -> Path:
        return RESULTS / f"{self.name}.csv"

    @property
    def curves(self) -> Path:
        return RESULTS / f"{self.name}_curves.csv"

    @property
    def published(self) -> Path:
        return RESULTS / f"published_{self.name}.csv"

    @property
    def marks(self) -> tuple[str, str]:
        return f"<!-- {self.name}: written by benchmarks/suite.py -->", f"<!-- /{self.name} -->"


def picture(suite: Suite, curves: list[Row], published: list[Row]) -> Figure:
    """Training return over env steps: the interquartile mean of the seeds and its interval, a colour for each overlay,
    and what a peer publishes, at the env step that it publishes it for.
    """
    shown = [config for config in suite.envs if any(row["config"] == config for row in curves)]
    columns = min(len(shown), 2)
    figure = Figure(figsize=(5.2 * columns, 3.4 * -(-len(shown) // 2)), layout="constrained")
    grid = figure.subplots(-(-len(shown) // 2), columns, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    overlays = sorted({row["overlay"] for row in curves})
    together = len(overlays) > LEGEND_LINES
    for config, axes in zip(shown, grid.flat, strict=False):
        for number, overlay in enumerate(overlays):
            rows = [row for row in curves if (row["config"], row["overlay"]) == (config, overlay)]
            if rows:
                plain = AS_IT_IS if suite.relative else "lit_dqn"
                name = overlay if overlay and (suite.relative or len(overlays) > 1) else plain
                _draw(axes, rows, COLOURS[number % len(COLOURS)], "-" if number < len(COLOURS) else "--", name)
        for row in published:
            if suite.goal and row["source"].startswith(suite.goal) and row.get(suite.envs[config]):
                steps, value = int(row["steps"]), float(row[suite.envs[config]])
                axes.plot([steps], [value], "D", color=GOAL_COLOUR, markersize=7, label=f"{row['source']} at {steps:,}")
        axes.set(title=suite.envs[config], xlabel="env step", xscale="log", ylabel=f"return, mean of {WINDOW} episodes")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}k")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if not together:
            axes.legend(frameon=False, fontsize=8)
    if together:
        lines = {line.get_label(): line for axes in grid.flat for line in axes.get_lines()}
        figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _draw(axes: Axes, rows: list[Row], colour: str, style: str, name: str) -> None:
    seeds = sorted({row["seed"] for row in rows})
    by_seed = [[(int(r["env_step"]), float(r["training_return"])) for r in rows if r["seed"] == s] for s in seeds]
    x = np.linspace(max(points[0][0] for points in by_seed), min(points[-1][0] for points in by_seed), POINTS)
    returns = np.array([np.interp(x, *zip(*points, strict=True)) for points in by_seed])
    low, high = np.transpose([confidence_interval([scores]) for scores in returns.T])
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    label = f"{name}: IQM of {len(seeds)} seeds, 95 % interval" if len(seeds) > 1 else f"{name}: one seed"
    axes.plot(x, interquartile_mean(returns.T), style, color=colour, linewidth=1.8, label=label)


def table(suite: Suite, runs: list[Row]) -> str:
    """Markdown: a line for each env and overlay; before them, if returns are shares of something, a line for each
    overlay, all envs together.
    """
    heads = ["", "overlay", "seeds", "env steps", "minutes"]
    heads += [f"{name}: {FIGURES}" for name in RETURNS.values()]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    overlays = sorted({row["overlay"] for row in runs})
    for config, env in suite.envs.items():
        for overlay in overlays:
            if rows := _rows(runs, config, overlay):
                lines.append(_line([env, overlay or AS_IT_IS, *_cells(rows)]))
    by_env = "\n".join(lines)
    return f"{_overview(suite, runs, overlays)}\n\n{by_env}" if suite.relative and len(overlays) > 1 else by_env


def _overview(suite: Suite, runs: list[Row], overlays: list[str]) -> str:
    heads = ["overlay", *suite.envs.values(), f"all, relative to {AS_IT_IS}: {FIGURES}", "minutes"]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    for overlay in overlays:
        by_env = {config: _rows(runs, config, overlay) for config in suite.envs}
        means = [f"{np.mean(_column(rows, GREEDY)):.1f}" if rows else "-" for rows in by_env.values()]
        plain = {config: _column(_rows(runs, config, ""), GREEDY) for config in suite.envs}
        shares = [_column(rows, GREEDY) / plain[c].mean() for c, rows in by_env.items() if rows and plain[c].size]
        minutes = np.mean([float(row["minutes"]) for rows in by_env.values() for row in rows])
        relative = _figures(shares, digits=2) if overlay and shares else "-"
        lines.append(_line([overlay or AS_IT_IS, *means, relative, f"{minutes:.1f}"]))
    return "\n".join(lines)


def _rows(runs: list[Row], config: str, overlay: str) -> list[Row]:
    return [row for row in runs if (row["config"], row["overlay"]) == (config, overlay)]


def _column(rows: list[Row], key: str) -> NDArray[np.float64]:
    return np.array([float(row[key]) for row in rows])


def comparison(suite: Suite, published: list[Row]) -> str:
    """Markdown: what others publish, a line for each source; nothing if there is no source."""
    if not published:
        return ""
    heads = ["published", "env steps", "seeds", "return", *suite.envs.values()]
    lines = [_line(heads), "|---" * len(heads) + "|"]
    for row in published:
        steps = re.sub(r"\d{4,}", lambda number: f"{int(number[0]):,}", row["steps"])
        others = [row.get(env) or "-" for env in suite.envs.values()]
        lines.append(_line([row["source"], steps, row["seeds"], row["protocol"], *others]))
    return "\n\n" + "\n".join(lines)


def _cells(rows: list[Row]) -> list[str]:
    steps = max(int(row["env_steps"]) for row in rows)
    minutes = _column(rows, "minutes").mean()
    returns = [_figures([_column(rows, key)]) for key in RETURNS]
    return [", ".join(sorted((row["seed"] for row in rows), key=int)), f"{steps:,}", f"{minutes:.1f}", *returns]


def _figures(strata: list[NDArray[np.float64]], digits: int = 1) -> str:
    """One score is said as it is, and one for each stratum has no interval: nothing can be drawn again."""
    scores = np.concatenate(strata)
    mean, iqm, worst = (f"{value:.{digits}f}" for value in (scores.mean(), interquartile_mean(scores), scores.min()))
    if len(scores) == 1:
        return f"**{mean}**"
    if len(scores) == len(strata):
        return f"**{mean}**; {iqm}; {worst}"
    low, high = (f"{value:.{digits}f}" for value in confidence_interval(strata))
    return f"**{mean}**; {iqm} [{low}, {high}]; {worst}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(suite: Suite, runs: list[Row], curves: list[Row], published: list[Row]) -> None:
    """The picture, and the table between its marks.

    Raises:
        ValueError: if the page has no such marks.

    """
    begin, end = suite.marks
    before, found, rest = suite.page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{suite.page.name} has no place for the table: {begin} and {end}")
    picture(suite, curves, published).savefig(suite.pictures / f"{suite.name}.png", dpi=110)
    suite.page.write_text(f"{before}{begin}\n{table(suite, runs)}{comparison(suite, published)}\n{end}{after}")
