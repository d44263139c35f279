"""Deep Q-learning on PyTorch Lightning. Importing lit_dqn registers its grid worlds with Gymnasium."""

from lit_dqn.checkpoint import ReplayCheckpointIO
from lit_dqn.data import ReplayDataModule
from lit_dqn.dqn import LitDQN
from lit_dqn.envs import make_env
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.networks import CNN, MLP, NatureCNN
from lit_dqn.objectives import DoubleQLearning, QLearning
from lit_dqn.policies import EpsilonGreedy, Greedy, Softmax, UniformRandom
from lit_dqn.replay import Latest, Uniform
from lit_dqn.schedules import Constant, Exponential, Linear

__all__ = [
    "CNN",
    "MLP",
    "ConfigError",
    "Constant",
    "DoubleQLearning",
    "EpsilonGreedy",
    "Exponential",
    "Greedy",
    "Latest",
    "Linear",
    "LitDQN",
    "NatureCNN",
    "QLearning",
    "ReplayCheckpointIO",
    "ReplayDataModule",
    "Softmax",
    "TrainingError",
    "Uniform",
    "UniformRandom",
    "make_env",
]
