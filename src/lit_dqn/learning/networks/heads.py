"""What a network says of an observation beyond one number for each action, and how its last layers are made."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError


class Outputs(Protocol):
    """Where a head gets its numbers from."""

    @property
    def num_features(self) -> int:
        """Of what the torso makes."""
        ...

    def build(self, per_action: int) -> nn.Module:
        """A module from features [*, num_features] to [*, num_actions, per_action]."""
        ...


class Head(nn.Module, ABC):
    """Outputs with a meaning, which each kind of head says by a method of its own."""

    @abstractmethod
    def q_values(self, features: Tensor) -> Tensor:
        """Features [B, F] to the action values [B, num_actions], by which an agent acts."""


class ValueHead(Head):
    """One number for each action: its value.

    Args:
        outputs: where the numbers come from.

    """

    def __init__(self, outputs: Outputs) -> None:
        super().__init__()
        self.outputs = outputs.build(1)

    def q_values(self, features: Tensor) -> Tensor:
        """[B, F] to [B, num_actions]."""
        return self.outputs(features).squeeze(-1)


class QuantileHead(Head):
    """Quantiles of the return of each action, the i-th of N at (i + ½) / N; their mean is the action value.

    Dabney et al. 2018, "Distributional reinforcement learning with quantile regression". What learns them is
    `QuantileRegression`.

    Args:
        outputs: where the numbers come from.
        num_quantiles: N; the paper takes 200.

    Raises:
        ConfigError: if there is no quantile.

    """

    def __init__(self, outputs: Outputs, num_quantiles: int = 200) -> None:
        super().__init__()
        if num_quantiles < 1:
            raise ConfigError(f"num_quantiles: {num_quantiles} must be at least 1.")
        self.num_quantiles = num_quantiles
        self.outputs = outputs.build(num_quantiles)

    def quantiles(self, features: Tensor) -> Tensor:
        """[B, F] to [B, num_actions, N]."""
        return self.outputs(features)

    def q_values(self, features: Tensor) -> Tensor:
        """[B, F] to the means, [B, num_actions]."""
        return self.quantiles(features).mean(dim=2)


@dataclass(frozen=True)
class DenseOutputs:
    """The last hidden layer and the outputs, all of them dense.

    Attributes:
        num_features: of the torso.
        num_actions: as many outputs as there are, counting one for each action.
        hidden_size: units of the hidden layer; None: there is none.
        dueling: the value of the state and the advantage of each action have layers of their own (`Dueling`).
        layer_norm: normalise the hidden layer before its ReLU.

    """

    num_features: int
    num_actions: int
    hidden_size: int | None
    dueling: bool = False
    layer_norm: bool = False

    def layers(self, num_outputs: int) -> list[nn.Module]:
        """From [*, num_features] to [*, num_outputs]."""
        if self.hidden_size is None:
            return [nn.Linear(self.num_features, num_outputs)]
        norm = [nn.LayerNorm(self.hidden_size)] if self.layer_norm else []
        hidden = nn.Linear(self.num_features, self.hidden_size)
        return [hidden, *norm, nn.ReLU(), nn.Linear(self.hidden_size, num_outputs)]

    def build(self, per_action: int) -> nn.Module:
        """From [*, num_features] to [*, num_actions, per_action]."""
        dense = Dense(*self.layers(self.num_actions * per_action))
        advantages = nn.Sequential(dense, nn.Unflatten(-1, (self.num_actions, per_action)))
        return Dueling(Dense(*self.layers(per_action)), advantages) if self.dueling else advantages


class Dense(nn.Sequential):
    """Dense layers."""

    def forward(self, features: Tensor) -> Tensor:
        """[*, F] to what the last layer makes of it."""
        *layers, last = self
        for layer in layers:
            features = layer(features)
        return in_full_precision(last, features)


class Dueling(nn.Module):
    """Q = V + A - the mean of A over the actions, for each number of an action (Wang et al. 2016, eq. 9).

    Args:
        value: from features [*, F] to V, [*, per_action].
        advantage: to A, [*, num_actions, per_action].

    """

    def __init__(self, value: nn.Module, advantage: nn.Module) -> None:
        super().__init__()
        self.value = value
        self.advantage = advantage

    def forward(self, features: Tensor) -> Tensor:
        """[*, F] to [*, num_actions, per_action]."""
        advantage = self.advantage(features)
        return self.value(features).unsqueeze(-2) + advantage - advantage.mean(dim=-2, keepdim=True)


def in_full_precision(layer: nn.Module, features: Tensor) -> Tensor:
    """What a layer makes of features, in float32 also in mixed precision.

    bfloat16 has three digits, and actions often differ in the third.
    """
    if not torch.is_autocast_enabled(features.device.type):
        return layer(features)
    with torch.autocast(features.device.type, enabled=False):
        return layer(features.float())
