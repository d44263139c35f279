"""Networks whose torsos are convolutions or dense layers."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.networks.headed import HeadedNetwork
from lit_dqn.learning.networks.heads import DenseOutputs, Head, Outputs
from lit_dqn.learning.networks.noisy import NoisyLinear

MOST_UNITS = 10**6
"""The most units of one layer; a dense layer with as many inputs and outputs takes 4 TB."""


class CNN(HeadedNetwork):
    """Convolutions with ReLU, valid padding, then a head of a dense layer with ReLU and a linear one.

    Weights are initialised by Glorot & Bengio (2010), biases with 0, as in Keras, which the lesson uses.

    Args:
        observation_shape: (channels, height, width), or (height, width) of grey images.
        num_outputs: one per action for Q, 1 for V.
        filters: of each convolution; the default is the network of Mnih et al. (2013).
        kernel_sizes: of each convolution, in pixels.
        strides: of each convolution, in pixels.
        dense_size: units of the dense layer.
        pixel_mean: subtracted from pixels in [0, 1]. Inputs around zero (LeCun et al. 1998, "Efficient BackProp",
            section 4.3) keep the first filters alive if most of the image has one grey value, as in Pong: there 0.34.
        layer_norm: normalise over all units before each ReLU (Ba et al. 2016); for a convolution, over its filters and
            positions, with a scale and a shift for each filter.
        dueling: separate dense layers for V(s) and for the advantages of the actions (Wang et al. 2016).
        noise: σ0 of noisy dense layers, which explore (Fortunato et al. 2018: 0.5); None: no noise.
        head: the meaning of the outputs, such as `QuantileHead`; None: the network returns them directly.

    Raises:
        ConfigError: if the lists differ in length, or the observations are not images or are too small.

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
        layer_norm: bool = False,
        dueling: bool = False,
        noise: float | None = None,
        head: Callable[[Outputs], Head] | None = None,
    ) -> None:
        name = type(self).__name__
        sizes = {"filters": filters, "kernel_sizes": kernel_sizes, "strides": strides, "dense_size": [dense_size]}
        for key, values in sizes.items():
            check_sizes(name, key, values)
        if not math.isfinite(pixel_mean):
            raise ConfigError(f"network: pixel_mean {pixel_mean} of {name} must be a finite number.")
        if not len(filters) == len(kernel_sizes) == len(strides) > 0:
            raise ConfigError(
                f"network: {name} takes one filters, kernel_sizes and strides for each convolution, "
                f"not {len(filters)}, {len(kernel_sizes)} and {len(strides)}."
            )
        channels, height, width = shape_of_image(name, observation_shape)
        smallest = 1
        for kernel, stride in reversed([*zip(kernel_sizes, strides, strict=True)]):
            smallest = (smallest - 1) * stride + kernel
        if min(height, width) < smallest:
            raise ConfigError(
                f"network: {name} takes images of at least {smallest} x {smallest} pixels, not {height} x {width} "
                f"(observation shape {tuple(observation_shape)}); make them larger, take lit_dqn.CNN with smaller "
                "kernel_sizes and strides, or use --model.network lit_dqn.ImpalaCNN, which takes images of any size."
            )
        layers: list[nn.Module] = []
        for outputs, kernel, stride in zip(filters, kernel_sizes, strides, strict=True):
            if layers:
                layers.append(nn.Conv2d(channels, outputs, kernel_size=kernel, stride=stride))
            else:
                layers.append(_CentringConv2d(channels, outputs, kernel, stride, pixel_mean))
            if layer_norm:
                layers.append(nn.GroupNorm(1, outputs))
            layers.append(nn.ReLU())
            channels, height, width = outputs, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        super().__init__(
            [*layers, nn.Flatten()],
            DenseOutputs(channels * height * width, num_outputs, dense_size, dueling, layer_norm, noise),
            head,
        )
        draw_weights(self)
        self.to(memory_format=torch.channels_last)

    def prepared(self, observation: Tensor) -> Tensor:
        """An image as floats, channels last, which makes convolutions faster."""
        observation = with_channels(observation)
        if observation.dtype == torch.uint8:
            # Moving bytes is cheaper than moving floats.
            observation = torch.stack(observation.unbind(1), dim=-1).permute(0, 3, 1, 2)
        return super().prepared(observation)


