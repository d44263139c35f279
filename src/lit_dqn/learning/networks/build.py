from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError, one_line
from lit_dqn.learning.networks.noisy import NoisyLinear
from lit_dqn.saving.specification import made_by

NetworkFactory = Callable[[Any, int], nn.Module]
"""(observation_shape, num_outputs) -> a module from [B, *observation_shape] to [B, num_outputs]. Observations of
several parts have a shape for each name, and the module takes a dictionary of tensors by name.
"""

ObservationShape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
"""The shape of one observation, frames stacked, or the shapes of its parts by name."""


def blank_observations(shape: ObservationShape, device: torch.device | None = None) -> Any:
    """Two observations of zeros in the form that a network takes."""
    if isinstance(shape, Mapping):
        return {name: torch.zeros(2, *of_part, device=device) for name, of_part in shape.items()}
    return torch.zeros(2, *shape, device=device)


@torch.no_grad()
def update_target(online: nn.Module, target: nn.Module, tau: float = 1.0) -> None:
    """Target <- τ online + (1 - τ) target: a copy with τ = 1 (Mnih et al. 2015), Polyak averaging below."""
    sources: list[Tensor] = list(online.parameters())
    destinations: list[Tensor] = list(target.parameters())
    if tau == 1.0:
        torch._foreach_copy_(destinations, sources)
    else:
        torch._foreach_lerp_(destinations, sources, tau)
    # Buffers (such as batch norm's means) are statistics, not weights: they are copied without averaging.
    for source, destination in zip(_statistics(online), _statistics(target), strict=True):
        destination.copy_(source)


def _statistics(network: nn.Module) -> Iterator[Tensor]:
    """Its buffers except noise: each network has its own noise."""
    for module in network.modules():
        if not isinstance(module, NoisyLinear):
            yield from module.buffers(recurse=False)


def torso_parameters(network: nn.Module) -> Iterable[nn.Parameter]:
    """The weights that compute the features of an observation; all others belong to the head.

    Args:
        network: a network with a method of this name.

    Raises:
        ConfigError: if it has no such method.

    """
    own = getattr(network, "torso_parameters", None)
    if own is None:
        raise ConfigError(
            f"resets: {type(network).__name__} does not define which of its weights belong to its torso; give it a "
            "method torso_parameters, or set --model.resets null."
        )
    parameters: Iterable[nn.Parameter] = own()
    return parameters


def build_network(
    make_network: NetworkFactory,
    observation_shape: ObservationShape,
    num_outputs: int,
    meaning: str,
) -> nn.Module:
    """Create a network, and try it on two observations.

    Args:
        make_network: (observation_shape, num_outputs) -> module from [B, *observation_shape] to [B, num_outputs].
        observation_shape: of one observation, frames stacked.
        num_outputs: the number of outputs that the agent needs.
        meaning: of the outputs, for the error message.

    Raises:
        ConfigError: if the network cannot be created, or does not map observations to that many outputs.

    """
    name = getattr(made_by(make_network), "__name__", "the network")
    try:
        network = make_network(observation_shape, num_outputs)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"network: {name} cannot be made from (observation_shape, num_outputs) = {(observation_shape, num_outputs)}"
            f": {one_line(error)}; {_other_network(observation_shape)}"
        ) from error
    name = type(network).__name__
    try:
        network.eval()  # so that batch norm gathers no statistics from these zeros
        with torch.no_grad():
            values = network(blank_observations(observation_shape))
        network.train()
    except ConfigError:
        raise
    except Exception as error:
        reason = one_line(error)
        raise ConfigError(
            f"network: {name} does not take observations of shape {observation_shape}: {reason}; "
            f"{_other_network(observation_shape)}"
        ) from error
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if shape != (2, num_outputs):
        raise ConfigError(
            f"network: {name} maps 2 observations to {shape}, not to {(2, num_outputs)}: {meaning}; "
            "its last layer must have num_outputs units."
        )
    return network


def _other_network(observation_shape: ObservationShape) -> str:
    """What to use instead of a network that does not work."""
    known = "lit_dqn.NatureCNN" if len(observation_shape) == 3 else "lit_dqn.MLP"
    if isinstance(observation_shape, Mapping):
        known = "lit_dqn.PartsNetwork"
    return f"set --model.network {known}, or give a class of your own that takes these two."
