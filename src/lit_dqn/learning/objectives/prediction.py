"""Objectives for state values: TD learning, and the actor-critic with its policy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.losses import entropy, masked, policy_gradient, select, squared, td_target
from lit_dqn.learning.objectives.objective import OfTDErrors
from lit_dqn.types import Batch, LossOutput


@dataclass(frozen=True)
class TDLearning(OfTDErrors):
    """y = R + discount * V_target(s'): TD(0), or n-step TD with `data.n_step` (Sutton & Barto 2020, eq. 6.2 and 7.2).

    Only V(s) is differentiated, not the target: semi-gradient TD (section 9.3).

    Args:
        huber_delta: as for `QLearning`.

    Raises:
        ConfigError: if `huber_delta` is not positive.

    """

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics; the networks map observations to V, [B, 1]."""
        v_tm1 = online(batch.observation).squeeze(1)
        td_error = _target(batch, lambda observation: target(observation).squeeze(1)) - v_tm1
        size = td_error.detach().abs()
        metrics = {"state_value": v_tm1.detach().mean(), "td_error": size.mean()}
        return LossOutput(self.loss(td_error), metrics, size)


@dataclass(frozen=True)
class ActorCritic:
    """Advantage actor-critic: the policy gradient weighted by the TD error, TD learning of V, and a bonus for entropy.

    The loss of a transition is -δ ln π(a|s) + `value_cost` ½ δ² - `entropy_cost` H(π(·|s)) with δ = R + discount V(s')
    - V(s); in the first term δ has no gradient (Sutton & Barto 2020, section 13.5; entropy: Mnih et al. 2016).

    Args:
        entropy_cost: weight of the entropy H, in nats; it prevents the policy from becoming deterministic too soon.
        value_cost: weight of the critic's loss in the shared layers.

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
            batch: transitions that the policy itself played.
            temperature: τ of π = softmax(h / τ) with which it played them, a number or a scalar tensor.

        """
        output = network(batch.observation)
        logits, v_tm1 = masked(output[:, :-1] / temperature, batch.action_mask), output[:, -1]
        advantage = _target(batch, lambda observation: network(observation)[:, -1]) - v_tm1
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


@torch.no_grad()
def _target(batch: Batch, state_value: Callable[[Tensor], Tensor]) -> Tensor:
    """R + discount * V(s'), [B]; R itself if the rewards are complete returns."""
    if batch.next_observation is None:
        return batch.reward
    return td_target(batch.reward, batch.discount, state_value(batch.next_observation))
