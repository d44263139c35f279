"""The report of runs: a page, the scores in the form that rliable reads, one line per run, and figures."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lit_dqn.commands.studies.comparison import Comparison, estimate
from lit_dqn.commands.studies.statistics import CONFIDENCE, RESAMPLES
from lit_dqn.plots.studies import Estimate, plot_estimates, plot_improvements, plot_learning_curves
from lit_dqn.saving import durable
from lit_dqn.saving.layout import FIGURES, LINES, REPORT, SCORES

DOTS_PER_INCH = 110

INTERVAL = f"[{CONFIDENCE:.0%} interval]"


def write_report(folder: Path, title: str, comparison: Comparison, missing: Sequence[str], repeat: str) -> None:
    """Write the report.

    Args:
        folder: for the report; an earlier one is overwritten.
        title: of the page.
        comparison: of the existing runs.
        missing: one line per missing run.
        repeat: the command that writes the page again.

    Raises:
        OSError: if it cannot be written.

    """
    figures = dict(_figures(comparison))
    durable.make_folder(folder / FIGURES)
    for name, figure in figures.items():
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", dpi=DOTS_PER_INCH)
        durable.replace_file(folder / FIGURES / f"{name}.png", [pixels.getbuffer()])
    scores = {agent: comparison.matrix(agent) for agent in comparison.whole}
    durable.replace_text(folder / SCORES, json.dumps(scores, indent=1) + "\n")
    durable.replace_text(folder / LINES, _lines(comparison))
    page = "\n".join(_page(title, comparison, missing, list(figures), repeat))
    durable.replace_text(folder / REPORT, page + "\n")


def _figures(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    yield "curves", plot_learning_curves(comparison.curves(), _label(comparison.window))
    if comparison.can_be_aggregated and comparison.whole:
        yield "scores", plot_estimates(comparison.measures())
    if comparison.improvements():
        yield "improvement", plot_improvements(comparison.improvements())


def _label(window: int) -> str:
    return "training return" if window == 1 else f"training return, mean of {window:,} episodes"


def _lines(comparison: Comparison) -> str:
    rows = [
        {
            "agent": record.agent,
            "task": record.task,
            "seed": record.seed,
            "env_step": record.result["env_step"],
            "episodes": len(record.returns),
            "return": record.score,
            "score": comparison.score(record),
            "seconds": f"{record.seconds[-1]:.2f}",
            "env_steps_per_second": f"{record.env_steps_per_second:.1f}",
            "folder": record.folder.as_posix(),
        }
        for agent in comparison.agents
        for task in comparison.tasks
        for record in comparison.of(agent, task)
    ]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# --- the page ---


def _page(
    title: str, comparison: Comparison, missing: Sequence[str], figures: Sequence[str], repeat: str
) -> Iterator[str]:
    agents, tasks, runs = comparison.agents, comparison.tasks, comparison.records
    yield f"# {title}\n"
    yield f"{_count(agents, 'agent')} on {_count(tasks, 'task')}: {_count(runs, 'run')}."
    if missing:
        yield f"\n**{_count(missing, 'run')} missing:**\n"
        yield from (f"- {line}" for line in missing)
    yield "\n## Learning curves\n"
    yield f"![Training return over env steps]({FIGURES}/curves.png)\n"
    window = comparison.window
    returns = "Training return" if window == 1 else f"Training return, the mean of the last {window:,} episodes"
    yield f"{returns}: the interquartile mean of the runs, and its {CONFIDENCE:.0%} interval."
    yield "\n## Scores\n"
    yield from _scores(comparison, figures)
    yield "\n## Each task\n"
    yield from _each_task(comparison)
    if "improvement" in figures:
        yield "\n## Probability of improvement\n"
        yield f"![Probability of improvement]({FIGURES}/improvement.png)\n"
        yield "How often a run of X has a better score than one of Y on the same task; 0.5 says nothing.\n"
        yield from table_heads(["X", "Y", f"P(X > Y) {INTERVAL}"])
        for (x, y), value in comparison.improvements().items():
            yield row_of([x, y, _words(value)])
    yield "\n## Protocol\n"
    yield from (f"- {line}" for line in _protocol(comparison))
    yield f"- again: `{repeat}`"
    yield "\n## Time\n"
    yield from _times(comparison)


def _scores(comparison: Comparison, figures: Sequence[str]) -> Iterator[str]:
    if "scores" not in figures:
        yield (
            "Returns of different tasks cannot be put together; for aggregates over tasks give each a scale, the "
            "returns that score 0 and 1."
        )
        return
    yield f"![Aggregates over all runs and tasks]({FIGURES}/scores.png)\n"
    if comparison.is_scaled:
        ends = {task: comparison.scale(task) for task in comparison.tasks}
        said = "; ".join(f"{_cell(task)}: {scale[0]:g} and {scale[1]:g}" for task, scale in ends.items() if scale)
        yield f"A score is the return on the scale of its task. Returns that score 0 and 1: {said}.\n"
    else:
        yield "A score is a return; without a scale there is no optimality gap.\n"
    measures = comparison.measures()
    yield from table_heads(["agent", "runs", *(f"{name} {INTERVAL}" for name in measures)])
    for agent in comparison.whole:
        number = sum(map(len, comparison.strata(agent)))
        yield row_of([agent, str(number), *(_words(of_agent[agent]) for of_agent in measures.values())])
    if apart := [agent for agent in comparison.agents if agent not in comparison.whole]:
        yield f"\nWithout runs on every task, and so not here: {', '.join(map(_cell, apart))}."


def _each_task(comparison: Comparison) -> Iterator[str]:
    yield "The mean return of the test episodes of each run.\n"
    yield from table_heads(["task", "agent", "runs", "mean", f"IQM {INTERVAL}", "median", "worst", "best"])
    for task in comparison.tasks:
        for agent in comparison.agents:
            returns = np.array([record.score for record in comparison.of(agent, task)])
            if len(returns):
                mean, median = _number(returns.mean()), _number(np.median(returns))
                ends = _number(returns.min()), _number(returns.max())
                yield row_of([task, agent, str(len(returns)), mean, _words(estimate([returns])), median, *ends])


def _protocol(comparison: Comparison) -> Iterator[str]:
    """The protocol, for comparison with other runs."""
    for task in comparison.tasks:
        records = [record for record in comparison.records if record.task == task]
        for said in _distinct(_training(record.settings) for record in records):
            yield f"training on {_cell(task)}: {said}"
        for said in _distinct(_test(record.result) for record in records):
            yield f"test on {_cell(task)}: {said}"
    for said in _distinct(
        f"seeds of {', '.join(map(_cell, _agents_of(comparison, seeds)))}: {', '.join(map(str, seeds))}"
        for seeds in _distinct(_seeds(comparison, agent) for agent in comparison.agents)
    ):
        yield said
    yield "test episodes have seeds of their own, on which no weights were chosen"
    yield (
        f"intervals: {CONFIDENCE:.0%}, percentiles of {RESAMPLES:,} stratified bootstrap resamples "
        "(Agarwal et al. 2021); an interval over one run says nothing"
    )
    yield f"lit_dqn {version('lit-dqn')}"


def _training(settings: Any) -> str:
    env_id, stop = settings["data"]["env_id"], settings.get("stop") or {}
    limits = [f"{key} {stop[key]:,}" for key in ("max_env_steps", "max_episodes", "mean_return") if stop.get(key)]
    return f"{env_id}, until {', or '.join(limits) or 'its Trainer ended it'}"


def _test(result: Any) -> str:
    protocol = ", ".join(f"{key} {value}" for key, value in result["protocol"].items() if key != "seed")
    weights = "the best weights by evaluation" if result["checkpoint"].startswith("best") else "the last weights"
    return f"{weights}, {protocol}"


def _seeds(comparison: Comparison, agent: str) -> tuple[int, ...]:
    return tuple(sorted({record.seed for record in comparison.records if record.agent == agent}))


def _agents_of(comparison: Comparison, seeds: tuple[int, ...]) -> list[str]:
    return [agent for agent in comparison.agents if _seeds(comparison, agent) == seeds]


def _times(comparison: Comparison) -> Iterator[str]:
    yield "Training with its evaluations, the mean of the runs; how fast a run is depends on what runs beside it.\n"
    yield from table_heads(["agent", "task", "env steps/s", "minutes"])
    for agent in comparison.agents:
        for task in comparison.tasks:
            if records := comparison.of(agent, task):
                speed = np.mean([record.env_steps_per_second for record in records])
                minutes = np.mean([record.seconds[-1] for record in records]) / 60
                yield row_of([agent, task, f"{speed:,.0f}", f"{minutes:,.1f}"])


# --- words ---


def _distinct(found: Any) -> list[Any]:
    return list(dict.fromkeys(found))


def _count(things: Any, name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _number(value: Any) -> str:
    return f"{round(float(value), 2) + 0.0:,.2f}"  # no "-0.00"


def _words(value: Estimate) -> str:
    return f"{_number(value.value)} [{_number(value.low)}, {_number(value.high)}]"


def table_heads(heads: list[str]) -> Iterator[str]:
    """The first lines of a table."""
    yield row_of(heads)
    yield "|---" * len(heads) + "|"


def row_of(cells: list[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """A text that cannot end its cell."""
    return " ".join(text.split()).replace("|", "\\|")
