"""Priorities against a twin that does everything the long way, and what is drawn, weighed, forgotten and saved."""

import numpy as np
import pytest

from lit_dqn import ConfigError, Linear, Prioritized, TrainingError
from lit_dqn.replay import Sampler
from lit_dqn.replay.prioritized import SMALLEST
from lit_dqn.replay.sum_tree import FANOUT, SumTree, tree_bytes


class Twin(Sampler):
    """Keeps a priority for each start by its number, and walks over all of them for each draw."""

    def __init__(self, capacity, alpha, beta):
        self.capacity, self.alpha, self.beta = capacity, alpha, beta
        self.leaf = {}
        self.highest = 1.0

    def follow(self, starts):
        self.leaf = {start: self.leaf.get(start, self.highest) for start in starts}

    def sample(self, starts, batch_size, generator):
        self.follow(starts)
        in_ring = sorted(starts, key=lambda start: start % self.capacity)
        ends = np.cumsum([self.leaf[start] for start in in_ring])
        targets = (np.arange(batch_size) + generator.random(batch_size)) / batch_size * ends[-1]
        return np.array([in_ring[np.searchsorted(ends, target, side="right")] for target in targets])

    def weight(self, start):
        total = sum(self.leaf.values())
        probability = np.array([self.leaf[number] / total for number in start])
        weight = (len(self.leaf) * probability) ** -self.beta
        return weight / weight.max()

    def settle(self, start, priority):
        for number, size in zip(start, priority, strict=True):
            leaf = float(np.float32(size + SMALLEST) ** np.float32(self.alpha))
            self.highest = max(self.highest, leaf)
            if number in self.leaf:
                self.leaf[number] = leaf


