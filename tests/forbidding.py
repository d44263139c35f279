"""An env that forbids nine of ten actions, others in each state, and ends where a forbidden one is played."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

FORBIDDING_ENV = "forbidding:lit_dqn_tests/Forbidding-v0"
NUM_ACTIONS, GOAL = 20, 9


def actions_at(position: int) -> tuple[int, int]:
    """(left, right), the only two that are allowed there."""
    return (7 * position + 6) % NUM_ACTIONS, (3 * position + 1) % NUM_ACTIONS


MASKS = np.zeros((GOAL + 1, NUM_ACTIONS), np.int8)
for place in range(GOAL):  # at the goal all is forbidden
    MASKS[place, list(actions_at(place))] = 1


def masks_at(observations: NDArray[Any]) -> NDArray[np.bool_]:
    """Which actions are allowed where the newest frame of each observation shows the agent."""
    newest = np.asarray(observations).reshape(len(observations), -1, GOAL + 1)[:, -1]
    return MASKS[newest.argmax(axis=1)].astype(bool)


class Forbidding(gymnasium.Env):
    """A walk from a random place to the right; each step costs 1, so the best return is minus the way to the goal.

    Args:
        truncation: chance in each step.
        mask: `info` or `observation`, where it is; `none`, or what is wrong with it: `short`, `empty`.

    """

    action_space = gymnasium.spaces.Discrete(NUM_ACTIONS)
    observation_space = gymnasium.spaces.Box(0, 1, (GOAL + 1,), np.float32)

    def __init__(self, truncation: float = 0.0, mask: str = "info") -> None:
        self.truncation, self.mask = truncation, mask
        if mask == "observation":
            allowed = gymnasium.spaces.Box(0, 1, (NUM_ACTIONS,), np.int8)
            space = {"observation": self.observation_space, "action_mask": allowed}
            self.observation_space = gymnasium.spaces.Dict(space)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(GOAL))
        return self.shown()

    def step(self, action):
        left, right = actions_at(self.place)
        if action not in (left, right):
            raise AssertionError(f"action {action} is forbidden at {self.place}")
        self.place = max(self.place - 1, 0) if action == left else self.place + 1
        observation, info = self.shown()
        return observation, -1.0, self.place == GOAL, bool(self.np_random.random() < self.truncation), info

    def shown(self):
        observation, mask = np.eye(GOAL + 1, dtype=np.float32)[self.place], MASKS[self.place]
        if self.mask == "observation":
            return {"observation": observation, "action_mask": mask}, {}
        if self.mask == "none":
            return observation, {}
        mask = {"info": mask, "short": mask[:3], "empty": np.zeros_like(mask)}[self.mask]
        return observation, {"action_mask": mask.tolist() if self.place % 2 else mask}  # some envs give lists


class Tempted:
    """An agent that prefers forbidden actions to all others."""

    num_actions = NUM_ACTIONS

    def preferences(self, observation):
        return np.where(masks_at(observation), np.float32(-1), np.float32(9))

    def state_values(self, observation, action_mask=None):
        values = np.arange(NUM_ACTIONS, dtype=np.float32) + 100 * ~masks_at(observation)
        return (values if action_mask is None else np.where(action_mask, values, -np.inf)).max(axis=1)


if "lit_dqn_tests/Forbidding-v0" not in gymnasium.registry:
    gymnasium.register(
        "lit_dqn_tests/Forbidding-v0", "forbidding:Forbidding", max_episode_steps=100, disable_env_checker=True
    )
