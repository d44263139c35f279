"""Demonstrations: steps of other players, with which a replay can be filled before learning begins."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gymnasium.vector import VectorEnv
from numpy.typing import DTypeLike

from lit_dqn.types import Timestep


class Task(NamedTuple):
    """What demonstrations must match: the learner's env, and the number of columns of its replay."""

    env_id: str
    frame_shape: tuple[int, ...]  # of one frame
    frame_dtype: DTypeLike
    observation_shape: tuple[int, ...] | dict[str, Any]  # frames stacked; for several parts `Parts.described`
    num_actions: int
    num_envs: int
    frame_stack: int
    action_mask: bool
    seed: int  # of the run
    make_envs: Callable[[], VectorEnv]  # `num_envs` envs; the caller closes them


class Demonstrations(ABC):
    """Timesteps of other players. Their source is needed only once, before the first update of a run."""

    @abstractmethod
    def check(self, task: Task) -> int:
        """The number of timesteps, over all envs, without playing or reading them.

        Args:
            task: of the learner.

        Raises:
            ConfigError: if they are not available, or belong to another task.

        """

    @abstractmethod
    def timesteps(self, task: Task, number: int) -> Iterator[Timestep]:
        """The timesteps of all envs, step by step; each env starts with a new episode.

        Args:
            task: of the learner.
            number: of these demonstrations among those of the run, from 0; it determines their random numbers.

        Yields:
            Timesteps whose arrays are valid until the next one.

        Raises:
            ConfigError: as for `check`.

        """
