"""A policy chooses an action per env. It holds no state: the caller passes each env's random generator."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lit_dqn.branches import branches_of
from lit_dqn.errors import ConfigError
from lit_dqn.playing.masks import action_mask_of
from lit_dqn.schedules import Constant, Schedule
from lit_dqn.types import ActionPreferences

Generators = Sequence[np.random.Generator]


class Policy(ABC):
    """How actions follow from an agent's preferences: its action values, or the preferences of its actor.

    If actions are forbidden, the agent that is passed never prefers them. A policy that does not use its preferences
    must choose among the actions that `action_mask_of(agent)` allows.
    """

    asks_agent = True
    """Whether actions depend on the agent."""

    @abstractmethod
    def act(
        self, agent: ActionPreferences, observation: NDArray[Any], env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N] for observations [N, *shape]; `generators` has one generator per env."""

    def of_envs(self, first_env: int, num_envs: int, all_envs: int) -> Self:
        """The policy for some envs of a run during training; by default the same one for all.

        Args:
            first_env: the number of the first env over the whole run.
            num_envs: the number of these envs.
            all_envs: the number of envs of the whole run.

        """
        return self

    def probabilities(self, agent: ActionPreferences, observation: NDArray[Any], env_step: int) -> NDArray[np.float64]:
        """π(a|s) of observations [N, *shape], as [N, num_actions].

        Raises:
            ConfigError: if the policy does not define them.

        """
        raise ConfigError(
            f"policy: {type(self).__name__} does not say its probabilities, which the true values follow from; "
            "give it a method `probabilities`, or evaluate another policy."
        )

    def metrics(self, env_step: int) -> dict[str, float]:
        """The values to log about the policy at this env step, by name."""
        return {}


class UniformRandom(Policy):
    """Every allowed action with the same probability: the lesson's stationary policy."""

    asks_agent = False

    def act(
        self, agent: ActionPreferences, observation: NDArray[Any], env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N], drawn without the agent."""
        mask = action_mask_of(agent)
        if mask is not None:
            return np.array([_any_of(allowed, generator) for allowed, generator in zip(mask, generators, strict=True)])
        return np.array([generator.integers(agent.num_actions) for generator in generators])

    def probabilities(self, agent: ActionPreferences, observation: NDArray[Any], env_step: int) -> NDArray[np.float64]:
        """1 / number of actions, everywhere."""
        return np.full((len(observation), agent.num_actions), 1 / agent.num_actions)

    def metrics(self, env_step: int) -> dict[str, float]:
        """The exploration rate, 1."""
        return {"exploration_rate": 1.0}


class Greedy(Policy):
    """The action with the highest value; ties are broken at random."""

    def act(
        self, agent: ActionPreferences, observation: NDArray[Any], env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N]."""
        return _greedy(agent, observation, generators)

    def probabilities(self, agent: ActionPreferences, observation: NDArray[Any], env_step: int) -> NDArray[np.float64]:
        """Divided equally among the best actions, 0 for all others."""
        preferences = agent.preferences(observation)
        best = preferences == preferences.max(axis=1, keepdims=True)
        shares: NDArray[np.float64] = best / best.sum(axis=1, keepdims=True)
        return shares

    def metrics(self, env_step: int) -> dict[str, float]:
        """The exploration rate, 0."""
        return {"exploration_rate": 0.0}


