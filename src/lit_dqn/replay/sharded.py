from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dqn.replay.buffer import ReplayBuffer
from lit_dqn.replay.store import Replay
from lit_dqn.types import Drawn


class ShardedReplay:
    """The replays of several shards, each of some of the envs, with a generator of its own that draws from it.

    Args:
        replays: by the numbers of their shards.

    """

    def __init__(self, replays: Mapping[int, Replay]) -> None:
        self.replays = replays

    @property
    def buffer(self) -> ReplayBuffer:
        """That of the first shard here."""
        return next(iter(self.replays.values())).buffer

    @property
    def device(self) -> torch.device:
        """Where the batches lie."""
        return next(iter(self.replays.values())).device

    def draw(self, updates: int, batch_size: int, generators: Sequence[np.random.Generator], env_step: int) -> Drawn:
        """The batches of some updates in parts, one of each shard.

        Args:
            updates: K.
            batch_size: B, of each part.
            generators: one for each shard.
            env_step: env steps played, by which schedules go.

        Returns:
            K times the parts of all shards here, those of an update together; and the starts [K, shards x B].

        """
        drawn = [
            replay.draw(updates, batch_size, generator, env_step)
            for replay, generator in zip(self.replays.values(), generators, strict=True)
        ]
        batches = [part for parts in zip(*(of_one.batches for of_one in drawn), strict=True) for part in parts]
        return Drawn(batches, np.concatenate([of_one.start for of_one in drawn], axis=1))

    def settle(self, start: NDArray[np.int64], priority: Tensor) -> None:
        """Take priorities back, [K, shards x B] as they were drawn."""
        shards = len(self.replays)
        columns = zip(np.split(start, shards, axis=1), priority.chunk(shards, dim=1), strict=True)
        for replay, (own_start, own_priority) in zip(self.replays.values(), columns, strict=True):
            replay.settle(own_start, own_priority)

    def state_dict(self) -> dict[int, dict[str, Any]]:
        """The state of each replay, by the number of its shard."""
        return {number: replay.state_dict() for number, replay in self.replays.items()}

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Take over the states of all shards of the run, as far as they are here.

        Raises:
            ValueError: as of a `Replay`.
            OSError: likewise.

        """
        for number, replay in self.replays.items():
            replay.load_state_dict(state[number])
