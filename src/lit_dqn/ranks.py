"""The processes of one run, which Lightning calls ranks, and what they tell each other."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lit_dqn.errors import ConfigError, TrainingError

T = TypeVar("T")

SAID = (OSError, ConfigError, TrainingError)
"""What a process can fail with and the others go on after, or end with the same sentence."""

GONE = (
    "another process of this run has ended or cannot be reached, so this one ends, too; what that one said tells why."
)


class Ranks:
    """One process of several, all of which call the same methods in the same order; alone, it asks nobody.

    Args:
        rank: which one this is, from 0.
        count: of all, a power of two.

    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @classmethod
    def now(cls) -> "Ranks":
        """Those that are connected at the moment."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def shards(self, count: int) -> range:
        """The numbers of the shards that are here, of so many."""
        each = count // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def gather(self, thing: T) -> list[T]:
        """What each process has, in their order.

        Raises:
            TrainingError: if a process is gone.

        """
        if self.count == 1:
            return [thing]
        found: list[Any] = [None] * self.count
        _told(lambda: dist.all_gather_object(found, thing))
        return found

    def highest(self, number: int) -> int:
        """The highest of the numbers of all processes.

        Raises:
            TrainingError: if a process is gone.

        """
        if self.count == 1:
            return number
        highest = torch.tensor([number])
        _told(lambda: dist.all_reduce(highest, dist.ReduceOp.MAX))
        return int(highest)

    def together(self, do: Callable[[], T]) -> T:
        """Let each process do something; where one of them fails in a way that has a sentence, all raise that.

        Raises:
            OSError, ConfigError, TrainingError: that of the first process that failed.
            TrainingError: if a process is gone.

        """
        if self.count == 1:
            return do()
        result, own = None, None
        try:
            result = do()
        except SAID as error:
            own = error
        failed = next((error for error in self.gather(own) if error is not None), None)
        if failed is not None:
            raise failed from own
        return result  # type: ignore[return-value]

    def on_first(self, do: Callable[[], T]) -> T:
        """Let the first process do something, and all have what came out.

        Raises:
            OSError, ConfigError, TrainingError: if it failed with that.
            TrainingError: if a process is gone.

        """
        if self.count == 1:
            return do()
        result = self.together(lambda: do() if self.rank == 0 else None)
        return self.gather(result)[0]  # type: ignore[return-value]

    def add_up(self, part: Tensor) -> Tensor:
        """The sum of a tensor of each process, neighbours first, the same bits in all of them.

        Two processes tell each other what they have, then pairs of pairs, and so on: a + b is b + a, so all go up one
        tree, whose lower branches each process has added up by itself.

        Raises:
            TrainingError: if a process is gone.

        """
        distance = 1
        while distance < self.count:
            other, peer = torch.empty_like(part), self.rank ^ distance
            _told(lambda part=part, other=other, peer=peer: _swap(part, other, peer))  # type: ignore[misc]
            part = part + other
            distance *= 2
        return part


def tree_sum(parts: Sequence[Tensor]) -> Tensor:
    """The sum of 2^k tensors, each two neighbours first: floats depend on the order, and this is one for all.

    Any aligned 2^j of them add up among themselves, so processes that have some each can go on with their sums.
    """
    sums = list(parts)
    while len(sums) > 1:
        sums = [left + right for left, right in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


def _swap(mine: Tensor, other: Tensor, peer: int) -> None:
    for work in dist.batch_isend_irecv([dist.P2POp(dist.isend, mine, peer), dist.P2POp(dist.irecv, other, peer)]):
        work.wait()


def _told(tell: Callable[[], Any]) -> None:
    try:
        tell()
    except RuntimeError as error:
        raise TrainingError(GONE) from error
