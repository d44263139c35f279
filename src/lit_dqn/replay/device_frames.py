"""The frames of a replay on a device: the host chooses the transitions, the device looks up their frames."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dqn.replay.buffer import ReplayBuffer
from lit_dqn.replay.stacking import stacked_shape
from lit_dqn.types import Batch, Lookup, StaticBatches

STAGED_BYTES = 8 * 2**20
"""Bytes of frames that are copied together: enough for the frames of a chunk."""

ALIGNMENT = 16
"""The alignment of each array of a batch, in bytes."""

RESERVE = 2**30
"""Device memory that is reserved for networks, their gradients, and libraries, in bytes."""


class DeviceFrames:
    """A copy of a replay's frames on a device, updated before batches are drawn.

    All copies are queued on the device's current stream: new frames are copied after earlier updates, which may read
    the rows that are overwritten, and before later ones.

    Args:
        replay: the source of the frames.
        device: the destination.

    """

    def __init__(self, replay: ReplayBuffer, device: torch.device | str) -> None:
        self.replay = replay
        self.device = torch.device(device)
        host = torch.from_numpy(replay.frames)
        self._frames = torch.zeros(host.shape, dtype=host.dtype, device=self.device)
        if len(replay.starts) == 0:
            replay.take_written()  # both are empty
        count = max(1, STAGED_BYTES // max(host[0].nbytes, 1))
        self._staging = [_Staging(count, host, self.device) for _ in range(2)]
        self._shape = stacked_shape(replay.frame_stack, tuple(host.shape[1:]))
        self._places: _Places | None = None

    def update(self) -> None:
        """Copy the frames that were written since the last call."""
        rows, frames = self.replay.take_written(), self.replay.frames
        while len(rows):
            self._staging.reverse()  # the less recently used one
            staging = self._staging[0]
            taken, rows = rows[: staging.size], rows[staging.size :]
            staging.send(taken, frames, self._frames)

    def batches(self, lookup: Lookup, count: int, weight: NDArray[np.float32] | None = None) -> StaticBatches:
        """`count` batches of equal size, valid until the next call.

        Args:
            lookup: of all their transitions, batch after batch.
            count: number of batches.
            weight: [count, B], importance weights; None: equal weights.

        """
        self.update()
        rows = np.stack([lookup.rows.reshape(count, -1), lookup.next_rows.reshape(count, -1)], axis=1)
        others = [array.reshape(count, -1) for array in (lookup.action, lookup.reward, lookup.discount)]
        masks = {name: mask.reshape(count, -1, mask.shape[-1]) for name, mask in lookup.masks.items()}
        optional = masks if weight is None else {"weight": weight, **masks}
        arrays = [rows, *others, *optional.values()]
        if self._places is None or not self._places.fit(arrays):
            self._places = _Places(arrays, self.device)
        self._places.send(arrays)
        return _DrawnBatches(self, self._places, tuple(optional))

    def gather(self, rows: Tensor) -> Tensor:
        """The observations [B, *shape], frames stacked, of flat rows [B * k]."""
        return self._frames.index_select(0, rows).view(-1, *self._shape)


class _DrawnBatches(StaticBatches):
    """Batches whose frames are gathered on access."""

    def __init__(self, frames: DeviceFrames, places: "_Places", optional: tuple[str, ...]) -> None:
        self._frames = frames
        self._places = places
        self._optional = optional  # fields after those that every batch has
        self.fields = (places.memory,)

    def make(self, fields: tuple[Tensor, ...]) -> Batch:
        rows, action, reward, discount, *others = self._places.parts_of(fields[0])
        observation, next_observation = self._frames.gather(rows.view(-1)).chunk(2)
        optional = dict(zip(self._optional, others, strict=True))
        return Batch(observation, action, reward, discount, next_observation, **optional)


class _Staging:
    """Pinned memory for frames on their way to the device."""

    def __init__(self, size: int, like: Tensor, device: torch.device) -> None:
        self.size = size
        pinned = device.type == "cuda"
        self._frames = torch.empty((size, *like.shape[1:]), dtype=like.dtype, pin_memory=pinned)
        self._rows = torch.empty(size, dtype=torch.int64, pin_memory=pinned)
        self._sent = torch.cuda.Event() if pinned else None

    def send(self, rows: NDArray[np.int64], source: NDArray[Any], destination: Tensor) -> None:
        if self._sent is not None:
            self._sent.synchronize()
        count = len(rows)
        np.take(source, rows, axis=0, out=self._frames[:count].numpy(), mode="clip")
        self._rows[:count].numpy()[:] = rows
        places = self._rows[:count].to(destination.device, non_blocking=True)
        destination.index_copy_(0, places, self._frames[:count].to(destination.device, non_blocking=True))
        if self._sent is not None:
            self._sent.record()


class _Part(NamedTuple):
    begin: int
    end: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class _Places:
    """The small arrays of a chunk, [K, ...] each: copied together, from one of two pinned buffers to a buffer on the
    device.

    The arrays of one batch are adjacent, so that one operation selects them.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], device: torch.device) -> None:
        self._shapes = [array.shape for array in arrays]
        self._parts: list[_Part] = []
        size = 0
        for array in arrays:
            self._parts.append(_Part(size, size + array[0].nbytes, torch.from_numpy(array).dtype, array.shape[1:]))
            size += -(-array[0].nbytes // ALIGNMENT) * ALIGNMENT
        pinned = device.type == "cuda"
        self._host = [torch.zeros((len(arrays[0]), size), dtype=torch.uint8, pin_memory=pinned) for _ in range(2)]
        self._sent = [torch.cuda.Event() if pinned else None for _ in range(2)]
        self.memory = self._host[0].to(device, copy=True)

    def fit(self, arrays: Sequence[NDArray[Any]]) -> bool:
        return self._shapes == [array.shape for array in arrays]

    def send(self, arrays: Sequence[NDArray[Any]]) -> None:
        self._host.reverse()
        self._sent.reverse()
        host, sent = self._host[0], self._sent[0]
        if sent is not None:
            sent.synchronize()
        for part, array in zip(self._parts, arrays, strict=True):
            host.numpy()[:, part.begin : part.end].view(array.dtype)[...] = array.reshape(len(array), -1)
        self.memory.copy_(host, non_blocking=True)
        if sent is not None:
            sent.record()

    def parts_of(self, row: Tensor) -> list[Tensor]:
        """The arrays of one batch from its row of the memory."""
        return [row[part.begin : part.end].view(part.dtype).view(part.shape) for part in self._parts]


def device_bytes(device: torch.device) -> int:
    """GPU memory that frames can take, in bytes."""
    return max(torch.cuda.mem_get_info(device)[0] - RESERVE, 0)
