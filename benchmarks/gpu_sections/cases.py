"""What is measured, and in which order. Uses only the standard library."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

Tell = Callable[[dict[str, Any]], None]
"""Takes an event as plain values."""


@dataclass(frozen=True)
class Figure:
    """A measurement: the median of several repeats, or a text.

    Args:
        median: of the repeats.
        unit: of the median.
        low: the least of the repeats; None where there was one.
        high: the greatest.
        notes: what else should be known.

    """

    median: float | str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, repeats: list[float], unit: str, **notes: Any) -> "Figure":
        """The median, the least and the greatest."""
        return cls(statistics.median(repeats), unit, min(repeats), max(repeats), notes)


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        name: unique within its section.
        measure: takes as many seconds as it is given, about.
        least: seconds below which it is not begun.
        most: seconds of which it makes use.

    """

    name: str
    measure: Callable[[float], Figure]
    least: float = 0.4
    most: float = 2.0


@dataclass(frozen=True)
class Section:
    """Cases that belong together.

    Args:
        name: of the section.
        share: of the time, beside the shares of the others.
        cases: in the order in which they matter.

    """

    name: str
    share: float
    cases: Callable[[], list[Case]]


def run_cases(
    sections: Iterable[Section],
    seconds: float,
    done: Iterable[tuple[str, str]],
    tell: Tell,
    tidy: Callable[[], None] = lambda: None,
) -> None:
    """Measure case after case, and report its start and its result.

    A section that needs less than its share leaves the rest to those after it; what was cut is measured at the end, if
    there is time after all.

    Args:
        sections: in the order in which they matter.
        seconds: in all.
        done: section and case that were measured before.
        tell: gets events: `planned`, `begin`, `figure` and `failed`.
        tidy: called after each case.

    """
    end = time.monotonic() + seconds
    waiting, done = list(sections), set(done)
    cut: list[tuple[str, Case]] = []

    def run(section: str, case: Case, seconds: float) -> None:
        place = {"section": section, "case": case.name}
        tell({"event": "begin", **place, "seconds": seconds})
        began = time.monotonic()
        try:
            figure = asdict(case.measure(seconds))
        except Exception as error:
            event = {"event": "failed", **place, "error": last_line(error)}
        else:
            event = {"event": "figure", **place, **figure}
        tell({**event, "took": round(time.monotonic() - began, 1)})
        tidy()

    while waiting:
        section = waiting[0]
        share = section.share / sum(other.share for other in waiting)
        until = time.monotonic() + share * (end - time.monotonic())
        del waiting[0]
        try:
            cases = section.cases()
        except Exception as error:
            if (section.name, "") not in done:
                tell({"event": "failed", "section": section.name, "case": "", "error": last_line(error), "took": 0.0})
            continue
        tell({"event": "planned", "section": section.name, "cases": [case.name for case in cases]})
        cases = [case for case in cases if (section.name, case.name) not in done]
        for number, case in enumerate(cases):
            left = until - time.monotonic()
            if left < case.least:
                cut.append((section.name, case))
            else:
                run(section.name, case, min(max(left / (len(cases) - number), case.least), case.most))
    for name, case in cut:
        if end - time.monotonic() >= case.least:
            run(name, case, min(end - time.monotonic(), case.most))


def last_line(error: BaseException) -> str:
    """The last line of an error's traceback."""
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[-1].strip()}" if words else type(error).__name__
