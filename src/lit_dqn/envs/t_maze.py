"""The T-maze of Bakker (2001): what is seen at the start tells which way is right at the end."""

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

T_MAZE_ID = "lit_dqn/TMaze-v0"
NORTH, EAST, SOUTH, WEST = range(4)
START_NORTH, START_SOUTH, CORRIDOR, JUNCTION = range(4)


class TMaze(gymnasium.Env[Any, Any]):
    """A corridor from west to east with a junction at its end. At the start a sign tells whether the goal lies north or
    south of the junction; everywhere else the corridor looks the same.

    At the junction, going north or south ends the episode, with the reward 1 at the goal and 0 on the other side. A
    step against a wall pays -0.1, all others 0. So the best return is 1, and what acts by what it sees alone gets 0.5
    on average at most (Bakker 2001, "Reinforcement learning with long short-term memory", pays 4 and -0.1).

    Observations are one-hot: a start whose sign says north, one that says south, the corridor, the junction. Actions
    are north, east, south, west.

    Raises ValueError if `length`, the steps from the start to the junction, is below 1.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, length: int = 10) -> None:
        if length < 1:
            raise ValueError(f"length={length!r} is not possible; give 1 or more")
        self.length = length
        self.action_space = gymnasium.spaces.Discrete(4)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (4,), np.float32)
        self.goal, self.place = NORTH, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.goal = NORTH if self.np_random.random() < 0.5 else SOUTH
        self.place = 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self.place == self.length and action in (NORTH, SOUTH):
            return self._seen(), float(action == self.goal), True, False, {}
        place = self.place + {EAST: 1, WEST: -1}.get(int(action), 0)
        moves = place != self.place and 0 <= place <= self.length
        self.place = place if moves else self.place
        return self._seen(), 0.0 if moves else -0.1, False, False, {}

    def _seen(self) -> NDArray[np.float32]:
        if self.place == 0:
            kind = START_NORTH if self.goal == NORTH else START_SOUTH
        else:
            kind = JUNCTION if self.place == self.length else CORRIDOR
        seen: NDArray[np.float32] = np.eye(4, dtype=np.float32)[kind]
        return seen


def register_t_maze() -> None:
    """Make the env known to Gymnasium, once; an episode has 200 steps at most."""
    if T_MAZE_ID not in gymnasium.registry:
        gymnasium.register(T_MAZE_ID, entry_point="lit_dqn.envs.t_maze:TMaze", max_episode_steps=200)
