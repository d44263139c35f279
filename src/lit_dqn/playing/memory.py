"""How policies see an agent with a memory: it is updated at each step, whether the policy uses the agent or not."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lit_dqn.branches import branches_of
from lit_dqn.errors import ConfigError
from lit_dqn.types import ActionPreferences


class Remembers(ActionPreferences, Protocol):
    """An agent that acts by its observation and by its memory of the episode."""

    memory_size: int
    """M; 0: it has no memory."""

    def remember(
        self, observation: NDArray[Any], memory: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The preferences for the present observations, and the memory after them.

        Args:
            observation: of N envs, [N, *shape].
            memory: before them, [N, M]; all 0 at the start of an episode.

        Returns:
            [N, num_actions] and [N, M].

        """
        ...


def memory_size_of(agent: ActionPreferences) -> int:
    """The size of an agent's memory; 0: it has none."""
    return getattr(agent, "memory_size", 0)


class RememberingAgent:
    """An agent with a memory, at one step of N envs.

    Args:
        agent: that has the memory.
        observation: [N, *shape].
        memory: before the observations, [N, M].

    Attributes:
        memory: after the observations, [N, M].

    """

    def __init__(self, agent: Remembers, observation: NDArray[Any], memory: NDArray[np.float32]) -> None:
        self.num_actions = agent.num_actions
        self.branches = branches_of(agent)
        self._preferences, self.memory = agent.remember(observation, memory)

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """The preferences at this step, [N, num_actions].

        Raises:
            ConfigError: if the number of observations is not N.

        """
        if len(observation) != len(self._preferences):
            raise ConfigError(
                f"policy: it asks an agent with a memory about {len(observation)} observations, and there are "
                f"{len(self._preferences)} envs; let it ask about all of them at once."
            )
        return self._preferences

    choice_values = preferences  # if its actions have parts
