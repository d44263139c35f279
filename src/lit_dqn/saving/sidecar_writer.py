import json
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from lit_dqn.saving import durable
from lit_dqn.saving.durable import Content
from lit_dqn.saving.segments import (
    START_ARRAYS,
    Extent,
    Rewritten,
    Segment,
    appended_segments,
    rewritten_segments,
    row_arrays,
)
from lit_dqn.saving.sidecar import MANIFEST, THREADS, Layout, Sidecar

SEGMENT_BYTES = 4 * 2**20
"""Bytes of a segment. Small enough that partly changed segments cost little: with 4 envs, 4 MiB each."""


class SidecarWriter:
    """Writes a store's arrays into a new folder; segments that have not changed since `previous` are hard links.

    Args:
        arrays: the appended arrays.
        next_start: the number of the next start.
        rewritten: the rewritten arrays.
        n_step: number of steps in the window of a transition.
        identity: of the store.
        previous: the last one that was written; it helps if it is an earlier state of the same store.

    """

    @classmethod
    def of(cls, store: Mapping[str, Any], previous: Sidecar | None = None) -> "SidecarWriter":
        """A writer for the state of a store (`segments.py`)."""
        return cls(
            _as_numpy(store["arrays"]),
            store["next_start"],
            rewritten=_as_numpy(store.get("rewritten", {})),
            n_step=store["windows"][0],
            identity=store["identity"],
            previous=previous,
        )

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        next_start: int,
        *,
        rewritten: Mapping[str, NDArray[Any]] | None = None,
        n_step: int,
        identity: str,
        previous: Sidecar | None = None,
    ) -> None:
        self.arrays = arrays
        self.n_step = n_step
        self.identity = identity
        self.extent = Extent(tuple(arrays["head"].tolist()), next_start)
        rows = row_arrays(arrays)
        self.layout = _layout_of({name: arrays[name] for name in (*rows, *START_ARRAYS)})
        self.rewritten = _layout_of(rewritten or {})
        self.per_segment = (
            max(1, SEGMENT_BYTES // _bytes_per_place(arrays, rows, axes=2)),
            max(1, SEGMENT_BYTES // _bytes_per_place(arrays, START_ARRAYS, axes=1)),
        )
        same = previous is not None and previous.identity == identity and previous.per_segment == self.per_segment
        self.previous = previous if same else None
        self.segments: list[Segment | Rewritten] = [*rewritten_segments(rewritten or {})]
        appended = appended_segments(arrays, self.per_segment)
        self.segments += [segment for segment in appended if segment.is_used(self.extent)]

    @property
    def new_bytes(self) -> int:
        """Bytes to write if everything else can be linked."""
        new = [segment for segment in self.segments if self._kept(segment) is None]
        return sum(part.nbytes for segment in new for part in segment.parts)

    def _kept(self, segment: Segment | Rewritten) -> Path | None:
        """The file of an earlier state with the same contents as the segment."""
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
            OSError: if it cannot be written completely.

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
            "rewritten": self.rewritten,
            "segments": contents,
        }
        text = json.dumps(manifest).encode()
        durable.replace_file(folder / MANIFEST, [memoryview(text)])
        return Sidecar(
            folder,
            self.identity,
            self.extent,
            self.per_segment,
            self.layout,
            self.rewritten,
            contents,
            zlib.crc32(text),
        )

    def _store(self, segment: Segment | Rewritten, folder: Path) -> Content:
        content = self._link(segment, folder)
        if content is None:
            content = durable.write_file(folder / segment.name, [part.data for part in segment.parts])
            durable.verify(folder / segment.name, content)
        return content

    def _link(self, segment: Segment | Rewritten, folder: Path) -> Content | None:
        """Link the existing file; None if the segment must be written after all."""
        kept = self._kept(segment)
        if kept is None or self.previous is None:
            return None
        content = self.previous.contents[segment.name]
        try:
            if kept.stat().st_size != content.size:
                return None
            durable.link_file(kept, folder / segment.name)
        except OSError:  # it was removed, or hard links are impossible here: write it from memory
            return None
        return content


def _as_numpy(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _layout_of(arrays: Mapping[str, NDArray[Any]]) -> Layout:
    return {name: (array.dtype.name, tuple(array.shape)) for name, array in arrays.items()}


def _bytes_per_place(arrays: Mapping[str, NDArray[Any]], names: Sequence[str], axes: int) -> int:
    return sum(arrays[name][(0,) * axes].nbytes for name in names)
