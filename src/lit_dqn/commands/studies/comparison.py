"""Numbers from several records: scores, estimates with their intervals, curves."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lit_dqn.commands.studies.records import RECENT, Record
from lit_dqn.commands.studies.statistics import (
    Statistic,
    confidence_interval,
    interquartile_mean,
    interval_of_improvement,
    optimality_gap,
    probability_of_improvement,
)
from lit_dqn.envs import random_and_human
from lit_dqn.plots.episodes import moving_mean
from lit_dqn.plots.studies import Band, Estimate

POINTS = 100
"""The number of points of a curve."""

Strata = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Comparison:
    """Records by agent and task.

    Args:
        records: of all runs.
        scales: task -> the returns that score 0 and 1; Atari's games default to those of a random player and a human.

    """

    records: Sequence[Record]
    scales: Mapping[str, tuple[float, float]]

    @property
    def agents(self) -> list[str]:
        """In the order of the records."""
        return list(dict.fromkeys(record.agent for record in self.records))

    @property
    def tasks(self) -> list[str]:
        """In the order of the records."""
        return list(dict.fromkeys(record.task for record in self.records))

    def of(self, agent: str, task: str) -> list[Record]:
        """The runs of an agent on a task, ordered by seed."""
        found = [record for record in self.records if (record.agent, record.task) == (agent, task)]
        return sorted(found, key=lambda record: record.seed)

    # --- scores ---

    def scale(self, task: str) -> tuple[float, float] | None:
        """The returns that score 0 and 1; None if they are unknown."""
        env_id = next(record.settings["data"]["env_id"] for record in self.records if record.task == task)
        return self.scales.get(task) or random_and_human(env_id)

    @property
    def is_scaled(self) -> bool:
        """Whether scores are returns on the scales of their tasks."""
        return all(self.scale(task) for task in self.tasks)

    @property
    def can_be_aggregated(self) -> bool:
        """Whether the scores of all tasks can be aggregated: unscaled returns of two envs cannot."""
        return self.is_scaled or len(self.tasks) == 1

    @property
    def whole(self) -> list[str]:
        """The agents with runs on every task."""
        return [agent for agent in self.agents if all(self.of(agent, task) for task in self.tasks)]

    def score(self, record: Record) -> float:
        """The mean return of its test episodes, on the scale of its task if all tasks have one."""
        scale = self.scale(record.task) if self.is_scaled else None
        return record.score if scale is None else (record.score - scale[0]) / (scale[1] - scale[0])

    def strata(self, agent: str) -> Strata:
        """For each task the scores of an agent's runs."""
        return [np.array([self.score(record) for record in self.of(agent, task)]) for task in self.tasks]

    def matrix(self, agent: str) -> list[list[float]]:
        """Scores [runs, tasks] of the seeds that an agent has on every task, in the form that rliable reads."""
        by_seed = [{record.seed: self.score(record) for record in self.of(agent, task)} for task in self.tasks]
        seeds = sorted(set.intersection(*(set(scores) for scores in by_seed)))
        return [[scores[seed] for scores in by_seed] for seed in seeds]

    # --- estimates ---

    def measures(self) -> dict[str, dict[str, Estimate]]:
        """IQM, mean and, on scales, the optimality gap of each agent over all tasks."""
        statistics: dict[str, Statistic] = {"IQM": interquartile_mean, "mean": lambda scores: scores.mean(axis=-1)}
        if self.is_scaled:
            statistics["optimality gap"] = optimality_gap
        return {
            name: {agent: estimate(self.strata(agent), statistic) for agent in self.whole}
            for name, statistic in statistics.items()
        }

    def improvements(self) -> dict[tuple[str, str], Estimate]:
        """P(X > Y) of each pair of agents, the later one of the study first, because it is usually the newer idea."""
        pairs = {}
        for y, x in itertools.combinations(self.whole, 2):
            ours, theirs = self.strata(x), self.strata(y)
            value = float(probability_of_improvement(ours, theirs))
            pairs[x, y] = Estimate(value, *interval_of_improvement(ours, theirs))
        return pairs

    # --- curves ---

    @property
    def window(self) -> int:
        """Episodes per point of a curve: a tenth of the shortest run's, at most a hundred."""
        return max(1, min(RECENT, min(len(record.returns) for record in self.records) // 10))

    def curves(self) -> dict[str, dict[str, Band]]:
        """Task -> agent -> the training return over env steps, as the IQM of its runs, up to the end of the shortest
        run.
        """
        return {
            task: {agent: self._curve(runs) for agent in self.agents if (runs := self.of(agent, task))}
            for task in self.tasks
        }

    def _curve(self, runs: Sequence[Record]) -> Band:
        first, last = max(run.env_step[0] for run in runs), min(run.env_step[-1] for run in runs)
        x = np.linspace(first, max(first, last), POINTS)
        # Between the ends of two episodes the mean is that of the earlier one.
        returns = np.array(
            [moving_mean(run.returns, self.window)[np.searchsorted(run.env_step, x, side="right") - 1] for run in runs]
        )
        low, high = np.transpose([confidence_interval([scores]) for scores in returns.T])
        return Band(x, interquartile_mean(returns.T), low, high)


def estimate(strata: Strata, statistic: Statistic = interquartile_mean) -> Estimate:
    """A statistic of all scores, and its interval."""
    return Estimate(float(statistic(np.concatenate(strata))), *confidence_interval(strata, statistic))
