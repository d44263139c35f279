"""How Q(s, a) follows from a network's outputs: one for each action, or for each choice of each part of an action."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_dqn.branches import Branches
from lit_dqn.learning.losses import conservative_penalty, q_learning_td_error, select, td_target
from lit_dqn.types import Batch


class ActionValues:
    """Q(s, ·) is the outputs themselves, [B, A]."""

    def of(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Q(s, a) of actions [B], as [B]."""
        return select(outputs, action)

    def mean(self, outputs: Tensor) -> Tensor:
        """The mean of Q over the batch and all actions."""
        return outputs.mean()

    def td_error(self, q_tm1: Tensor, batch: Batch, q_t_value: Tensor, q_t_selector: Tensor) -> Tensor:
        """The TD error, [B], with the arguments of `q_learning_td_error`."""
        return q_learning_td_error(q_tm1, batch, q_t_value, q_t_selector)

    def conservative_penalty(self, outputs: Tensor, batch: Batch) -> Tensor:
        """CQL(H), ln Σ_a exp Q(s, a) - Q(s, a_data), [B]."""
        return conservative_penalty(outputs, batch.action, batch.action_mask)


class BranchValues(ActionValues):
    """Q(s, a) = mean over the parts i of Q_i(s, a_i), and the outputs are all Q_i(s, ·), one part after the other.

    Seyde et al. 2023, "Solving continuous control via Q-learning", eq. 3. The best action consists of the best choice
    of each part, so a maximum over all combinations costs as much as one over the choices. Masks are not supported.

    Args:
        branches: the parts.

    """

    def __init__(self, branches: Branches) -> None:
        self._choices = branches.choices

    def of(self, outputs: Tensor, action: Tensor) -> Tensor:
        """[B]."""
        return mean_over_parts(outputs, columns_of(action, self._choices))

    def mean(self, outputs: Tensor) -> Tensor:
        """The mean over all combinations, which is the mean of the parts' means."""
        return torch.stack([part.mean() for part in outputs.split(self._choices, dim=1)]).mean()

    def td_error(self, q_tm1: Tensor, batch: Batch, q_t_value: Tensor, q_t_selector: Tensor) -> Tensor:
        """[B]."""
        picked = mean_over_parts(q_t_value, best_columns(q_t_selector, self._choices))
        return td_target(batch.reward, batch.discount, picked).detach() - self.of(q_tm1, batch.action)

    def conservative_penalty(self, outputs: Tensor, batch: Batch) -> Tensor:
        """[B]; a sum of exponentials over all combinations is the product of those over each part's choices."""
        parts = outputs.split(self._choices, dim=1)
        whole = torch.stack([(part / len(parts)).logsumexp(dim=1) for part in parts]).sum(dim=0)
        return whole - self.of(outputs, batch.action)


def columns_of(action: Tensor, choices: Sequence[int]) -> Tensor:
    """Where the values of the parts of actions are among the outputs.

    Args:
        action: [B] int64, numbers of combinations; the last part counts fastest.
        choices: the number of choices of each of k parts.

    Returns:
        [B, k].

    """
    columns, end = [], sum(choices)
    for count in reversed(choices):
        end -= count
        columns.append(action % count + end)
        action = action // count
    return torch.stack(columns[::-1], dim=1)


def best_columns(outputs: Tensor, choices: Sequence[int]) -> Tensor:
    """Where the highest value of each of k parts is among the outputs [B, sum of choices], as [B, k]."""
    columns, start = [], 0
    for part in outputs.split(list(choices), dim=1):
        columns.append(part.argmax(dim=1) + start)
        start += part.shape[1]
    return torch.stack(columns, dim=1)


def mean_over_parts(outputs: Tensor, columns: Tensor) -> Tensor:
    """The mean of some outputs of each row (Seyde et al. 2023, eq. 3).

    Args:
        outputs: [B, sum of choices].
        columns: [B, k], one of each part.

    Returns:
        [B].

    """
    return outputs.gather(1, columns).mean(dim=1)
