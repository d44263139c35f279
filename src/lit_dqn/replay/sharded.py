from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dqn.replay.buffer import ReplayBuffer
from lit_dqn.replay.sequences import SequenceStore
from lit_dqn.replay.store import Replay
from lit_dqn.types import Drawn


class ShardedReplay:
    """The replays of several shards, each with its own envs and its own sampling generator.

    Args:
        replays: by the number of the shard.

    """

    def __init__(self, replays: Mapping[int, Replay | SequenceStore]) -> None:
        self.replays = replays

    @property
    def buffer(self) -> ReplayBuffer:
        """The generator of the first shard of this process."""
        return next(iter(self.replays.values())).buffer

    @property
    def device(self) -> torch.device:
        """The device of the batches."""
        return next(iter(self.replays.values())).device

    def draw(self, updates: int, batch_size: int, generators: Sequence[np.random.Generator], env_step: int) -> Drawn:
        """The batches of some updates in parts, one part per shard.

        Args:
            updates: K.
            batch_size: B, of each part.
            generators: one per shard.
            env_step: env steps played so far, the clock of schedules.

        Returns:
            K groups of parts, one part per shard of this process; and the starts [K, shards x B].

        """
        drawn = [
            replay.draw(updates, batch_size, generator, env_step)
            for replay, generator in zip(self.replays.values(), generators, strict=True)
        ]
        batches = [part for parts in zip(*(of_one.batches for of_one in drawn), strict=True) for part in parts]
        return Drawn(batches, np.concatenate([of_one.start for of_one in drawn], axis=1))

    def settle(self, start: NDArray[np.int64], priority: Tensor) -> None:
        """Take the new priorities, [K, shards x B], in the order of the draw."""
        shards = len(self.replays)
        columns = zip(np.split(start, shards, axis=1), priority.chunk(shards, dim=1), strict=True)
        for replay, (own_start, own_priority) in zip(self.replays.values(), columns, strict=True):
            replay.settle(own_start, own_priority)

    def state_dict(self) -> dict[int, dict[str, Any]]:
        """The state of each replay, by the number of its shard."""
        return {number: replay.state_dict() for number, replay in self.replays.items()}

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Take over the states of this process's shards from those of all shards of the run.

        Raises:
            ValueError: as for a `Replay`.
            OSError: as for a `Replay`.

        """
        for number, replay in self.replays.items():
            replay.load_state_dict(state[number])
