"""Networks take observations as the env gives them, [B, *shape]; uint8 means an image with values 0 to 255."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError, one_line
from lit_dqn.saving.specification import made_by

MOST_UNITS = 10**6
"""Of one layer; a dense one of so many on each side takes 4 TB."""

NetworkFactory = Callable[[tuple[int, ...], int], nn.Module]
"""(observation_shape, num_outputs) -> a module from [B, *observation_shape] to [B, num_outputs]."""


def to_float(observation: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1], bool to 0 and 1; anything else as it is. Calling it again changes nothing."""
    if observation.dtype == torch.uint8:
        return observation.float().mul_(1 / 255)
    return observation.float() if observation.dtype == torch.bool else observation


class CNN(nn.Sequential):
    """Convolutions with ReLU, valid padding, then a dense layer with ReLU and a linear head.

    Weights begin as Glorot & Bengio (2010) draw them, biases at 0, as in Keras, in which the lesson is written.

    Args:
        observation_shape: (channels, height, width).
        num_outputs: one per action for Q, 1 for V.
        filters: of each convolution; the default is the network of Mnih et al. (2013).
        kernel_sizes: likewise, pixels.
        strides: likewise, pixels.
        dense_size: units of the dense layer.
        pixel_mean: subtracted from pixels in [0, 1]. Inputs around zero (LeCun et al. 1998, "Efficient BackProp",
            section 4.3) keep the first filters alive where most of the image is one grey, as in Pong: there 0.34.

    Raises:
        ConfigError: if the lists differ in length, or the observations are no images or too small.

    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_outputs: int,
        filters: Sequence[int] = (16, 32),
        kernel_sizes: Sequence[int] = (8, 4),
        strides: Sequence[int] = (4, 2),
        dense_size: int = 256,
        pixel_mean: float = 0.0,
    ) -> None:
        name = type(self).__name__
        sizes = {"filters": filters, "kernel_sizes": kernel_sizes, "strides": strides, "dense_size": [dense_size]}
        for key, values in sizes.items():
            _check_sizes(name, key, values)
        if not math.isfinite(pixel_mean):
            raise ConfigError(f"network: pixel_mean {pixel_mean} of {name} must be a finite number.")
        if not len(filters) == len(kernel_sizes) == len(strides) > 0:
            raise ConfigError(
                f"network: {name} takes one filters, kernel_sizes and strides for each convolution, "
                f"not {len(filters)}, {len(kernel_sizes)} and {len(strides)}."
            )
        _check_image(name, observation_shape)
        channels, height, width = observation_shape
        smallest = 1
        for kernel, stride in reversed([*zip(kernel_sizes, strides, strict=True)]):
            smallest = (smallest - 1) * stride + kernel
        if min(height, width) < smallest:
            raise ConfigError(
                f"network: {name} takes images of at least {smallest} x {smallest} pixels, not {height} x {width} "
                f"(observation shape {tuple(observation_shape)}); make them larger, take lit_dqn.CNN with smaller "
                "kernel_sizes and strides, or use --model.network lit_dqn.MLP."
            )
        layers: list[nn.Module] = []
        for outputs, kernel, stride in zip(filters, kernel_sizes, strides, strict=True):
            if layers:
                layers.append(nn.Conv2d(channels, outputs, kernel_size=kernel, stride=stride))
            else:
                layers.append(_CentringConv2d(channels, outputs, kernel, stride, pixel_mean))
            layers.append(nn.ReLU())
            channels, height, width = outputs, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        super().__init__(
            *layers,
            nn.Flatten(),
            nn.Linear(channels * height * width, dense_size),
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
        *torso, head = self
        if observation.dtype == torch.uint8:
            # Channels last, which convolutions are faster with; moving bytes is cheaper than moving floats.
            observation = torch.stack(observation.unbind(1), dim=-1).permute(0, 3, 1, 2)
        features = to_float(observation)
        for layer in torso:
            features = layer(features)
        # With mixed precision, too: bfloat16 has three digits, and actions often differ in the third.
        with torch.autocast(features.device.type, enabled=False):
            return head(features.float())


class _CentringConv2d(nn.Conv2d):
    """A convolution, valid padding, of an image minus its mean."""

    def __init__(self, channels: int, outputs: int, kernel_size: int, stride: int, pixel_mean: float) -> None:
        super().__init__(channels, outputs, kernel_size, stride)
        self.pixel_mean = pixel_mean

    def forward(self, image: Tensor) -> Tensor:
        assert self.bias is not None
        if self.pixel_mean == 0:
            return super().forward(image)
        # conv(x - m) = conv(x) - m * sum(w): the same without another pass over the image.
        return self._conv_forward(image, self.weight, self.bias - self.pixel_mean * self.weight.sum((1, 2, 3)))


class NatureCNN(CNN):
    """The convolutional network of Mnih et al. (2015): 32 8x8 stride 4, 64 4x4 stride 2, 64 3x3 stride 1, dense.

    Args:
        observation_shape: (channels, height, width), at least 36 x 36.
        num_outputs: one per action for Q, 1 for V.
        dense_size: units of the dense layer.
        pixel_mean: subtracted from pixels in [0, 1], as for `CNN`.

    Raises:
        ConfigError: if the observations are no images of that size.

    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_outputs: int,
        dense_size: int = 512,
        pixel_mean: float = 0.0,
    ) -> None:
        super().__init__(observation_shape, num_outputs, (32, 64, 64), (8, 4, 3), (4, 2, 1), dense_size, pixel_mean)


