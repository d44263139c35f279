"""Heads: the meaning of a network's outputs, if it is more than one number per action, and its last layers."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.networks.noisy import NoisyLinear


class Outputs(Protocol):
    """The source of a head's numbers."""

    @property
    def num_features(self) -> int:
        """Number of features from the torso."""
        ...

    def build(self, per_action: int) -> nn.Module:
        """A module from features [*, num_features] to [*, num_actions, per_action]."""
        ...


class Head(nn.Module, ABC):
    """Outputs with a meaning; each kind of head has its own method for them."""

    @abstractmethod
    def q_values(self, features: Tensor) -> Tensor:
        """Features [B, F] to the action values [B, num_actions] with which an agent acts."""


class ValueHead(Head):
    """One number for each action: its value.

    Args:
        outputs: the source of the numbers.

    """

    def __init__(self, outputs: Outputs) -> None:
        super().__init__()
        self.outputs = outputs.build(1)

    def q_values(self, features: Tensor) -> Tensor:
        """[B, F] to [B, num_actions]."""
        values: Tensor = self.outputs(features)
        return values.squeeze(-1)


class QuantileHead(Head):
    """Quantiles of the return of each action, the i-th of N at (i + ½) / N; their mean is the action value.

    Dabney et al. 2018, "Distributional reinforcement learning with quantile regression". The objective is
    `QuantileRegression`.

    Args:
        outputs: the source of the numbers.
        num_quantiles: N; the paper uses 200.

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
        quantiles: Tensor = self.outputs(features)
        return quantiles

    def q_values(self, features: Tensor) -> Tensor:
        """[B, F] to the means, [B, num_actions]."""
        return self.quantiles(features).mean(dim=2)


class CategoricalHead(Head):
    """The distribution of the return of each action over a fixed support; its mean is the action value.

    Bellemare, Dabney & Munos 2017 ("C51"); Farebrother et al. 2024. The objective is `CategoricalQLearning`.

    Args:
        outputs: the source of the numbers.
        v_min: the lowest return of the support, in units of the (clipped) rewards.
        v_max: the highest one.
        num_atoms: N, equally spaced returns from `v_min` to `v_max`.

    Raises:
        ConfigError: if the support has no width, or fewer than two atoms.

    """

    def __init__(self, outputs: Outputs, v_min: float = -10.0, v_max: float = 10.0, num_atoms: int = 51) -> None:
        super().__init__()
        if not -math.inf < v_min < v_max < math.inf:
            raise ConfigError(f"v_min: {v_min} must lie below v_max {v_max}, and both must be finite.")
        if num_atoms < 2:
            raise ConfigError(f"num_atoms: {num_atoms} must be at least 2.")
        self.v_min, self.v_max, self.num_atoms = v_min, v_max, num_atoms
        self.outputs = outputs.build(num_atoms)

    def support(self, like: Tensor) -> Tensor:
        """The atoms z, [N], on the device of a tensor."""
        return torch.linspace(self.v_min, self.v_max, self.num_atoms, device=like.device)

    def logits(self, features: Tensor) -> Tensor:
        """[B, F] to [B, num_actions, N]; their softmax is the distribution."""
        logits: Tensor = self.outputs(features)
        return logits

    def q_values(self, features: Tensor) -> Tensor:
        """[B, F] to the means, [B, num_actions]."""
        return expectation(self.logits(features).softmax(dim=2), self.support(features))


class ImplicitQuantileHead(Head):
    """The quantile function of the return of each action, at any level τ in [0, 1].

    Dabney et al. 2018, "Implicit quantile networks". A cosine embedding of τ multiplies the features (eq. 4). The
    objective is `ImplicitQuantileLearning`.

    Args:
        outputs: the source of the numbers.
        embedding_size: number of cosines, cos(π i τ) with i from 0.
        num_midpoints: K; action values are means over the levels (k + ½) / K.

    Raises:
        ConfigError: if a number is not positive.

    """

    def __init__(self, outputs: Outputs, embedding_size: int = 64, num_midpoints: int = 32) -> None:
        super().__init__()
        for key, value in {"embedding_size": embedding_size, "num_midpoints": num_midpoints}.items():
            if value < 1:
                raise ConfigError(f"{key}: {value} must be at least 1.")
        self.embedding_size = embedding_size
        self.num_midpoints = num_midpoints
        self.embedding = nn.Sequential(nn.Linear(embedding_size, outputs.num_features), nn.ReLU())
        self.outputs = outputs.build(1)

    def quantiles(self, features: Tensor, levels: Tensor) -> Tensor:
        """Features [B, F] and levels τ [B, N], or [1, N] for all, to [B, num_actions, N]."""
        numbers = torch.arange(self.embedding_size, device=features.device, dtype=torch.float32)
        embedded = self.embedding((math.pi * levels.unsqueeze(2) * numbers).cos())  # [B, N, F]
        quantiles: Tensor = self.outputs(features.unsqueeze(1) * embedded)
        return quantiles.squeeze(3).transpose(1, 2)

    def q_values(self, features: Tensor) -> Tensor:
        """[B, F] to the means over the midpoints, [B, num_actions]."""
        numbers = torch.arange(self.num_midpoints, device=features.device, dtype=torch.float32)
        levels = (numbers + 0.5) / self.num_midpoints
        return self.quantiles(features, levels.unsqueeze(0)).mean(dim=2)


@dataclass(frozen=True)
class DenseOutputs:
    """The last hidden layer and the outputs, all of them dense.

    Attributes:
        num_features: of the torso.
        num_actions: number of actions, or of outputs if each action has one.
        hidden_size: units of the hidden layer; None: there is no hidden layer.
        dueling: separate layers for the value of the state and the advantage of each action (`Dueling`).
        layer_norm: normalise the hidden layer before its ReLU.
        noise: σ0 of noisy layers; None: without noise.

    """

    num_features: int
    num_actions: int
    hidden_size: int | None
    dueling: bool = False
    layer_norm: bool = False
    noise: float | None = None

    def layers(self, num_outputs: int) -> list[nn.Module]:
        """From [*, num_features] to [*, num_outputs]."""
        if self.hidden_size is None:
            return [self._linear(self.num_features, num_outputs)]
        norm = [nn.LayerNorm(self.hidden_size)] if self.layer_norm else []
        hidden = self._linear(self.num_features, self.hidden_size)
        return [hidden, *norm, nn.ReLU(), self._linear(self.hidden_size, num_outputs)]

    def build(self, per_action: int) -> nn.Module:
        """From [*, num_features] to [*, num_actions, per_action]."""
        dense = Dense(*self.layers(self.num_actions * per_action))
        advantages = nn.Sequential(dense, nn.Unflatten(-1, (self.num_actions, per_action)))
        return Dueling(Dense(*self.layers(per_action)), advantages) if self.dueling else advantages

    def _linear(self, inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs) if self.noise is None else NoisyLinear(inputs, outputs, self.noise)


class Dense(nn.Sequential):
    """Dense layers."""

    def forward(self, features: Tensor) -> Tensor:
        """[*, F] to the outputs of the last layer."""
        *layers, last = self
        for layer in layers:
            features = layer(features)
        return in_full_precision(last, features)


class Dueling(nn.Module):
    """Q = V + A - mean of A over the actions, for each number that an action has (Wang et al. 2016, eq. 9).

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
        value: Tensor = self.value(features)
        advantage: Tensor = self.advantage(features)
        return value.unsqueeze(-2) + advantage - advantage.mean(dim=-2, keepdim=True)


def expectation(probabilities: Tensor, support: Tensor) -> Tensor:
    """The mean of distributions [*, N] over a support [N], as [*], in float32 even with mixed precision."""
    if not torch.is_autocast_enabled(probabilities.device.type):
        return probabilities @ support
    with torch.autocast(probabilities.device.type, enabled=False):
        return probabilities.float() @ support.float()


def in_full_precision(layer: nn.Module, features: Tensor) -> Tensor:
    """A layer's outputs for features, in float32 even with mixed precision.

    bfloat16 has three significant digits, and action values often differ only in the third.
    """
    outputs: Tensor
    if not torch.is_autocast_enabled(features.device.type):
        outputs = layer(features)
    else:
        with torch.autocast(features.device.type, enabled=False):
            outputs = layer(features.float())
    return outputs
