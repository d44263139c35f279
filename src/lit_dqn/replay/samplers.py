from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class Sampler(ABC):
    """Chooses the transitions of a batch."""

    random = True
    """Whether two batches from the same starts differ."""

    is_rollout = False
    """Whether it learns only from the newest steps, in a separate store (`Rollout`)."""

    def least_capacity(self, num_envs: int, n_step: int) -> int:
        """Timesteps of so many envs that a replay must have room for, whatever is in it."""
        return 1

    @abstractmethod
    def sample(self, starts: range, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """`batch_size` numbers from `starts`, as [batch_size]."""

    def sample_many(
        self, starts: range, count: int, batch_size: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """The numbers of `count` batches, as [count, batch_size]; by default from `count` calls of `sample`."""
        return np.stack([self.sample(starts, batch_size, generator) for _ in range(count)])


class PrioritySampler(Sampler):
    """Chooses by priorities, which updates return; it stores one for each start of one replay.

    Its state is in `arrays`, which are saved with the replay and rewritten each time.
    """

    @abstractmethod
    def for_replay(self, capacity: int) -> Self:
        """A new sampler with the same settings for an empty replay with `capacity` starts."""

    @abstractmethod
    def bytes_for(self, capacity: int) -> int:
        """Its memory for a replay with `capacity` starts, in bytes."""

    @abstractmethod
    def weight(self, start: NDArray[np.int64], env_step: int) -> NDArray[np.float32]:
        """The importance weights of the last draw.

        Args:
            start: [K, B], from `sample_many`.
            env_step: env steps played so far, the clock of schedules.

        Returns:
            [K, B].

        """

    @abstractmethod
    def settle(self, start: NDArray[np.int64], priority: NDArray[np.float32]) -> None:
        """Take the new priorities of starts from the updates.

        Args:
            start: [K, B], drawn before; some may have been overwritten since.
            priority: [K, B], in the order of the updates; if a start occurs twice, the last one counts.

        """

    @abstractmethod
    def follow(self, starts: range) -> None:
        """Update the set of starts."""

    @property
    @abstractmethod
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """Its whole state, by the names under which it is saved."""

    @abstractmethod
    def take_up(self, starts: range) -> None:
        """Continue with `arrays` after the saved ones of a replay with these starts were copied into them.

        Raises:
            ValueError: if they are invalid.

        """


class Uniform(Sampler):
    """Every start with the same probability.

    Args:
        replacement: whether one batch may hold a transition twice. Without replacement, as in the lesson, there must be
            at least `batch_size` starts.

    """

    def __init__(self, replacement: bool = False) -> None:
        self.replacement = replacement

    def sample(self, starts: range, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """[batch_size], in random order.

        Raises:
            ValueError: without replacement, if there are fewer starts than `batch_size`.

        """
        if self.replacement:
            return generator.integers(starts.start, starts.stop, size=batch_size)
        return starts.start + generator.choice(len(starts), size=batch_size, replace=False)

    def sample_many(
        self, starts: range, count: int, batch_size: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """As for any sampler; with replacement a single draw gives the same numbers as `count` draws."""
        if self.replacement:
            return generator.integers(starts.start, starts.stop, size=(count, batch_size))
        return super().sample_many(starts, count, batch_size, generator)


class Latest(Sampler):
    """The newest starts, in the order in which they were played: the lesson's `rndbatch=False`."""

    random = False

    def sample(self, starts: range, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """[batch_size], oldest first.

        Raises:
            ValueError: if there are fewer starts than `batch_size`.

        """
        if len(starts) < batch_size:
            raise ValueError(f"cannot take the latest {batch_size} of {len(starts)} starts")
        return np.arange(starts.stop - batch_size, starts.stop)
