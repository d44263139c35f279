"""How the arrays of a store are laid out on disk: divided into segments, each of them one file.

A store's `state_dict` declares for each array which of two kinds it is:

    {"arrays": {"observation": ..., "head": ...},  # appended
     "rewritten": {"priority": ...},               # optional
     ...}

*Appended* arrays are the ring buffers of a replay, named in `row_arrays` and `START_ARRAYS`: written data does not
change until it is overwritten, so a segment without new data is a hard link to its file in the previous checkpoint.
*Rewritten* arrays, such as priorities, may change anywhere between two checkpoints: each is one segment, which is
rewritten with every checkpoint. They are contiguous, non-empty tensors of finite numbers on the CPU; their names are
Python identifiers.

`load_state_dict` finds both kinds under the same keys, or, if `state["sidecar"]` is a `Sidecar`, on disk:
`sidecar.layout` and `sidecar.rewritten` hold dtypes and shapes, `sidecar.read_into({name: array, ...})` fills arrays of
either kind. A rewritten array that is not in `sidecar.rewritten` was not saved (another sampler, an earlier release),
and keeps its contents. A store checks conditions that only it knows, such as that priorities are positive.
"""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROW_ARRAYS = ("observation", "action", "reward", "discount", "last", "step", "start_number")
"""The arrays of every replay with a row for each timestep of each env, [N, rows, ...]."""

OPTIONAL_ROW_ARRAYS = ("action_mask", "memory")
"""The same, but only in some replays."""

START_ARRAYS = ("start_column", "start_row")
"""The arrays of the replay with a place for each start, [capacity]."""

AHEAD = 3
"""Rows at and after the head that `ReplayBuffer.add` may have written, for the last observation and the next
episode."""


def row_arrays(names: Container[str]) -> tuple[str, ...]:
    """The names, among those of a replay's arrays, of the arrays with a row for each timestep."""
    return (*ROW_ARRAYS, *(name for name in OPTIONAL_ROW_ARRAYS if name in names))


class Extent(NamedTuple):
    """How much a replay has written, counted without wrap-around."""

    heads: tuple[int, ...]  # rows, of each env
    next_start: int


class Segment(NamedTuple):
    """A range of the appended arrays that is one file."""

    name: str
    env: int | None  # None: the ring buffer of starts
    first: int  # row, or place in the ring buffer of starts
    parts: tuple[NDArray[Any], ...]  # views of the arrays

    def is_used(self, extent: Extent) -> bool:
        """Whether anything has been written there."""
        if self.env is None:
            return self.first < extent.next_start
        return self.first < extent.heads[self.env] + AHEAD

    def has_changed(self, before: Extent, after: Extent, arrays: Mapping[str, NDArray[Any]], n_step: int) -> bool:
        """Whether anything was written there between two extents of the same replay."""
        last = self.first + len(self.parts[0])
        if self.env is None:
            size = len(arrays[START_ARRAYS[0]])
            return _overlap(range(before.next_start, after.next_start), range(self.first, last), size)
        # Incomplete windows reach back, and their starts have been numbered since.
        written = range(before.heads[self.env] - n_step - 1, after.heads[self.env] + AHEAD)
        return _overlap(written, range(self.first, last), arrays[ROW_ARRAYS[0]].shape[1])


class Rewritten(NamedTuple):
    """A rewritten array, which is one file."""

    name: str
    parts: tuple[NDArray[Any]]

    def has_changed(self, before: Extent, after: Extent, arrays: Mapping[str, NDArray[Any]], n_step: int) -> bool:
        """Always True: writes to it are not tracked."""
        return True


def appended_segments(arrays: Mapping[str, NDArray[Any]], per_segment: tuple[int, int]) -> Iterator[Segment]:
    """All segments of a replay's appended arrays, used or not."""
    envs, rows = arrays[ROW_ARRAYS[0]].shape[:2]
    names = row_arrays(arrays)
    for env in range(envs):
        for first in range(0, rows, per_segment[0]):
            chosen = slice(first, first + per_segment[0])
            yield Segment(f"env_{env}_row_{first}", env, first, tuple(arrays[name][env, chosen] for name in names))
    for first in range(0, len(arrays[START_ARRAYS[0]]), per_segment[1]):
        chosen = slice(first, first + per_segment[1])
        yield Segment(f"start_{first}", None, first, tuple(arrays[name][chosen] for name in START_ARRAYS))


def rewritten_segments(arrays: Mapping[str, NDArray[Any]]) -> Iterator[Rewritten]:
    """One segment per rewritten array."""
    return (Rewritten(rewritten_file(name), (array,)) for name, array in arrays.items())


def rewritten_file(name: str) -> str:
    """The file of a rewritten array."""
    return f"rewritten_{name}"


def bytes_of(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of an array."""
    return np.dtype(dtype).itemsize * math.prod(shape)


def _overlap(written: range, segment: range, size: int) -> bool:
    """Whether a range in a ring buffer of `size` places, which may wrap around, overlaps a range of places."""
    if len(written) >= size:
        return True
    begin = written.start % size
    end = begin + len(written)
    return any(begin < segment.stop + turn and segment.start + turn < end for turn in (0, size))
