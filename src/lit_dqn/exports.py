"""Where the public names of lit_dqn are defined: torch and Lightning take seconds, and wait until one is asked for.

Configs and checkpoints say public names, so files can move.
"""

from typing import Any

EXPORTS = {
    "CNN": "networks",
    "MLP": "networks",
    "ActorCritic": "objectives",
    "CheckpointPolicy": "checkpoint_policy",
    "ConfigError": "errors",
    "Constant": "schedules",
    "DoubleQLearning": "objectives",
    "EpsilonGreedy": "policies",
    "Exponential": "schedules",
    "Greedy": "policies",
    "Latest": "replay",
    "Linear": "schedules",
    "LitActorCritic": "actor_critic",
    "LitAgent": "agent",
    "LitDQN": "dqn",
    "LitTD": "td",
    "MunchausenQLearning": "objectives",
    "NatureCNN": "networks",
    "QLearning": "objectives",
    "QuantileNetwork": "networks",
    "QuantileRegression": "objectives",
    "ReplayCheckpointIO": "checkpoint",
    "ReplayDataModule": "data",
    "Run": "api",
    "Softmax": "policies",
    "TDLearning": "objectives",
    "TrainingError": "errors",
    "Uniform": "replay",
    "UniformRandom": "policies",
    "load_agent": "loading",
    "make_env": "envs",
}
"""Names, and their modules."""


def public_path(path: str) -> str:
    """The path of a class as lit_dqn exports it, `lit_dqn.MLP`.

    Args:
        path: of any class. Checkpoints of release 0.1.0 named the files of that day, such as `lit_dqn.networks.MLP`.

    Returns:
        `path` itself where the class is none of lit_dqn's public ones.

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
