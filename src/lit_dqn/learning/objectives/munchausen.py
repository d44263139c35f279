"""Munchausen DQN."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.graphs import side_by_side
from lit_dqn.learning.losses import masked, munchausen_bonus, select, soft_value, td_target
from lit_dqn.learning.objectives.objective import Objective, OfTDErrors, observation_after, without_gradient
from lit_dqn.types import Batch, LossOutput


@dataclass(frozen=True)
class MunchausenQLearning(OfTDErrors, Objective):
    """y = R + α τ ln π(a|s) + discount * Σ_a' π(a'|s') (Q_target(s', a') - τ ln π(a'|s')), π = softmax(Q_target / τ).

    M-DQN (Vieillard, Pietquin & Geist 2020, "Munchausen reinforcement learning"): the scaled log-policy of the action
    taken is added to the reward, which widens the gaps between actions and averages out errors of earlier values. In an
    n-step window only the first action gets this bonus.

    Args:
        huber_delta: as for `QLearning`.
        alpha: α, the weight of the log-policy; 0 is soft Q-learning.
        temperature: τ, in units of the return.
        lowest: lower bound of τ ln π(a|s), which would otherwise be unbounded.

    Raises:
        ConfigError: if a value is out of its range.

    """

    alpha: float = 0.9
    temperature: float = 0.03
    lowest: float = -1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_munchausen(self.alpha, self.temperature, self.lowest)

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""
        q_tm1, q_before, q_t = side_by_side(
            batch.reward.device,
            partial(online, batch.observation),
            partial(without_gradient, target, batch.observation),
            partial(without_gradient, target, observation_after(batch, self)),
        )
        with torch.no_grad():
            allowed_before = masked(q_before, batch.action_mask)
            bonus = munchausen_bonus(allowed_before, batch.action, self.temperature, self.lowest)
            reward = batch.reward + self.alpha * bonus
            next_value = soft_value(masked(q_t, batch.next_action_mask), self.temperature)
            y = td_target(reward, batch.discount, next_value)
        td_error = y - select(q_tm1, batch.action)
        size = td_error.detach().abs()
        metrics = {"q_value": q_tm1.detach().mean(), "td_error": size.mean()}
        return LossOutput(self.loss(td_error), metrics, size)


class Munchausen:
    """The parts of Munchausen DQN that another objective can use: its bonus, and its soft policy in place of the greedy
    one.

    Args:
        alpha: as for `MunchausenQLearning`.
        temperature: as for `MunchausenQLearning`.
        lowest: as for `MunchausenQLearning`.

    Raises:
        ConfigError: if a value is out of its range.

    """

    def __init__(self, alpha: float = 0.9, temperature: float = 0.03, lowest: float = -1.0) -> None:
        check_munchausen(alpha, temperature, lowest)
        self.alpha = alpha
        self.temperature = temperature
        self.lowest = lowest


def check_munchausen(alpha: float, temperature: float, lowest: float) -> None:
    """Refuse values for which Munchausen DQN is not defined.

    Raises:
        ConfigError: names the first value that is out of its range.

    """
    if not 0 <= alpha < 1:
        raise ConfigError(f"alpha: {alpha} must lie in [0, 1); 1 would widen the gaps without end.")
    if not temperature > 0:
        raise ConfigError(f"temperature: {temperature} must be positive; for 0 use QLearning.")
    if not lowest < 0:
        raise ConfigError(f"lowest: {lowest} must be negative.")
