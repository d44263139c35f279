"""The random numbers of updates, drawn on the host as a function of the run's seed and the number of updates, so no
state is saved.
"""

import numpy as np
import torch
from torch import Tensor

NOISE_STREAM, ACTING_NOISE_STREAM, UNIFORM_STREAM, RESET_STREAM, DROPOUT_STREAM = 3, 4, 5, 6, 7
"""They keep the streams apart from each other, and from those of playing."""


def uniforms(seed: int, updates: int, count: int, batch_size: int, draws: int, shard: int = 0) -> Tensor:
    """The numbers in [0, 1) that some updates draw, [count, batch_size, draws], float32.

    Args:
        seed: of the run.
        updates: number of earlier updates.
        count: number of these updates.
        batch_size: transitions of each.
        draws: numbers per transition.
        shard: number of the shard of the transitions.

    """
    # A generator per update: its numbers do not depend on how updates are grouped into chunks.
    drawn = [
        np.random.default_rng((seed, updates + number, shard, UNIFORM_STREAM)).random((batch_size, draws), np.float32)
        for number in range(count)
    ]
    return torch.from_numpy(np.stack(drawn))


def reset_seed(seed: int, number: int) -> int:
    """The generator of a reset's fresh weights.

    Args:
        seed: of the run.
        number: of the reset, from 1.

    """
    return int(np.random.SeedSequence((seed, number, 0, RESET_STREAM)).generate_state(1)[0])


def dropout_seed(seed: int, updates: int, shard: int) -> int:
    """The seed of torch's generators for an update from one of several shards, for dropout and the like.

    Args:
        seed: of the run.
        updates: number of earlier updates.
        shard: number of the shard of the batch.

    """
    return int(np.random.SeedSequence((seed, updates, shard, DROPOUT_STREAM)).generate_state(1, np.uint64)[0] >> 1)
