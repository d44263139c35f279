"""How frames become observations: the only place that stacks frames, for acting, sampling and pictures."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ROOM = 16
"""The number of pushes, in frame stacks, before the newest frames are moved back to the front."""


def stack_frames(frames: NDArray[Any]) -> NDArray[Any]:
    """[B, k, *shape] to one observation each: images (channels, height, width) are joined along the channels,
    anything else keeps k as its first axis, as in Gymnasium's FrameStackObservation.
    """
    if frames.ndim != 5:
        return frames
    batch, stack, channels, *size = frames.shape
    return frames.reshape(batch, stack * channels, *size)


def stacked_shape(frame_stack: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an observation of `frame_stack` frames of this shape."""
    if frame_stack == 1:
        return shape
    return stack_frames(np.broadcast_to(np.uint8(0), (1, frame_stack, *shape))).shape[1:]


def observations_at(frames: NDArray[Any], rows: NDArray[np.integer]) -> NDArray[Any]:
    """Observations [B, *stacked shape], copied from the `rows` [B, k] of `frames` [..., *shape]."""
    return frames[rows[:, 0]] if rows.shape[1] == 1 else stack_frames(frames[rows])


def rows_of_stack(
    first_row: NDArray[np.int64], row: NDArray[np.int64], step: NDArray[np.int32], rows: int, frame_stack: int
) -> NDArray[np.int64]:
    """The rows of the frames of observations, [B, k], in the ring buffers of all envs viewed as one long column.

    Args:
        first_row: [B], of the ring buffers.
        row: [B], of the newest frames in them.
        step: of each row of all ring buffers, counted from the start of its episode.
        rows: of one ring buffer.
        frame_stack: k.

    """
    if frame_stack == 1:
        return (first_row + row)[:, None]
    back = np.arange(frame_stack - 1, -1, -1)
    back = np.minimum(back, step[first_row + row][:, None])  # not beyond the episode's first frame
    places: NDArray[np.int64] = first_row[:, None] + (row[:, None] - back) % rows
    return places


def observations_of_episode(
    frames: NDArray[Any], frame_stack: int, steps: NDArray[np.integer] | None = None
) -> NDArray[Any]:
    """The observations of an episode; its first frame replaces the missing earlier ones.

    Args:
        frames: [T, *shape], of the whole episode.
        frame_stack: k.
        steps: [B], the steps to return; None: all T.

    Returns:
        [B, *stacked shape].

    """
    steps = np.arange(len(frames)) if steps is None else steps
    return observations_at(frames, np.maximum(steps[:, None] + np.arange(1 - frame_stack, 1), 0))


def first_observations(frames: NDArray[Any], frame_stack: int) -> NDArray[Any]:
    """The first observations of episodes that begin with `frames` [B, *shape]: [B, *stacked shape]."""
    return observations_at(frames, np.repeat(np.arange(len(frames))[:, None], frame_stack, axis=1))


class FrameStack:
    """The newest k frames of N envs as observations, as in the replay: the first frame fills the stack.

    The k frames are a window that moves over a longer array, so a push copies only one frame per env. The frame before
    the newest one is not moved: a push does not change the array that `frames` returned before it.

    Args:
        num_envs: N.
        frame_stack: k.
        shape: of a frame.
        dtype: of a frame.

    """

    def __init__(self, num_envs: int, frame_stack: int, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._frame_stack = frame_stack
        self._room = 1 if frame_stack == 1 else ROOM * frame_stack
        self._row = np.zeros((num_envs, self._room, *shape), dtype)
        # A window of one frame cannot move: two rows alternate.
        self._other_row = np.zeros_like(self._row) if frame_stack == 1 else self._row
        self._end = frame_stack  # of the window

    def reset(self, frames: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        """Begin the episodes of the envs in `mask` [N] with `frames` [N, *shape]."""
        self._window[mask] = frames[mask, None]

    def push(self, frames: NDArray[Any]) -> None:
        """Append `frames` [N, *shape]."""
        if self._frame_stack == 1:
            self._row, self._other_row = self._other_row, self._row
        else:
            if self._end == self._room:
                self._row[:, : self._frame_stack - 1] = self._row[:, 1 - self._frame_stack :]
                self._end = self._frame_stack - 1
            self._end += 1
        self._row[:, self._end - 1] = frames

    @property
    def frames(self) -> NDArray[Any]:
        """[N, *shape], the newest frame of each env."""
        return self._row[:, self._end - 1]

    @property
    def observation(self) -> NDArray[Any]:
        """The input of a network: [N, *stacked shape]."""
        return self._window[:, 0] if self._frame_stack == 1 else stack_frames(self._window)

    @property
    def _window(self) -> NDArray[Any]:
        return self._row[:, self._end - self._frame_stack : self._end]
