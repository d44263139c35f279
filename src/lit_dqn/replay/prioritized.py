from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.replay.samplers import PrioritySampler
from lit_dqn.replay.sum_tree import SumTree, tree_bytes
from lit_dqn.schedules import Constant, Schedule

SMALLEST = 1e-6
"""ε of Schaul et al. (2016), section 3.3: transitions with a TD error of 0 are still drawn sometimes."""


class Prioritized(PrioritySampler):
    """Proportional prioritisation: P(i) = p_i^α / Σ_k p_k^α with p = |δ| + ε (Schaul et al. 2016, section 3.3).

    Each batch draws one number from each of B equal parts of the sum (appendix B.2.1), with replacement. A new
    transition gets the highest priority so far, so that it is used soon (algorithm 1, line 6).

    The loss of a transition is weighted by w_i = (N P(i))^-β, divided by the largest weight of its batch (line 10,
    section 3.4).

    Args:
        alpha: α, the exponent of the priorities; 0 is uniform.
        beta: β, how much of the bias the weights correct, a number or a schedule over env steps; 1 corrects all of it.
            In the paper it goes from 0.4 to 1 over the run.

    Raises:
        ConfigError: if α or β is outside [0, 1].

    """

    def __init__(self, alpha: float = 0.6, beta: Schedule | float = 0.4) -> None:
        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha: {alpha} must lie in [0, 1]; 0 draws uniformly, and 0.6 is the paper's.")
        beta = Constant(beta) if isinstance(beta, int | float) else beta
        if not 0 <= min(beta.start, beta.end) <= max(beta.start, beta.end) <= 1:
            raise ConfigError(
                f"beta: from {beta.start} to {beta.end}, but it must stay in [0, 1]; 0 weighs all transitions alike, "
                "1 takes back the whole bias."
            )
        self.alpha = alpha
        self.beta = beta
        self._tree: SumTree | None = None
        self._known = range(0)  # starts with a leaf in the tree
        self._highest = np.ones(1, np.float32)  # highest leaf so far
        self._alpha_of_leaves = np.array([alpha], np.float64)

    def for_replay(self, capacity: int) -> Self:
        """A new sampler with the same settings for an empty replay."""
        own = type(self)(self.alpha, self.beta)
        own._tree = SumTree(capacity)
        return own

    def bytes_for(self, capacity: int) -> int:
        """Memory of the priorities and their sums, in bytes."""
        return tree_bytes(capacity)

    def sample(self, starts: range, batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """[batch_size], each start with the probability P(i)."""
        batch: NDArray[np.int64] = self.sample_many(starts, 1, batch_size, generator)[0]
        return batch

    def sample_many(
        self, starts: range, count: int, batch_size: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """As for any sampler, with the present priorities."""
        self.follow(starts)
        tree = self._own_tree
        parts = np.arange(batch_size) + generator.random((count, batch_size))
        places = tree.find(parts.reshape(-1) * (tree.total / batch_size))
        return (starts.start + (places - starts.start) % len(tree.leaves)).reshape(count, batch_size)

    def weight(self, start: NDArray[np.int64], env_step: int) -> NDArray[np.float32]:
        """[K, B], importance weights; the largest of each batch is 1."""
        leaves = self._leaves_of(start)
        # N and the sum of all priorities cancel out.
        ratio: NDArray[np.float32] = leaves.min(axis=-1, keepdims=True) / leaves
        return ratio ** np.float32(self.beta(env_step))

    def settle(self, start: NDArray[np.int64], priority: NDArray[np.float32]) -> None:
        """Set the priorities of starts that have not been overwritten.

        Raises:
            TrainingError: if a priority is negative or not finite.

        """
        start, priority = start.reshape(-1), priority.reshape(-1)
        if not 0 <= priority.min() <= priority.max() < np.inf:
            raise TrainingError(
                f"priorities from {priority.min()} to {priority.max()} came back for the sampler Prioritized; an "
                "objective's must be finite and not negative."
            )
        leaves = (priority + np.float32(SMALLEST)) ** np.float32(self.alpha)
        self._highest[0] = max(self._highest[0], leaves.max())
        kept = start >= self._known.start
        tree = self._own_tree
        tree.set(start[kept] % len(tree.leaves), leaves[kept])

    def follow(self, starts: range) -> None:
        """Remove overwritten starts, and give new ones the highest priority."""
        known, self._known = self._known, starts
        if starts == known:
            return
        gone = np.arange(known.start, min(starts.start, known.stop))
        new = np.arange(max(known.stop, starts.start), starts.stop)
        tree = self._own_tree
        # A new start may take the place of an overwritten one.
        values = np.repeat(np.array([0, self._highest[0]], np.float32), [len(gone), len(new)])
        tree.set(np.concatenate([gone, new]) % len(tree.leaves), values)

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """`priority`, p^α of the start at each place of the replay's ring buffer; `highest_priority`, the highest so
        far; `alpha`, with which both were computed.
        """
        return {"priority": self._own_tree.leaves, "highest_priority": self._highest, "alpha": self._alpha_of_leaves}

    def take_up(self, starts: range) -> None:
        """Continue with new contents of `arrays`; with another α than theirs, the priorities become p^α of this one.

        Raises:
            ValueError: if they are not valid priorities.

        """
        tree, highest = self._own_tree, self._highest[0]
        priority, alpha = self._leaves_of(np.arange(starts.start, starts.stop)), self._alpha_of_leaves[0]
        if not (0 < highest < np.inf and (priority > 0).all() and (priority <= highest).all() and 0 <= alpha <= 1):
            raise ValueError("its priorities are not positive, or above the highest, or alpha is not in [0, 1]")
        if alpha != self.alpha:
            # With α = 0 all leaves are 1, whatever p was: then all count as new.
            exponent = np.float32(self.alpha / alpha if alpha > 0 else 0)
            priority = priority**exponent
            self._highest[0], self._alpha_of_leaves[0] = highest**exponent, self.alpha
        tree.leaves.fill(0)
        tree.leaves[np.arange(starts.start, starts.stop) % len(tree.leaves)] = priority
        tree.rebuild()
        self._known = starts

    def _leaves_of(self, start: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._own_tree.leaves[start % len(self._own_tree.leaves)]

    @property
    def _own_tree(self) -> SumTree:
        if self._tree is None:
            raise ValueError("Prioritized draws from a replay of its own: for_replay(capacity) makes one for it")
        return self._tree
