"""Dormant units: units that are almost never active any more."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

DORMANT = 0.025
"""τ of Sokar et al. (2023): the largest activation of a dormant unit, as a share of the mean of its layer."""


@torch.no_grad()
def dormant_units(network: nn.Module, observation: Tensor, tau: float = DORMANT) -> float | None:
    """The share of dormant units among all that are followed by a ReLU.

    Sokar et al. 2023, "The dormant neuron phenomenon in deep reinforcement learning", definition 3.1: the mean absolute
    activation of a unit over observations, divided by the mean of that over its layer, is at most τ. A filter of a
    convolution is one unit; its activation is also averaged over its positions.

    Args:
        network: in evaluation mode.
        observation: [B, *observation_shape].
        tau: τ.

    Returns:
        None if the network has no `nn.ReLU`.

    """
    with _activations(network) as activations:
        network(observation)
    dormant = [score <= tau * score.mean() for score in map(_unit_means, activations)]
    return torch.cat(dormant).float().mean().item() if dormant else None


def _unit_means(activation: Tensor) -> Tensor:
    """[B, filters, height, width] to [filters], [B, *, units] to [units]."""
    by_unit = activation.movedim(1, -1) if activation.ndim == 4 else activation
    return by_unit.abs().float().flatten(0, -2).mean(0)


@contextmanager
def _activations(network: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of its ReLUs during a forward pass."""
    found: list[Tensor] = []
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    hooks = [relu.register_forward_hook(lambda module, given, output: found.append(output)) for relu in relus]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
