import itertools

import numpy as np
from numpy.typing import NDArray

FANOUT = 32
"""Children of a node: four levels for a million leaves."""


class SumTree:
    """Numbers at least 0, one at each of `size` places, and their sums: so places are drawn in proportion to them.

    A sum is always added up from below, from left to right, and never corrected by a difference. So it follows from the
    leaves alone, whatever was written in which order, and does not drift.

    Args:
        size: places.

    Attributes:
        leaves: [size] float32, a view; who writes to it directly calls `rebuild`.

    """

    def __init__(self, size: int) -> None:
        leaves, *sums = _nodes(size)
        self._levels: list[NDArray[np.floating]] = [np.zeros((leaves, FANOUT), np.float32)]  # from the leaves up
        self._levels += [np.zeros((nodes, FANOUT), np.float64) for nodes in sums]
        self.leaves: NDArray[np.float32] = self._levels[0].reshape(-1)[:size]

    @property
    def total(self) -> float:
        """The sum of all leaves."""
        return float(_running_sums(self._levels[-1])[0, -1])

    def set(self, places: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Write values [M] at places [M]; of those at the same place the last one stays."""
        self.leaves[places] = values
        self._add_up(np.unique(places // FANOUT))

    def rebuild(self) -> None:
        """Add up all leaves."""
        self._add_up(np.arange(len(self._levels[0])))

    def find(self, target: NDArray[np.float64]) -> NDArray[np.int64]:
        """On which leaf each number falls when all leaves lie end to end, in the order of their places.

        Args:
            target: [M], in [0, total].

        Returns:
            [M], places; never one whose leaf is 0, if any is above 0.

        """
        rows = np.arange(len(target))
        node = np.zeros(len(target), np.int64)
        for level in reversed(self._levels):
            sums = _running_sums(level[node])
            # Differences are rounded: a target must not come to lie behind the last child.
            target = np.minimum(target, np.nextafter(sums[:, -1], 0))
            child = (sums[:, 1:] <= target[:, None]).sum(axis=1)
            target = target - sums[rows, child]
            node = node * FANOUT + child
        return node

    def _add_up(self, nodes: NDArray[np.int64]) -> None:
        """The sums above some nodes of the leaves, which come in order."""
        for level, above in itertools.pairwise(self._levels):
            above.reshape(-1)[nodes] = _running_sums(level[nodes])[:, -1]
            nodes = np.unique(nodes // FANOUT)


def tree_bytes(size: int) -> int:
    """Memory of a tree of so many places, in bytes."""
    leaves, *sums = _nodes(size)
    return FANOUT * (4 * leaves + 8 * sum(sums))


def _nodes(size: int) -> list[int]:
    """How many nodes each level has, from the leaves up."""
    nodes = [-(-size // FANOUT)]
    while nodes[-1] > 1:
        nodes.append(-(-nodes[-1] // FANOUT))
    return nodes


def _running_sums(nodes: NDArray[np.floating]) -> NDArray[np.float64]:
    """[M, FANOUT + 1], what lies before each child, and at the end the sum."""
    sums = np.zeros((len(nodes), FANOUT + 1))
    np.cumsum(nodes, axis=1, out=sums[:, 1:])
    return sums
