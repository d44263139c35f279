"""What others have played, which a replay can be filled with before learning begins."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from gymnasium.vector import VectorEnv
from numpy.typing import DTypeLike

from lit_dqn.types import Timestep


class Task(NamedTuple):
    """What demonstrations are to show: the env as the learner has it, in as many columns as its replay."""

    env_id: str
    frame_shape: tuple[int, ...]  # of one frame
    frame_dtype: DTypeLike
    observation_shape: tuple[int, ...] | dict[str, Any]  # frames stacked; of parts `Parts.described`
    num_actions: int
    num_envs: int
    frame_stack: int
    action_mask: bool
    seed: int  # of the run
    make_envs: Callable[[], VectorEnv]  # as many as `num_envs`, which whoever asks for them closes


class Demonstrations(ABC):
    """Timesteps that others have played. Where they come from is needed once, before the first update of a run."""

    @abstractmethod
    def check(self, task: Task) -> int:
        """How many timesteps there are, over all envs, without playing or reading them.

        Args:
            task: of the learner.

        Raises:
            ConfigError: if they cannot be had, or are of another task.

        """

    @abstractmethod
    def timesteps(self, task: Task, number: int) -> Iterator[Timestep]:
        """Step by step, of all envs at once; each begins with an episode of its own.

        Args:
            task: of the learner.
            number: of these demonstrations among those of the run, from 0; what they draw follows from it.

        Yields:
            Timesteps whose arrays are good until the next one.

        Raises:
            ConfigError: as of `check`.

        """
