"""Spectral norm whose estimate changes only on request, not with each forward pass."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrize import ParametrizationList, register_parametrization

FIRST_STEPS = 15
"""Steps of power iteration with initial weights, and after a reset."""


class SpectralNorm(nn.Module):
    """W / σ(W), where σ = uᵀ W v is the estimate of the largest singular value by power iteration (Miyato et al. 2018).

    Torch's own version does a step in each forward pass of training, which allows only one pass per update and no
    captured update. Here `step` does it, once per update (algorithm 1).

    Args:
        weight: the weight of a layer, [outputs, ...].

    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        rows = weight.flatten(1)
        self.register_buffer("u", normalize(torch.randn(rows.shape[0]), dim=0))
        self.register_buffer("v", normalize(torch.randn(rows.shape[1]), dim=0))
        self.settle(weight)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer uses."""
        return weight / (self.u @ weight.flatten(1) @ self.v)

    def settle(self, weight: Tensor) -> None:
        """The steps of power iteration for a weight that is new, or has jumped."""
        for _ in range(FIRST_STEPS):
            self.step(weight)

    @torch.no_grad()
    def step(self, weight: Tensor) -> None:
        """One step of power iteration."""
        rows = weight.flatten(1)
        self.u.copy_(normalize(rows @ self.v, dim=0))
        self.v.copy_(normalize(self.u @ rows, dim=0))


def add_spectral_norm(layer: nn.Module) -> None:
    """Let a layer use its weight divided by its spectral norm."""
    assert isinstance(layer.weight, Tensor)
    register_parametrization(layer, "weight", SpectralNorm(layer.weight))


class SpectralNorms:
    """The spectral norms of a network, which may have none.

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
        """Do one step of power iteration for each."""
        for norm, weight in self._norms:
            norm.step(weight)

    def settle(self) -> None:
        """Estimate each anew, because the weights have jumped."""
        for norm, weight in self._norms:
            norm.settle(weight)
