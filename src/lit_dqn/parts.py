"""Observations of several parts: the row of bytes that stores them, and the arrays that a network sees."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # importing torch takes seconds, and envs do not need it

DTYPES = ("float32", "uint8", "bool")
"""Dtypes of parts, the widest first."""


class Part(NamedTuple):
    """One part of an observation, as a network sees it."""

    shape: tuple[int, ...]  # frames stacked
    dtype: str  # one of `DTYPES`
    image: bool  # whether its frames are stacked; of any other part the network sees the newest
    frames: int = 1  # in its stack

    @property
    def num_bytes(self) -> int:
        """Bytes of one frame."""
        return math.prod(self.shape) // self.frames * np.dtype(self.dtype).itemsize


class Parts(Mapping[str, Part]):
    """The parts of an observation by name, and their places in its row: four-byte numbers first.

    A row is one array with one dtype. So the code that stores, copies, saves and draws observations need not know about
    parts, and each part is stored once, in its own dtype.

    Args:
        parts: by name.

    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = dict(parts)
        self._places: dict[str, slice] = {}
        end = 0
        for name in sorted(parts, key=lambda name: DTYPES.index(parts[name].dtype)):
            self._places[name] = slice(end, end + parts[name].num_bytes)
            end = self._places[name].stop
        self._row_bytes = -(-end // 4) * 4  # so that each row starts at a valid address for four-byte numbers

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes that a network sees, by name."""
        return {name: part.shape for name, part in self.items()}

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of an observation's row: [bytes], or [frames, bytes]."""
        frames = max(part.frames for part in self.values())
        return (self._row_bytes,) if frames == 1 else (frames, self._row_bytes)

    def stacked(self, frame_stack: int) -> "Parts":
        """The parts of an observation of `frames` frames; these parts have one."""
        return Parts({name: _stacked(part, frame_stack) for name, part in self.items()})

    def pack(self, observation: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The row [bytes] of arrays of one frame."""
        row = np.zeros(self._row_bytes, np.uint8)
        for name, place in self._places.items():
            row[place].view(self[name].dtype)[...] = np.reshape(observation[name], -1)
        return row

    def pack_stack(self, observation: Mapping[str, Any]) -> NDArray[np.uint8]:
        """The row [*row_shape] of arrays with their frames stacked."""
        frames = max(part.frames for part in self.values())
        if frames == 1:
            return self.pack(observation)
        split = {
            name: np.split(np.asarray(observation[name]), frames) if part.frames > 1 else [observation[name]] * frames
            for name, part in self.items()
        }
        return np.stack([self.pack({name: arrays[frame] for name, arrays in split.items()}) for frame in range(frames)])

    def numbers(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """All float32 numbers of rows [N, bytes], as [N, numbers]."""
        end = max((place.stop for name, place in self._places.items() if self[name].dtype == "float32"), default=0)
        return rows[:, :end].view(np.float32)

    def name_at(self, number: int) -> str:
        """The part to which one of the `numbers` of a row belongs."""
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
            # A comparison makes bools of bytes, because torch cannot compile a view of bytes as bools.
            typed = numbers != 0 if part.dtype == "bool" else numbers.view(getattr(torch, part.dtype))
            part_rows: Tensor = typed.reshape(-1, *part.shape)
            return part_rows

        return {name: tensor(name, part) for name, part in self.items()}

    def _bytes_of(self, name: str, rows: Any) -> Any:
        if rows.ndim == 3 and not self[name].image:
            rows = rows[:, -1]
        return rows[..., self._places[name]]

    def described(self) -> dict[str, dict[str, Any]]:
        """As plain values, from which `of` restores it."""
        return {name: part._asdict() | {"shape": list(part.shape)} for name, part in self.items()}

    @classmethod
    def of(cls, described: Mapping[str, Mapping[str, Any]]) -> "Parts":
        """The inverse of `described`."""
        return cls({name: Part(**{**part, "shape": tuple(part["shape"])}) for name, part in described.items()})


def _stacked(part: Part, frame_stack: int) -> Part:
    if frame_stack == 1 or not part.image:
        return part
    channels, *size = part.shape if len(part.shape) == 3 else (1, *part.shape)
    return part._replace(shape=(frame_stack * channels, *size), frames=frame_stack)
