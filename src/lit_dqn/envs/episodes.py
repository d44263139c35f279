import numpy as np


def episode_seed(run_seed: int, env: int, episode: int) -> int:
    """The seed of an episode: a function of the run's seed, the env's index and the env's count of episodes.

    The same episode of the same env starts alike whatever the other envs do, and whether or not the run was resumed.
    """
    return int(np.random.SeedSequence((run_seed, env, episode)).generate_state(1)[0])
