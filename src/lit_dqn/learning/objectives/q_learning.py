"""Q-learning and Double Q-learning."""

import copy
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self

from torch import Tensor, nn

from lit_dqn.branches import Branches
from lit_dqn.learning.action_values import ActionValues, BranchValues
from lit_dqn.learning.graphs import side_by_side
from lit_dqn.learning.objectives.objective import Conservative, Objective, OfTDErrors, without_gradient
from lit_dqn.types import Batch, LossOutput


@dataclass(frozen=True)
class _OfActionValues(Conservative, OfTDErrors, Objective):
    """The TD error of Q(s, a); subclasses define which network selects the action at s'.

    Args:
        huber_delta: where the loss turns from square to linear: 1 clips the TD error's gradient to [-1, 1]
            (Mnih et al. 2015). None: squared error everywhere.
        conservative: α of CQL(H): α (ln Σ_a exp Q(s, a) - Q(s, a_data)) is added to the loss (Kumar et al. 2020, eq.
            4), for offline learning.

    Raises:
        ConfigError: if `huber_delta` is not positive, or `conservative` is negative.

    """

    _values: ClassVar[ActionValues] = ActionValues()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_conservative()

    def of_branches(self, branches: Branches) -> Self:
        """The same rule, where Q(s, a) is the mean of the values of its parts' choices."""
        own = copy.copy(self)
        object.__setattr__(own, "_values", BranchValues(branches))
        return own

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""
        if batch.next_observation is None:
            return self._towards_returns(online, batch)
        selector = self.selector(online, target)
        graders = [target] if selector is target else [target, selector]
        q_tm1, *q_t = side_by_side(
            batch.reward.device,
            partial(online, batch.observation),
            *(partial(without_gradient, grader, batch.next_observation) for grader in graders),
        )
        return self._output(q_tm1, batch, self._values.td_error(q_tm1, batch, q_t_value=q_t[0], q_t_selector=q_t[-1]))

    def _towards_returns(self, online: nn.Module, batch: Batch) -> LossOutput:
        """For a batch whose rewards are complete returns: no network evaluates s'."""
        q_tm1 = online(batch.observation)
        return self._output(q_tm1, batch, batch.reward - self._values.of(q_tm1, batch.action))

    def _output(self, q_tm1: Tensor, batch: Batch, td_error: Tensor) -> LossOutput:
        size = td_error.detach().abs()
        metrics = {"q_value": self._values.mean(q_tm1.detach()), "td_error": size.mean()}
        return LossOutput(*self.conserve(self.loss(td_error), metrics, q_tm1, batch), size)

    def penalty(self, q_values: Tensor, batch: Batch) -> Tensor:
        """CQL's regulariser, [B]."""
        return self._values.conservative_penalty(q_values, batch)

    @abstractmethod
    def selector(self, online: nn.Module, target: nn.Module) -> nn.Module:
        """The network that selects the action at s'."""


class QLearning(_OfActionValues):
    """y = R + discount * max_a Q_target(s', a) (Mnih et al. 2015): the target network selects and evaluates."""

    def selector(self, online: nn.Module, target: nn.Module) -> nn.Module:
        """The target network itself."""
        return target


class DoubleQLearning(_OfActionValues):
    """y = R + discount * Q_target(s', argmax_a Q_online(s', a)) (van Hasselt et al. 2016, eq. 4)."""

    def selector(self, online: nn.Module, target: nn.Module) -> nn.Module:
        """The online network."""
        return online
