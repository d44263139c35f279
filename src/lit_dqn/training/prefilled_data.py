"""Filling the replay before learning begins: once, at the start of a run."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from lit_dqn.errors import ConfigError
from lit_dqn.parts import Parts
from lit_dqn.playing.demonstrations import Demonstrations, Task
from lit_dqn.replay import ShardedReplay
from lit_dqn.training.played_data import OneStore, PlayedData
from lit_dqn.types import Timestep

log = logging.getLogger("lit_dqn")


class PrefilledData(PlayedData):
    """Data whose replay may hold demonstrations before the agent's first step."""

    prefill: Sequence[Demonstrations]
    env_steps_per_update: int
    observation_shape: tuple[int, ...] | dict[str, Any]
    parts: Parts | None

    @property
    def task(self) -> Task:
        """What demonstrations must match."""
        return Task(
            env_id=self.env_id,
            frame_shape=self._frame_shape,
            frame_dtype=self._frame_dtype,
            observation_shape=self.observation_shape,
            num_actions=self.num_combinations,
            num_envs=self.num_envs,
            frame_stack=self.frame_stack,
            action_mask=self.action_mask,
            seed=self.seed,
            make_envs=partial(self._make_vec, self.num_envs),
        )

    def check_prefill(self) -> int:
        """Refuse demonstrations that are not available or do not fit; a resumed run does not need them.

        Returns:
            Their number of timesteps.

        Raises:
            ConfigError: names a remedy.

        """
        count = sum(demonstrations.check(self.task) for demonstrations in self.prefill)
        if count > self.capacity:
            raise ConfigError(
                f"capacity: a replay of {self.capacity} timesteps cannot hold the {count} of prefill; set "
                f"--data.capacity {count}, or prefill fewer."
            )
        self._check_enough(count)
        return count

    def _check_enough(self, count: int) -> None:
        if self.env_steps_per_update == 0 and count < self.min_replay_size:
            smaller = f" --data.batch_size {count}" if count < self.batch_size else ""
            raise ConfigError(
                f"min_replay_size: the first update needs {self.min_replay_size} timesteps, but prefill has {count}, "
                f"and nothing is played; set --data.min_replay_size {count}{smaller}."
            )

    def fill(self, store: OneStore | ShardedReplay) -> None:
        """Fill a store with the demonstrations, in their order, with every episode ended, up to its capacity.

        Args:
            store: of this process's shards, which take their part of all envs.

        Raises:
            ConfigError: if they are not available, or too few for offline learning.

        """
        stores = store.replays if isinstance(store, ShardedReplay) else {0: store}
        self.prefilled = 0
        for number, demonstrations in enumerate(self.prefill):
            returns: list[float] = []
            total = np.zeros(self.num_envs)
            for timestep in self._as_fits(demonstrations, number):
                parts = _parts(timestep, self.shards)
                for shard, one in stores.items():
                    one.add(parts[shard])
                self.prefilled += self.num_envs
                total += timestep.reward
                returns += total[timestep.last].tolist()
                total[timestep.last] = 0
            for one in stores.values():
                one.cut_episodes()  # the next step belongs to another player's episode
            mean = f", mean return {np.mean(returns):,.1f}" if returns else ""
            log.info(
                "prefill: %s, %s timesteps in all, %s episodes to their end%s",
                type(demonstrations).__name__,
                f"{self.prefilled:,}",
                f"{len(returns):,}",
                mean,
            )
        self._check_enough(self.prefilled)

    def _as_fits(self, demonstrations: Demonstrations, number: int) -> Iterator[Timestep]:
        """Number of timesteps of demonstrations while the replay has overwritten none of them."""
        if self.prefilled + self.num_envs > self.capacity:
            return
        for timestep in demonstrations.timesteps(self.task, number):
            yield timestep
            if self.prefilled + self.num_envs > self.capacity:
                return


def _parts(timestep: Timestep, shards: int) -> list[Timestep]:
    """Split a timestep of all envs into those of the envs of each shard."""
    if shards == 1:
        return [timestep]
    given = {name: array for name, array in timestep._asdict().items() if array is not None}
    columns = {name: np.split(array, shards) for name, array in given.items()}
    return [Timestep(**{name: column[shard] for name, column in columns.items()}) for shard in range(shards)]
