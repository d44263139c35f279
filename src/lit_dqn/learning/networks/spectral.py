"""Spectral norm whose estimate moves when it is told to, not whenever the network is asked."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

FIRST_STEPS = 15
"""Of power iteration, with the first weights."""


class SpectralNorm(nn.Module):
    """W / σ(W), where σ = uᵀ W v is the largest singular value as power iteration estimates it (Miyato et al. 2018).

    Torch's own makes a step of it in each forward pass of training, so it can be asked once for each update only, and
    not in a captured one. Here `step` does, once for each update (algorithm 1).

    Args:
        weight: of a layer, [outputs, ...].

    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.flatten(1)
        self.register_buffer("u", normalize(torch.randn(rows.shape[0]), dim=0))
        self.register_buffer("v", normalize(torch.randn(rows.shape[1]), dim=0))
        for _ in range(FIRST_STEPS):
            self.step(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as the layer computes with it."""
        return weight / (self.u @ weight.flatten(1) @ self.v)

    @torch.no_grad()
    def step(self, weight: Tensor) -> None:
        """One step of power iteration."""
        rows = weight.flatten(1)
        self.u.copy_(normalize(rows @ self.v, dim=0))
        self.v.copy_(normalize(self.u @ rows, dim=0))


def add_spectral_norm(layer: nn.Module) -> None:
    """Let a layer compute with its weight divided by its spectral norm."""
    assert isinstance(layer.weight, Tensor)
    register_parametrization(layer, "weight", SpectralNorm(layer.weight))


class SpectralNorms:
    """The spectral norms of a network; of a network without any, nothing.

    Args:
        network: any.

    """

    def __init__(self, network: nn.Module) -> None:
        self._norms = [
            (norm, parametrized.original)
            for parametrized in network.modules()
            if isinstance(parametrized, ParametrizationList)
            for norm in parametrized
            if isinstance(norm, SpectralNorm)
        ]

    def __len__(self) -> int:
        return len(self._norms)

    def step(self) -> None:
        """One step of power iteration of each."""
        for norm, weight in self._norms:
            norm.step(weight)
