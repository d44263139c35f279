"""Observations of several parts: one row of bytes in which they travel, and what a network sees of it."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # torch takes seconds, and envs do without

DTYPES = ("float32", "uint8", "bool")
"""Of parts, the widest first."""


class Part(NamedTuple):
    """One part of an observation, as a network sees it."""

    shape: tuple[int, ...]  # frames stacked
    dtype: str  # one of `DTYPES`
    image: bool  # whether frames of it are stacked; of all else the newest is seen
    frames: int = 1  # in it

    @property
    def num_bytes(self) -> int:
        """Of one frame."""
        return math.prod(self.shape) // self.frames * np.dtype(self.dtype).itemsize


class Parts(Mapping[str, Part]):
    """The parts of an observation by their names, and where they lie in its row: numbers of four bytes first.

    A row is one array with one dtype. So whatever keeps, copies, saves and draws observations has nothing to know of
    parts, and each is stored once, in its own dtype.

    Args:
        parts: by their names.

    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = dict(parts)
        self._places: dict[str, slice] = {}
        end = 0
        for name in sorted(parts, key=lambda name: DTYPES.index(parts[name].dtype)):
            self._places[name] = slice(end, end + parts[name].num_bytes)
            end = self._places[name].stop
        self._row_bytes = -(-end // 4) * 4  # so that each row begins where a number of four bytes may

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what a network sees, by name."""
        return {name: part.shape for name, part in self.items()}

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of the row of an observation: [bytes], or [frames, bytes]."""
        frames = max(part.frames for part in self.values())
        return (self._row_bytes,) if frames == 1 else (frames, self._row_bytes)

    def stacked(self, frame_stack: int) -> "Parts":
        """The parts of an observation of so many frames, where these are of one."""
        return Parts({name: _stacked(part, frame_stack) for name, part in self.items()})

    def pack(self, observation: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The row [bytes] of arrays of one frame."""
        row = np.zeros(self._row_bytes, np.uint8)
        for name, place in self._places.items():
            row[place].view(self[name].dtype)[...] = observation[name].reshape(-1)
        return row

    def numbers(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """All that is float32 of rows [N, bytes], as [N, numbers]."""
        end = max((place.stop for name, place in self._places.items() if self[name].dtype == "float32"), default=0)
        return rows[:, :end].view(np.float32)

    def name_at(self, number: int) -> str:
        """Of which part one of the `numbers` of a row is."""
        return next(name for name, place in self._places.items() if 4 * number < place.stop)

    def arrays(self, rows: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The parts [N, *shape] of rows [N, *row_shape]."""
        return {
            name: self._bytes_of(name, rows).view(part.dtype).reshape(len(rows), *part.shape)
            for name, part in self.items()
        }

    def tensors(self, rows: "Tensor") -> "dict[str, Tensor]":
        """The parts [B, *shape] of rows [B, *row_shape]."""
        import torch

        def tensor(name: str, part: Part) -> "Tensor":
            numbers = self._bytes_of(name, rows)
            # Bytes are seen as bools by a comparison, for torch cannot compile another view of them as that.
            typed = numbers != 0 if part.dtype == "bool" else numbers.view(getattr(torch, part.dtype))
            return typed.reshape(-1, *part.shape)

        return {name: tensor(name, part) for name, part in self.items()}

    def _bytes_of(self, name: str, rows: Any) -> Any:
        if rows.ndim == 3 and not self[name].image:
            rows = rows[:, -1]
        return rows[..., self._places[name]]

    def described(self) -> dict[str, dict[str, Any]]:
        """As plain values, which `of` takes."""
        return {name: part._asdict() | {"shape": list(part.shape)} for name, part in self.items()}

    @classmethod
    def of(cls, described: Mapping[str, Mapping[str, Any]]) -> "Parts":
        """The other way."""
        return cls({name: Part(**{**part, "shape": tuple(part["shape"])}) for name, part in described.items()})


def _stacked(part: Part, frame_stack: int) -> Part:
    if frame_stack == 1 or not part.image:
        return part
    channels, *size = part.shape if len(part.shape) == 3 else (1, *part.shape)
    return part._replace(shape=(frame_stack * channels, *size), frames=frame_stack)
