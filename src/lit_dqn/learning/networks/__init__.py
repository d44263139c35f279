"""Networks take observations as the env returns them, [B, *shape]; uint8 means an image with values 0 to 255.
Observations of several parts are a dictionary of such tensors.
"""

from lit_dqn.learning.networks.build import (
    NetworkFactory,
    ObservationShape,
    blank_observations,
    build_network,
    torso_parameters,
    update_target,
)
from lit_dqn.learning.networks.headed import HeadedNetwork, to_float
from lit_dqn.learning.networks.heads import (
    CategoricalHead,
    Dueling,
    Head,
    ImplicitQuantileHead,
    Outputs,
    QuantileHead,
    ValueHead,
    expectation,
)
from lit_dqn.learning.networks.impala import ImpalaCNN, Pool
from lit_dqn.learning.networks.noisy import Noise, NoisyLinear
from lit_dqn.learning.networks.parts_network import PartsNetwork
from lit_dqn.learning.networks.quantile_network import QuantileNetwork
from lit_dqn.learning.networks.recurrent import ObservedSequences, RecurrentNetwork
from lit_dqn.learning.networks.spectral import SpectralNorm, SpectralNorms
from lit_dqn.learning.networks.torsos import CNN, MLP, NatureCNN

__all__ = [
    "CNN",
    "MLP",
    "CategoricalHead",
    "Dueling",
    "Head",
    "HeadedNetwork",
    "ImpalaCNN",
    "ImplicitQuantileHead",
    "NatureCNN",
    "NetworkFactory",
    "Noise",
    "NoisyLinear",
    "ObservationShape",
    "ObservedSequences",
    "Outputs",
    "PartsNetwork",
    "Pool",
    "QuantileHead",
    "QuantileNetwork",
    "RecurrentNetwork",
    "SpectralNorm",
    "SpectralNorms",
    "ValueHead",
    "blank_observations",
    "build_network",
    "expectation",
    "to_float",
    "torso_parameters",
    "update_target",
]
