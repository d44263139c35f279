"""A policy picks an action per env. It holds no state: each env's random generator is handed in by its owner."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError
from lit_dqn.schedules import Constant, Schedule
from lit_dqn.types import ActionValues

Generators = Sequence[np.random.Generator]


class Policy(ABC):
    """How actions follow from action values."""

    @abstractmethod
    def act(
        self, agent: ActionValues, observation: NDArray, env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N] for observations [N, *shape]; `generators` has one generator per env."""

    def metrics(self, env_step: int) -> dict[str, float]:
        """What the log should know of the policy at this env step, by name."""
        return {}


class UniformRandom(Policy):
    """Every action with the same probability: the lesson's stationary policy."""

    def act(
        self, agent: ActionValues, observation: NDArray, env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N], drawn without asking the agent."""
        return np.array([generator.integers(agent.num_actions) for generator in generators])

    def metrics(self, env_step: int) -> dict[str, float]:
        """The exploration rate, 1."""
        return {"exploration_rate": 1.0}


class Greedy(Policy):
    """The action with the highest value; ties are broken at random."""

    def act(
        self, agent: ActionValues, observation: NDArray, env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N]."""
        return np.array([_best(*row) for row in zip(agent.q_values(observation), generators, strict=True)])

    def metrics(self, env_step: int) -> dict[str, float]:
        """The exploration rate, 0."""
        return {"exploration_rate": 0.0}


class EpsilonGreedy(Policy):
    """Uniformly random with probability ε, greedy otherwise (Sutton & Barto 2020, section 2.2).

    Args:
        epsilon: ε as a number or as a schedule over env steps.

    Raises:
        ConfigError: if ε leaves [0, 1].

    """

    def __init__(self, epsilon: Schedule | float = 0.1) -> None:
        self.epsilon = epsilon if isinstance(epsilon, Schedule) else Constant(epsilon)
        for value in (self.epsilon.start, self.epsilon.end):
            if not 0 <= value <= 1:
                raise ConfigError(f"epsilon: {value} is a probability and must lie in [0, 1].")

    def act(
        self, agent: ActionValues, observation: NDArray, env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N]; the agent is asked only if some env is greedy this time."""
        epsilon = self.epsilon(env_step)
        explore = np.array([generator.random() < epsilon for generator in generators])
        if explore.all():
            return UniformRandom().act(agent, observation, env_step, generators)
        q_values = agent.q_values(observation)
        return np.array(
            [
                generator.integers(agent.num_actions) if random else _best(q_values[env], generator)
                for env, (generator, random) in enumerate(zip(generators, explore, strict=True))
            ]
        )

    def metrics(self, env_step: int) -> dict[str, float]:
        """The exploration rate, ε."""
        return {"exploration_rate": self.epsilon(env_step)}


class Softmax(Policy):
    """Actions with probability proportional to exp(Q / τ) (Sutton & Barto 2020, eq. 13.2, on action values).

    Args:
        temperature: τ as a number or as a schedule over env steps.

    Raises:
        ConfigError: if τ is not positive.

    """

    def __init__(self, temperature: Schedule | float = 1.0) -> None:
        self.temperature = temperature if isinstance(temperature, Schedule) else Constant(temperature)
        for value in (self.temperature.start, self.temperature.end):
            if value <= 0:
                raise ConfigError(f"temperature: {value} must be positive; for the limit 0 use Greedy.")

    def act(
        self, agent: ActionValues, observation: NDArray, env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N]."""
        logits = agent.q_values(observation).astype(np.float64) / self.temperature(env_step)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        cumulative = np.cumsum(weights, axis=1)
        draws = np.array([generator.random() for generator in generators]) * cumulative[:, -1]
        return (cumulative <= draws[:, None]).sum(axis=1)

    def metrics(self, env_step: int) -> dict[str, float]:
        """The temperature τ."""
        return {"temperature": self.temperature(env_step)}


def _best(q_values: NDArray[np.float32], generator: np.random.Generator) -> int:
    """The action with the highest value; the generator is asked only to break a tie."""
    best = np.flatnonzero(q_values == q_values.max())
    return int(generator.choice(best)) if len(best) > 1 else int(q_values.argmax())
