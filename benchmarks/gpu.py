"""Everything that must be known of a GPU, in one run of some minutes; on a CPU it is a smoke test with tiny sizes.

    python benchmarks/gpu.py                                  # eight minutes
    python benchmarks/gpu.py --seconds 200 --sections loops,peers --out FOLDER
    python benchmarks/gpu.py --docs benchmarks/results/gpu_nvidia_h100_80gb_hbm3.json    # into docs/performance.md

Each section has its share of the time, and its cases come in the order in which they matter: what does not fit is named
as cut. A case that fails leaves the last line of its traceback, and one that hangs or takes its process along is given
up; the rest is measured all the same. JSON and table are written anew after each figure.
"""

import argparse
import contextlib
import datetime
import importlib
import itertools
import json
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from gpu_sections.cases import Section, run_cases
from gpu_sections.page import merged, table, write_page
from processes import ROOT

SHARES = {
    "machine": 3,
    "updates": 16,
    "loops": 40,
    "acting": 3,
    "ring": 14,
    "games": 6,
    "resuming": 12,
    "peers": 14,
}
"""Of the time, for each module of gpu_sections/."""
START_SECONDS = 120.0
"""That importing torch and finding the device may take."""
PATIENCE = 20.0
"""Seconds that a case may take beyond twice its time, and the longest time between two cases."""
SMOKE_PATIENCE = 300.0
"""As a smoke test, which may meet a busy machine."""
STOP_SECONDS = 4.0
"""Kept back for the end of the last case."""

Task = dict[str, Any]
Record = dict[str, Any]


# --- the process that measures ---


