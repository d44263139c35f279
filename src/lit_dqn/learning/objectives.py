"""One small object per published rule: what the networks should have said of a batch, as a loss per transition."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.graphs import side_by_side
from lit_dqn.learning.losses import (
    entropy,
    huber,
    policy_gradient,
    q_learning_td_error,
    quantile_huber,
    select,
    soft_value,
    squared,
    td_target,
)
from lit_dqn.learning.networks import QuantileNetwork
from lit_dqn.saving.specification import specification
from lit_dqn.types import Batch, LossOutput


@dataclass(frozen=True)
class _OfTDErrors:
    """A loss of TD errors: squared, or Huber's."""

    huber_delta: float | None = None

    def __post_init__(self) -> None:
        if self.huber_delta is not None and not self.huber_delta > 0:
            raise ConfigError(f"huber_delta: {self.huber_delta} must be positive, or null for the squared error.")

    def loss(self, td_error: Tensor) -> Tensor:
        """The loss of each TD error, elementwise."""
        return squared(td_error) if self.huber_delta is None else huber(td_error, self.huber_delta)


@torch.no_grad()
def _without_gradient(function: Callable[[Tensor], Tensor], observation: Tensor) -> Tensor:
    return function(observation)


class Objective(ABC):
    """A rule of the Q-learning family: what `LitDQN` learns by."""

    @abstractmethod
    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""


@dataclass(frozen=True)
class _OfActionValues(_OfTDErrors, Objective):
    """The TD error of Q(s, a), with one network or another to pick the action at s'.

    Args:
        huber_delta: where the loss turns from square to linear: 1 clips the TD error's gradient to [-1, 1]
            (Mnih et al. 2015). None: squared error everywhere.

    Raises:
        ConfigError: if `huber_delta` is not positive.

    """

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""
        selector = self.selector(online, target)
        graders = [target] if selector is target else [target, selector]
        q_tm1, *q_t = side_by_side(
            batch.reward.device,
            partial(online, batch.observation),
            *(partial(_without_gradient, grader, batch.next_observation) for grader in graders),
        )
        td_error = q_learning_td_error(q_tm1, batch, q_t_value=q_t[0], q_t_selector=q_t[-1])
        size = td_error.detach().abs()
        metrics = {"q_value": q_tm1.detach().mean(), "td_error": size.mean()}
        return LossOutput(self.loss(td_error), metrics, size)

    @abstractmethod
    def selector(self, online: nn.Module, target: nn.Module) -> nn.Module:
        """The network that picks the action at s'."""


class QLearning(_OfActionValues):
    """y = R + discount * max_a Q_target(s', a) (Mnih et al. 2015): the target network picks and grades."""

    def selector(self, online: nn.Module, target: nn.Module) -> nn.Module:
        """The target network itself."""
        return target


class DoubleQLearning(_OfActionValues):
    """y = R + discount * Q_target(s', argmax_a Q_online(s', a)) (van Hasselt et al. 2016, eq. 4)."""

    def selector(self, online: nn.Module, target: nn.Module) -> nn.Module:
        """The online network."""
        return online


@dataclass(frozen=True)
class MunchausenQLearning(_OfTDErrors, Objective):
    """y = R + α τ ln π(a|s) + discount * Σ_a' π(a'|s') (Q_target(s', a') - τ ln π(a'|s')), π = softmax(Q_target / τ).

    M-DQN (Vieillard, Pietquin & Geist 2020, "Munchausen reinforcement learning"): what the agent believes of its own
    action is added to the reward, which widens the gaps between actions and averages out errors of former values. In an
    n-step window the first action alone is weighed so.

    Args:
        huber_delta: as of `QLearning`.
        alpha: α, the share of the log-policy; 0 is soft Q-learning.
        temperature: τ, in units of the return.
        lowest: the least that τ ln π(a|s) may be, which has no bound below by itself.

    Raises:
        ConfigError: if a value is out of its range.

    """

    alpha: float = 0.9
    temperature: float = 0.03
    lowest: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < 1:
            raise ConfigError(f"alpha: {self.alpha} must lie in [0, 1); 1 would widen the gaps without end.")
        if not self.temperature > 0:
            raise ConfigError(f"temperature: {self.temperature} must be positive; for 0 use QLearning.")
        if not self.lowest < 0:
            raise ConfigError(f"lowest: {self.lowest} must be negative.")

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""
        q_tm1, q_before, q_t = side_by_side(
            batch.reward.device,
            partial(online, batch.observation),
            partial(_without_gradient, target, batch.observation),
            partial(_without_gradient, target, batch.next_observation),
        )
        with torch.no_grad():
            log_policy = select(q_before, batch.action) - soft_value(q_before, self.temperature)  # τ ln π(a|s)
            reward = batch.reward + self.alpha * log_policy.clamp(self.lowest, 0)
            y = td_target(reward, batch.discount, soft_value(q_t, self.temperature))
        td_error = y - select(q_tm1, batch.action)
        size = td_error.detach().abs()
        metrics = {"q_value": q_tm1.detach().mean(), "td_error": size.mean()}
        return LossOutput(self.loss(td_error), metrics, size)


