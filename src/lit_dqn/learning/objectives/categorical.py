"""Distributions over a fixed support, learned by classification."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.graphs import side_by_side
from lit_dqn.learning.losses import gaussian_histogram, masked, project, select, td_target
from lit_dqn.learning.networks import CategoricalHead, expectation
from lit_dqn.learning.objectives.objective import Objective, head_of, observation_after, without_gradient
from lit_dqn.types import Batch, LossOutput


class CategoricalTarget(ABC):
    """The target distribution of a categorical head."""

    @abstractmethod
    def distribution(self, batch: Batch, next_probabilities: Tensor, support: Tensor) -> Tensor:
        """The distribution [B, N] of the return of (s, a).

        Args:
            batch: rewards and discounts.
            next_probabilities: [B, N], of the return of (s', a*).
            support: [N].

        """


@dataclass(frozen=True)
class C51(CategoricalTarget):
    """The whole distribution at s', shrunk and shifted, and projected onto the support (Bellemare et al. 2017)."""

    def distribution(self, batch: Batch, next_probabilities: Tensor, support: Tensor) -> Tensor:
        """[B, N]."""
        returns = batch.reward.unsqueeze(1) + batch.discount.unsqueeze(1) * support
        return project(next_probabilities, returns, support)


@dataclass(frozen=True)
class HLGauss(CategoricalTarget):
    """A normal distribution around the TD target y = R + discount * Q(s', a*) (Farebrother et al. 2024, "HL-Gauss").

    Args:
        sigma: its standard deviation, in units of the distance between atoms.

    Raises:
        ConfigError: if it is not positive.

    """

    sigma: float = 0.75

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ConfigError(f"sigma: {self.sigma} must be positive.")

    def distribution(self, batch: Batch, next_probabilities: Tensor, support: Tensor) -> Tensor:
        """[B, N]."""
        y = td_target(batch.reward, batch.discount, expectation(next_probabilities, support))
        return gaussian_histogram(y, support, self.sigma)


@dataclass(frozen=True)
class CategoricalQLearning(Objective):
    """Cross-entropy between a target from (s', a*) and the distribution of the return at (s, a).

    a* = argmax_a Q(s', a) by the target network, or, with `double`, by the online network. The network has a
    `CategoricalHead`.

    Args:
        target: which distribution is learned, `C51` or `HLGauss`.
        double: let the online network select the action at s' (van Hasselt et al. 2016).

    Raises:
        ConfigError: if the network has no `CategoricalHead`.

    """

    target: CategoricalTarget = C51()
    double: bool = False

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, its metrics, and the Kullback-Leibler divergence as priority."""
        logits_of, support = self._logits_of(online, batch)
        target_logits_of, _ = self._logits_of(target, batch)
        graders = [target_logits_of, logits_of] if self.double else [target_logits_of]
        logits_tm1, *logits_t = side_by_side(
            batch.reward.device,
            partial(logits_of, batch.observation),
            *(partial(without_gradient, grader, observation_after(batch, self)) for grader in graders),
        )
        with torch.no_grad():
            best = masked(expectation(logits_t[-1].softmax(dim=2), support), batch.next_action_mask).argmax(dim=1)
            goal = self.target.distribution(batch, select(logits_t[0], best).softmax(dim=1), support)
        log_probabilities = select(logits_tm1, batch.action).log_softmax(dim=1)
        loss = -(goal * log_probabilities).sum(dim=1)
        with torch.no_grad():
            td_error = expectation(goal, support) - expectation(log_probabilities.exp(), support)
            q_tm1 = expectation(logits_tm1.softmax(dim=2), support)
            metrics = {"q_value": q_tm1.mean(), "td_error": td_error.abs().mean()}
            priority = (loss + torch.xlogy(goal, goal).sum(dim=1)).clamp(min=0)
        return LossOutput(loss, metrics, priority)

    def _logits_of(self, network: nn.Module, batch: Batch) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        features, head = head_of(network, CategoricalHead, self, batch.observation)
        return lambda observation: head.logits(features(observation)), head.support(batch.reward)
