"""Noisy networks (Fortunato et al. 2018): weights that explore. The host draws the noise, and buffers hold it."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError


class NoisyLinear(nn.Linear):
    """A dense layer with factorised noise: w = μ + σ ⊙ f(ε_out) f(ε_in)ᵀ, and the same for b (eq. 9 to 11).

    The noise is 0 until `Noise.draw`, so the layer uses its means μ. μ and σ are initialised as in section 3.2.

    Args:
        in_features: p.
        out_features: q.
        sigma0: σ0; each σ starts at σ0 / √p.

    Raises:
        ConfigError: if `sigma0` is not positive.

    """

    noise_in: Tensor
    noise_out: Tensor

    def __init__(self, in_features: int, out_features: int, sigma0: float = 0.5) -> None:
        if not 0 < sigma0 < math.inf:
            raise ConfigError(f"noise: {sigma0} must be positive, such as 0.5, or null for layers without noise.")
        super().__init__(in_features, out_features)  # draws from ±1/√p, like the paper
        sigma = sigma0 / math.sqrt(in_features)
        self.weight_sigma = nn.Parameter(torch.full((out_features, in_features), sigma))
        self.bias_sigma = nn.Parameter(torch.full((out_features,), sigma))
        # Not in checkpoints: it is a function of the run's seed and the number of updates.
        self.register_buffer("noise_in", torch.zeros(in_features), persistent=False)
        self.register_buffer("noise_out", torch.zeros(out_features), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """[*, p] to [*, q]."""
        # (σ ⊙ εε'ᵀ) x = ε ⊙ σ (ε' ⊙ x): no matrix of noise is made.
        noisy = nn.functional.linear(features * self.noise_in, self.weight_sigma, self.bias_sigma)
        return super().forward(features) + self.noise_out * noisy


class Noise:
    """The noise of all noisy layers of a network, which may have none.

    Args:
        network: any.

    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [layer for layer in network.modules() if isinstance(layer, NoisyLinear)]

    def draw(self, *seed: int) -> None:
        """Draw new noise, as a function of some numbers that are not negative."""
        if self._layers:
            buffers = self._buffers()
            sizes = [len(buffer) for buffer in buffers]
            drawn = np.random.default_rng(seed).standard_normal(sum(sizes), np.float32)
            noise = torch.from_numpy(np.sign(drawn) * np.sqrt(np.abs(drawn))).to(buffers[0].device)
            torch._foreach_copy_(buffers, list(noise.split(sizes)))

    def silence(self) -> None:
        """Set it to 0."""
        if self._layers:
            torch._foreach_zero_(self._buffers())

    def _buffers(self) -> list[Tensor]:
        return [buffer for layer in self._layers for buffer in (layer.noise_in, layer.noise_out)]
