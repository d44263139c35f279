"""Statistics over seeds, and what a seed is for: settings that were chosen on a seed prove nothing on it.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

SEARCH, REPORT = range(100, 110), range(10)
"""Seeds on which settings are chosen, and seeds of which is told."""

RESAMPLES, CONFIDENCE = 2_000, 0.95


def are_for_a_report(seeds: Iterable[int]) -> bool:
    """Whether seeds are those of a report; False: of a search.

    Raises:
        ValueError: if they are neither, or both.

    """
    seeds = set(seeds)
    if seeds and seeds <= set(REPORT):
        return True
    if seeds and seeds <= set(SEARCH):
        return False
    raise ValueError(
        f"seeds {sorted(seeds)}: a report takes {REPORT[0]} to {REPORT[-1]}, a search {SEARCH[0]} to {SEARCH[-1]}, "
        "and neither takes the other's."
    )


def interquartile_mean(scores: ArrayLike) -> NDArray[np.float64]:
    """The mean of the middle half along the last axis: a quarter, rounded down, is left out at each end.

    Args:
        scores: [..., n].

    """
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def confidence_interval(strata: Sequence[ArrayLike], seed: int = 0) -> tuple[float, float]:
    """Of the interquartile mean of all scores, by the stratified bootstrap, percentiles.

    Each resample draws from each stratum as many scores as it has, with replacement, so that no env stands for another.

    Args:
        strata: for each env its scores, one for each seed.
        seed: of the resamples.

    """
    generator = np.random.default_rng(seed)
    drawn = [
        generator.choice(np.asarray(scores, np.float64), (RESAMPLES, np.size(scores)), replace=True)
        for scores in strata
    ]
    means = interquartile_mean(np.concatenate(drawn, axis=1))
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
