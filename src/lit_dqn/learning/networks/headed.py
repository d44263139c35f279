"""A network consists of a torso, which computes features of an observation, and a head, which computes outputs from
them.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from lit_dqn.learning.networks.heads import DenseOutputs, Head, Outputs, ValueHead, in_full_precision


def to_float(observation: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1], bool to 0 and 1; anything else is unchanged. Calling it twice does the same as
    once.
    """
    if observation.dtype == torch.uint8:
        return observation.float().mul_(1 / 255)
    return observation.float() if observation.dtype == torch.bool else observation


class HeadedNetwork(nn.Sequential):
    """A torso and a head; a call returns [B, num_outputs]: the numbers by which actions are chosen, or other outputs.

    Args:
        torso: layers from [B, *observation_shape], as floats, to features [B, outputs.num_features].
        outputs: the dense layers of the head.
        head: the meaning of the outputs; None: the network returns them directly.

    """

    def __init__(
        self, torso: Iterable[nn.Module], outputs: DenseOutputs, head: Callable[[Outputs], Head] | None
    ) -> None:
        torso = list(torso)
        if head is None and not outputs.dueling:
            # A flat sequence of layers, because checkpoints have always had this layout.
            super().__init__(*torso, *outputs.layers(outputs.num_actions))
        else:
            super().__init__(*torso, (head or ValueHead)(outputs))
        self._head_layers = len(self) - len(torso)

    def torso_parameters(self) -> list[nn.Parameter]:
        """The parameters of the torso; all others belong to the head."""
        torso = list(self)[: -self._head_layers]
        return [parameter for layer in torso for parameter in layer.parameters()]

    @property
    def head(self) -> Head | None:
        """The head that gives the outputs their meaning; None if the network returns them directly."""
        last = self[-1]
        return last if isinstance(last, Head) else None

    def prepared(self, observation: Tensor) -> Tensor:
        """An observation in the form that the first layer takes."""
        return to_float(observation)

    def features(self, observation: Tensor) -> Tensor:
        """The input of the last module: [B, *observation_shape] to [B, number of features]."""
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
