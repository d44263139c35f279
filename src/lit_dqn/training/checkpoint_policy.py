import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError
from lit_dqn.playing.masks import as_masked
from lit_dqn.playing.policies import Greedy, Policy
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.loading import load_agent
from lit_dqn.types import ActionPreferences


class CheckpointPolicy(Policy):
    """A fixed policy: it acts with the agent of a checkpoint, independently of the agent that learns.

    Args:
        checkpoint: a `.ckpt` file of lit_dqn.
        policy: how actions follow from that agent's preferences.
        trust: your own classes that the checkpoint may name, such as its network.

    Raises:
        ConfigError: if the checkpoint is unusable, or its agent has a memory.

    """

    asks_agent = False

    def __init__(
        self,
        checkpoint: str,
        policy: Policy = Greedy(),  # noqa: B008 - policies have no state
        trust: Sequence[type] = (),
    ) -> None:
        self.checkpoint = checkpoint
        self.policy = policy
        self.trust = trust
        self._agent: LitAgent = load_agent(checkpoint, trust)
        if self._agent.memory_size > 0:
            raise ConfigError(
                f"{checkpoint}: its agent has a memory, and a policy keeps no state; give a checkpoint without memory."
            )

    def act(
        self,
        agent: ActionPreferences,
        observation: NDArray[Any],
        env_step: int,
        generators: Sequence[np.random.Generator],
    ) -> NDArray[np.int64]:
        """Actions [N] with the agent of the checkpoint.

        Raises:
            ConfigError: if it was trained with other observations or actions.

        """
        parts, seen = self._agent.parts, observation.shape[1:]
        wanted = self._agent.observation_shape if parts is None else parts.row_shape
        if seen != wanted or agent.num_actions != self._agent.num_actions:
            raise ConfigError(
                f"the agent of {self.checkpoint} sees {wanted} and has {self._agent.num_actions} actions, "
                f"not {seen} and {agent.num_actions}"
            )
        return self.policy.act(as_masked(self._agent, agent), observation, env_step, generators)

    def of_envs(self, first_env: int, num_envs: int, all_envs: int) -> Self:
        """With the policy of these envs, as `Policy` says."""
        own = copy.copy(self)
        own.policy = self.policy.of_envs(first_env, num_envs, all_envs)
        return own

    def probabilities(self, agent: ActionPreferences, observation: NDArray[Any], env_step: int) -> NDArray[np.float64]:
        """π(a|s) with the agent of the checkpoint."""
        return self.policy.probabilities(self._agent, observation, env_step)

    def metrics(self, env_step: int) -> dict[str, float]:
        """The values to log about the policy."""
        return self.policy.metrics(env_step)
