"""The replay on disk: a folder of segments, each a range of rows of one env, and a manifest that is written last."""

import json
import math
import os
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_dqn.saving import durable
from lit_dqn.saving.durable import Content

MANIFEST = "manifest.json"

MANIFEST_BYTES = 64 * 2**20
"""More than any manifest has: one segment of 4 MiB takes some 50 bytes of it."""

THREADS = min(4, os.cpu_count() or 1)
"""Training waits for the disk, so all cores are free; copying and checksums leave Python's lock alone."""

SEGMENT_BYTES = 4 * 2**20
"""Small enough that the ends of what each env has played since the last save weigh little: with 4 envs, 4 MiB each."""

ROW_ARRAYS = ("observation", "action", "reward", "discount", "last", "step", "start_number")
"""The arrays of the replay that have a row for each timestep of each env, [N, rows, ...]."""

START_ARRAYS = ("start_column", "start_row")
"""The arrays of the replay that have a place for each start, [capacity]."""


DTYPES = {
    "action": "int64",
    "reward": "float32",
    "discount": "bool",
    "last": "bool",
    "step": "int32",
    "start_number": "int64",
    "start_column": "int32",
    "start_row": "int64",
}
"""Of all arrays but the observations."""


class Extent(NamedTuple):
    """How much a replay has written, counted without end."""

    heads: tuple[int, ...]  # rows, of each env
    next_start: int


class Segment(NamedTuple):
    """A range of the arrays that is one file."""

    name: str
    env: int | None  # None: of the ring of starts
    first: int  # row, or place in the ring
    parts: tuple[NDArray[Any], ...]  # views of the arrays

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(part.nbytes for part in self.parts)

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


AHEAD = 3
"""Rows from the head on that `ReplayBuffer.add` may have touched, for the last observation and the next episode."""


def _overlap(written: range, segment: range, size: int) -> bool:
    """Whether a range that goes round a ring of `size` places meets a range of places."""
    if len(written) >= size:
        return True
    begin = written.start % size
    end = begin + len(written)
    return any(begin < segment.stop + turn and segment.start + turn < end for turn in (0, size))


