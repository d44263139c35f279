"""One small object per published rule: what the networks should have said of a batch, as a loss per transition."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.losses import huber, q_learning_td_error, squared
from lit_dqn.networks import to_float
from lit_dqn.types import Batch, LossOutput


@dataclass(frozen=True)
class Objective(ABC):
    """A rule of the Q-learning family.

    Args:
        huber_delta: where the loss turns from square to linear: 1 clips the TD error's gradient to [-1, 1]
            (Mnih et al. 2015). None: squared error everywhere.

    Raises:
        ConfigError: if `huber_delta` is not positive.

    """

    huber_delta: float | None = None

    def __post_init__(self) -> None:
        if self.huber_delta is not None and self.huber_delta <= 0:
            raise ConfigError(f"huber_delta: {self.huber_delta} must be positive, or null for the squared error.")

    def __call__(self, online: nn.Module, target: nn.Module, batch: Batch) -> LossOutput:
        """The loss [B] of a batch, and its metrics."""
        q_tm1 = online(batch.observation)
        with torch.no_grad():
            next_observation = to_float(batch.next_observation)
            q_t_value = target(next_observation)
            q_t_selector = self.select_with(online, next_observation, q_t_value)
        td_error = q_learning_td_error(q_tm1, batch, q_t_value, q_t_selector)
        loss = squared(td_error) if self.huber_delta is None else huber(td_error, self.huber_delta)
        detached = td_error.detach()
        return LossOutput(loss, {"q_value": q_tm1.detach().mean(), "td_error": detached.abs().mean()})

    @abstractmethod
    def select_with(self, online: nn.Module, next_observation: Tensor, q_t_value: Tensor) -> Tensor:
        """Q(s', ·) [B, A] of whoever picks the action at s'."""


class QLearning(Objective):
    """y = R + discount * max_a Q_target(s', a) (Mnih et al. 2015): the target network picks and grades."""

    def select_with(self, online: nn.Module, next_observation: Tensor, q_t_value: Tensor) -> Tensor:
        """The target network's own values."""
        return q_t_value


class DoubleQLearning(Objective):
    """y = R + discount * Q_target(s', argmax_a Q_online(s', a)) (van Hasselt et al. 2016, eq. 4)."""

    def select_with(self, online: nn.Module, next_observation: Tensor, q_t_value: Tensor) -> Tensor:
        """The online network's values."""
        return online(next_observation)