def _check_sizes(name: str, key: str, sizes: Sequence[int]) -> None:
    if not all(1 <= size <= MOST_UNITS for size in sizes):
        raise ConfigError(f"network: {key} {list(sizes)} of {name} must each lie between 1 and {MOST_UNITS:,}.")


def _check_image(name: str, observation_shape: tuple[int, ...]) -> None:
    if len(observation_shape) == 3 and observation_shape[2] <= 4 < observation_shape[0]:
        raise ConfigError(
            f"network: {name} takes images (channels, height, width), but {tuple(observation_shape)} looks like "
            "(height, width, channels); give images as uint8, which are turned by themselves, or move the axis with "
            "gymnasium.wrappers.TransformObservation."
        )
    if len(observation_shape) == 2:
        raise ConfigError(
            f"network: {name} takes images (channels, height, width), not {tuple(observation_shape)}; stack "
            "frames with --data.frame_stack 4, or add an axis."
        )
    if len(observation_shape) != 3:
        raise ConfigError(
            f"network: {name} takes images (channels, height, width), not observations of shape "
            f"{tuple(observation_shape)}; use --model.network lit_dqn.MLP."
        )


class MLP(nn.Sequential):
    """Dense layers with ReLU between; observations of any shape are flattened.

    Args:
        observation_shape: any.
        num_outputs: one per action for Q, 1 for V.
        hidden_sizes: units of each hidden layer.

    Raises:
        ConfigError: if a layer has no unit.

    """

    def __init__(
        self, observation_shape: tuple[int, ...], num_outputs: int, hidden_sizes: Sequence[int] = (120, 84)
    ) -> None:
        _check_sizes(type(self).__name__, "hidden_sizes", hidden_sizes)
        sizes = [math.prod(observation_shape), *hidden_sizes]
        layers: list[nn.Module] = [nn.Flatten()]
        for size, next_size in itertools.pairwise(sizes):
            layers += [nn.Linear(size, next_size), nn.ReLU()]
        super().__init__(*layers, nn.Linear(sizes[-1], num_outputs))

    def forward(self, observation: Tensor) -> Tensor:
        """[B, *observation_shape] to [B, num_outputs]."""
        return super().forward(to_float(observation))  # type: ignore[no-untyped-call]  # torch says no types


class QuantileNetwork(nn.Module):
    """Quantiles of the return of each action; called, it gives their means, which are the action values.

    Dabney et al. 2018, "Distributional reinforcement learning with quantile regression". What learns them is
    `QuantileRegression`; everyone else sees a network like any other.

    Args:
        observation_shape: any that `network` takes.
        num_outputs: one per action.
        network: (observation_shape, n) -> module from [B, *observation_shape] to [B, n]; it is asked for
            `num_outputs` x `num_quantiles`.
        num_quantiles: N; the paper takes 200.

    Raises:
        ConfigError: if there is no quantile, or `network` does not take the observations.

    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_outputs: int,
        network: Callable[[tuple[int, ...], int], nn.Module] = NatureCNN,
        num_quantiles: int = 200,
    ) -> None:
        super().__init__()
        if num_quantiles < 1:
            raise ConfigError(f"num_quantiles: {num_quantiles} must be at least 1.")
        self.num_outputs = num_outputs
        self.num_quantiles = num_quantiles
        self.network = build_network(
            network, observation_shape, num_outputs * num_quantiles, f"{num_quantiles} quantiles for each action"
        )

    def quantiles(self, observation: Tensor) -> Tensor:
        """[B, *observation_shape] to [B, num_outputs, num_quantiles]."""
        return self.network(observation).unflatten(1, (self.num_outputs, self.num_quantiles))

    def forward(self, observation: Tensor) -> Tensor:
        """[B, *observation_shape] to the means, [B, num_outputs]."""
        return self.quantiles(observation).mean(dim=2)


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


def build_network(
    make_network: NetworkFactory,
    observation_shape: tuple[int, ...],
    num_outputs: int,
    meaning: str,
) -> nn.Module:
    """Make a network, and try it on two observations.

    Args:
        make_network: (observation_shape, num_outputs) -> module from [B, *observation_shape] to [B, num_outputs].
        observation_shape: of one observation, frames stacked.
        num_outputs: that the agent needs.
        meaning: of the outputs, in words for the user.

    Raises:
        ConfigError: if the network cannot be made, or does not map observations to so many outputs.

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
        network.eval()  # no statistics, such as batch norm's, of observations that are none
        with torch.no_grad():
            values = network(torch.zeros(2, *observation_shape))
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


def _other_network(observation_shape: tuple[int, ...]) -> str:
    """What to take instead of a network that does not work."""
    known = "lit_dqn.NatureCNN" if len(observation_shape) == 3 else "lit_dqn.MLP"
    return f"set --model.network {known}, or give a class of your own that takes these two."
