from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_dqn.replay import stack_frames

ROOM = 16
"""Pushes, in frame stacks, before the newest frames are moved back to the front."""


class FrameStack:
    """The newest k frames of N envs as observations, by the rule of the replay: the first frame fills the stack.

    The k frames lie in a window that moves on over a longer row of frames, so that a push copies one frame of each env.
    """

    def __init__(self, num_envs: int, frame_stack: int) -> None:
        self._frame_stack = frame_stack
        self._room = 1 if frame_stack == 1 else ROOM * frame_stack
        self._row: NDArray[Any] | None = None  # [N, room, *shape]
        self._end = frame_stack  # of the window
        self._num_envs = num_envs

    def reset(self, frames: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        """Begin the episodes of the envs in `mask` [N] with `frames` [N, *shape]."""
        if self._row is None:
            self._row = np.zeros((len(frames), self._room, *frames.shape[1:]), frames.dtype)
        self._window[mask] = frames[mask, None]

    def push(self, frames: NDArray[Any]) -> None:
        """Go on with `frames` [N, *shape]."""
        assert self._row is not None
        if self._frame_stack > 1:
            if self._end == self._room:
                self._row[:, : self._frame_stack - 1] = self._row[:, 1 - self._frame_stack :]
                self._end = self._frame_stack - 1
            self._end += 1
        self._row[:, self._end - 1] = frames

    @property
    def frames(self) -> NDArray[Any]:
        """[N, *shape], the newest frame of each env."""
        assert self._row is not None
        return self._row[:, self._end - 1]

    @property
    def observation(self) -> NDArray[Any]:
        """What a network sees: [N, *stacked shape]."""
        return self._window[:, 0] if self._frame_stack == 1 else stack_frames(self._window)

    @property
    def _window(self) -> NDArray[Any]:
        assert self._row is not None
        return self._row[:, self._end - self._frame_stack : self._end]
