"""A network for observations of several parts."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.networks.build import NetworkFactory, blank_observations, build_network
from lit_dqn.learning.networks.headed import HeadedNetwork, to_float
from lit_dqn.learning.networks.heads import DenseOutputs, Head, Outputs
from lit_dqn.learning.networks.torsos import NatureCNN, check_sizes

SMALLEST_IMAGE = 36
"""Pixels of a side, from which on two axes are an image without channels."""


class PartsNetwork(HeadedNetwork):
    """An encoder for each part of an observation, whose features lie side by side; then a head.

    An encoder is any network that could be one by itself. Of lit_dqn's the last layer is left out, so its features are
    what is before: of `NatureCNN` the dense layer with ReLU, of `MLP` the last hidden one. A class of your own is asked
    for `dense_size` outputs, which are its features.

    Args:
        observation_shape: of each part, by its name.
        num_outputs: one per action for Q, 1 for V.
        encoders: by the names of parts; of those that it leaves out images have a `NatureCNN`, and all others are
            features as they are.
        dense_size: units of the dense layer after the features.
        layer_norm: normalise that layer before its ReLU (Ba et al. 2016).
        dueling: V(s) and the advantages of the actions from dense layers of their own (Wang et al. 2016).
        noise: σ0 of noisy dense layers, which explore (Fortunato et al. 2018: 0.5); None: they have no noise.
        head: what the outputs mean, such as `QuantileHead`; None: they are what the network says.

    Raises:
        ConfigError: if observations have no parts, there is an encoder for none of them, or one does not take its part.

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
                f"network: encoders of {name} names {unknown[0]}, which is no part of the observations; name some of "
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
        self.encoders = nn.ModuleList(  # names may be such as modules cannot have
            _encoder(name, shape, encoders.get(name), dense_size) for name, shape in shapes.items()
        )

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        return torch.cat(
            [encoder(observation[name]) for name, encoder in zip(self.names, self.encoders, strict=True)], dim=1
        )


class _AsItIs(nn.Module):
    """A part as its own features."""

    def forward(self, part: Tensor) -> Tensor:
        return to_float(part).flatten(1)


def _encoder(name: str, shape: tuple[int, ...], factory: NetworkFactory | None, dense_size: int) -> nn.Module:
    if factory is None:
        if not (len(shape) == 3 or (len(shape) == 2 and min(shape) >= SMALLEST_IMAGE)):
            return _AsItIs()
        factory = NatureCNN
    try:
        encoder = build_network(factory, shape, dense_size, "features of a part")
    except ConfigError as error:
        said = str(error).removeprefix("network: ")
        # What would do as a network would do as an encoder.
        said = re.sub(
            re.escape("--model.network ") + r"([\w.]*\w)",
            lambda network: f"--model.network.encoders '{{{name}: {network[1]}}}'",
            said,
        )
        raise ConfigError(f"network: of the part {name}: {said}") from error
    if isinstance(encoder, HeadedNetwork):
        encoder[-1] = nn.Identity()
    return encoder
