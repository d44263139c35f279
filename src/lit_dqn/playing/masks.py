"""The agent that a policy sees if some actions are forbidden."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_dqn.types import ActionPreferences


class MaskedAgent:
    """An agent that never prefers a forbidden action: its preferences for them are lower than all others.

    Args:
        agent: any.
        action_mask: [N, num_actions], which actions are allowed in each env, at least one.

    """

    def __init__(self, agent: ActionPreferences, action_mask: NDArray[np.bool_]) -> None:
        self.num_actions = agent.num_actions
        self.action_mask = action_mask
        self._agent = agent

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """[N, num_actions] for observations [N, *shape] of the envs, with -inf for each forbidden action."""
        return np.where(self.action_mask, self._agent.preferences(observation), np.float32(-np.inf))


def action_mask_of(agent: ActionPreferences) -> NDArray[np.bool_] | None:
    """The allowed actions, [N, num_actions], for a policy that does not use the agent's preferences; None: all."""
    return agent.action_mask if isinstance(agent, MaskedAgent) else None


def as_masked(agent: ActionPreferences, other: ActionPreferences) -> ActionPreferences:
    """An agent with the mask of another agent, if that has one."""
    mask = action_mask_of(other)
    return agent if mask is None else MaskedAgent(agent, mask)
