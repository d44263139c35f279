"""One conformance suite that every sampler passes, and what is special to each."""

import inspect

import numpy as np
import pytest

from lit_dqn.replay import (
    Latest,
    Prioritized,
    PrioritySampler,
    Rollout,
    Sampler,
    Uniform,
    prioritized,
    rollout,
    samplers,
)

SAMPLERS = [Uniform(), Uniform(replacement=True), Latest(), Prioritized(), Rollout()]
STARTS = [range(32), range(1_000_003, 1_000_043), range(2**40, 2**40 + 32)]  # filled once, wrapped, after a long run


def generator(seed=0):
    return np.random.default_rng(seed)


def name(sampler):
    settings = {key: value for key, value in vars(sampler).items() if not key.startswith("_")}
    return f"{type(sampler).__name__}{settings or ''}"


def fresh(sampler):
    """One that has seen no replay yet."""
    return sampler.for_replay(2**20) if isinstance(sampler, PrioritySampler) else sampler


every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=name)
uniform_samplers = pytest.mark.parametrize("sampler", SAMPLERS[:2], ids=name)


def test_the_suite_knows_every_sampler():
    classes = [*inspect.getmembers(samplers, inspect.isclass), *inspect.getmembers(prioritized, inspect.isclass)]
    classes += inspect.getmembers(rollout, inspect.isclass)
    concrete = {made for _, made in classes if issubclass(made, Sampler) and not inspect.isabstract(made)}
    assert concrete == {type(sampler) for sampler in SAMPLERS}


@every_sampler
@pytest.mark.parametrize("starts", STARTS, ids=str)
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_a_batch_is_that_many_int64_numbers_out_of_the_starts(sampler, starts, batch_size):
    numbers = fresh(sampler).sample(starts, batch_size, generator())
    assert numbers.shape == (batch_size,)
    assert numbers.dtype == np.int64
    assert all(int(number) in starts for number in numbers)


@every_sampler
def test_a_single_start_can_be_drawn(sampler):
    assert fresh(sampler).sample(range(41, 42), 1, generator()).tolist() == [41]


@every_sampler
def test_the_generator_alone_decides(sampler):
    sampler, first, second = fresh(sampler), generator(5), generator(5)
    for _ in range(10):
        batches = [sampler.sample(STARTS[1], 8, stream).tolist() for stream in (first, second)]
        assert batches[0] == batches[1]


@every_sampler
def test_a_restored_generator_draws_the_same_next_sample(sampler):
    sampler, stream = fresh(sampler), generator(5)
    sampler.sample(STARTS[0], 8, stream)
    state = stream.bit_generator.state
    expected = [sampler.sample(STARTS[0], 8, stream).tolist() for _ in range(3)]
    other = generator(99)
    other.bit_generator.state = state
    assert [sampler.sample(STARTS[0], 8, other).tolist() for _ in range(3)] == expected


@uniform_samplers
def test_two_seeds_draw_differently(sampler):
    assert sampler.sample(STARTS[0], 16, generator(1)).tolist() != sampler.sample(STARTS[0], 16, generator(2)).tolist()


@uniform_samplers
def test_every_start_is_drawn_about_equally_often_at_every_place_of_the_batch(sampler):
    starts, batch_size, batches = range(500, 520), 5, 4000
    stream = generator()
    numbers = np.array([sampler.sample(starts, batch_size, stream) for _ in range(batches)])
    for place in [*numbers.T, numbers.ravel()]:
        expected = len(place) / len(starts)
        chi_square = ((np.bincount(place - starts.start, minlength=len(starts)) - expected) ** 2 / expected).sum()
        assert chi_square < 50  # 19 degrees of freedom: exceeded by chance once in 7,000 times


def test_without_replacement_no_start_is_drawn_twice():
    stream = generator()
    for _ in range(100):
        assert len(set(Uniform().sample(range(40), 32, stream).tolist())) == 32


def test_without_replacement_a_batch_as_large_as_the_replay_is_all_of_it_in_random_order():
    numbers = Uniform().sample(STARTS[1], 40, generator()).tolist()
    assert sorted(numbers) == list(STARTS[1])
    assert numbers != sorted(numbers)


def test_with_replacement_a_start_can_be_drawn_twice_and_the_batch_can_be_larger_than_the_replay():
    numbers = Uniform(replacement=True).sample(range(3), 50, generator()).tolist()
    assert set(numbers) == {0, 1, 2}


def test_latest_are_the_newest_in_order():
    assert Latest().sample(range(10, 20), 4, generator()).tolist() == [16, 17, 18, 19]
    assert Latest().sample(range(10, 20), 10, generator()).tolist() == list(range(10, 20))


@pytest.mark.parametrize("sampler", [Uniform(), Latest()], ids=name)
def test_more_than_there_is_cannot_be_drawn_without_replacement(sampler):
    with pytest.raises(ValueError, match=r"larger|latest"):
        sampler.sample(range(10, 20), 11, generator())


@pytest.mark.parametrize("sampler", [one for one in SAMPLERS if not one.is_rollout], ids=name)
@pytest.mark.parametrize("size", [31, 32])
def test_many_batches_at_once_are_those_of_one_call_each(sampler, size):
    sampler, one, other = fresh(sampler), np.random.default_rng(3), np.random.default_rng(3)
    for starts in (range(100, 150), range(5, 2**20), range(2**40, 2**40 + 64)):
        many = sampler.sample_many(starts, 5, size, one)
        assert many.shape == (5, size)
        assert (many == [sampler.sample(starts, size, other) for _ in range(5)]).all()
        assert one.bit_generator.state == other.bit_generator.state


def test_a_rollout_is_passed_over_in_another_order_each_time():
    numbers = Rollout().sample_many(range(40, 60), 12, 5, generator()).reshape(3, 20)
    assert [sorted(one) for one in numbers.tolist()] == [list(range(40, 60))] * 3
    assert len({tuple(one) for one in numbers.tolist()}) == 3
