"""Networks take observations as the env gives them, [B, *shape]; uint8 means an image with values 0 to 255."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError

NetworkFactory = Callable[[tuple[int, ...], int], nn.Module]
"""(observation_shape, num_outputs) -> a module from [B, *observation_shape] to [B, num_outputs]."""


def to_float(observation: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]; anything else as it is. Calling it again changes nothing."""
    return observation.float().mul_(1 / 255) if observation.dtype == torch.uint8 else observation


class NatureCNN(nn.Sequential):
    """The convolutional network of Mnih et al. (2015): 32 8x8 stride 4, 64 4x4 stride 2, 64 3x3 stride 1, dense.

    Weights begin as Glorot & Bengio (2010) draw them, biases at 0, as in Keras, in which the lesson is written.

    Args:
        observation_shape: (channels, height, width), at least 36 x 36.
        num_outputs: one per action for Q, 1 for V.
        dense_size: units of the dense layer.

    Raises:
        ConfigError: if the observations are no images of that size.

    """

    def __init__(self, observation_shape: tuple[int, ...], num_outputs: int, dense_size: int = 512) -> None:
        if len(observation_shape) == 3 and observation_shape[2] <= 4 < observation_shape[0]:
            raise ConfigError(
                f"network: NatureCNN takes images (channels, height, width), but {tuple(observation_shape)} looks like "
                "(height, width, channels); move the axis with gymnasium.wrappers.TransformObservation."
            )
        if len(observation_shape) == 2:
            raise ConfigError(
                f"network: NatureCNN takes images (channels, height, width), not {tuple(observation_shape)}; stack "
                "frames with --data.frame_stack 4, or add an axis."
            )
        if len(observation_shape) != 3:
            raise ConfigError(
                f"network: NatureCNN takes images (channels, height, width), not observations of shape "
                f"{tuple(observation_shape)}; use --model.network lit_dqn.MLP."
            )
        channels, height, width = observation_shape
        if min(height, width) < 36:
            raise ConfigError(
                f"network: NatureCNN takes images of at least 36 x 36 pixels, not {height} x {width} "
                f"(observation shape {tuple(observation_shape)}); make them larger, or use --model.network lit_dqn.MLP."
            )
        for kernel, stride in ((8, 4), (4, 2), (3, 1)):
            height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
        super().__init__(
            nn.Conv2d(channels, 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * height * width, dense_size),
            nn.ReLU(),
            nn.Linear(dense_size, num_outputs),
        )
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(cast(Tensor, layer.bias))
        self.to(memory_format=torch.channels_last)

    def forward(self, observation: Tensor) -> Tensor:
        """[B, channels, height, width] to [B, num_outputs]."""
        return super().forward(to_float(observation))


class MLP(nn.Sequential):
    """Dense layers with ReLU between; observations of any shape are flattened.

    Args:
        observation_shape: any.
        num_outputs: one per action for Q, 1 for V.
        hidden_sizes: units of each hidden layer.

    """

    def __init__(
        self, observation_shape: tuple[int, ...], num_outputs: int, hidden_sizes: Sequence[int] = (120, 84)
    ) -> None:
        sizes = [math.prod(observation_shape), *hidden_sizes]
        layers: list[nn.Module] = [nn.Flatten()]
        for size, next_size in itertools.pairwise(sizes):
            layers += [nn.Linear(size, next_size), nn.ReLU()]
        super().__init__(*layers, nn.Linear(sizes[-1], num_outputs))

    def forward(self, observation: Tensor) -> Tensor:
        """[B, *observation_shape] to [B, num_outputs]."""
        return super().forward(to_float(observation))


@torch.no_grad()
def update_target(online: nn.Module, target: nn.Module, tau: float = 1.0) -> None:
    """Target <- τ online + (1 - τ) target: a copy with τ = 1 (Mnih et al. 2015), Polyak averaging below."""
    sources: list[Tensor] = list(online.parameters())
    destinations: list[Tensor] = list(target.parameters())
    if tau == 1.0:
        torch._foreach_copy_(destinations, sources)
    else:
        torch._foreach_lerp_(destinations, sources, tau)
    # Buffers (such as batch norm's means) are statistics, not weights: they are copied as they are.
    for source, destination in zip(online.buffers(), target.buffers(), strict=True):
        destination.copy_(source)
