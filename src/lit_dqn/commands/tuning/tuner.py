"""The runs of a search: which start next, which end early, and the result of each trial."""

import csv
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lit_dqn.commands.studies.description import Job
from lit_dqn.commands.studies.records import result_of, versions_of
from lit_dqn.commands.tuning.description import Search
from lit_dqn.commands.tuning.rows import Trial
from lit_dqn.errors import ConfigError
from lit_dqn.saving import durable
from lit_dqn.saving.layout import RUNS, TRIAL_LOCK
from lit_dqn.saving.lock import Lock

LOOK_SECONDS = 1.0
"""Seconds between two checks of the runs' files, and of the storage."""

EVALUATION = "eval/mean_reward"


class Storage(Protocol):
    """The interface of `Trials` for the tuner."""

    def begin(self) -> Trial | None: ...

    def best(self) -> float | None: ...

    def interrupted(self) -> list[int]: ...

    def again(self, number: int) -> Trial | None: ...

    def reported(self, trial: Trial) -> int: ...

    def report(self, trial: Trial, number: int, value: float) -> None: ...

    def is_hopeless(self, trial: Trial) -> bool: ...

    def complete(self, trial: Trial, returns: list[float]) -> None: ...

    def prune(self, trial: Trial) -> None: ...

    def fail(self, trial: Trial, reason: str) -> None: ...


class View(Protocol):
    """Receives the events of a running search."""

    def begins(self, trial: Trial, again: bool) -> None: ...

    def ends(self, trial: Trial, how: str, value: float | None) -> None: ...

    def restarts(self, job: Job) -> None: ...

    def moves(self) -> None: ...


@dataclass
class Running:
    """A trial that this process runs.

    Args:
        trial: the trial.
        lock: excludes other processes.
        jobs: one per seed.
        reported: number of evaluations in the storage.

    """

    trial: Trial
    lock: Lock
    jobs: list[Job]
    reported: int = 0
    open: set[Job] = field(default_factory=set)  # waiting or running
    stopped: str | None = None  # why it should end: "" if it is pruned, otherwise the failure


