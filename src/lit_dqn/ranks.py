"""The processes of one run, which Lightning calls ranks, and their communication."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lit_dqn.errors import ConfigError, TrainingError

T = TypeVar("T")

SHARED_ERRORS = (OSError, ConfigError, TrainingError)
"""Errors of one process after which the others continue, or end with the same sentence."""

LOST = "another process of this run has ended or cannot be reached, so this one ends, too; its message tells why."


class Ranks:
    """One of several processes, all of which call the same methods in the same order; a single process communicates
    with nobody.

    Args:
        rank: the number of this process, from 0.
        count: of all processes, a power of two.

    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @classmethod
    def now(cls) -> "Ranks":
        """The processes that are connected at the moment."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def shards(self, count: int) -> range:
        """The numbers of the shards of this process, out of `shards`."""
        each = count // self.count
        return range(self.rank * each, (self.rank + 1) * each)

    def gather(self, thing: T) -> list[T]:
        """The values of all processes, in the order of their ranks.

        Raises:
            TrainingError: if a process is gone.

        """
        if self.count == 1:
            return [thing]
        found: list[Any] = [None] * self.count
        _communicate(lambda: dist.all_gather_object(found, thing))
        return found

    def highest(self, number: int) -> int:
        """The highest of the numbers of all processes.

        Raises:
            TrainingError: if a process is gone.

        """
        if self.count == 1:
            return number
        highest = torch.tensor([number])
        _communicate(lambda: dist.all_reduce(highest, dist.ReduceOp.MAX))
        return int(highest)

    def together(self, do: Callable[[], T]) -> T:
        """Call a function in each process; if one of them fails with one of `SHARED_ERRORS`, all raise that error.

        Raises:
            OSError, ConfigError, TrainingError: the error of the first process that failed.
            TrainingError: if a process is gone.

        """
        if self.count == 1:
            return do()
        result, own = None, None
        try:
            result = do()
        except SHARED_ERRORS as error:
            own = error
        failed = next((error for error in self.gather(own) if error is not None), None)
        if failed is not None:
            raise failed from own
        return result  # type: ignore[return-value]

    def on_first(self, do: Callable[[], T]) -> T:
        """Call a function in the first process, and return its result in all.

        Raises:
            OSError, ConfigError, TrainingError: if it failed with that.
            TrainingError: if a process is gone.

        """
        if self.count == 1:
            return do()
        result = self.together(lambda: do() if self.rank == 0 else None)
        return self.gather(result)[0]  # type: ignore[return-value]

    def add_up(self, part: Tensor) -> Tensor:
        """The sum of a tensor over all processes, neighbours first, with the same bits in all of them.

        Two processes exchange their tensors, then pairs of pairs, and so on. Because a + b = b + a, all processes
        compute the same tree of sums; each process has already added the lower branches by itself.

        Raises:
            TrainingError: if a process is gone.

        """
        distance = 1
        while distance < self.count:
            other, peer = torch.empty_like(part), self.rank ^ distance
            _communicate(lambda part=part, other=other, peer=peer: _swap(part, other, peer))  # type: ignore[misc]
            part = part + other
            distance *= 2
        return part

    def all_reduce(self, part: Tensor) -> Tensor:
        """The sum of a tensor over all processes, by one all-reduce, which overwrites it.

        The backend chooses the order of the sum, which depends on the number of processes.

        Raises:
            TrainingError: if a process is gone.

        """
        if self.count > 1:
            _communicate(lambda: dist.all_reduce(part))
        return part


def tree_sum(parts: Sequence[Tensor]) -> Tensor:
    """The sum of 2^k tensors, neighbours first: float sums depend on the order, and this order is the same everywhere.

    Any aligned group of 2^j tensors forms one branch of the tree, so processes can add their own tensors first.
    """
    sums = list(parts)
    while len(sums) > 1:
        sums = [left + right for left, right in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]


def _swap(mine: Tensor, other: Tensor, peer: int) -> None:
    for work in dist.batch_isend_irecv([dist.P2POp(dist.isend, mine, peer), dist.P2POp(dist.irecv, other, peer)]):
        work.wait()


def _communicate(tell: Callable[[], Any]) -> None:
    try:
        tell()
    except RuntimeError as error:
        raise TrainingError(LOST) from error
