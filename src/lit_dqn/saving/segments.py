"""How the arrays of a store lie on disk: cut into segments, each of them one file.

Saved arrays declare themselves. A store's `state_dict` says of each array which of two kinds it is:

    {"arrays": {"observation": ..., "head": ...},  # appended
     "rewritten": {"priority": ...},               # optional
     ...}

*Appended* arrays are the rings of a replay, named in `row_arrays` and `START_ARRAYS`: what was written does not change
until the ring comes round, so a segment that nothing was added to is a hard link to its file in the checkpoint before.
*Rewritten* arrays may change anywhere between two checkpoints, as priorities do: each is one segment, written anew with
every checkpoint. They are contiguous tensors of numbers on the CPU, not empty, and finite; their names are Python's.

`load_state_dict` finds both kinds under the same keys, or, where `state["sidecar"]` is a `Sidecar`, on disk:
`sidecar.layout` and `sidecar.rewritten` tell dtypes and shapes, `sidecar.read_into({name: array, ...})` fills arrays of
either kind. A rewritten array that is not in `sidecar.rewritten` was not saved (another sampler, an earlier release),
and keeps what it holds. A store checks itself what only it knows of the numbers, such as that priorities are positive.
"""

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROW_ARRAYS = ("observation", "action", "reward", "discount", "last", "step", "start_number")
"""The arrays of every replay that have a row for each timestep of each env, [N, rows, ...]."""

OPTIONAL_ROW_ARRAYS = ("action_mask",)
"""Likewise, but of some replays."""

START_ARRAYS = ("start_column", "start_row")
"""The arrays of the replay that have a place for each start, [capacity]."""

AHEAD = 3
"""Rows from the head on that `ReplayBuffer.add` may have touched, for the last observation and the next episode."""


def row_arrays(names: Container[str]) -> tuple[str, ...]:
    """The arrays that have a row for each timestep, out of the names of a replay's arrays."""
    return (*ROW_ARRAYS, *(name for name in OPTIONAL_ROW_ARRAYS if name in names))


class Extent(NamedTuple):
    """How much a replay has written, counted without end."""

    heads: tuple[int, ...]  # rows, of each env
    next_start: int


class Segment(NamedTuple):
    """A range of the appended arrays that is one file."""

    name: str
    env: int | None  # None: of the ring of starts
    first: int  # row, or place in the ring
    parts: tuple[NDArray[Any], ...]  # views of the arrays

    def is_used(self, extent: Extent) -> bool:
        """Whether anything was written there yet."""
        if self.env is None:
            return self.first < extent.next_start
        return self.first < extent.heads[self.env] + AHEAD

    def has_changed(self, before: Extent, after: Extent, arrays: Mapping[str, NDArray[Any]], n_step: int) -> bool:
        """Whether anything was written there between two extents of the same replay."""
        last = self.first + len(self.parts[0])
        if self.env is None:
            size = len(arrays[START_ARRAYS[0]])
            return _overlap(range(before.next_start, after.next_start), range(self.first, last), size)
        # Windows that were not complete yet reach back, and their starts were numbered since.
        written = range(before.heads[self.env] - n_step - 1, after.heads[self.env] + AHEAD)
        return _overlap(written, range(self.first, last), arrays[ROW_ARRAYS[0]].shape[1])


class Rewritten(NamedTuple):
    """A rewritten array, which is one file."""

    name: str
    parts: tuple[NDArray[Any]]

    def has_changed(self, before: Extent, after: Extent, arrays: Mapping[str, NDArray[Any]], n_step: int) -> bool:
        """Always: nobody knows what of it was written."""
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
    """One segment for each of the rewritten arrays."""
    return (Rewritten(rewritten_file(name), (array,)) for name, array in arrays.items())


def rewritten_file(name: str) -> str:
    """The file of a rewritten array."""
    return f"rewritten_{name}"


def bytes_of(dtype: str, shape: Sequence[int]) -> int:
    """Of an array."""
    return np.dtype(dtype).itemsize * math.prod(shape)


def _overlap(written: range, segment: range, size: int) -> bool:
    """Whether a range that goes round a ring of `size` places meets a range of places."""
    if len(written) >= size:
        return True
    begin = written.start % size
    end = begin + len(written)
    return any(begin < segment.stop + turn and segment.start + turn < end for turn in (0, size))
