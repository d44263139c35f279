"""A store's arrays on disk: a folder of segments (`segments.py`), and a manifest, which is written last."""

import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lit_dqn.saving import durable
from lit_dqn.saving.durable import Content
from lit_dqn.saving.segments import (
    AHEAD,
    ROW_ARRAYS,
    START_ARRAYS,
    Extent,
    Rewritten,
    Segment,
    appended_segments,
    bytes_of,
    rewritten_file,
    rewritten_segments,
    row_arrays,
)

MANIFEST = "manifest.json"

MANIFEST_BYTES = 64 * 2**20
"""The largest manifest: a segment of 4 MiB takes about 50 bytes of it."""

THREADS = min(4, os.cpu_count() or 1)
"""Training waits for the disk, so all cores are free; copying and checksums release Python's lock."""

DTYPES = {
    "action": "int64",
    "reward": "float32",
    "discount": "bool",
    "last": "bool",
    "step": "int32",
    "start_number": "int64",
    "start_column": "int32",
    "start_row": "int64",
    "action_mask": "uint8",  # one bit per action
    "memory": "float32",
}
"""Dtypes of all appended arrays but the observations."""

REWRITTEN_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

Layout = dict[str, tuple[str, tuple[int, ...]]]
"""Dtype and shape of arrays, by name."""


