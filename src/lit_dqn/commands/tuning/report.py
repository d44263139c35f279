"""The results of a search: the winner as a config, a page, one line per trial, and figures."""

import csv
import io
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from lit_dqn.commands.inputs import PROGRAM, config_name, dump_yaml
from lit_dqn.commands.studies.description import as_argument
from lit_dqn.commands.studies.report import DOTS_PER_INCH, row_of, table_heads
from lit_dqn.commands.tuning.description import Search, without_password
from lit_dqn.commands.tuning.rows import DONE, FAILED, PRUNED, RUNNING, Row, best_of
from lit_dqn.commands.tuning.space import Choices, Span, as_overlay, shown
from lit_dqn.plots.tuning import Point, Scale, plot_history, plot_slices
from lit_dqn.saving import durable
from lit_dqn.saving.layout import FIGURES, LINES, REPORT, WINNER

SHOWN = 10
"""The most trials on the page."""


def write_report(search: Search, rows: Sequence[Row], importances: Mapping[str, float], repeat: str) -> None:
    """Write the report into the folder of the search, over an earlier one.

    Args:
        search: the search.
        rows: its trials, at least one of which is done.
        importances: of its keys.
        repeat: the command that resumes it, or writes the page again.

    Raises:
        OSError: if it cannot be written.

    """
    folder, best = search.folder, best_of(rows)
    durable.make_folder(folder / FIGURES)
    points = [
        Point(row.trial.number, row.value, row.state == PRUNED, _named(search, row.trial.chosen))
        for row in rows
        if row.state in (DONE, PRUNED) and row.value is not None
    ]
    figures = {
        "history": plot_history(points, search.target),
        "slices": plot_slices(points, _scales(search), importances),
    }
    for name, figure in figures.items():
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png", dpi=DOTS_PER_INCH)
        durable.replace_file(folder / FIGURES / f"{name}.png", [pixels.getbuffer()])
    durable.replace_text(folder / WINNER, winner_text(search, best[0]))
    durable.replace_text(folder / LINES, _lines(search, rows))
    durable.replace_text(folder / REPORT, "\n".join(_page(search, rows, importances, repeat)) + "\n")


def winner_text(search: Search, best: Row) -> str:
    """The best trial's settings as an overlay, with their origin."""
    files = [*map(config_name, search.files), str(search.folder / WINNER)]
    lines = [
        f"An overlay: trial {best.trial.number} of the search {search.name}, the best of those that it has done.",
        f"Storage: {without_password(search.storage)}",
        f"Mean test return {best.value:.2f}: {', '.join(f'{value:.2f}' for value in best.returns)} with the seeds "
        f"{', '.join(map(str, search.seeds))},",
        f"{search.test_episodes} episodes each. Other seeds are for a report.",
        *(["The trials had, too:"] if search.overrides else []),
        *(f"  {key}: {as_argument(value)}" for key, value in search.overrides.items()),
        "To train with it:",
        f"  {PROGRAM} fit {shlex.join(word for file in files for word in ('--config', file))}",
    ]
    comment = "".join(f"# {line}\n" for line in lines)
    return comment + dump_yaml(as_overlay(best.trial.chosen))


def _named(search: Search, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Choices as texts, numbers unchanged."""
    return {
        key: as_argument(value) if isinstance(search.space[key], Choices) else value for key, value in chosen.items()
    }


def _scales(search: Search) -> dict[str, Scale]:
    return {
        key: Scale(log=dimension.log, whole=dimension.whole) if isinstance(dimension, Span) else Scale(dimension.names)
        for key, dimension in search.space.items()
    }


def _lines(search: Search, rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["trial", "state", "return", *(f"seed_{seed}" for seed in search.seeds), "evaluations", *search.space]
    )
    for row in rows:
        returns = row.returns or ("",) * len(search.seeds)
        chosen = [as_argument(row.trial.chosen[key]) if key in row.trial.chosen else "" for key in search.space]
        value = "" if row.value is None else row.value
        writer.writerow([row.trial.number, row.state, value, *returns, len(row.evaluations), *chosen])
    return text.getvalue()


def _page(search: Search, rows: Sequence[Row], importances: Mapping[str, float], repeat: str) -> Iterator[str]:
    best = best_of(rows)
    count = {state: sum(row.state == state for row in rows) for state in (DONE, PRUNED, FAILED, RUNNING)}
    states = ", ".join(f"{number} {state}" for state, number in count.items() if number)
    yield f"# {search.name}\n"
    yield f"{len(rows)} of {search.trials} trials: {states}."
    yield f"The best is [trial {best[0].trial.number}]({WINNER}), with a mean return of {best[0].value:,.2f}.\n"
    yield f"![Mean return of each trial]({FIGURES}/history.png)\n"
    yield f"![Mean return over each key]({FIGURES}/slices.png)\n"
    yield f"The {min(SHOWN, len(best))} best trials; a return is the mean of {search.test_episodes} test episodes.\n"
    yield from table_heads(["trial", "return", *(f"seed {seed}" for seed in search.seeds), *search.space])
    for row in best[:SHOWN]:
        returns = [f"{value:,.2f}" for value in row.returns]
        chosen = [shown(row.trial.chosen[key]) for key in search.space]
        yield row_of([str(row.trial.number), f"{row.value:,.2f}", *returns, *chosen])
    if failed := [row for row in rows if row.state == FAILED]:
        yield "\n## Failed\n"
        yield from (f"- trial {row.trial.number}: {row.reason}" for row in failed)
    yield "\n## Protocol\n"
    yield f"- base: {', '.join(map(config_name, search.files))}"
    yield from (f"- {key}: {as_argument(value)}" for key, value in search.overrides.items())
    yield from (f"- tried: {key} {_dimension_words(search, key)}" for key in search.space)
    yield f"- seeds of each trial: {', '.join(map(str, search.seeds))}; they are not those of a report"
    yield f"- grade: the {search.checkpoint} weights of each seed play {search.test_episodes} test episodes; the mean"
    if search.prune is None:
        yield "- no trial was ended early"
    else:
        yield (
            f"- pruned: below the median of earlier trials at the same evaluation, after {search.prune.after_trials} "
            f"trials and {search.prune.after_evaluations} evaluations"
        )
    yield "- sampler: Optuna's TPE, multivariate, seeded by the number of the trial"
    if importances:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in importances.items())
        yield f"- importance (PED-ANOVA): {shares}"
    yield f"- storage: {without_password(search.storage)}"
    yield f"- again, or on: `{repeat}`"
    yield f"- lit_dqn {version('lit-dqn')}"


def _dimension_words(search: Search, key: str) -> str:
    dimension = search.space[key]
    if isinstance(dimension, Choices):
        return json.dumps(dimension.names)
    kind = ("whole numbers " if dimension.whole else "") + ("by factors " if dimension.log else "")
    step = f" by {dimension.step:g}" if dimension.step is not None else ""
    return f"{kind}from {dimension.low:g} to {dimension.high:g}{step}"
