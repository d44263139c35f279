import numpy as np
from numpy.typing import NDArray

from lit_dqn.replay import stack_frames


class FrameStack:
    """The newest k frames of N envs as observations, by the rule of the replay: the first frame fills the stack."""

    def __init__(self, num_envs: int, frame_stack: int) -> None:
        self._frame_stack = frame_stack
        self._frames: NDArray | None = None
        self._num_envs = num_envs

    def reset(self, frames: NDArray, mask: NDArray[np.bool_]) -> None:
        """Begin the episodes of the envs in `mask` [N] with `frames` [N, *shape]."""
        if self._frames is None:
            self._frames = np.repeat(np.zeros_like(frames)[:, None], self._frame_stack, axis=1)
        self._frames[mask] = frames[mask, None]

    def push(self, frames: NDArray) -> None:
        """Go on with `frames` [N, *shape]."""
        assert self._frames is not None
        if self._frame_stack > 1:
            self._frames[:, :-1] = self._frames[:, 1:].copy()
        self._frames[:, -1] = frames

    @property
    def frames(self) -> NDArray:
        """[N, *shape], the newest frame of each env."""
        assert self._frames is not None
        return self._frames[:, -1]

    @property
    def observation(self) -> NDArray:
        """What a network sees: [N, *stacked shape]."""
        assert self._frames is not None
        return self._frames[:, 0] if self._frame_stack == 1 else stack_frames(self._frames)
