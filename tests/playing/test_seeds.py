from lit_dqn.playing.seeds import (
    EVALUATION_ENV,
    TEST_ENV,
    episode_seed,
    evaluation_seeds,
    exploration_generator,
    exploration_generator_of_episode,
    sampling_generator,
)


def test_each_episode_has_its_own_seed():
    seeds = {episode_seed(run, env, episode) for run in range(5) for env in range(20) for episode in range(50)}
    assert len(seeds) == 5 * 20 * 50
    assert all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in seeds)


def test_the_seed_of_an_episode_is_the_same_for_ever():
    assert [episode_seed(10, 0, 0), episode_seed(10, 0, 1), episode_seed(10, 1, 0)] == [
        3528835259,
        3877731200,
        528218089,
    ]


def test_every_stream_is_the_same_for_ever():
    """Whoever resumes a run of an earlier release, or plays its evaluation again, needs the same numbers."""
    generators = exploration_generator(10, 1), exploration_generator_of_episode(10), sampling_generator(10)
    drawn = [int(generator.integers(2**32)) for generator in generators]
    assert drawn == [1040116441, 4016126477, 4219237456]
    assert evaluation_seeds(10, EVALUATION_ENV, 2) == [4191225915, 2102154448]
    assert evaluation_seeds(10, TEST_ENV, 2) == [2892699248, 1988264934]


def test_no_stream_is_another():
    envs = range(5)
    generators = [exploration_generator(0, env) for env in envs] + [sampling_generator(0), sampling_generator(1)]
    generators += [exploration_generator_of_episode(episode_seed(0, env, 0)) for env in envs]
    assert len({generator.random() for generator in generators}) == len(generators)
    seeds = [episode_seed(0, env, episode) for env in envs for episode in envs]
    seeds += evaluation_seeds(0, EVALUATION_ENV, 5) + evaluation_seeds(0, TEST_ENV, 5)
    assert len(set(seeds)) == len(seeds)
