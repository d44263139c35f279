"""Every stream of random numbers of a run, in one table: each is a function of the run's seed and of what it is for.

    | stream                               | its seed                                   |
    |--------------------------------------|--------------------------------------------|
    | an episode of a training env         | (run seed, env, episode), from 0           |
    | an evaluation episode                | (run seed, `EVALUATION_ENV`, episode), from 1 |
    | an episode of `test` and `predict`   | (run seed, `TEST_ENV`, episode), from 1    |
    | exploration of a training env        | (run seed, env, 0, 1)                      |
    | demonstrations played for a run      | as an env of training, whose number is `demonstration_env` |
    | exploration of one episode, watched  | (the episode's seed, 1)                    |
    | which transitions make a batch       | (run seed, shard, 0, 2)                    |
    | noise of a network that learns       | (run seed, updates, 2 shard or, of the target network, 2 shard + 1, 3) |
    | noise of the network that acts       | (run seed, env step of the agent, 0, 4)    |
    | what an objective draws              | (run seed, updates, shard, 5)              |
    | fresh weights of a reset             | (run seed, number of the reset, 0, 6), from 1 |
    | dropout, where there are several shards | (run seed, updates, shard, 7)           |

Envs and shards are numbered over the whole run, wherever they are played; a single shard has the number 0. Everything
else that draws (the initial weights of a network, its dropout with a single shard) uses torch's global generator, which
`seed_everything` seeds and a checkpoint holds.
"""

import numpy as np
from numpy.typing import NDArray

EVALUATION_ENV, TEST_ENV = 2**32 - 1, 2**32 - 2
"""The env numbers of evaluation in the seeds of its episodes; no training env has them. The episodes of validation
selected the best checkpoint, so `test` plays others.
"""

FIRST_DEMONSTRATION_ENV = 2**31
"""The first env number of demonstrations, which therefore play no training episode."""

EXPLORATION_STREAM, SAMPLING_STREAM = 1, 2
"""They keep generators apart from each other, and from the seeds of episodes, which have no fourth number; those of
learning are in `learning/draws.py`.
"""


def episode_seed(run_seed: int, env: int, episode: int) -> int:
    """The seed of an episode: a function of the run's seed, the env's number and the env's count of episodes.

    The same episode of the same env starts alike, whatever the other envs do, and whether or not the run was resumed.
    """
    return int(np.random.SeedSequence((run_seed, env, episode)).generate_state(1)[0])


def next_seeds(run_seed: int, first_env: int, episodes: NDArray[np.int64], mask: NDArray[np.bool_]) -> list[int | None]:
    """The seeds of the next episodes of some envs.

    Args:
        run_seed: of the run.
        first_env: the number of the first env over the whole run.
        episodes: [N], number of episodes that each env has begun.
        mask: [N], True for the envs that begin one.

    Returns:
        [N], None for the others.

    """
    seeds: list[int | None] = [None] * len(mask)
    for env in np.flatnonzero(mask).tolist():
        seeds[env] = episode_seed(run_seed, first_env + env, int(episodes[env]))
    return seeds


def demonstration_env(number: int) -> int:
    """The env number of a demonstration env, which is counted from 0 over all demonstrations."""
    return FIRST_DEMONSTRATION_ENV + number


def evaluation_seeds(run_seed: int, env: int, episodes: int) -> list[int]:
    """The seeds of `count` episodes of `EVALUATION_ENV` or `TEST_ENV`."""
    return [episode_seed(run_seed, env, number) for number in range(1, episodes + 1)]


def exploration_generator(run_seed: int, env: int) -> np.random.Generator:
    """The generator of an env's policy during training."""
    return np.random.default_rng((run_seed, env, 0, EXPLORATION_STREAM))


def exploration_generator_of_episode(seed: int) -> np.random.Generator:
    """The generator of the policy in one episode without learning.

    Args:
        seed: of the episode.

    """
    return np.random.default_rng((seed, EXPLORATION_STREAM))


def sampling_generator(run_seed: int, shard: int = 0) -> np.random.Generator:
    """The generator that draws the transitions of a shard's batches."""
    return np.random.default_rng((run_seed, shard, 0, SAMPLING_STREAM))