class EpsilonGreedy(Policy):
    """Uniformly random with probability ε, greedy otherwise (Sutton & Barto 2020, section 2.2).

    Args:
        epsilon: ε as a number or as a schedule over env steps.
        spread: α of ε_i = ε^(1 + α i / (N - 1)), the exploration of env i of N during training (Horgan et al. 2018,
            section 4.1: ε 0.4, α 7); with 0 all envs have ε, as in evaluations.

    Raises:
        ConfigError: if ε is outside [0, 1], or α is negative.

    """

    _exponent: NDArray[np.float64] | None = None  # of each env; None: 1

    def __init__(self, epsilon: Schedule | float = 0.1, spread: float = 0.0) -> None:
        self.epsilon = epsilon if isinstance(epsilon, Schedule) else Constant(epsilon)
        for value in (self.epsilon.start, self.epsilon.end):
            if not 0 <= value <= 1:
                raise ConfigError(f"epsilon: {value} is a probability and must lie in [0, 1].")
        if not 0 <= spread < np.inf:
            raise ConfigError(f"spread: {spread} of EpsilonGreedy must be at least 0; 0 is the same ε in all envs.")
        self.spread = spread

    def of_envs(self, first_env: int, num_envs: int, all_envs: int) -> Self:
        """With the ε of each of these envs, as for `Policy`."""
        if self.spread == 0:
            return self
        own = copy.copy(self)
        own._exponent = 1 + self.spread * np.arange(first_env, first_env + num_envs) / max(all_envs - 1, 1)
        return own

    def act(
        self, agent: ActionPreferences, observation: NDArray[Any], env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N]; the agent is used only if some env acts greedily."""
        epsilon = self.epsilon(env_step)
        draws = [generator.random() for generator in generators]
        explore = np.array(draws) < (epsilon if self._exponent is None else epsilon**self._exponent)
        exploring = explore.nonzero()[0].tolist()
        if len(exploring) == len(explore):
            return UniformRandom().act(agent, observation, env_step, generators)
        action = _greedy(agent, observation, generators, ~explore)
        mask = action_mask_of(agent)
        for env in exploring:
            generator = generators[env]
            action[env] = generator.integers(agent.num_actions) if mask is None else _any_of(mask[env], generator)
        return action

    def probabilities(self, agent: ActionPreferences, observation: NDArray[Any], env_step: int) -> NDArray[np.float64]:
        """ε divided among all actions, 1 - ε among the best.

        Raises:
            ConfigError: if each env has its own ε.

        """
        if self.spread:
            return super().probabilities(agent, observation, env_step)
        epsilon = self.epsilon(env_step)
        greedy = Greedy().probabilities(agent, observation, env_step)
        return epsilon / agent.num_actions + (1 - epsilon) * greedy

    def metrics(self, env_step: int) -> dict[str, float]:
        """The exploration rate, ε; where each env has its own, that of env 0, which is the highest."""
        return {"exploration_rate": self.epsilon(env_step)}


class Softmax(Policy):
    """Actions with probability proportional to exp(h / τ), where h are the agent's preferences or its action values
    (Sutton & Barto 2020, eq. 13.2).

    Args:
        temperature: τ as a number or as a schedule over env steps.

    Raises:
        ConfigError: if τ is not positive.

    """

    def __init__(self, temperature: Schedule | float = 1.0) -> None:
        self.temperature = temperature if isinstance(temperature, Schedule) else Constant(temperature)
        for value in (self.temperature.start, self.temperature.end):
            if not value > 0:
                raise ConfigError(f"temperature: {value} must be positive; for the limit 0 use Greedy.")

    def act(
        self, agent: ActionPreferences, observation: NDArray[Any], env_step: int, generators: Generators
    ) -> NDArray[np.int64]:
        """Actions [N]."""
        cumulative = np.cumsum(self._weights(agent, observation, env_step), axis=1)
        draws = np.array([generator.random() for generator in generators]) * cumulative[:, -1]
        actions: NDArray[np.int64] = (cumulative <= draws[:, None]).sum(axis=1)
        return actions

    def probabilities(self, agent: ActionPreferences, observation: NDArray[Any], env_step: int) -> NDArray[np.float64]:
        """The softmax of the preferences."""
        weights = self._weights(agent, observation, env_step)
        shares: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        return shares

    def _weights(self, agent: ActionPreferences, observation: NDArray[Any], env_step: int) -> NDArray[np.float64]:
        logits = agent.preferences(observation).astype(np.float64) / self.temperature(env_step)
        weights: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights

    def metrics(self, env_step: int) -> dict[str, float]:
        """The temperature τ."""
        return {"temperature": self.temperature(env_step)}


def _any_of(allowed: NDArray[np.bool_], generator: np.random.Generator) -> int:
    """An allowed action [num_actions], each with the same probability; if all are allowed, the same draw as without a
    mask.
    """
    actions = np.flatnonzero(allowed)
    return int(actions[generator.integers(len(actions))])


def _greedy(
    agent: ActionPreferences, observation: NDArray[Any], generators: Generators, mask: NDArray[np.bool_] | bool = True
) -> NDArray[np.int64]:
    """The best actions [N], or the actions of the best choices of each part; in the envs of `mask` the generator breaks
    ties.
    """
    branches = branches_of(agent)
    if branches is None:
        return _best(agent.preferences(observation), generators, mask)
    parts = branches.of_each_part(agent.choice_values(observation))  # type: ignore[attr-defined]
    return branches.action_of([_best(values, generators, mask) for values in parts])


def _best(
    preferences: NDArray[np.float32], generators: Generators, mask: NDArray[np.bool_] | bool = True
) -> NDArray[np.int64]:
    """The actions [N] with the highest values; in the envs of `mask` the generator breaks ties."""
    action: NDArray[np.int64] = preferences.argmax(axis=1)
    best = preferences == preferences[np.arange(len(action)), action][:, None]
    if np.count_nonzero(best) == len(best):
        return action  # no ties
    for env in map(int, np.flatnonzero((best.sum(axis=1) > 1) & mask)):
        action[env] = generators[env].choice(np.flatnonzero(best[env]))
    return action
