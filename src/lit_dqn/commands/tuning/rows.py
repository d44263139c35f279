"""Trials of a search, independent of their storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DONE, PRUNED, FAILED, RUNNING = "done", "pruned", "failed", "running"


@dataclass(frozen=True)
class Trial:
    """One trial.

    Args:
        number: from 0.
        chosen: values by dotted key.

    """

    number: int
    chosen: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"trial_{self.number}"


@dataclass(frozen=True)
class Row:
    """A trial in the storage.

    Args:
        trial: the trial.
        state: one of DONE, PRUNED, FAILED, RUNNING.
        value: the mean return over seeds; for a pruned trial that of its last evaluation; None if there is none.
        returns: of each seed; empty unless it is done.
        evaluations: the mean over seeds of each evaluation.
        reason: why it failed.

    """

    trial: Trial
    state: str
    value: float | None
    returns: tuple[float, ...] = ()
    evaluations: tuple[float, ...] = ()
    reason: str = ""


def best_of(rows: Sequence[Row]) -> list[Row]:
    """The finished trials, the best first, and of equals the earlier first."""
    done = [(row.value, row) for row in rows if row.state == DONE and row.value is not None]
    return [row for _, row in sorted(done, key=lambda pair: (-pair[0], pair[1].trial.number))]
