"""A network for observations of several parts."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.networks.build import NetworkFactory, ObservationShape, blank_observations, build_network
from lit_dqn.learning.networks.headed import HeadedNetwork, to_float
from lit_dqn.learning.networks.heads import DenseOutputs, Head, Outputs
from lit_dqn.learning.networks.torsos import NatureCNN, check_sizes

SMALLEST_IMAGE = 36
"""The smallest side, in pixels, at which an array of two axes counts as an image without channels."""


class PartsNetwork(HeadedNetwork):
    """An encoder for each part of an observation, whose features are concatenated; then a head.

    An encoder is any network. The last layer of lit_dqn's networks is left out, so their features are the outputs of
    the layer before it: of `NatureCNN` the dense layer with ReLU, of `MLP` the last hidden layer. A custom class is
    created with `dense_size` outputs, which are its features.

    Args:
        observation_shape: of each part, by name.
        num_outputs: one per action for Q, 1 for V.
        encoders: by the names of parts. Of the parts without one, images get a `NatureCNN`, and all others are used as
            features directly.
        dense_size: units of the dense layer after the features.
        layer_norm: normalise that layer before its ReLU (Ba et al. 2016).
        dueling: separate dense layers for V(s) and for the advantages of the actions (Wang et al. 2016).
        noise: σ0 of noisy dense layers, which explore (Fortunato et al. 2018: 0.5); None: no noise.
        head: the meaning of the outputs, such as `QuantileHead`; None: the network returns them directly.

    Raises:
        ConfigError: if observations have no parts, an encoder names an unknown part, or one does not accept its part.

    """

    def __init__(
        self,
        observation_shape: Mapping[str, tuple[int, ...]],
        num_outputs: int,
        encoders: dict[str, Callable[[tuple[int, ...], int], nn.Module]] | None = None,
        dense_size: int = 512,
        layer_norm: bool = False,
        dueling: bool = False,
        noise: float | None = None,
        head: Callable[[Outputs], Head] | None = None,
    ) -> None:
        name, encoders = type(self).__name__, encoders or {}
        check_sizes(name, "dense_size", [dense_size])
        if not isinstance(observation_shape, Mapping):
            other = "lit_dqn.NatureCNN" if len(observation_shape) == 3 else "lit_dqn.MLP"
            raise ConfigError(
                f"network: {name} takes observations of several parts, and these are one array of shape "
                f"{tuple(observation_shape)}; set --model.network {other}."
            )
        unknown = sorted(encoders.keys() - observation_shape.keys())
        if unknown:
            raise ConfigError(
                f"network: encoders of {name} names {unknown[0]}, which is not a part of the observations; name one of "
                f"{', '.join(observation_shape)}."
            )
        parts = _Encoders(observation_shape, encoders, dense_size)
        with torch.no_grad():
            num_features = parts.eval()(blank_observations(observation_shape)).shape[1]
        parts.train()
        super().__init__(
            [parts],
            DenseOutputs(num_features, num_outputs, dense_size, dueling=dueling, layer_norm=layer_norm, noise=noise),
            head,
        )

    def prepared(self, observation: Tensor) -> Tensor:
        """Each encoder prepares its own part."""
        return observation


class _Encoders(nn.Module):
    """From the parts of observations, by name, to features [B, F]."""

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], encoders: Mapping[str, NetworkFactory], dense_size: int
    ) -> None:
        super().__init__()
        self.names = tuple(shapes)
        self.encoders = nn.ModuleList(  # a list, because a part may have a name that is invalid for a module
            _encoder(name, shape, encoders.get(name), dense_size) for name, shape in shapes.items()
        )

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        return torch.cat(
            [encoder(observation[name]) for name, encoder in zip(self.names, self.encoders, strict=True)], dim=1
        )


class _AsItIs(nn.Module):
    """A part that is used as features directly."""

    def forward(self, part: Tensor) -> Tensor:
        return to_float(part).flatten(1)


def encoder_of(shape: ObservationShape, factory: NetworkFactory | None, size: int) -> nn.Module:
    """A module from observations, or from a part of them, to features [B, F].

    Args:
        shape: of one observation or part.
        factory: makes a network; the last layer of lit_dqn's own networks is left out. None: `NatureCNN` for images;
            all other observations are features as they are.
        size: the number of outputs that a custom network must have.

    Raises:
        ConfigError: if the network does not accept this shape, or has a memory.

    """
    if factory is None:
        if not (len(shape) == 3 or (isinstance(shape, tuple) and len(shape) == 2 and min(shape) >= SMALLEST_IMAGE)):
            return _AsItIs()
        factory = NatureCNN
    encoder = build_network(factory, shape, size, "features")
    if hasattr(encoder, "memory_size"):
        raise ConfigError(
            f"network: {type(encoder).__name__} keeps no memory inside another network; set --model.network "
            f"{'lit_dqn.NatureCNN' if len(shape) == 3 else 'lit_dqn.MLP'}."
        )
    if isinstance(encoder, HeadedNetwork):
        encoder[-1] = nn.Identity()
    return encoder


def _encoder(name: str, shape: tuple[int, ...], factory: NetworkFactory | None, dense_size: int) -> nn.Module:
    try:
        return encoder_of(shape, factory, dense_size)
    except ConfigError as error:
        said = str(error).removeprefix("network: ")
        # A class that is valid as a network is valid as an encoder.
        said = re.sub(
            re.escape("--model.network ") + r"([\w.]*\w)",
            lambda network: f"--model.network.encoders '{{{name}: {network[1]}}}'",
            said,
        )
        raise ConfigError(f"network: of the part {name}: {said}") from error