@dataclass(frozen=True)
class QuantileRegression(Objective):
    """The distribution of the return by its quantiles: each θ(s, a) towards R + discount * θ_target(s', a*).

    a* = argmax_a of the mean of θ_target(s', a) (Dabney et al. 2018, algorithm 1). The network is a `QuantileNetwork`.

    Args:
        huber_delta: κ of the quantile Huber loss (eq. 10).

    Raises:
        ConfigError: if `huber_delta` is not positive, or the network has no quantiles.

    """

    huber_delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.huber_delta > 0:
            raise ConfigError(f"huber_delta: {self.huber_delta} must be positive.")

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""
        if not (isinstance(online, QuantileNetwork) and isinstance(target, QuantileNetwork)):
            class_path = specification(type(online))["class_path"]
            raise ConfigError(
                f"objective: QuantileRegression needs a network of quantiles, not {type(online).__name__}; put it into "
                f"one: --model.network lit_dqn.QuantileNetwork --model.network.network {class_path}."
            )
        theta_tm1, theta_t = side_by_side(
            batch.reward.device,
            partial(online.quantiles, batch.observation),
            partial(_without_gradient, target.quantiles, batch.next_observation),
        )
        chosen = select(theta_tm1, batch.action)
        with torch.no_grad():
            sampled = select(theta_t, theta_t.mean(dim=2).argmax(dim=1))
            y = batch.reward.unsqueeze(1) + batch.discount.unsqueeze(1) * sampled
        size = (y.mean(dim=1) - chosen.detach().mean(dim=1)).abs()
        metrics = {"q_value": theta_tm1.detach().mean(), "td_error": size.mean()}
        return LossOutput(quantile_huber(chosen, y, self.huber_delta), metrics, size)


@dataclass(frozen=True)
class TDLearning(_OfTDErrors):
    """y = R + discount * V_target(s'): TD(0), or n-step TD with `data.n_step` (Sutton & Barto 2020, eq. 6.2 and 7.2).

    The gradient is taken of V(s) alone, not of the target: semi-gradient TD (section 9.3).

    Args:
        huber_delta: as of `QLearning`.

    Raises:
        ConfigError: if `huber_delta` is not positive.

    """

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics; the networks map observations to V, [B, 1]."""
        v_tm1 = online(batch.observation).squeeze(1)
        with torch.no_grad():
            v_t = target(batch.next_observation).squeeze(1)
        td_error = td_target(batch.reward, batch.discount, v_t) - v_tm1
        size = td_error.detach().abs()
        metrics = {"state_value": v_tm1.detach().mean(), "td_error": size.mean()}
        return LossOutput(self.loss(td_error), metrics, size)


@dataclass(frozen=True)
class ActorCritic:
    """Advantage actor-critic: the policy gradient weighed by the TD error, TD learning of V, and a bonus for entropy.

    The loss of a transition is -δ ln π(a|s) + `value_cost` ½ δ² - `entropy_cost` H(π(·|s)) with δ = R + discount V(s')
    - V(s); in the first term δ is a number (Sutton & Barto 2020, section 13.5; entropy: Mnih et al. 2016).

    Args:
        entropy_cost: weight of the entropy H, in nats; it keeps the policy from settling too soon.
        value_cost: weight of the critic's loss in what the actor and the critic share.

    Raises:
        ConfigError: if a weight is negative.

    """

    entropy_cost: float = 0.01
    value_cost: float = 0.5

    def __post_init__(self) -> None:
        for key in ("entropy_cost", "value_cost"):
            if not getattr(self, key) >= 0:
                raise ConfigError(f"{key}: {getattr(self, key)} is a weight of the loss and must not be negative.")

    def __call__(self, network: nn.Module, batch: Batch, temperature: float | Tensor) -> LossOutput:
        """The loss [B] of a batch, and its metrics.

        Args:
            network: maps observations to [B, A + 1], a preference for each action and V.
            batch: transitions that the policy itself has played.
            temperature: τ of π = softmax(h / τ), at which it played them, a number or a scalar.

        """
        output = network(batch.observation)
        logits, v_tm1 = output[:, :-1] / temperature, output[:, -1]
        with torch.no_grad():
            v_t = network(batch.next_observation)[:, -1]
        advantage = td_target(batch.reward, batch.discount, v_t) - v_tm1
        entropies = entropy(logits)
        loss = (
            policy_gradient(select(logits.log_softmax(dim=1), batch.action), advantage)
            + self.value_cost * squared(advantage)
            - self.entropy_cost * entropies
        )
        metrics = {
            "state_value": v_tm1.detach().mean(),
            "td_error": advantage.detach().abs().mean(),
            "entropy": entropies.detach().mean(),
        }
        return LossOutput(loss, metrics)
