"""The display of a running study: a live table, or, without a terminal, one line per change."""

import time
from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lit_dqn.callbacks.stopping import clock
from lit_dqn.commands.studies.description import Job
from lit_dqn.commands.studies.records import progress_of, result_of, versions_of

LOOK_SECONDS = 1.0
"""Seconds between two checks of the runs' files."""

SHOWN = 4
"""The most running seeds in one cell of the table."""


class StudyView:
    """Counts finished runs, and estimates how long the rest will take.

    Args:
        jobs: all runs of the study.
        done: runs that were done before.
        test_episodes: of each run.
        at_once: number of runs at once.
        console: for the display.

    """

    def __init__(
        self, jobs: Sequence[Job], done: Sequence[Job], test_episodes: int, at_once: int, console: Console | None = None
    ) -> None:
        self.console = console or Console()
        self._jobs, self._test_episodes, self._at_once = jobs, test_episodes, at_once
        self._scores = {job: self._score(job) for job in done}
        self._began: dict[Job, tuple[float, float]] = {}  # of running ones: start time, and the share done then
        self._took: list[float] = []  # seconds of complete runs
        self._failed: set[Job] = set()
        self._looked = 0.0
        self._live: Live | None = None

    def __enter__(self) -> "StudyView":
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.__enter__()
        self._draw()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._draw()
            self._live.__exit__(None, None, None)

    # --- events ---

    def starts(self, job: Job) -> None:
        """A process has started or resumed a run."""
        share = self._share(job)
        self._began[job] = time.monotonic(), share
        self._say(f"{job}: {'resumed' if share else 'started'}")

    def restarts(self, job: Job) -> None:
        """Its process was killed from outside."""
        self._began.pop(job)
        self._say(f"{job}: its process was ended from outside; it will be resumed")

    def ends(self, job: Job, failure: str | None) -> None:
        """A run has been tested, or has failed."""
        began, share = self._began.pop(job)
        if failure is not None:
            self._failed.add(job)
            self._say(f"{job}: failed: {failure}", always=True)
            return
        self._scores[job] = self._score(job)
        if share < 1:
            self._took.append((time.monotonic() - began) / (1 - share))
        self._say(f"{job}: return {self._scores[job]:,.2f}; {self._summary()}")

    def moves(self) -> None:
        """Check the runs if it is due."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._draw()

    # --- words ---

    def _say(self, line: str, always: bool = False) -> None:
        if self._live is None or always:
            self.console.print(line, highlight=False, soft_wrap=not self.console.is_terminal, markup=False)

    def _draw(self) -> None:
        self._looked = time.monotonic()
        if self._live is not None:
            self._live.update(Group(self._table(), Text(self._summary())), refresh=True)

    def _summary(self) -> str:
        words = [f"{len(self._scores):,} of {len(self._jobs):,} runs done", f"{len(self._began):,} running"]
        if self._failed:
            words.append(f"{len(self._failed):,} failed")
        left = self.seconds_left()
        if left is not None:
            words.append(f"{clock(left)} left")
        return " · ".join(words)

    def _table(self) -> Table:
        table = Table("agent", "task", box=None, header_style="bold", pad_edge=False)
        for head in ("done", "running", "env steps/s", "return", "best"):
            table.add_column(head, justify="left" if head == "running" else "right")
        cells: dict[tuple[str, str], list[Job]] = defaultdict(list)
        for job in self._jobs:
            cells[job.agent, job.task].append(job)
        for (agent, task), jobs in cells.items():
            scores = [self._scores[job] for job in jobs if job in self._scores]
            running = [job for job in jobs if job in self._began]
            failed = sum(job in self._failed for job in jobs)
            table.add_row(
                Text(agent),
                Text(task),
                f"{len(scores)}/{len(jobs)}" + (f", {failed} failed" if failed else ""),
                ", ".join(f"seed {job.seed} {self._share(job):.0%}" for job in running[:SHOWN])
                + (f" and {len(running) - SHOWN} more" if len(running) > SHOWN else ""),
                f"{sum(map(self._speed, running)):,.0f}" if running else "",
                f"{sum(scores) / len(scores):,.2f}" if scores else self._so_far(running),
                f"{max(scores):,.2f}" if scores else "",
            )
        return table

    def _so_far(self, running: Sequence[Job]) -> str:
        means = [mean for job in running if (mean := progress_of(job.folder).mean_return) is not None]
        return f"({sum(means) / len(means):,.2f})" if means else ""  # in brackets, because it is a return of training

    # --- numbers ---

    def _score(self, job: Job) -> float:
        results = [result_of(version, self._test_episodes) for version in versions_of(job.folder)]
        return next((float(result["return"]["mean"]) for result in results if result is not None), float("nan"))

    def _share(self, job: Job) -> float:
        """The finished share of a run, in [0, 1]; 0 if its end is unknown."""
        return min(progress_of(job.folder).env_step / job.max_env_steps, 1.0) if job.max_env_steps else 0.0

    def _speed(self, job: Job) -> float:
        began, share = self._began[job]
        steps = (self._share(job) - share) * (job.max_env_steps or 0)
        return max(steps, 0.0) / max(time.monotonic() - began, 1e-9)

    def seconds_left(self) -> float | None:
        """Wall time until all runs are done; None while unknown."""
        left, whole = [], list(self._took)
        for job, (began, share) in self._began.items():
            done = self._share(job) - share
            if done > 0:
                per_share = (time.monotonic() - began) / done
                whole.append(per_share)
                left.append(per_share * (1 - share - done))
        if not whole:
            return None
        mean = sum(whole) / len(whole)
        waiting = len(self._jobs) - len(self._scores) - len(self._failed) - len(left)
        return max((sum(left) + waiting * mean) / self._at_once, max(left, default=0.0))
