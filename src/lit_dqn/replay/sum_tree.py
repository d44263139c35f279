import itertools

import numpy as np
from numpy.typing import NDArray

FANOUT = 32
"""Children of a node: four levels for a million leaves."""


class SumTree:
    """Non-negative numbers at `size` places, and their sums, for drawing places in proportion to the numbers.

    Each sum is computed from its children, from left to right, and never corrected by a difference. So it is a function
    of the leaves only, independent of the order of writes, and does not drift.

    Args:
        size: number of places.

    Attributes:
        leaves: [size] float32, a view; call `rebuild` after writing to it directly.

    """

    def __init__(self, size: int) -> None:
        leaves, *sums = _nodes(size)
        self._levels: list[NDArray[np.floating]] = [np.zeros((leaves, FANOUT), np.float32)]  # from the leaves upwards
        self._levels += [np.zeros((nodes, FANOUT), np.float64) for nodes in sums]
        self.leaves: NDArray[np.float32] = self._levels[0].reshape(-1)[:size]

    @property
    def total(self) -> float:
        """The sum of all leaves."""
        return float(_running_sums(self._levels[-1])[0, -1])

    def set(self, places: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Write values [M] at places [M]; if a place occurs twice, the last value counts."""
        self.leaves[places] = values
        self._add_up(np.unique(places // FANOUT))

    def rebuild(self) -> None:
        """Compute all sums from the leaves."""
        self._add_up(np.arange(len(self._levels[0])))

    def find(self, target: NDArray[np.float64]) -> NDArray[np.int64]:
        """The leaf on which each number falls if all leaves are laid end to end, in the order of their places.

        Args:
            target: [M], in [0, total].

        Returns:
            [M], places; never one whose leaf is 0, unless all are.

        """
        rows = np.arange(len(target))
        node = np.zeros(len(target), np.int64)
        for level in reversed(self._levels):
            sums = _running_sums(level[node])
            # Differences are rounded: a target must not fall beyond the last child.
            target = np.minimum(target, np.nextafter(sums[:, -1], 0))
            child = (sums[:, 1:] <= target[:, None]).sum(axis=1)
            target = target - sums[rows, child]
            node = node * FANOUT + child
        return node

    def _add_up(self, nodes: NDArray[np.int64]) -> None:
        """Update the sums above some leaf nodes, which are sorted."""
        for level, above in itertools.pairwise(self._levels):
            above.reshape(-1)[nodes] = _running_sums(level[nodes])[:, -1]
            nodes = np.unique(nodes // FANOUT)


def tree_bytes(size: int) -> int:
    """Memory of a tree with `size` places, in bytes."""
    leaves, *sums = _nodes(size)
    return FANOUT * (4 * leaves + 8 * sum(sums))


def _nodes(size: int) -> list[int]:
    """The number of nodes of each level, from the leaves upwards."""
    nodes = [-(-size // FANOUT)]
    while nodes[-1] > 1:
        nodes.append(-(-nodes[-1] // FANOUT))
    return nodes


def _running_sums(nodes: NDArray[np.floating]) -> NDArray[np.float64]:
    """[M, FANOUT + 1], the sum before each child, and at the end the total."""
    sums = np.zeros((len(nodes), FANOUT + 1))
    np.cumsum(nodes, axis=1, out=sums[:, 1:])
    return sums
