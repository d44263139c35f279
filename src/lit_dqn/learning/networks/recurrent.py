"""A network with a memory of the episode."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_dqn.errors import ConfigError
from lit_dqn.learning.networks.build import NetworkFactory, ObservationShape, blank_observations
from lit_dqn.learning.networks.headed import HeadedNetwork
from lit_dqn.learning.networks.heads import DenseOutputs, Head, Outputs, ValueHead
from lit_dqn.learning.networks.parts_network import PartsNetwork, encoder_of
from lit_dqn.learning.networks.torsos import check_sizes


class ObservedSequences(NamedTuple):
    """B sequences of observations, which a `RecurrentNetwork` takes in place of single ones."""

    observation: Any  # [B * T, *shape], one sequence after the other; with several parts, a tensor for each name
    burn_in: Any  # [B * b, *shape], the observations before each sequence; None: b is 0
    memory: Tensor  # [B, M], the memory before the first of all these observations
    burned_in: Tensor  # [B] bool, False for a sequence that begins its episode and so has no burn-in
    place: Tensor  # [R], for which of the B * T observations the network returns outputs


class RecurrentNetwork(HeadedNetwork):
    """An encoder, an LSTM and a head (Hausknecht & Stone 2015; Kapturowski et al. 2019).

    Its memory is the state of the LSTM, hidden units and cells: M = 2 `lstm_size` numbers, all 0 at the start of an
    episode. Called with single observations, it treats each as the first of an episode. Called with
    `ObservedSequences`, it processes their burn-in without a gradient, then the sequences, and returns the outputs at
    the given places. An agent that acts calls `remember`.

    Args:
        observation_shape: any; of several parts, of each by its name.
        num_outputs: one per action for Q.
        encoder: any network; the last layer of lit_dqn's own is left out. None: `NatureCNN` for images, `PartsNetwork`
            for observations of several parts, and no encoder for all others.
        lstm_size: units of the LSTM.
        hidden_size: units of a dense layer between the LSTM and the outputs; None: no such layer.
        layer_norm: normalise that layer before its ReLU (Ba et al. 2016).
        dueling: V(s) and the advantages of the actions from layers of their own (Wang et al. 2016).
        noise: σ0 of noisy layers after the LSTM, which explore (Fortunato et al. 2018: 0.5); None: without noise.
        head: what the outputs mean, such as `QuantileHead`; None: they are action values.

    Raises:
        ConfigError: if a layer has no unit, or the encoder does not take the observations.

    """

    def __init__(
        self,
        observation_shape: ObservationShape,
        num_outputs: int,
        encoder: NetworkFactory | None = None,
        lstm_size: int = 512,
        hidden_size: int | None = None,
        layer_norm: bool = False,
        dueling: bool = False,
        noise: float | None = None,
        head: Callable[[Outputs], Head] | None = None,
    ) -> None:
        sizes = {"lstm_size": [lstm_size], "hidden_size": [] if hidden_size is None else [hidden_size]}
        for key, values in sizes.items():
            check_sizes(type(self).__name__, key, values)
        encodes = _encoder(observation_shape, encoder, lstm_size)
        with torch.no_grad():
            num_features = encodes.eval()(blank_observations(observation_shape)).shape[1]
        encodes.train()
        super().__init__(
            [encodes, nn.LSTM(num_features, lstm_size, batch_first=True)],
            DenseOutputs(lstm_size, num_outputs, hidden_size, dueling, layer_norm, noise),
            head or ValueHead,
        )
        self.memory_size = 2 * lstm_size

    def remember(self, observation: Any, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs for the next observations of N episodes, and the memory after them.

        Args:
            observation: [N, *observation_shape].
            memory: [N, M], float32, before them; all 0 at the start of an episode.

        Returns:
            [N, num_outputs], and [N, M].

        """
        hidden, cells = self._step(observation, memory)
        return self._says(hidden), torch.cat([hidden, cells], dim=1).float()

    def features(self, observation: Any) -> Tensor:
        """The input of the head: [B, lstm_size] for first observations of episodes, [R, lstm_size] for sequences."""
        if not isinstance(observation, ObservedSequences):
            first = next(iter(observation.values())) if isinstance(observation, Mapping) else observation
            return self._step(observation, first.new_zeros((len(first), self.memory_size)))[0]
        memory = observation.memory
        if observation.burn_in is not None:
            with torch.no_grad():
                _, burned = self._go_through(observation.burn_in, memory)
            memory = torch.where(observation.burned_in.unsqueeze(1), burned, memory)
        features, _ = self._go_through(observation.observation, memory)
        return features.flatten(0, 1).index_select(0, observation.place)

    def forward(self, observation: Any) -> Tensor:
        """[B, num_outputs] for first observations of episodes, [R, num_outputs] for `ObservedSequences`."""
        return self._says(self.features(observation))

    def _says(self, features: Tensor) -> Tensor:
        head: Any = self[-1]
        outputs: Tensor = head.q_values(features)
        return outputs

    def _step(self, observation: Any, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units and cells [N, F] after one more observation [N, *shape]."""
        encoded, lstm = self._encoded(observation)
        # The memory lasts for hundreds of steps, so it has full precision, also in mixed precision.
        with torch.autocast(encoded.device.type, enabled=False):
            hidden, cells = memory.to(encoded.dtype).chunk(2, dim=1)
            return torch.lstm_cell(encoded, (hidden, cells), *lstm.all_weights[0])

    def _go_through(self, observation: Any, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden units [B, T, F] for observations [B * T, *shape] after a memory [B, M], and the memory after them."""
        encoded, lstm = self._encoded(observation)
        before = memory.to(encoded.dtype).unsqueeze(0).chunk(2, dim=2)
        with torch.autocast(encoded.device.type, enabled=False):
            steps = encoded.reshape(len(memory), -1, lstm.input_size)
            features, after = lstm(steps, (before[0].contiguous(), before[1].contiguous()))
        return features, torch.cat(after, dim=2).squeeze(0).float()

    def _encoded(self, observation: Any) -> tuple[Tensor, nn.LSTM]:
        """Features [*, E] of observations, of the type of the LSTM's weights, and the LSTM."""
        lstm: Any = self[1]
        return self[0](observation).to(lstm.weight_hh_l0.dtype), lstm


def _encoder(shape: ObservationShape, factory: NetworkFactory | None, size: int) -> nn.Module:
    if factory is None and isinstance(shape, Mapping):
        factory = PartsNetwork
    try:
        return encoder_of(shape, factory, size)
    except ConfigError as error:
        # A network that would fit also fits as an encoder.
        said = str(error).replace("--model.network ", "--model.network.encoder ")
        raise ConfigError(re.sub("^network: ", "network: its encoder: ", said)) from error
