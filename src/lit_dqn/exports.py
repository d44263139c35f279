"""Where the public names of lit_dqn are defined. Importing torch and Lightning takes seconds, so each name is imported
on first use.

Configs and checkpoints use public names, so files can move.
"""

from typing import Any

PARTS = {
    "C51": "learning.objectives.categorical",
    "CNN": "learning.networks.torsos",
    "MLP": "learning.networks.torsos",
    "ActorCritic": "learning.objectives.prediction",
    "CategoricalHead": "learning.networks.heads",
    "CategoricalQLearning": "learning.objectives.categorical",
    "ChannelsFirst": "envs.observations",
    "CheckpointPolicy": "training.checkpoint_policy",
    "Constant": "schedules",
    "DiscretizedActions": "envs.actions",
    "DoubleQLearning": "learning.objectives.q_learning",
    "EpsilonGreedy": "playing.policies",
    "Exponential": "schedules",
    "Greedy": "playing.policies",
    "HLGauss": "learning.objectives.categorical",
    "ImpalaCNN": "learning.networks.impala",
    "ImplicitQuantileHead": "learning.networks.heads",
    "ImplicitQuantileLearning": "learning.objectives.implicit",
    "Latest": "replay.samplers",
    "Linear": "schedules",
    "MinariEpisodes": "playing.minari_episodes",
    "Munchausen": "learning.objectives.munchausen",
    "MunchausenQLearning": "learning.objectives.munchausen",
    "NatureCNN": "learning.networks.torsos",
    "PartsNetwork": "learning.networks.parts_network",
    "Play": "training.play",
    "Prioritized": "replay.prioritized",
    "QLearning": "learning.objectives.q_learning",
    "QuantileHead": "learning.networks.heads",
    "QuantileNetwork": "learning.networks.quantile_network",
    "QuantileRegression": "learning.objectives.quantile",
    "RayActors": "playing.ray_actors",
    "RecurrentNetwork": "learning.networks.recurrent",
    "Repeated": "schedules",
    "Rollout": "replay.rollout",
    "Sequences": "replay.sequences",
    "ShrinkAndPerturb": "learning.resets",
    "Softmax": "playing.policies",
    "TDLearning": "learning.objectives.prediction",
    "Uniform": "replay.samplers",
    "UniformRandom": "playing.policies",
}
"""The parts of agents and data, which are the classes that a checkpoint may name: class names, and their modules."""

EXPORTS = PARTS | {
    "ConfigError": "errors",
    "LitActorCritic": "training.actor_critic",
    "LitAgent": "training.agent",
    "LitDQN": "training.dqn",
    "LitTD": "training.td",
    "ReplayCheckpointIO": "saving.io",
    "ReplayDataModule": "training.data",
    "Run": "api",
    "ShardedStrategy": "training.strategy",
    "TrainingError": "errors",
    "load_agent": "training.loading",
    "make_env": "envs.make",
}
"""All public names, and their modules."""


def public_path(path: str) -> str:
    """The path of a class as lit_dqn exports it, `lit_dqn.MLP`.

    Args:
        path: of any class. Checkpoints of release 0.1.0 use the modules of that release, such as
            `lit_dqn.networks.MLP`.

    Returns:
        `path` itself if the class is not one of lit_dqn's public classes.

    """
    name = path.rpartition(".")[2]
    return f"lit_dqn.{name}" if path.startswith("lit_dqn.") and name in EXPORTS else path


def with_public_paths(described: Any) -> Any:
    """A specification, plain values, in which lit_dqn's classes have their public names."""
    if isinstance(described, dict):
        return {
            key: public_path(value) if key == "class_path" and isinstance(value, str) else with_public_paths(value)
            for key, value in described.items()
        }
    return [with_public_paths(value) for value in described] if isinstance(described, list) else described
