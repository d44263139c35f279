"""A network is a torso, which makes features of an observation, and a head, which makes its outputs of these."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from lit_dqn.learning.networks.heads import DenseOutputs, Head, Outputs, ValueHead, in_full_precision


def to_float(observation: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1], bool to 0 and 1; anything else as it is. Calling it again changes nothing."""
    if observation.dtype == torch.uint8:
        return observation.float().mul_(1 / 255)
    return observation.float() if observation.dtype == torch.bool else observation


class HeadedNetwork(nn.Sequential):
    """A torso and a head; called, it says [B, num_outputs]: what actions are chosen by, or what else is learned.

    Args:
        torso: layers from [B, *observation_shape], as floats, to features [B, outputs.num_features].
        outputs: the dense layers of the head.
        head: what the outputs mean; None: they are what the network says.

    """

    def __init__(
        self, torso: Iterable[nn.Module], outputs: DenseOutputs, head: Callable[[Outputs], Head] | None
    ) -> None:
        torso = list(torso)
        if head is None and not outputs.dueling:
            # Layer by layer, as networks have always been in checkpoints.
            super().__init__(*torso, *outputs.layers(outputs.num_actions))
        else:
            super().__init__(*torso, (head or ValueHead)(outputs))
        self._head_layers = len(self) - len(torso)

    def torso_parameters(self) -> list[nn.Parameter]:
        """Those of the torso; all others are the head's: its dense layers and what else it has."""
        torso = list(self)[: -self._head_layers]
        return [parameter for layer in torso for parameter in layer.parameters()]

    @property
    def head(self) -> Head | None:
        """What gives the outputs their meaning, if they have another than to be what the network says."""
        last = self[-1]
        return last if isinstance(last, Head) else None

    def prepared(self, observation: Tensor) -> Tensor:
        """An observation as the first layer takes it."""
        return to_float(observation)

    def features(self, observation: Tensor) -> Tensor:
        """What the last module takes: [B, *observation_shape] to [B, number of features]."""
        *torso, _ = self
        return self._through(torso, observation)

    def forward(self, observation: Tensor) -> Tensor:
        """[B, *observation_shape] to [B, num_outputs]."""
        *torso, last = self
        features = self._through(torso, observation)
        return last.q_values(features) if isinstance(last, Head) else in_full_precision(last, features)

    def _through(self, torso: Sequence[nn.Module], observation: Tensor) -> Tensor:
        features = self.prepared(observation)
        for layer in torso:
            features = layer(features)
        return features