@dataclass(frozen=True)
class Sidecar:
    """A store's arrays on disk."""

    folder: Path
    identity: str  # of the store, which distinguishes it from others of the same layout
    extent: Extent
    per_segment: tuple[int, int]  # rows, places in the ring buffer of starts
    layout: Layout  # of the appended arrays
    rewritten: Layout  # of the rewritten ones
    contents: dict[str, Content]  # of each segment
    manifest_crc32: int

    @classmethod
    def open(cls, folder: Path, manifest_crc32: int) -> "Sidecar":
        """Read the manifest.

        Raises:
            OSError: if it cannot be read, or does not belong to the checkpoint.

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
            _layout(manifest["arrays"]),
            _layout(manifest.get("rewritten", {})),  # release 0.1.0 had none
            {name: Content(*content) for name, content in manifest["segments"].items()},
            manifest_crc32,
        )
        sidecar._check()
        return sidecar

    def _check(self) -> None:
        """Refuse a manifest that is not of a replay of lit_dqn, and files that differ from those that it names.

        Raises:
            OSError: names the defect.

        """
        if sorted(self.layout) != sorted((*row_arrays(self.layout), *START_ARRAYS)):
            raise OSError(f"{self.folder / MANIFEST} has other arrays than a replay")
        numbers = [*self.extent.heads, self.extent.next_start, *self.per_segment]
        numbers += [size for _, shape in (*self.layout.values(), *self.rewritten.values()) for size in shape]
        if not all(type(value) is int and 0 <= value < 2**62 for value in numbers) or 0 in self.per_segment:
            raise OSError(f"{self.folder / MANIFEST} holds numbers that are none of a replay")
        envs, rows = self.layout[ROW_ARRAYS[0]][1][:2]
        (capacity,) = self.layout[START_ARRAYS[0]][1]
        kinds = {name: dtype for name, (dtype, _) in self.layout.items()}
        if not _is_of_numbers(kinds.pop("observation")) or kinds != {name: DTYPES[name] for name in kinds}:
            raise OSError(f"{self.folder / MANIFEST} has arrays of other types than a replay")
        for name, (dtype, shape) in self.rewritten.items():
            is_array = REWRITTEN_NAME.fullmatch(name) and _is_of_numbers(dtype) and shape and 0 not in shape
            if not is_array or name in (*self.layout, "head"):
                raise OSError(f"{self.folder / MANIFEST} has a rewritten array that no store has")
        shapes_fit = all(self.layout[name][1][:2] == (envs, rows) for name in row_arrays(self.layout))
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
        """The names and sizes of the written segments, at most as many as the manifest names."""
        per_row = sum(bytes_of(self.layout[name][0], self.layout[name][1][2:]) for name in row_arrays(self.layout))
        per_start = sum(bytes_of(self.layout[name][0], ()) for name in START_ARRAYS)
        yield from ((rewritten_file(name), bytes_of(*array)) for name, array in self.rewritten.items())
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
        """Read every segment, compare it with its checksum, and check the ranges of indices.

        Args:
            num_actions: of the env; None: any number.

        Raises:
            OSError: names the first one that is missing or damaged.

        """
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda name: self._verify(name, num_actions), self.contents))

    def _verify(self, name: str, num_actions: int | None) -> None:
        path, size, offset = self.folder / name, self.contents[name].size, 0
        durable.verify(path, self.contents[name])
        limits, parts = self._limits(num_actions), self._parts(name)
        places = size // sum(bytes_of(dtype, shape) for dtype, shape in parts.values())
        for part, (dtype, shape) in parts.items():
            if part in limits:
                # The raw bytes: 7 is not a valid bool.
                numbers = np.fromfile(path, np.uint8 if dtype == "bool" else dtype, places, offset=offset)
                low, high = limits[part]
                if len(numbers) and not low <= numbers.min() <= numbers.max() <= high:
                    raise OSError(f"{path} is damaged: its {part} is out of range")
            offset += places * bytes_of(dtype, shape)

    def _parts(self, segment: str) -> Layout:
        """The arrays of a segment, with the shape of each at one place."""
        for name, (dtype, _) in self.rewritten.items():
            if segment == rewritten_file(name):
                return {name: (dtype, ())}
        names, axes = (START_ARRAYS, 1) if segment.startswith("start_") else (row_arrays(self.layout), 2)
        return {name: (self.layout[name][0], self.layout[name][1][axes:]) for name in names}

    def _limits(self, num_actions: int | None) -> dict[str, tuple[float, float]]:
        """The bounds of indices. Rows that were never written hold zeros."""
        envs, rows = self.layout[ROW_ARRAYS[0]][1][:2]
        finite = float(np.finfo(np.float32).max)
        return {
            **{name: _range(dtype) for name, (dtype, _) in self.rewritten.items()},
            "action": (0, (num_actions or 2**63) - 1),
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

        Args:
            arrays: all appended arrays, and the requested rewritten ones; arrays that were not saved are unchanged.

        Raises:
            OSError: names the first segment that is missing or damaged.
            ValueError: if a rewritten array has another dtype or shape.

        """
        rewritten = {name: arrays[name] for name in self.rewritten if name in arrays}
        for name, array in rewritten.items():
            if self.rewritten[name] != (array.dtype.name, array.shape):
                found = " ".join(map(str, self.rewritten[name]))
                raise ValueError(f"the replay's {name} is {array.dtype.name} {array.shape} here, and {found} there")
        segments: list[Segment | Rewritten] = [*rewritten_segments(rewritten)]
        segments += [
            segment for segment in appended_segments(arrays, self.per_segment) if segment.name in self.contents
        ]
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(self._read, segments))

    def _read(self, segment: Segment | Rewritten) -> None:
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
        OSError: names it.

    """
    status = path.lstat()
    if not (stat.S_ISDIR if is_folder else stat.S_ISREG)(status.st_mode):
        raise OSError(f"{path} is a link, or no {'folder' if is_folder else 'file'}")
    if max_bytes is not None and status.st_size > max_bytes:
        raise OSError(f"{path} has {status.st_size:,} bytes, more than the {max_bytes:,} that it may have")


def _layout(arrays: Mapping[str, Any]) -> Layout:
    return {name: (dtype, tuple(shape)) for name, (dtype, shape) in arrays.items()}


def _is_of_numbers(dtype: Any) -> bool:
    """Whether it is NumPy's name of such a dtype; NumPy reads None as float64."""
    return np.dtype(dtype).name == dtype and np.dtype(dtype).kind in "biuf"


def _range(dtype: str) -> tuple[float, float]:
    """The bounds of the finite numbers of a dtype."""
    if dtype == "bool":
        return 0, 1
    limits = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
    return cast(float, limits.min), cast(float, limits.max)