@pytest.mark.parametrize("capacity", [1, 7, FANOUT, FANOUT + 1, 1000, FANOUT**2 + 1])
@pytest.mark.parametrize(("alpha", "beta"), [(0.6, 0.4), (1.0, 1.0), (0.0, 0.5)])
def test_it_draws_and_weighs_as_its_twin_while_the_ring_goes_round(capacity, alpha, beta):
    twin, own = Twin(capacity, alpha, beta), Prioritized(alpha, beta).for_replay(capacity)
    streams = [np.random.default_rng(7) for _ in range(2)]
    dice = np.random.default_rng(8)
    oldest = newest = 0
    for _ in range(30):
        newest += int(dice.integers(1, capacity // 3 + 2))
        oldest = max(oldest, newest - capacity)
        starts = range(oldest, newest)
        many = own.sample_many(starts, 2, 5, streams[0])
        expected = np.array([twin.sample(starts, 5, streams[1]) for _ in range(2)])
        assert many.tolist() == expected.tolist()
        weights = own.weight(many, 0)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, [twin.weight(batch) for batch in expected], rtol=1e-4)
        priority = dice.exponential(size=(2, 5)).astype(np.float32) * 3
        if dice.random() < 0.3:  # what is played ahead comes before the priorities
            newest += 1
            oldest = max(oldest, newest - capacity)
        own.settle(many, priority)
        twin.settle(many.reshape(-1), priority.reshape(-1))


def settled(priorities, capacity=8, first=0, **settings):
    """A sampler of a replay with a start for each of the priorities."""
    sampler = Prioritized(**({"alpha": 1.0, "beta": 1.0} | settings)).for_replay(capacity)
    starts = range(first, first + len(priorities))
    sampler.follow(starts)
    sampler.settle(np.array(starts), np.array(priorities, np.float32) - np.float32(SMALLEST))
    return sampler, starts


@pytest.mark.parametrize(("alpha", "shares"), [(1.0, [1, 0.01, 4, 5]), (0.5, [1, 0.1, 2, 5**0.5]), (0.0, [1, 1, 1, 1])])
def test_a_start_is_drawn_in_proportion_to_its_priority_to_the_power_alpha(alpha, shares):
    sampler, starts = settled([1, 0.01, 4, 5], first=6, alpha=alpha)  # 6 to 9 lie at the places 6, 7, 0, 1
    drawn = sampler.sample_many(starts, 2000, 10, np.random.default_rng(0))
    counts = np.bincount(drawn.reshape(-1) - 6, minlength=4)
    expected = np.array(shares) / sum(shares) * drawn.size
    assert ((counts - expected) ** 2 / expected).sum() < 20  # 3 degrees of freedom


def test_each_part_of_the_sum_gives_one_number_of_a_batch():
    sampler, starts = settled([1, 1, 1, 1])
    for batch in sampler.sample_many(starts, 100, 4, np.random.default_rng(0)):
        assert batch.tolist() == [0, 1, 2, 3]


def test_weights_undo_probabilities_as_far_as_beta_says():
    start = np.array([[0, 2, 3, 0], [2, 2, 3, 3]])
    sampler, _ = settled([1, 0.125, 4, 16], beta=1.0)
    np.testing.assert_allclose(sampler.weight(start, 0), [[1, 1 / 4, 1 / 16, 1], [1, 1, 1 / 4, 1 / 4]], rtol=1e-5)
    sampler, _ = settled([1, 0.125, 4, 16], beta=Linear(0.0, 1.0, env_steps=100))
    assert sampler.weight(start, 0).tolist() == np.ones((2, 4)).tolist()
    np.testing.assert_allclose(sampler.weight(start, 50)[0], [1, 1 / 2, 1 / 4, 1], rtol=1e-5)


def test_new_starts_have_the_highest_priority_that_ever_came_back():
    sampler, _ = settled([1, 50, 2])
    sampler.settle(np.array([1]), np.array([3.0], np.float32))  # no longer that high itself
    sampler.follow(range(5))
    np.testing.assert_allclose(sampler.arrays["priority"], [1, 3, 2, 50, 50, 0, 0, 0], rtol=1e-5)


def test_what_is_gone_is_not_drawn_and_its_priority_is_not_taken_back():
    sampler, _ = settled([9, 9, 1, 1, 1, 1, 1, 1])
    sampler.follow(range(2, 9))  # 8 has taken the place of 0, and 1 is gone
    sampler.settle(np.array([0, 1, 2]), np.array([100.0, 100.0, 7.0], np.float32))
    np.testing.assert_allclose(sampler.arrays["priority"], [9, 0, 7, 1, 1, 1, 1, 1], rtol=1e-5)
    assert 1 not in sampler.sample_many(range(2, 9), 50, 10, np.random.default_rng(0))


def test_of_a_start_that_comes_twice_in_a_chunk_the_last_update_counts():
    sampler, _ = settled([1, 1, 1])
    sampler.settle(np.array([[2, 0], [1, 2]]), np.array([[5, 6], [7, 8]], np.float32))
    np.testing.assert_allclose(sampler.arrays["priority"][:3], [6, 7, 8], rtol=1e-5)


def test_what_was_learned_by_heart_can_still_be_drawn():
    sampler, starts = settled([SMALLEST, SMALLEST])
    assert set(sampler.sample(starts, 50, np.random.default_rng(0)).tolist()) == {0, 1}


def test_each_replay_has_its_own_priorities():
    rule = Prioritized()
    one, other = rule.for_replay(4), rule.for_replay(4)
    one.follow(range(2))
    assert not np.shares_memory(one.arrays["priority"], other.arrays["priority"])
    assert other.arrays["priority"].tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="for_replay"):
        rule.sample(range(2), 1, np.random.default_rng(0))


@pytest.mark.parametrize("wrong", [-0.5, float("nan"), float("inf")])
def test_priorities_that_are_none_end_the_run(wrong):
    sampler, _ = settled([1, 1])
    with pytest.raises(TrainingError, match=f"{wrong}.*finite and not negative"):
        sampler.settle(np.array([0, 1]), np.array([1.0, wrong], np.float32))


@pytest.mark.parametrize("spoil", [lambda p, h: p.__setitem__(2, -1), lambda p, h: p.__setitem__(2, 0),
                                   lambda p, h: p.__setitem__(2, np.nan), lambda p, h: h.fill(0.5),
                                   lambda p, h: h.fill(np.inf)])  # fmt: skip
