from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class Sampler(ABC):
    """Chooses which transitions make a batch."""

    random = True
    """Whether two batches from the same starts differ."""

    is_rollout = False
    """Whether it learns from the newest steps alone, in a store of its own (`Rollout`)."""

    @abstractmethod
    def sample(self, starts: range, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """`batch_size` numbers out of `starts`, as [batch_size]."""

    def sample_many(
        self, starts: range, count: int, batch_size: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """The numbers of `count` batches, as [count, batch_size]; as a rule those of so many calls of `sample`."""
        return np.stack([self.sample(starts, batch_size, generator) for _ in range(count)])


class PrioritySampler(Sampler):
    """Chooses by priorities, which updates bring back; it keeps one for each start of one replay.

    What it keeps lies in `arrays`, which are saved with the replay, written anew each time.
    """

    @abstractmethod
    def for_replay(self, capacity: int) -> Self:
        """The same rule for a replay of so many starts, of which it knows nothing yet."""

    @abstractmethod
    def bytes_for(self, capacity: int) -> int:
        """Memory that it takes for a replay of so many starts, in bytes."""

    @abstractmethod
    def weight(self, start: NDArray[np.int64], env_step: int) -> NDArray[np.float32]:
        """The importance weights of what was just drawn.

        Args:
            start: [K, B], of `sample_many`.
            env_step: env steps played, by which schedules go.

        Returns:
            [K, B].

        """

    @abstractmethod
    def settle(self, start: NDArray[np.int64], priority: NDArray[np.float32]) -> None:
        """Take back what updates say of starts.

        Args:
            start: [K, B], drawn before; some may be gone since.
            priority: [K, B], in the order of the updates; of a start that comes twice the last one counts.

        """

    @abstractmethod
    def follow(self, starts: range) -> None:
        """Take note of which starts there are now."""

    @property
    @abstractmethod
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """All that it keeps, by the names under which it is saved."""

    @abstractmethod
    def take_up(self, starts: range) -> None:
        """Continue with `arrays` into which those of a replay with these starts were written.

        Raises:
            ValueError: if they cannot be its own.

        """


class Uniform(Sampler):
    """Every start with the same probability.

    Args:
        replacement: whether one batch may hold a transition twice. Without, as in the lesson, each batch needs
            at least as many starts as it has rows.

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
        """As of any sampler; with replacement one draw gives the same numbers as `count` of them."""
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