class Tuner:
    """Supplies a crew with runs, and receives their events.

    Args:
        search: the search.
        trials: in their storage.
        jobs_of: returns the runs of a trial; raises a ConfigError if its settings do not fit together.
        view: receives the events, too.

    """

    def __init__(self, search: Search, trials: Storage, jobs_of: Callable[[Trial], list[Job]], view: View) -> None:
        self._search, self._trials, self._jobs_of, self._view = search, trials, jobs_of, view
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Running] = {}
        self._of: dict[Job, Running] = {}
        self._nothing_left = False
        self._asked = self._looked = -math.inf

    # --- supplying runs ---

    def next(self) -> Job | None:
        """The next seed of a running trial, else of an interrupted one, else of a new one."""
        while not self._waiting:
            if time.monotonic() - self._asked < LOOK_SECONDS or not self._take():
                return None
        return self._waiting.popleft()

    def again(self, job: Job) -> None:
        """It goes before all others."""
        self._waiting.appendleft(job)

    def is_wanted(self, job: Job) -> bool:
        """True unless its trial was pruned or has failed."""
        running = self._of.get(job)
        return running is None or running.stopped is None

    def is_empty(self) -> bool:
        """Whether no trial is left."""
        return self._nothing_left and not self._waiting

    def _take(self) -> bool:
        """Start or resume a trial; False if there is none."""
        best, target = self._trials.best(), self._search.target
        if best is None or target is None or best < target:
            for number in self._trials.interrupted():
                if number not in self._running and self._lock_and_run(number, None):
                    return True
            while (new := self._trials.begin()) is not None:
                if self._lock_and_run(new.number, new):
                    return True
        self._nothing_left, self._asked = True, time.monotonic()
        return False

    def _lock_and_run(self, number: int, new: Trial | None) -> bool:
        folder = self._search.folder / RUNS / Trial(number, {}).name
        durable.make_folder(folder)
        lock = Lock(folder / TRIAL_LOCK)
        try:
            lock.acquire("")
        except ConfigError:
            return False  # another process runs it
        trial = new or self._trials.again(number)
        if trial is None:  # another process has just finished it
            lock.release()
            return False
        self._view.begins(trial, new is None)
        running = self._running[number] = Running(trial, lock, [], self._trials.reported(trial))
        try:
            running.jobs = self._jobs_of(trial)
        except ConfigError as error:
            running.stopped = str(error)
        if running.reported and self._trials.is_hopeless(trial):
            running.stopped = ""
        for job in running.jobs:
            self._of[job] = running
            if running.stopped is None and self._return_of(job) is None:
                running.open.add(job)
                self._waiting.append(job)
        if not running.open:
            self._conclude(running)
        return True

    # --- events ---

    def starts(self, job: Job) -> None:
        """Nothing to do."""

    def restarts(self, job: Job) -> None:
        """Its process was killed from outside."""
        self._view.restarts(job)

    def ends(self, job: Job, failure: str | None) -> None:
        """A run has been tested, has failed, or was stopped."""
        running = self._of[job]
        running.open.discard(job)
        if failure is not None and running.stopped is None:
            self._stop(running, failure)
        if not running.open:
            self._conclude(running)

    def moves(self) -> None:
        """Check the evaluations if it is due."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for running in list(self._running.values()):
            if running.stopped is None:
                self._look(running)
                if running.stopped is not None and not running.open:
                    self._conclude(running)
        self._view.moves()

    def _look(self, running: Running) -> None:
        """Report the evaluations that all seeds have reached, in order, until one prunes the trial."""
        evaluations = [evaluations_of(job.folder) for job in running.jobs]
        for number in range(running.reported, min(map(len, evaluations), default=0)):
            values = [of_seed[number] for of_seed in evaluations]
            self._trials.report(running.trial, number, sum(values) / len(values))
            running.reported = number + 1
            if self._trials.is_hopeless(running.trial):
                self._stop(running, "")
                return

    def _stop(self, running: Running, why: str) -> None:
        running.stopped = why
        for job in running.jobs:
            if job in self._waiting:
                self._waiting.remove(job)
                running.open.discard(job)

    def _conclude(self, running: Running) -> None:
        """Store the result of a trial without running runs."""
        trial = running.trial
        if running.stopped is None:
            self._look(running)
        returns = [self._return_of(job) for job in running.jobs]
        known = [value for value in returns if value is not None and math.isfinite(value)]
        if running.stopped:
            self._trials.fail(trial, running.stopped)
            self._view.ends(trial, f"failed: {running.stopped}", None)
        elif running.stopped == "":
            self._trials.prune(trial)
            self._view.ends(trial, f"pruned by evaluation {running.reported}", None)
        elif len(known) < len(returns):
            self._trials.fail(trial, "its return is not a number")
            self._view.ends(trial, "failed: its return is not a number", None)
        else:
            self._trials.complete(trial, known)
            self._view.ends(trial, "done", sum(known) / len(known))
        running.lock.release()
        del self._running[trial.number]
        self._nothing_left, self._asked = False, -math.inf

    def _return_of(self, job: Job) -> float | None:
        """The mean return of a run's test episodes; None if they have not been played."""
        results = [result_of(version, self._search.test_episodes) for version in versions_of(job.folder)]
        return next((float(result["return"]["mean"]) for result in results if result is not None), None)


def evaluations_of(folder: Path) -> list[float]:
    """The mean return of each evaluation of a run, in order, without duplicates after a resume."""
    found: dict[int, float] = {}
    versions = versions_of(folder)
    for file in sorted(versions[-1].glob("metrics*.csv")) if versions else []:
        try:
            lines = file.read_text().split("\n")[:-1]  # the last one may be incomplete
            for row in csv.DictReader(lines):
                if row.get(EVALUATION):
                    found[int(row["step"])] = float(row[EVALUATION])
        except (OSError, ValueError, KeyError, TypeError):  # it is being rewritten
            continue
    return [value for _, value in sorted(found.items())]
