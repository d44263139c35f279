"""What updates draw, on the host: a function of the run's seed and the count of updates, so no state is saved."""

import numpy as np
import torch
from torch import Tensor

NOISE_STREAM, ACTING_NOISE_STREAM, UNIFORM_STREAM, RESET_STREAM, DROPOUT_STREAM = 3, 4, 5, 6, 7
"""Set them apart from each other, and from the streams of those who play."""


def uniforms(seed: int, updates: int, count: int, batch_size: int, draws: int, shard: int = 0) -> Tensor:
    """The numbers in [0, 1) that some updates draw, [count, batch_size, draws], float32.

    Args:
        seed: of the run.
        updates: that were made before the first of them.
        count: of the updates.
        batch_size: transitions of each.
        draws: for each transition.
        shard: whose transitions they are.

    """
    # A generator for each update: what it draws does not depend on how updates are put together to chunks.
    drawn = [
        np.random.default_rng((seed, updates + number, shard, UNIFORM_STREAM)).random((batch_size, draws), np.float32)
        for number in range(count)
    ]
    return torch.from_numpy(np.stack(drawn))


def reset_seed(seed: int, number: int) -> int:
    """What the fresh weights of a reset are drawn by.

    Args:
        seed: of the run.
        number: of the reset, from 1.

    """
    return int(np.random.SeedSequence((seed, number, 0, RESET_STREAM)).generate_state(1)[0])


def dropout_seed(seed: int, updates: int, shard: int) -> int:
    """What torch's generators are seeded with for an update from one of several shards, for dropout and the like.

    Args:
        seed: of the run.
        updates: that were made before.
        shard: whose batch it is.

    """
    return int(np.random.SeedSequence((seed, updates, shard, DROPOUT_STREAM)).generate_state(1, np.uint64)[0] >> 1)
