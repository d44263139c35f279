"""Deep Q-learning on PyTorch Lightning. Importing lit_dqn registers its grid worlds with Gymnasium."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lit_dqn.waiting import wait_passively_in_a_crowd

wait_passively_in_a_crowd()  # before torch is loaded

import lit_dqn.envs  # noqa: E402, F401 - registers them
from lit_dqn.exports import EXPORTS  # noqa: E402

if TYPE_CHECKING:
    from lit_dqn.api import Run
    from lit_dqn.envs import make_env
    from lit_dqn.envs.actions import DiscretizedActions
    from lit_dqn.envs.observations import ChannelsFirst
    from lit_dqn.errors import ConfigError, TrainingError
    from lit_dqn.learning.networks import (
        CNN,
        MLP,
        CategoricalHead,
        ImpalaCNN,
        ImplicitQuantileHead,
        NatureCNN,
        PartsNetwork,
        QuantileHead,
        QuantileNetwork,
        RecurrentNetwork,
    )
    from lit_dqn.learning.objectives import (
        C51,
        ActorCritic,
        CategoricalQLearning,
        DoubleQLearning,
        HLGauss,
        ImplicitQuantileLearning,
        Munchausen,
        MunchausenQLearning,
        QLearning,
        QuantileRegression,
        TDLearning,
    )
    from lit_dqn.learning.resets import ShrinkAndPerturb
    from lit_dqn.playing.minari_episodes import MinariEpisodes
    from lit_dqn.playing.policies import EpsilonGreedy, Greedy, Softmax, UniformRandom
    from lit_dqn.playing.ray_actors import RayActors
    from lit_dqn.replay import Latest, Prioritized, Rollout, Sequences, Uniform
    from lit_dqn.saving.io import ReplayCheckpointIO
    from lit_dqn.schedules import Constant, Exponential, Linear, Repeated
    from lit_dqn.training.actor_critic import LitActorCritic
    from lit_dqn.training.agent import LitAgent
    from lit_dqn.training.checkpoint_policy import CheckpointPolicy
    from lit_dqn.training.data import ReplayDataModule
    from lit_dqn.training.dqn import LitDQN
    from lit_dqn.training.loading import load_agent
    from lit_dqn.training.play import Play
    from lit_dqn.training.strategy import ShardedStrategy
    from lit_dqn.training.td import LitTD

__all__ = [
    "C51",
    "CNN",
    "MLP",
    "ActorCritic",
    "CategoricalHead",
    "CategoricalQLearning",
    "ChannelsFirst",
    "CheckpointPolicy",
    "ConfigError",
    "Constant",
    "DiscretizedActions",
    "DoubleQLearning",
    "EpsilonGreedy",
    "Exponential",
    "Greedy",
    "HLGauss",
    "ImpalaCNN",
    "ImplicitQuantileHead",
    "ImplicitQuantileLearning",
    "Latest",
    "Linear",
    "LitActorCritic",
    "LitAgent",
    "LitDQN",
    "LitTD",
    "MinariEpisodes",
    "Munchausen",
    "MunchausenQLearning",
    "NatureCNN",
    "PartsNetwork",
    "Play",
    "Prioritized",
    "QLearning",
    "QuantileHead",
    "QuantileNetwork",
    "QuantileRegression",
    "RayActors",
    "RecurrentNetwork",
    "Repeated",
    "ReplayCheckpointIO",
    "ReplayDataModule",
    "Rollout",
    "Run",
    "Sequences",
    "ShardedStrategy",
    "ShrinkAndPerturb",
    "Softmax",
    "TDLearning",
    "TrainingError",
    "Uniform",
    "UniformRandom",
    "load_agent",
    "make_env",
]


def __getattr__(name: str) -> Any:
    if name not in EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"lit_dqn.{EXPORTS[name]}"), name)
