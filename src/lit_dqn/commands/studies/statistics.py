"""Statistics over runs and tasks: interquartile mean, optimality gap, probability of improvement, and their intervals.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice". Scores are grouped in
strata: for each task those of its runs.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES, CONFIDENCE = 2_000, 0.95

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def interquartile_mean(scores: ArrayLike) -> NDArray[np.float64]:
    """The mean of the middle half along the last axis: a quarter, rounded down, is left out at each end.

    Args:
        scores: [..., n].

    """
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    means: NDArray[np.float64] = ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)
    return means


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> NDArray[np.float64]:
    """How far scores along the last axis are below the target on average; scores above it do not compensate.

    Args:
        scores: [..., n].
        target: the sufficient score.

    """
    gaps: NDArray[np.float64] = np.maximum(target - np.asarray(scores, np.float64), 0.0).mean(axis=-1)
    return gaps


def probability_of_improvement(ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """How often a run of ours is better than one of theirs on the same task, with ties as one half; the mean over
    tasks.

    On each task it is the Mann-Whitney statistic divided by the number of pairs.

    Args:
        ours: for each task its scores, [..., n]; n may differ between tasks.
        theirs: the same, [..., m].

    """
    shares = []
    for one, other in zip(ours, theirs, strict=True):
        a, b = np.asarray(one, np.float64)[..., :, None], np.asarray(other, np.float64)[..., None, :]
        shares.append(((a > b) + 0.5 * (a == b)).mean(axis=(-2, -1)))
    mean: NDArray[np.float64] = np.mean(shares, axis=0)
    return mean


def confidence_interval(
    strata: Sequence[ArrayLike], statistic: Statistic = interquartile_mean, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of a statistic of all scores, by the stratified bootstrap.

    Each resample draws from each stratum as many scores as it has, with replacement, so that every task keeps its
    weight.

    Args:
        strata: for each task its scores, one per run.
        statistic: along the last axis.
        seed: of the resamples.

    """
    return _percentiles(statistic(np.concatenate(_resampled(strata, np.random.default_rng(seed)), axis=1)))


def interval_of_improvement(
    ours: Sequence[ArrayLike], theirs: Sequence[ArrayLike], seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the probability of improvement; the runs of both are resampled within each task.

    Args:
        ours: for each task its scores, one per run.
        theirs: the same.
        seed: of the resamples.

    """
    generator = np.random.default_rng(seed)
    return _percentiles(probability_of_improvement(_resampled(ours, generator), _resampled(theirs, generator)))


def _resampled(strata: Sequence[ArrayLike], generator: np.random.Generator) -> list[NDArray[np.float64]]:
    """The resamples of each stratum, [RESAMPLES, n]."""
    return [
        generator.choice(np.asarray(scores, np.float64), (RESAMPLES, np.size(scores)), replace=True)
        for scores in strata
    ]


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
