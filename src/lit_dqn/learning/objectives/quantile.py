"""Quantile regression."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.graphs import side_by_side
from lit_dqn.learning.losses import masked, quantile_huber, select
from lit_dqn.learning.networks import QuantileHead
from lit_dqn.learning.objectives.objective import Conservative, Objective, head_of, observation_after, without_gradient
from lit_dqn.saving.specification import specification
from lit_dqn.types import Batch, LossOutput


@dataclass(frozen=True)
class QuantileRegression(Conservative, Objective):
    """Learns the quantiles of the return: moves each θ(s, a) towards R + discount * θ_target(s', a*).

    a* = argmax_a of the mean of θ_target(s', a) (Dabney et al. 2018, algorithm 1). The network has a
    `QuantileHead`, or is a `QuantileNetwork`.

    Args:
        huber_delta: κ of the quantile Huber loss (eq. 10).
        conservative: α of CQL(H), as for `QLearning`; Q are the means of the quantiles.

    Raises:
        ConfigError: if `huber_delta` is not positive, `conservative` is negative, or the network has no quantiles.

    """

    huber_delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.huber_delta > 0:
            raise ConfigError(f"huber_delta: {self.huber_delta} must be positive.")
        self.check_conservative()

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""
        quantiles_tm1, quantiles_t = (self._quantiles_of(network, batch.observation) for network in (online, target))
        theta_tm1, theta_t = side_by_side(
            batch.reward.device,
            partial(quantiles_tm1, batch.observation),
            partial(without_gradient, quantiles_t, observation_after(batch, self)),
        )
        chosen = select(theta_tm1, batch.action)
        with torch.no_grad():
            sampled = select(theta_t, masked(theta_t.mean(dim=2), batch.next_action_mask).argmax(dim=1))
            y = batch.reward.unsqueeze(1) + batch.discount.unsqueeze(1) * sampled
        size = (y.mean(dim=1) - chosen.detach().mean(dim=1)).abs()
        metrics = {"q_value": theta_tm1.detach().mean(), "td_error": size.mean()}
        loss = quantile_huber(chosen, y, self.huber_delta)
        return LossOutput(*self.conserve(loss, metrics, theta_tm1.mean(dim=2), batch), size)

    def _quantiles_of(self, network: nn.Module, observation: Tensor) -> Callable[[Tensor], Tensor]:
        if not hasattr(network, "head"):
            class_path = specification(type(network))["class_path"]
            raise ConfigError(
                f"objective: QuantileRegression needs a network of quantiles, not {type(network).__name__}; put it "
                f"into one: --model.network lit_dqn.QuantileNetwork --model.network.network {class_path}."
            )
        features, head = head_of(network, QuantileHead, self, observation)
        return lambda seen: head.quantiles(features(seen))
