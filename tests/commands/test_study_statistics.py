"""The statistics of a study, beside SciPy's."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from lit_dqn.commands.studies import statistics

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scores():
    return np.random.default_rng(4).lognormal(size=(3, 41))


def test_a_quarter_is_left_out_at_each_end():
    assert statistics.interquartile_mean([1000, 1, 2, 3, 4, 5, 6, -1000]) == 3.5
    assert statistics.interquartile_mean([3, 1, 2]) == 2
    np.testing.assert_array_equal(statistics.interquartile_mean([[0, 1, 2, 9], [0, 0, 4, 4]]), [1.5, 2])


def test_the_interquartile_mean_is_scipys_trimmed_mean(scores):
    stats = pytest.importorskip("scipy.stats")
    for number in range(1, scores.shape[1] + 1):
        some = scores[:, :number]
        np.testing.assert_allclose(statistics.interquartile_mean(some), stats.trim_mean(some, 0.25, axis=1), rtol=1e-12)


@pytest.mark.slow
def test_the_interval_of_one_env_is_scipys_bootstrap(scores, monkeypatch):
    stats = pytest.importorskip("scipy.stats")
    monkeypatch.setattr(statistics, "RESAMPLES", 100_000)
    for number in (5, 10, 41):
        some = scores[0, :number]
        theirs = stats.bootstrap(
            (some,), statistics.interquartile_mean, n_resamples=100_000, method="percentile", rng=1
        ).confidence_interval
        np.testing.assert_allclose(statistics.confidence_interval([some]), theirs, rtol=0.01)


def test_each_env_is_drawn_as_often_as_it_has_scores(monkeypatch):
    """Without strata half of the resamples would hold more of one env than of the other, and the interval be wide."""
    low, high = statistics.confidence_interval([[0.0] * 6, [1.0] * 6])
    assert low == high == 0.5
    stats = pytest.importorskip("scipy.stats")
    monkeypatch.setattr(statistics, "RESAMPLES", 100_000)
    envs = [np.random.default_rng(env).normal(env, 1, 9) for env in range(3)]

    def of_all(*drawn, axis):
        return statistics.interquartile_mean(np.concatenate(drawn, axis=axis))

    theirs = stats.bootstrap(envs, of_all, n_resamples=100_000, method="percentile", rng=1, vectorized=True)
    np.testing.assert_allclose(statistics.confidence_interval(envs), theirs.confidence_interval, atol=0.01)


def test_an_interval_is_the_same_each_time(scores):
    assert statistics.confidence_interval(scores) == statistics.confidence_interval(scores)


def test_what_is_beyond_the_target_makes_up_for_nothing():
    np.testing.assert_allclose(statistics.optimality_gap([[0.5, 1.0, 9.0, -1.0], [2.0, 2.0, 2.0, 2.0]]), [0.625, 0.0])
    assert statistics.optimality_gap([3.0, 7.0], target=5.0) == 1.0


def test_the_probability_of_improvement_counts_pairs_and_halves_ties_and_takes_the_mean_over_tasks():
    # 5 beats 1, 2 and ties with 5; 0 beats none: 2.5 of 6. On the second task all of ours win.
    assert statistics.probability_of_improvement([[5, 0]], [[1, 2, 5]]) == 2.5 / 6
    assert statistics.probability_of_improvement([[5, 0], [9]], [[1, 2, 5], [8, 7]]) == (2.5 / 6 + 1) / 2


def test_the_probability_of_improvement_and_its_interval_are_scipys(monkeypatch):
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(3)
    ours, theirs = generator.normal(0.5, 1, 8).round(1), generator.normal(0, 1, 11).round(1)
    expected = stats.mannwhitneyu(ours, theirs).statistic / (8 * 11)
    assert statistics.probability_of_improvement([ours], [theirs]) == pytest.approx(expected)
    monkeypatch.setattr(statistics, "RESAMPLES", 50_000)

    def share(a, b, axis):
        return statistics.probability_of_improvement([a], [b])

    theirs_ = stats.bootstrap((ours, theirs), share, n_resamples=50_000, method="percentile", rng=1, vectorized=True)
    found = statistics.interval_of_improvement([ours], [theirs])
    np.testing.assert_allclose(found, theirs_.confidence_interval, atol=0.01)


def test_a_seed_is_for_a_search_or_for_a_report(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    seeds = importlib.import_module("seeds")
    assert seeds.are_for_a_report([0, 9])
    assert not seeds.are_for_a_report([100, 109])
    for mixed in ([0, 100], [10], [110], []):
        with pytest.raises(ValueError, match=r"a report takes 0 to 9, a search 100 to 109"):
            seeds.are_for_a_report(mixed)
