"""The residual encoder of IMPALA."""

from collections.abc import Callable
from enum import Enum

import torch
from torch import Tensor, nn

from lit_dqn.learning.networks.headed import HeadedNetwork
from lit_dqn.learning.networks.heads import DenseOutputs, Head, Outputs
from lit_dqn.learning.networks.spectral import add_spectral_norm
from lit_dqn.learning.networks.torsos import check_sizes, draw_weights, shape_of_image, with_channels

CHANNELS = (16, 32, 32)
"""Filters of the three blocks, at width 1."""


class Pool(Enum):
    """How the last images of an encoder become features."""

    flatten = "flatten"
    """All positions are kept: Espeholt et al. (2018)."""

    average = "average"
    """The mean over all positions (Trumpp et al. 2025, "Impoola")."""

    adaptive_max = "adaptive_max"
    """The maxima of 6 x 6 fields (Clark et al. 2024, "Beyond the Rainbow")."""


class ImpalaCNN(HeadedNetwork):
    """The residual network of Espeholt et al. (2018, "IMPALA", figure 3, the larger network without its LSTM), and a
    head.

    Three blocks, each a convolution, 3 x 3 maxima with stride 2, and two residual blocks of two convolutions.

    Args:
        observation_shape: (channels, height, width), or (height, width) of grey images.
        num_outputs: one per action for Q, 1 for V.
        width: multiplies the 16, 32 and 32 filters of the blocks.
        pool: how the last images become features, by name (`Pool`).
        dense_size: units of the dense layer.
        spectral_norm: divide the weights of the convolutions in residual blocks by their largest singular value,
            estimated by one step of power iteration per update (Miyato et al. 2018; BTR).
        layer_norm: normalise over all units after each convolution and before each dense ReLU.
        dueling: separate dense layers for V(s) and for the advantages of the actions (Wang et al. 2016).
        noise: σ0 of noisy dense layers, which explore (Fortunato et al. 2018: 0.5); None: no noise.
        head: the meaning of the outputs, such as `QuantileHead`; None: the network returns them directly.

    Raises:
        ConfigError: if the observations are not images, or a layer has no units.

    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_outputs: int,
        width: int = 1,
        pool: Pool = Pool.flatten,
        dense_size: int = 256,
        spectral_norm: bool = False,
        layer_norm: bool = False,
        dueling: bool = False,
        noise: float | None = None,
        head: Callable[[Outputs], Head] | None = None,
    ) -> None:
        name = type(self).__name__
        check_sizes(name, "width", [width])
        check_sizes(name, "dense_size", [dense_size])
        channels, *places = shape_of_image(name, observation_shape)
        layers: list[nn.Module] = []
        for filters in CHANNELS:
            layers += [*_convolution(channels, width * filters, layer_norm), nn.MaxPool2d(3, stride=2, padding=1)]
            channels = width * filters
            layers += [_Residual(channels, spectral_norm, layer_norm) for _ in range(2)]
            places = [(size + 1) // 2 for size in places]
        layers.append(nn.ReLU())
        pool = Pool(pool)
        if pool is Pool.average:
            layers.append(nn.AdaptiveAvgPool2d(1))
            places = [1, 1]
        elif pool is Pool.adaptive_max:
            layers.append(_MaximaOfFields(6, places))
            places = [6, 6]
        outputs = DenseOutputs(
            channels * places[0] * places[1],
            num_outputs,
            dense_size,
            dueling=dueling,
            layer_norm=layer_norm,
            noise=noise,
        )
        super().__init__([*layers, nn.Flatten()], outputs, head)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                draw_weights(layer)
        self.to(memory_format=torch.channels_last)

    def prepared(self, observation: Tensor) -> Tensor:
        """An image as floats, with channels."""
        return super().prepared(with_channels(observation))


class _Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, channels: int, spectral_norm: bool, layer_norm: bool) -> None:
        super().__init__()
        convolutions = [_convolution(channels, channels, layer_norm) for _ in range(2)]
        if spectral_norm:
            for convolution, *_ in convolutions:
                add_spectral_norm(convolution)
        self.layers = nn.Sequential(*(layer for after in convolutions for layer in (nn.ReLU(), *after)))

    def forward(self, image: Tensor) -> Tensor:
        residual: Tensor = self.layers(image)
        return image + residual


class _MaximaOfFields(nn.Module):
    """`nn.AdaptiveMaxPool2d` for images of a fixed size; it can be exported even where fields overlap."""

    def __init__(self, size: int, places: list[int]) -> None:
        super().__init__()
        rows, columns = (
            [slice(number * length // size, -(-(number + 1) * length // size)) for number in range(size)]
            for length in places
        )
        self.rows, self.columns = rows, columns

    def forward(self, image: Tensor) -> Tensor:
        rows = torch.stack([image[:, :, part].amax(dim=2) for part in self.rows], dim=2)
        return torch.stack([rows[..., part].amax(dim=3) for part in self.columns], dim=3)


def _convolution(channels: int, filters: int, layer_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, filters, kernel_size=3, padding=1)
    draw_weights(convolution)
    return [convolution, nn.GroupNorm(1, filters)] if layer_norm else [convolution]
