"""The display of a running search: a live table, or, without a terminal, one line per change."""

import time
from collections.abc import Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lit_dqn.callbacks.stopping import clock
from lit_dqn.commands.studies.description import Job
from lit_dqn.commands.tuning.rows import DONE, FAILED, PRUNED, RUNNING, Row, Trial, best_of
from lit_dqn.commands.tuning.space import shown

SHOWN = 5
"""The number of best trials in the table."""


class TuneView:
    """Counts trials, shows the best and the running ones, and estimates how long the rest will take.

    Args:
        rows: returns all trials in their present state.
        number: of all trials of the search.
        console: for the display.

    """

    def __init__(self, rows: Callable[[], Sequence[Row]], number: int, console: Console | None = None) -> None:
        self.console = console or Console()
        self._rows, self._number = rows, number
        self._began, self._ended = time.monotonic(), 0
        self._live: Live | None = None

    def __enter__(self) -> "TuneView":
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.__enter__()
        self.moves()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self.moves()
            self._live.__exit__(None, None, None)

    def begins(self, trial: Trial, again: bool) -> None:
        """A trial has started here."""
        self._say(f"trial {trial.number}: {'resumed' if again else 'started'}: {in_words(trial)}")

    def restarts(self, job: Job) -> None:
        """The process of a run was killed from outside."""
        self._say(f"{job.agent}, seed {job.seed}: its process was ended from outside; it will be resumed")

    def ends(self, trial: Trial, how: str, value: float | None) -> None:
        """A trial has ended, with a text about it and its mean return."""
        self._ended += 1
        result = f": return {value:,.2f}" if value is not None else ""
        self._say(f"trial {trial.number}: {how}{result}; {self.summary()}", always=how.startswith("failed"))

    def moves(self) -> None:
        """Redraw the table."""
        if self._live is not None:
            self._live.update(Group(self._table(), Text(self.summary())), refresh=True)

    def _say(self, line: str, always: bool = False) -> None:
        if self._live is None or always:
            self.console.print(line, highlight=False, soft_wrap=not self.console.is_terminal, markup=False)

    def summary(self) -> str:
        """The number of trials in each state, the best return, and the time left."""
        rows = self._rows()
        count = {state: sum(row.state == state for row in rows) for state in (DONE, PRUNED, FAILED, RUNNING)}
        ended = len(rows) - count[RUNNING]
        words = [f"{ended:,} of {max(self._number, ended):,} trials", f"{count[RUNNING]:,} running"]
        words += [f"{count[state]:,} {state}" for state in (PRUNED, FAILED) if count[state]]
        if best := best_of(rows):
            words.append(f"best {best[0].value:,.2f} (trial {best[0].trial.number})")
        if self._ended and ended < self._number:
            seconds = (time.monotonic() - self._began) / self._ended * (self._number - ended)
            words.append(f"{clock(seconds)} left")
        return " · ".join(words)

    def _table(self) -> Table:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for head in ("trial", "", "evaluations", "return"):
            table.add_column(head, justify="left" if not head else "right")
        table.add_column("settings")
        rows = self._rows()
        for row in [*best_of(rows)[:SHOWN], *(row for row in rows if row.state == RUNNING)]:
            value = "" if row.value is None else f"{row.value:,.2f}" if row.state == DONE else f"({row.value:,.2f})"
            table.add_row(str(row.trial.number), row.state, str(len(row.evaluations)), value, Text(in_words(row.trial)))
        return table


def in_words(trial: Trial) -> str:
    """The values of a trial; keys are shortened to their last part if that is unique."""
    last = [key.rpartition(".")[2] for key in trial.chosen]
    names = [name if last.count(name) == 1 else key for name, key in zip(last, trial.chosen, strict=True)]
    return ", ".join(f"{name}={shown(value)}" for name, value in zip(names, trial.chosen.values(), strict=True))
