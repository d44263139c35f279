"""The action masks of a replay."""

import numpy as np
from numpy.typing import NDArray

from lit_dqn.types import Timestep


def packed_bytes(num_actions: int) -> int:
    """Bytes of one mask: one bit per action."""
    return -(-num_actions // 8)


class StoredMasks:
    """Action masks, stored as one bit per action, read and written as bools.

    Args:
        packed: [N, rows, packed_bytes(num_actions)], uint8, contiguous; used in place.
        num_actions: of the env.

    """

    def __init__(self, packed: NDArray[np.uint8], num_actions: int) -> None:
        self._packed = packed.reshape(-1, packed.shape[-1])
        self._num_actions = num_actions

    def add(
        self, timestep: Timestep, place: NDArray[np.int64], next_place: NDArray[np.int64], first: NDArray[np.bool_]
    ) -> None:
        """Store the masks of a timestep.

        Args:
            timestep: with masks.
            place: [N], flat rows of its observations.
            next_place: [N], flat rows of its next observations.
            first: [N], where an episode begins with it; the previous `add` stored all other masks.

        """
        assert timestep.action_mask is not None
        assert timestep.next_action_mask is not None
        self[place[first]] = timestep.action_mask[first]
        self[next_place] = timestep.next_action_mask

    def __setitem__(self, places: NDArray[np.int64], masks: NDArray[np.bool_]) -> None:
        self._packed[places] = np.packbits(masks, axis=-1)

    def __getitem__(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.unpackbits(self._packed[places], axis=-1, count=self._num_actions).view(np.bool_)