def work(task: Task, events: IO[str]) -> None:
    """Measure, and write events as lines of JSON.

    Args:
        task: sections, seconds, smoke, and what is done already.
        events: where they go.

    """
    from gpu_sections.measuring import Bench

    def tell(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    bench = Bench.here(task["smoke"])
    tell({"event": "ready", "smoke": bench.smoke, "card": bench.card, "machine": bench.machine()})
    sections = [Section(name, SHARES[name], partial(_cases, name, bench)) for name in task["sections"]]
    run_cases(sections, task["seconds"], map(tuple, task["done"]), tell, bench.tidy)


def _cases(name: str, bench: Any) -> list[Any]:
    return importlib.import_module(f"gpu_sections.{name}").cases(bench)


# --- the process that watches it ---


class Watch:
    """Starts the process that measures, records its events, and starts another one if it hangs or dies.

    Args:
        command: of the process; it gets the task as another argument.
        record: what was measured; `figures`, `failed` and `planned` are added to.
        task: sections and smoke.
        written: called after each event that changed the record.
        log: where the process writes what it prints.

    """

    def __init__(
        self, command: list[str], record: Record, task: Task, written: Callable[[], None], log: IO[str]
    ) -> None:
        self._command, self._record, self._task, self._written, self._log = command, record, task, written, log
        record |= {"sections": task["sections"], "figures": [], "failed": [], "planned": []}

    def run(self, seconds: float) -> None:
        """Run until everything is measured or the time is over."""
        end = time.monotonic() + seconds
        finished = False
        while not finished and (left := end - time.monotonic()) > STOP_SECONDS:
            task = {**self._task, "seconds": left - STOP_SECONDS, "done": self._done()}
            process = subprocess.Popen(
                [*self._command, json.dumps(task)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                process_group=0,
            )
            try:
                finished = self._follow(process, end)
            finally:
                # Also kill its child processes, which would disturb later measurements.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _done(self) -> list[tuple[str, str]]:
        return [(row["section"], row["case"]) for row in self._record["figures"] + self._record["failed"]]

    def _follow(self, process: subprocess.Popen[str], end: float) -> bool:
        """Record events until the process ends or must be killed; False if another one should continue."""
        events: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(process.stdout, events), daemon=True).start()
        running, began, limit, started = None, time.monotonic(), START_SECONDS, False
        while True:
            wait = min(began + limit, end) - time.monotonic()
            try:
                line = events.get(timeout=max(wait, 0))
            except queue.Empty:
                over = time.monotonic() >= end
                self._give_up(running, began, "cut in the middle: the time was over" if over else "it hung")
                return over or not started
            if line is None:
                if process.wait() == 0:
                    return True
                # Between two cases it has ended itself, for the last one has left it a device that it cannot use.
                if running is not None or not started:
                    self._give_up(running, began, f"the process died with exit code {process.returncode}")
                return not started  # a process that could not start will not start again
            event = json.loads(line)
            kind = event.pop("event")
            patience = SMOKE_PATIENCE if self._record.get("smoke") else PATIENCE
            if kind == "ready":
                self._record |= event
                began, limit, started = time.monotonic(), patience, True
            elif kind == "planned":
                planned = [[event["section"], case] for case in event["cases"]]
                self._record["planned"] += [case for case in planned if case not in self._record["planned"]]
            elif kind == "begin":
                limit = patience + 2 * event.pop("seconds")
                running, began = event, time.monotonic()
            else:
                self._record["figures" if kind == "figure" else "failed"].append(event)
                running, began, limit = None, time.monotonic(), patience
            self._written()

    def _give_up(self, running: dict[str, Any] | None, began: float, reason: str) -> None:
        place = running or {"section": "the process that measures", "case": ""}
        took = round(time.monotonic() - began, 1)
        self._record["failed"].append({**place, "error": reason, "took": took})
        self._written()


def _read(lines: IO[str], events: "queue.SimpleQueue[str | None]") -> None:
    for line in lines:
        events.put(line)
    events.put(None)


# --- the command line ---


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480, help="in all (default: 480)")
    parser.add_argument(
        "--sections",
        type=lambda words: words.split(","),
        default=list(SHARES),
        help=f"which, divided by commas (default: {','.join(SHARES)})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="a folder for JSON, table and log (default: benchmarks/results, "
        "without the log; a smoke test writes nothing)",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, as on a CPU")
    parser.add_argument(
        "--docs",
        type=Path,
        nargs="+",
        metavar="JSON",
        help="write the figures of these into docs/performance.md instead; of two of a kind the later one counts",
    )
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)  # the task of the process that measures
    options = parser.parse_args()
    if options.worker:
        # Only events go to the parent process; everything else that is printed goes to the log.
        with os.fdopen(os.dup(1), "w") as events:
            os.dup2(2, 1)
            work(options.worker, events)
        return
    if options.docs:
        write_page(merged([json.loads(path.read_text()) for path in options.docs]))
        return
    unknown = [name for name in options.sections if name not in SHARES]
    if unknown:
        parser.error(f"--sections: there is no {', '.join(unknown)}; there are {', '.join(SHARES)}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    # Signals that end this process must also end the one that measures.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
    # Paths differ between machines, and carry no information.
    words = ["OUT" if before == "--out" else word for before, word in itertools.pairwise(sys.argv)]
    record: Record = {
        "command": shlex.join(["python", "benchmarks/gpu.py", *words]),
        "date": datetime.date.today().isoformat(),
    }
    began = time.monotonic()

    def write() -> None:
        record["took"] = round(time.monotonic() - began, 1)
        folder = options.out or (ROOT / "benchmarks/results" if not record.get("smoke", True) else None)
        if folder is not None and "card" in record:
            name = "gpu_smoke" if record["smoke"] else f"gpu_{_slug(record['card'])}"
            (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
            if options.out:
                (folder / f"{name}.md").write_text(table(record))

    log = (options.out / "log.txt").open("w") if options.out else contextlib.nullcontext(sys.stderr)
    task = {"sections": [name for name in SHARES if name in options.sections], "smoke": options.smoke}
    with log as stream:
        try:
            Watch([sys.executable, __file__, "--worker"], record, task, write, stream).run(options.seconds)
        finally:
            write()
            print(table(record), flush=True)


def _slug(card: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", card.lower()).strip("_")


if __name__ == "__main__":
    main()
