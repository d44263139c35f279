"""Implicit quantiles."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.losses import masked, munchausen_bonus, quantile_huber, select, soft_value
from lit_dqn.learning.networks import ImplicitQuantileHead
from lit_dqn.learning.objectives.munchausen import Munchausen
from lit_dqn.learning.objectives.objective import Conservative, Objective, head_of, observation_after
from lit_dqn.types import Batch, LossOutput


@dataclass(frozen=True)
class ImplicitQuantileLearning(Conservative, Objective):
    """IQN: moves the quantile function at drawn levels towards R + discount * the target network's at other drawn
    levels.

    Dabney et al. 2018, "Implicit quantile networks", algorithm 1, with a* = argmax_a Q(s', a), where Q are the means
    over fixed levels with which the agent also acts. With `munchausen` it is M-IQN (Vieillard et al. 2020). The network
    has an `ImplicitQuantileHead`.

    Args:
        num_samples: N, levels at (s, a).
        num_target_samples: N', levels at (s', a*).
        huber_delta: κ of the quantile Huber loss.
        double: let the online network select the action at s' (van Hasselt et al. 2016).
        munchausen: add its bonus to the reward, and use the mean over its soft policy at s'.
        conservative: α of CQL(H), as for `QLearning`; Q are the means over the drawn levels.

    Raises:
        ConfigError: if a value is out of its range, or the network has no `ImplicitQuantileHead`.

    """

    num_samples: int = 64
    num_target_samples: int = 64
    huber_delta: float = 1.0
    double: bool = False
    munchausen: Munchausen | None = None

    def __post_init__(self) -> None:
        for key in ("num_samples", "num_target_samples"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}: {getattr(self, key)} must be at least 1.")
        if not self.huber_delta > 0:
            raise ConfigError(f"huber_delta: {self.huber_delta} must be positive.")
        self.check_conservative()
        if self.double and self.munchausen is not None:
            raise ConfigError(
                "double: true picks one action at s', and munchausen takes the mean over a policy; set "
                "--model.objective.double false."
            )

    @property
    def draws(self) -> int:
        """N + N'."""
        return self.num_samples + self.num_target_samples

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics; `batch.uniform` [B, N + N'] holds the levels."""
        features, head = head_of(online, ImplicitQuantileHead, self, batch.observation)
        target_features, target_head = head_of(target, ImplicitQuantileHead, self, batch.observation)
        assert batch.uniform is not None
        levels, target_levels = batch.uniform.split([self.num_samples, self.num_target_samples], dim=1)

        theta_tm1 = head.quantiles(features(batch.observation), levels)
        with torch.no_grad():
            next_observation = observation_after(batch, self)
            seen = target_features(next_observation)
            theta_t = target_head.quantiles(seen, target_levels)
            if self.munchausen is not None:
                q_tm1 = masked(target(batch.observation), batch.action_mask)
                q_t = masked(target_head.q_values(seen), batch.next_action_mask)
                reward, sampled = self._soft(self.munchausen, batch, q_tm1, q_t, theta_t)
            else:
                q_t = online(next_observation) if self.double else target_head.q_values(seen)
                best = masked(q_t, batch.next_action_mask).argmax(dim=1)
                reward, sampled = batch.reward, select(theta_t, best)
            y = reward.unsqueeze(1) + batch.discount.unsqueeze(1) * sampled
        chosen = select(theta_tm1, batch.action)
        size = (y.mean(dim=1) - chosen.detach().mean(dim=1)).abs()
        metrics = {"q_value": theta_tm1.detach().mean(), "td_error": size.mean()}
        loss = quantile_huber(chosen, y, self.huber_delta, levels)
        return LossOutput(*self.conserve(loss, metrics, theta_tm1.mean(dim=2), batch), size)

    @staticmethod
    def _soft(
        munchausen: Munchausen, batch: Batch, q_tm1: Tensor, q_t: Tensor, theta_t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The reward with its bonus, [B], and the returns at s' minus τ ln π, averaged over the policy, [B, N']."""
        tau = munchausen.temperature
        bonus = munchausen_bonus(q_tm1, batch.action, tau, munchausen.lowest)
        policy = (q_t / tau).softmax(dim=1)
        log_policy = q_t - soft_value(q_t, tau).unsqueeze(1)  # τ ln π(a|s')
        soft = (policy.unsqueeze(2) * (theta_t - log_policy.unsqueeze(2))).sum(dim=1)
        return batch.reward + munchausen.alpha * bonus, soft
