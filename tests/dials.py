"""A panel of dials with far too many settings for an action each, and a game that no sum of values describes."""

import gymnasium
import numpy as np
from gymnasium import spaces

DIALS_ENV = "lit_dqn_tests/Dials-v0"
CLIMBING_ENV = "lit_dqn_tests/Climbing-v0"


class Dials(gymnasium.Env):
    """The observation shows how each dial must be set. The share of dials that are right pays one step later, so the
    best return is `steps` - 1, and an agent without a future (γ = 0) learns nothing.
    """

    def __init__(self, dials=8, choices=4, steps=6):
        self.nvec, self.steps = np.full(dials, choices), steps
        self.action_space = spaces.MultiDiscrete(self.nvec)
        self.observation_space = spaces.Box(0, 1, (dials * choices + 1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.due = 0, 0.0
        return self.shown(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        reward, self.due = self.due, float(np.mean(action == self.right))
        self.t += 1
        return self.shown(), reward, False, self.t == self.steps, {}

    def shown(self):
        self.right = self.np_random.integers(self.nvec)
        return np.append(np.eye(self.nvec[0])[self.right], self.due).astype(np.float32)


class Climbing(gymnasium.Env):
    """The climbing game (Claus & Boutilier 1998): one step that pays what the table says of two choices. The best entry
    is 11; the sum of a value for each row and each column that is nearest to the table is highest at 5.
    """

    TABLE = ((11, -30, 0), (-30, 7, 6), (0, 0, 5))
    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.MultiDiscrete([3, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        row, column = action
        return np.ones(1, np.float32), float(self.TABLE[row][column]), True, False, {}


gymnasium.register(DIALS_ENV, Dials, disable_env_checker=True)
gymnasium.register(CLIMBING_ENV, Climbing, disable_env_checker=True)