@dataclass(frozen=True)
class Sidecar:
    """A replay on disk."""

    folder: Path
    identity: str  # of the replay, which tells it from others of the same layout
    extent: Extent
    per_segment: tuple[int, int]  # rows, places in the ring of starts
    layout: dict[str, tuple[str, tuple[int, ...]]]  # dtype and shape of each array
    contents: dict[str, Content]  # of each segment
    manifest_crc32: int

    @classmethod
    def open(cls, folder: Path, manifest_crc32: int) -> "Sidecar":
        """Read the manifest.

        Raises:
            OSError: if it cannot be read, or is not the one that the checkpoint belongs to.

        """
        _check_is_plain(folder, is_folder=True)
        _check_is_plain(folder / MANIFEST, MANIFEST_BYTES)
        text = (folder / MANIFEST).read_bytes()
        if zlib.crc32(text) != manifest_crc32:
            raise OSError(f"{folder / MANIFEST} was changed, or belongs to another checkpoint")
        manifest = json.loads(text)
        if manifest["format"] != 1:
            raise OSError(f"{folder / MANIFEST} is of another release")
        sidecar = cls(
            folder,
            manifest["identity"],
            Extent(tuple(manifest["heads"]), manifest["next_start"]),
            (manifest["rows_per_segment"], manifest["starts_per_segment"]),
            {name: (dtype, tuple(shape)) for name, (dtype, shape) in manifest["arrays"].items()},
            {name: Content(*content) for name, content in manifest["segments"].items()},
            manifest_crc32,
        )
        sidecar._check()
        return sidecar

    def _check(self) -> None:
        """Refuse a manifest that no replay of lit_dqn has, and files that are not those that it names.

        Raises:
            OSError: saying what is wrong.

        """
        if sorted(self.layout) != sorted((*ROW_ARRAYS, *START_ARRAYS)):
            raise OSError(f"{self.folder / MANIFEST} has other arrays than a replay")
        numbers = [*self.extent.heads, self.extent.next_start, *self.per_segment]
        numbers += [size for _, shape in self.layout.values() for size in shape]
        if not all(type(value) is int and 0 <= value < 2**62 for value in numbers) or 0 in self.per_segment:
            raise OSError(f"{self.folder / MANIFEST} holds numbers that are none of a replay")
        envs, rows = self.layout[ROW_ARRAYS[0]][1][:2]
        (capacity,) = self.layout[START_ARRAYS[0]][1]
        kinds = {name: dtype for name, (dtype, _) in self.layout.items()}
        if np.dtype(kinds.pop("observation")).kind not in "biuf" or kinds != DTYPES:
            raise OSError(f"{self.folder / MANIFEST} has arrays of other types than a replay")
        shapes_fit = all(self.layout[name][1][:2] == (envs, rows) for name in ROW_ARRAYS)
        shapes_fit &= all(self.layout[name][1] == (capacity,) for name in START_ARRAYS)
        if not shapes_fit or envs != len(self.extent.heads):
            raise OSError(f"{self.folder / MANIFEST} has arrays that do not fit each other")
        if {name: content.size for name, content in self.contents.items()} != dict(self._expected(rows, capacity)):
            raise OSError(f"{self.folder / MANIFEST} has other segments than its replay")
        found = {path.name for path in self.folder.iterdir()}
        if strange := sorted(found ^ {MANIFEST, *self.contents}):
            raise OSError(f"{self.folder / strange[0]} is missing, or belongs to no replay")
        for name, content in self.contents.items():
            _check_is_plain(self.folder / name, content.size)
            if (self.folder / name).stat().st_size != content.size:
                raise OSError(f"{self.folder / name} is cut short: it has not {content.size:,} bytes")

    def _expected(self, rows: int, capacity: int) -> Iterator[tuple[str, int]]:
        """The names and sizes of the segments that were written, no more than the manifest names."""
        per_row = sum(_bytes_of(dtype, shape[2:]) for name, (dtype, shape) in self.layout.items() if name in ROW_ARRAYS)
        per_start = sum(_bytes_of(self.layout[name][0], ()) for name in START_ARRAYS)
        left = len(self.contents) + 1
        for env, head in enumerate(self.extent.heads):
            for first in range(0, min(rows, head + AHEAD), self.per_segment[0]):
                if (left := left - 1) < 0:
                    return
                yield f"env_{env}_row_{first}", per_row * (min(first + self.per_segment[0], rows) - first)
        for first in range(0, min(capacity, self.extent.next_start), self.per_segment[1]):
            if (left := left - 1) < 0:
                return
            yield f"start_{first}", per_start * (min(first + self.per_segment[1], capacity) - first)

    def verify(self, num_actions: int | None = None) -> None:
        """Read every segment, compare it with its checksum, and look at the numbers that lead somewhere.

        Args:
            num_actions: of the env; None: as many as there are in the replay.

        Raises:
            OSError: naming the first one that is missing or damaged.

        """
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda name: self._verify(name, num_actions), self.contents))

    def _verify(self, name: str, num_actions: int | None) -> None:
        durable.verify(self.folder / name, self.contents[name])
        limits = self._limits(num_actions)
        parts = START_ARRAYS if name.startswith("start_") else ROW_ARRAYS
        widths = [
            _bytes_of(self.layout[part][0], self.layout[part][1][1 if parts is START_ARRAYS else 2 :]) for part in parts
        ]
        places, offset = self.contents[name].size // sum(widths), 0
        for part, width in zip(parts, widths, strict=True):
            if part in limits:
                dtype = np.uint8 if self.layout[part][0] == "bool" else self.layout[part][0]
                numbers = np.fromfile(self.folder / name, dtype, places, offset=offset)
                low, high = limits[part]
                if len(numbers) and not low <= numbers.min() <= numbers.max() <= high:
                    raise OSError(f"{self.folder / name} is damaged: its {part} is out of range")
            offset += places * width

    def _limits(self, num_actions: int | None) -> dict[str, tuple[float, float]]:
        """What numbers that lead somewhere lie between. Rows that were never written hold zeros."""
        envs, rows = self.layout[ROW_ARRAYS[0]][1][:2]
        finite = float(np.finfo(np.float32).max)
        return {
            "action": (0, (num_actions or 2**31) - 1),
            "reward": (-finite, finite),
            "discount": (0, 1),
            "last": (0, 1),
            "step": (0, 2**31 - 1),
            "start_number": (-1, self.extent.next_start - 1),
            "start_column": (0, envs - 1),
            "start_row": (0, rows - 1),
        }

    def read_into(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Fill arrays of the same layout, without a second copy in memory.

        Raises:
            OSError: naming the first segment that is missing or damaged.

        """
        stored = [segment for segment in segments(arrays, self.per_segment) if segment.name in self.contents]
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(self._read, stored))

    def _read(self, segment: Segment) -> None:
        path, crc32, size = self.folder / segment.name, 0, 0
        with path.open("rb") as file:
            for part in segment.parts:
                data = part.data.cast("B")
                size += file.readinto(data)
                crc32 = zlib.crc32(data, crc32)
        if Content(size, crc32) != self.contents[segment.name]:
            raise OSError(f"{path} is damaged")


def _check_is_plain(path: Path, max_bytes: int | None = None, *, is_folder: bool = False) -> None:
    """Refuse links, devices and the like, and files that are larger than expected.

    Raises:
        OSError: naming it.

    """
    status = path.lstat()
    if not (stat.S_ISDIR if is_folder else stat.S_ISREG)(status.st_mode):
        raise OSError(f"{path} is a link, or no {'folder' if is_folder else 'file'}")
    if max_bytes is not None and status.st_size > max_bytes:
        raise OSError(f"{path} has {status.st_size:,} bytes, more than the {max_bytes:,} that it may have")


def segments(arrays: Mapping[str, NDArray[Any]], per_segment: tuple[int, int]) -> Iterator[Segment]:
    """All segments of a replay's arrays, used or not."""
    envs, rows = arrays[ROW_ARRAYS[0]].shape[:2]
    for env in range(envs):
        for first in range(0, rows, per_segment[0]):
            chosen = slice(first, first + per_segment[0])
            yield Segment(f"env_{env}_row_{first}", env, first, tuple(arrays[name][env, chosen] for name in ROW_ARRAYS))
    for first in range(0, len(arrays[START_ARRAYS[0]]), per_segment[1]):
        chosen = slice(first, first + per_segment[1])
        yield Segment(f"start_{first}", None, first, tuple(arrays[name][chosen] for name in START_ARRAYS))


class SidecarWriter:
    """Writes a replay into a new folder; what did not change since `previous` is linked from there.

    Args:
        arrays: the replay's.
        next_start: the number of the next start.
        n_step: steps in the window of a transition.
        identity: of the replay.
        previous: what was written last; it is of use if it is an earlier state of the same replay.

    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        next_start: int,
        *,
        n_step: int,
        identity: str,
        previous: Sidecar | None = None,
    ) -> None:
        self.arrays = arrays
        self.n_step = n_step
        self.identity = identity
        self.extent = Extent(tuple(arrays["head"].tolist()), next_start)
        self.layout = {
            name: (arrays[name].dtype.name, tuple(arrays[name].shape)) for name in (*ROW_ARRAYS, *START_ARRAYS)
        }
        self.per_segment = (
            max(1, SEGMENT_BYTES // _bytes_per_place(arrays, ROW_ARRAYS, axes=2)),
            max(1, SEGMENT_BYTES // _bytes_per_place(arrays, START_ARRAYS, axes=1)),
        )
        same = previous is not None and previous.identity == identity and previous.per_segment == self.per_segment
        self.previous = previous if same else None
        self.segments = [segment for segment in segments(arrays, self.per_segment) if segment.is_used(self.extent)]

    @property
    def new_bytes(self) -> int:
        """What has to be written if everything else can be linked."""
        return sum(segment.size for segment in self.segments if self._kept(segment) is None)

    def _kept(self, segment: Segment) -> Path | None:
        """The file of an earlier state that holds what the segment holds."""
        previous = self.previous
        if (
            previous is None
            or segment.name not in previous.contents
            or segment.has_changed(previous.extent, self.extent, self.arrays, self.n_step)
        ):
            return None
        return previous.folder / segment.name

    def write(self, folder: Path) -> Sidecar:
        """Write everything, and wait until it is on the disk.

        Raises:
            OSError: if it cannot be written whole.

        """
        durable.make_folder(folder)
        with ThreadPoolExecutor(THREADS) as threads:
            names = [segment.name for segment in self.segments]
            contents = dict(zip(names, threads.map(lambda s: self._store(s, folder), self.segments), strict=True))
        manifest = {
            "format": 1,
            "identity": self.identity,
            "heads": self.extent.heads,
            "next_start": self.extent.next_start,
            "rows_per_segment": self.per_segment[0],
            "starts_per_segment": self.per_segment[1],
            "arrays": self.layout,
            "segments": contents,
        }
        text = json.dumps(manifest).encode()
        durable.replace_file(folder / MANIFEST, [memoryview(text)])
        return Sidecar(folder, self.identity, self.extent, self.per_segment, self.layout, contents, zlib.crc32(text))

    def _store(self, segment: Segment, folder: Path) -> Content:
        content = self._link(segment, folder)
        if content is None:
            content = durable.write_file(folder / segment.name, [part.data for part in segment.parts])
            durable.verify(folder / segment.name, content)
        return content

    def _link(self, segment: Segment, folder: Path) -> Content | None:
        """Link the file that is there already; None if it must be written after all."""
        kept = self._kept(segment)
        if kept is None or self.previous is None:
            return None
        content = self.previous.contents[segment.name]
        try:
            if kept.stat().st_size != content.size:
                return None
            durable.link_file(kept, folder / segment.name)
        except OSError:  # it is gone, or there are no hard links here: what memory holds is as good
            return None
        return content


def _bytes_of(dtype: str, shape: Sequence[int]) -> int:
    return np.dtype(dtype).itemsize * math.prod(shape)


def _bytes_per_place(arrays: Mapping[str, NDArray[Any]], names: Sequence[str], axes: int) -> int:
    return sum(arrays[name][(0,) * axes].nbytes for name in names)
