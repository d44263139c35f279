"""The processes of a study: each has one run, some run at once, and none outlives the study."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO, NamedTuple, Protocol

from lit_dqn.commands.studies.description import Job
from lit_dqn.commands.studies.records import is_tested
from lit_dqn.errors import SIGNALS, Interrupted
from lit_dqn.saving import durable
from lit_dqn.saving.layout import OUTPUT

WORKER = (sys.executable, "-m", "lit_dqn.commands.studies.worker")

POLL_SECONDS = 0.2

RESTARTS = 5
"""How often a run is resumed after something else has killed its process, such as a system out of memory."""


class View(Protocol):
    """Receives the events of a running study."""

    def starts(self, job: Job) -> None: ...

    def ends(self, job: Job, failure: str | None) -> None: ...

    def restarts(self, job: Job) -> None: ...

    def moves(self) -> None: ...


class Supply(Protocol):
    """A source of runs, not all of which are known when the first one starts."""

    def next(self) -> Job | None:
        """The next run to start; None if there is none at the moment."""

    def again(self, job: Job) -> None:
        """Return a run, because its process was killed from outside."""

    def is_wanted(self, job: Job) -> bool:
        """Whether a running run should continue."""

    def is_empty(self) -> bool:
        """Whether there will be no more runs once the running ones have ended."""


class Listed:
    """Runs in the order of a list."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = deque(jobs)

    def next(self) -> Job | None:
        """The first waiting run."""
        return self._waiting.popleft() if self._waiting else None

    def again(self, job: Job) -> None:
        """It goes before all others."""
        self._waiting.appendleft(job)

    def is_wanted(self, job: Job) -> bool:
        """Always True."""
        return True

    def is_empty(self) -> bool:
        """Whether all have been started."""
        return not self._waiting


class Process(NamedTuple):
    """The process of a run."""

    job: Job
    popen: subprocess.Popen[bytes]
    output: BinaryIO


def run_all(
    jobs: Sequence[Job] | Supply, test_episodes: int, checkpoint: str, at_once: int, threads: int, view: View
) -> dict[Job, str]:
    """Train and test every run; those that have begun are resumed.

    Args:
        jobs: in the order in which they start, or a source of them.
        test_episodes: of each run.
        checkpoint: the checkpoint that is tested.
        at_once: number of runs at once.
        threads: torch threads per run.
        view: receives the events.

    Returns:
        The runs that failed, each with its last message.

    Raises:
        Interrupted: after a signal, once all runs have saved their state; a second signal does not wait for that.

    """
    supply: Supply = Listed(jobs) if isinstance(jobs, Sequence) else jobs
    running, restarted = list[Process](), Counter[Job]()
    failed: dict[Job, str] = {}
    with _signals() as caught:
        try:
            while running or not (supply.is_empty() or caught):
                while len(running) < at_once and not caught and (job := supply.next()) is not None:
                    running.append(_start(job, [str(test_episodes), checkpoint], threads))
                    view.starts(job)
                for process in list(running):
                    _end_if_asked(process, len(caught) or not supply.is_wanted(process.job))
                    code = process.popen.poll()
                    if code is None:
                        continue
                    running.remove(process)
                    _close(process)
                    job = process.job
                    if is_tested(job.folder, test_episodes) or not supply.is_wanted(job):
                        view.ends(job, None)
                    elif caught:
                        continue
                    elif _was_ended_by_a_signal(code) and restarted[job] < RESTARTS:
                        restarted[job] += 1
                        supply.again(job)
                        view.restarts(job)
                    else:
                        failed[job] = _last_words(job.folder / OUTPUT, code)
                        view.ends(job, failed[job])
                view.moves()
                time.sleep(POLL_SECONDS)
        finally:
            for process in running:
                process.popen.kill()
                _close(process)
    if caught:
        raise Interrupted(caught[0])
    return failed


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that have arrived in this context."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(job: Job, words: list[str], threads: int) -> Process:
    output = durable.open_to_append(job.folder / OUTPUT)
    popen = subprocess.Popen(
        [*WORKER, str(job.folder), *words],
        stdin=subprocess.PIPE,  # when it is closed, the run ends
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        start_new_session=True,  # a terminal's Ctrl-C reaches only the study, which signals its runs
    )
    return Process(job, popen, output)


def _end_if_asked(process: Process, signals: int) -> None:
    assert process.popen.stdin is not None
    if signals > 1:
        process.popen.kill()
    elif signals and not process.popen.stdin.closed:
        process.popen.stdin.close()


def _close(process: Process) -> None:
    process.popen.wait()
    assert process.popen.stdin is not None
    process.popen.stdin.close()
    process.output.close()


def _was_ended_by_a_signal(code: int) -> bool:
    """Also True for a run that saved its state before it ended."""
    return code < 0 or code - 128 in SIGNALS


def _last_words(output: Path, code: int) -> str:
    lines = [line for line in re.split(r"[\r\n]+", output.read_text(errors="replace")) if line.strip()]
    said = lines[-1].removeprefix("error: ") if lines else f"exit code {code}"
    return f"{said} (all that it said: {output})"