def draw_weights(network: nn.Module) -> None:
    """Initialise the weights of convolutions and dense layers by Glorot & Bengio (2010), and their biases with 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not isinstance(layer, NoisyLinear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class _CentringConv2d(nn.Conv2d):
    """A convolution with valid padding of an image minus its mean."""

    def __init__(self, channels: int, outputs: int, kernel_size: int, stride: int, pixel_mean: float) -> None:
        super().__init__(channels, outputs, kernel_size, stride)
        self.pixel_mean = pixel_mean

    def forward(self, image: Tensor) -> Tensor:
        assert self.bias is not None
        bias: Tensor = self.bias
        if self.pixel_mean != 0:
            # conv(x - m) = conv(x) - m * sum(w): the same without another pass over the image.
            bias = bias - self.pixel_mean * self.weight.sum((1, 2, 3))
        outputs: Tensor = self._conv_forward(image, self.weight, bias)
        return outputs


class NatureCNN(CNN):
    """The convolutional network of Mnih et al. (2015): 32 8x8 stride 4, 64 4x4 stride 2, 64 3x3 stride 1, dense.

    Args:
        observation_shape: (channels, height, width), at least 36 x 36, or (height, width) of grey images.
        num_outputs: one per action for Q, 1 for V.
        dense_size: units of the dense layer.
        pixel_mean: subtracted from pixels in [0, 1], as for `CNN`.
        layer_norm: as for `CNN`.
        dueling: separate dense layers for V(s) and for the advantages of the actions.
        noise: σ0 of noisy dense layers; None: no noise.
        head: the meaning of the outputs.

    Raises:
        ConfigError: if the observations are not images of that size.

    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_outputs: int,
        dense_size: int = 512,
        pixel_mean: float = 0.0,
        layer_norm: bool = False,
        dueling: bool = False,
        noise: float | None = None,
        head: Callable[[Outputs], Head] | None = None,
    ) -> None:
        super().__init__(
            observation_shape,
            num_outputs,
            filters=(32, 64, 64),
            kernel_sizes=(8, 4, 3),
            strides=(4, 2, 1),
            dense_size=dense_size,
            pixel_mean=pixel_mean,
            layer_norm=layer_norm,
            dueling=dueling,
            noise=noise,
            head=head,
        )


def check_sizes(name: str, key: str, sizes: Sequence[int]) -> None:
    """Refuse layers without units, or with more than any machine can hold."""
    if not all(1 <= size <= MOST_UNITS for size in sizes):
        raise ConfigError(f"network: {key} {list(sizes)} of {name} must each lie between 1 and {MOST_UNITS:,}.")


def check_one_array(name: str, observation_shape: object) -> None:
    """Refuse observations of several parts."""
    if isinstance(observation_shape, Mapping):
        raise ConfigError(
            f"network: {name} takes one array, and observations have the parts {', '.join(observation_shape)}; set "
            f"--model.network lit_dqn.PartsNetwork, which may have a {name} for each of its encoders."
        )


def shape_of_image(name: str, observation_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(channels, height, width) of observations; two axes mean a grey image.

    Raises:
        ConfigError: if they are not images with channels first.

    """
    check_one_array(name, observation_shape)
    if len(observation_shape) == 3 and observation_shape[2] <= 4 < observation_shape[0]:
        raise ConfigError(
            f"network: {name} takes images (channels, height, width), but {tuple(observation_shape)} looks like "
            "(height, width, channels); set --data.wrappers [lit_dqn.ChannelsFirst], or give images as uint8, which "
            "are turned by themselves."
        )
    if len(observation_shape) not in (2, 3):
        raise ConfigError(
            f"network: {name} takes images (channels, height, width), not observations of shape "
            f"{tuple(observation_shape)}; use --model.network lit_dqn.MLP."
        )
    *channels, height, width = observation_shape
    return channels[0] if channels else 1, height, width


def with_channels(image: Tensor) -> Tensor:
    """[B, channels, height, width], also for grey images [B, height, width]."""
    return image.unsqueeze(1) if image.ndim == 3 else image


class MLP(HeadedNetwork):
    """Dense layers with ReLU between; observations of any shape are flattened.

    Args:
        observation_shape: any.
        num_outputs: one per action for Q, 1 for V.
        hidden_sizes: units of each hidden layer; the last one belongs to the head.
        layer_norm: normalise over all units before each ReLU (Ba et al. 2016).
        dueling: separate last hidden layers and outputs for V(s) and for the advantages of the actions.
        noise: σ0 of a noisy last hidden layer and noisy outputs; None: no noise.
        head: the meaning of the outputs, such as `QuantileHead`; None: the network returns them directly.

    Raises:
        ConfigError: if a layer has no units.

    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_outputs: int,
        hidden_sizes: Sequence[int] = (120, 84),
        layer_norm: bool = False,
        dueling: bool = False,
        noise: float | None = None,
        head: Callable[[Outputs], Head] | None = None,
    ) -> None:
        check_sizes(type(self).__name__, "hidden_sizes", hidden_sizes)
        check_one_array(type(self).__name__, observation_shape)
        hidden_size = hidden_sizes[-1] if hidden_sizes else None
        sizes = [math.prod(observation_shape), *hidden_sizes[:-1]]
        layers: list[nn.Module] = [nn.Flatten()]
        for size, next_size in itertools.pairwise(sizes):
            norm = [nn.LayerNorm(next_size)] if layer_norm else []
            layers += [nn.Linear(size, next_size), *norm, nn.ReLU()]
        super().__init__(layers, DenseOutputs(sizes[-1], num_outputs, hidden_size, dueling, layer_norm, noise), head)

    def forward(self, observation: Tensor) -> Tensor:
        """[B, *observation_shape] to [B, num_outputs]."""
        *layers, last = self
        features = self._through(layers, observation)
        # The last layer is not forced to float32 in mixed precision, so that runs of earlier releases stay the same.
        return last.q_values(features) if isinstance(last, Head) else last(features)