def test_arrays_that_hold_no_priorities_are_refused(spoil):
    sampler, starts = settled([1, 2, 3])
    spoil(sampler.arrays["priority"], sampler.arrays["highest_priority"])
    with pytest.raises(ValueError, match="priorities"):
        sampler.take_up(starts)


def test_an_exponent_outside_of_0_to_1_is_refused():
    sampler, starts = settled([1, 2, 3])
    sampler.arrays["alpha"].fill(-1)
    with pytest.raises(ValueError, match="alpha is not in"):
        sampler.take_up(starts)


@pytest.mark.parametrize(("before", "now"), [(0.5, 1.0), (1.0, 0.25), (0.5, 0.5), (0.5, 0.0), (0.0, 0.5)])
def test_priorities_that_were_saved_with_another_exponent_are_those_of_the_new_one(before, now):
    old, starts = settled([9, 1, 4], alpha=before)
    new = Prioritized(now).for_replay(8)
    for name, array in old.arrays.items():
        new.arrays[name][...] = array
    new.take_up(starts)
    expected = np.array([9.0, 1, 4]) ** now if before > 0 else np.ones(3)
    np.testing.assert_allclose(new.arrays["priority"][:3], expected, rtol=1e-5)
    assert not new.arrays["priority"][3:].any()
    assert new.arrays["highest_priority"] == pytest.approx([max(expected)], rel=1e-5)
    assert new.arrays["alpha"] == [now]
    if before == now:
        assert new.arrays["priority"].tobytes() == old.arrays["priority"].tobytes()
    np.testing.assert_allclose(new._tree.total, expected.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"alpha": -0.1}, r"alpha: -0.1 must lie in \[0, 1\]"),
        ({"alpha": 1.5}, r"alpha: 1.5 must lie in \[0, 1\]"),
        ({"beta": 1.1}, r"beta: from 1.1 to 1.1, but it must stay in \[0, 1\]"),
        ({"beta": Linear(0.4, -1.0, env_steps=5)}, r"beta: from 0.4 to -1.0, but it must stay in \[0, 1\]"),
    ],
)
def test_values_out_of_range_are_named(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Prioritized(**settings)


# --- the tree ---


def leaves(size, seed=0):
    values = np.random.default_rng(seed).exponential(size=size).astype(np.float32)
    values[::3] = 0
    return values


@pytest.mark.parametrize("size", [1, 2, FANOUT, FANOUT + 1, 1500, FANOUT**2 + 5])
def test_sums_follow_from_the_leaves_whatever_was_written_before(size):
    values, dice = leaves(size), np.random.default_rng(1)
    grown, made = SumTree(size), SumTree(size)
    for _ in range(20):
        places = dice.integers(0, size, 50)
        grown.set(places, dice.random(50, np.float32))
    grown.set(np.arange(size), values)
    made.leaves[:] = values
    made.rebuild()
    for one, other in zip(grown._levels, made._levels, strict=True):
        assert (one == other).all()
    assert grown.total == pytest.approx(values.sum(dtype=np.float64))


@pytest.mark.parametrize("size", [2, FANOUT + 1, 1500])
def test_numbers_fall_on_the_leaf_that_they_lie_on_and_never_on_one_of_0(size):
    tree, values = SumTree(size), leaves(size)
    tree.set(np.arange(size), values)
    ends = values.cumsum(dtype=np.float64)
    middles = (ends - values / 2)[values > 0]
    assert tree.find(middles).tolist() == np.flatnonzero(values).tolist()
    edges = np.array([0.0, tree.total, np.nextafter(tree.total, np.inf), *ends])
    found = tree.find(edges)
    assert (values[found] > 0).all()
    assert found[:3].tolist() == [*np.flatnonzero(values)[[0, -1, -1]]]


@pytest.mark.parametrize("size", [1, FANOUT, FANOUT + 1, FANOUT**2 + 1, 50_000])
def test_the_memory_of_a_tree_is_that_of_its_arrays(size):
    assert tree_bytes(size) == sum(level.nbytes for level in SumTree(size)._levels)
    assert Prioritized().bytes_for(size) == tree_bytes(size)
