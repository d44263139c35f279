"""The statistics over seeds of benchmarks/seeds.py, beside SciPy's."""

import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def seeds(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("seeds")


@pytest.fixture
def scores():
    return np.random.default_rng(4).lognormal(size=(3, 41))


def test_a_quarter_is_left_out_at_each_end(seeds):
    assert seeds.interquartile_mean([1000, 1, 2, 3, 4, 5, 6, -1000]) == 3.5
    assert seeds.interquartile_mean([3, 1, 2]) == 2
    np.testing.assert_array_equal(seeds.interquartile_mean([[0, 1, 2, 9], [0, 0, 4, 4]]), [1.5, 2])


def test_the_interquartile_mean_is_scipys_trimmed_mean(seeds, scores):
    stats = pytest.importorskip("scipy.stats")
    for number in range(1, scores.shape[1] + 1):
        some = scores[:, :number]
        np.testing.assert_allclose(seeds.interquartile_mean(some), stats.trim_mean(some, 0.25, axis=1), rtol=1e-12)


def test_the_interval_of_one_env_is_scipys_bootstrap(seeds, scores, monkeypatch):
    stats = pytest.importorskip("scipy.stats")
    monkeypatch.setattr(seeds, "RESAMPLES", 100_000)
    for number in (5, 10, 41):
        some = scores[0, :number]
        theirs = stats.bootstrap(
            (some,), seeds.interquartile_mean, n_resamples=100_000, method="percentile", rng=1
        ).confidence_interval
        np.testing.assert_allclose(seeds.confidence_interval([some]), theirs, rtol=0.01)


def test_each_env_is_drawn_as_often_as_it_has_scores(seeds, monkeypatch):
    """Without strata half of the resamples would hold more of one env than of the other, and the interval be wide."""
    low, high = seeds.confidence_interval([[0.0] * 6, [1.0] * 6])
    assert low == high == 0.5
    stats = pytest.importorskip("scipy.stats")
    monkeypatch.setattr(seeds, "RESAMPLES", 100_000)
    envs = [np.random.default_rng(env).normal(env, 1, 9) for env in range(3)]

    def of_all(*drawn, axis):
        return seeds.interquartile_mean(np.concatenate(drawn, axis=axis))

    theirs = stats.bootstrap(envs, of_all, n_resamples=100_000, method="percentile", rng=1, vectorized=True)
    np.testing.assert_allclose(seeds.confidence_interval(envs), theirs.confidence_interval, atol=0.01)


def test_an_interval_is_the_same_each_time(seeds, scores):
    assert seeds.confidence_interval(scores) == seeds.confidence_interval(scores)


def test_a_seed_is_for_a_search_or_for_a_report(seeds):
    assert seeds.are_for_a_report([0, 9])
    assert not seeds.are_for_a_report([100, 109])
    for mixed in ([0, 100], [10], [110], []):
        with pytest.raises(ValueError, match=r"a report takes 0 to 9, a search 100 to 109"):
            seeds.are_for_a_report(mixed)
