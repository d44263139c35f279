"""Example 6.7 of Sutton & Barto (2020): two choices, where a maximum over noise misleads."""

from typing import Any

import gymnasium

MAXIMIZATION_BIAS_ID = "lit_dqn/MaximizationBias-v0"
STATE_A, STATE_B, END = range(3)
LEFT, RIGHT = range(2)


def action_in_a(action: int) -> int:
    """LEFT or RIGHT: what an action means in state A."""
    return action % 2


class MaximizationBias(gymnasium.Env[Any, Any]):
    """Episodes begin in A. Right ends there with reward 0; left leads to B with reward 0. In B every action ends the
    episode with a reward drawn from N(-0.1, 1), so that left costs 0.1 on average.

    The number of actions is the same in both states, as Gymnasium requires: in A the even ones go left and the odd ones
    right. Observations are the state's number (A 0, B 1, the end 2).

    Raises ValueError if `num_actions` is odd or below 2: left and right need the same number.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, num_actions: int = 10) -> None:
        if num_actions < 2 or num_actions % 2:
            raise ValueError(f"num_actions={num_actions!r} is not possible; give an even number from 2 up")
        self.action_space = gymnasium.spaces.Discrete(num_actions)
        self.observation_space = gymnasium.spaces.Discrete(3)
        self.state = STATE_A

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = STATE_A
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        reward = 0.0
        if self.state == STATE_B:
            reward, self.state = float(self.np_random.normal(-0.1, 1.0)), END
        else:
            self.state = STATE_B if action_in_a(int(action)) == LEFT else END
        return self.state, reward, self.state == END, False, {}


def register_maximization_bias() -> None:
    """Register the env with Gymnasium, once."""
    if MAXIMIZATION_BIAS_ID not in gymnasium.registry:
        gymnasium.register(MAXIMIZATION_BIAS_ID, entry_point="lit_dqn.envs.maximization_bias:MaximizationBias")
