from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor, nn

from lit_dqn.learning.networks.build import build_network, torso_parameters
from lit_dqn.learning.networks.heads import QuantileHead
from lit_dqn.learning.networks.torsos import NatureCNN


class QuantileNetwork(nn.Module):
    """Quantiles of the return of each action; a call returns their means, the action values.

    Dabney et al. 2018, "Distributional reinforcement learning with quantile regression". The objective is
    `QuantileRegression`; for all other code it is an ordinary network.

    Args:
        observation_shape: any shape that `network` takes.
        num_outputs: one per action.
        network: (observation_shape, n) -> module from [B, *observation_shape] to [B, n]; it is created with
            `num_outputs` x `num_quantiles` outputs.
        num_quantiles: N; the paper uses 200.

    Raises:
        ConfigError: if `num_quantiles` is below 1, or `network` does not take the observations.

    """

    def __init__(
        self,
        observation_shape: tuple[int, ...],
        num_outputs: int,
        network: Callable[[tuple[int, ...], int], nn.Module] = NatureCNN,
        num_quantiles: int = 200,
    ) -> None:
        super().__init__()
        self.head = QuantileHead(_AsTheyAre(num_outputs * num_quantiles, num_outputs), num_quantiles)
        self.network = build_network(
            network, observation_shape, num_outputs * num_quantiles, f"{num_quantiles} quantiles for each action"
        )

    def torso_parameters(self) -> Iterable[nn.Parameter]:
        """The parameters of the torso of `network`."""
        return torso_parameters(self.network)

    def features(self, observation: Tensor) -> Tensor:
        """The outputs of `network`: [B, *observation_shape] to [B, num_outputs * num_quantiles]."""
        outputs: Tensor = self.network(observation)
        return outputs

    def quantiles(self, observation: Tensor) -> Tensor:
        """[B, *observation_shape] to [B, num_outputs, num_quantiles]."""
        return self.head.quantiles(self.features(observation))

    def forward(self, observation: Tensor) -> Tensor:
        """[B, *observation_shape] to the means, [B, num_outputs]."""
        return self.head.q_values(self.features(observation))


class _AsTheyAre(NamedTuple):
    """Outputs that have already been computed, [B, num_actions * per_action]."""

    num_features: int
    num_actions: int

    def build(self, per_action: int) -> nn.Module:
        return nn.Unflatten(1, (self.num_actions, per_action))
