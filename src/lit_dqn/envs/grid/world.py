"""The lesson's grid worlds as Gymnasium environments: an agent that moves over a `GridLayout`.

gymnasium.make("lit_dqn/Maze-v0", rewards="reward_1", observation="image")
"""

from collections.abc import Sequence
from math import isfinite
from numbers import Real
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from lit_dqn.envs.grid.layouts import ACTION_NAMES, MOVES, Cell, GridLayout, build_layout
from lit_dqn.envs.grid.pictures import GridImage, Pixels, draw_picture

__all__ = ["ACTION_NAMES", "GRID_WORLDS", "MOVES", "REWARD_SETS", "GridLayout", "GridWorld", "Rewards"]
__all__ += ["make_grid_world", "register_grid_worlds"]

MAX_EPISODE_STEPS = 2000
OBSERVATIONS = ("image", "index", "one_hot")

Observation = np.ndarray | int


class Rewards(NamedTuple):
    """The reward of a step that enters a goal, falls off the cliff, or does neither ("step")."""

    step: float
    goal_1: float
    goal_2: float
    cliff: float


REWARD_SETS = {
    "default": Rewards(0, 1, 0, -100),
    "cliffwalk": Rewards(-1, -1, -1, -100),
    "randwalk": Rewards(0, 0, 1, 0),
    "randwalk_": Rewards(0, -1, 1, 0),
    "reward0": Rewards(-1, 0, 0, -1),
    "reward_1": Rewards(-1, -1, -1, -1),
    "reward1": Rewards(-1, 1, 1, -1),
    "reward10": Rewards(-1, 10, 10, -1),
    "reward100": Rewards(-1, 100, 100, -1),
}

# Environment id -> default arguments of make_grid_world.
GRID_WORLDS: dict[str, dict[str, Any]] = {
    "lit_dqn/Maze-v0": {"world": "maze", "size": (6, 9), "rewards": "default", "num_actions": 4},
    "lit_dqn/MazeLarge-v0": {"world": "maze", "size": (16, 26), "rewards": "default", "num_actions": 4},
    "lit_dqn/Grid-v0": {"world": "grid", "size": (8, 10), "rewards": "default", "num_actions": 4},
    "lit_dqn/WindyGrid-v0": {"world": "windy_grid", "size": (7, 10), "rewards": "reward_1", "num_actions": 4},
    "lit_dqn/CliffWalk-v0": {
        "world": "cliff_walk",
        "size": (4, 12),
        "rewards": "cliffwalk",
        "num_actions": 4,
    },
    "lit_dqn/RandomWalk-v0": {
        "world": "random_walk",
        "size": (1, 7),
        "rewards": "randwalk",
        "num_actions": 2,
    },
}


class GridWorld(gymnasium.Env[Observation, Any]):
    """A deterministic world of cells; an episode ends when the agent enters a goal.

    A move into a wall or off the grid has no effect; only the cell where a move ends counts, so diagonal moves may pass
    between two walls. Then the wind of the column that the agent left pushes it up, cell by cell, for the wind's
    strength or until a wall or the edge stops it. Falling off the cliff moves the agent back to the start, and the
    episode continues.

    Observations: "image" is uint8 [1, 50, 84] (see `GridImage`), "index" the state itself, "one_hot" float32
    [num_states]. `info` holds the state as {"state": int}. `reset(options={"state": s})` starts in state s instead of
    the layout's start.

    `rewards` is a name in REWARD_SETS or four numbers (step, goal 1, goal 2, cliff); `num_actions` is 2, 4 or 8, in the
    order of ACTION_NAMES. Raises ValueError for any other value, with the key, the value and the remedy.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(
        self,
        layout: GridLayout,
        *,
        rewards: str | Sequence[float] = "default",
        num_actions: int = 4,
        observation: str = "image",
        render_mode: str | None = None,
    ) -> None:
        if num_actions not in (2, 4, 8):
            raise ValueError(f"num_actions={num_actions!r} is not possible; give 2, 4 or 8")
        if observation not in OBSERVATIONS:
            raise ValueError(f"observation={observation!r} is unknown; give one of {', '.join(OBSERVATIONS)}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r} is not offered; give 'rgb_array' or None")
        self.layout = layout
        self.rewards = _parse_rewards(rewards)
        self.observation = observation
        self.render_mode = render_mode
        self.moves = MOVES[:num_actions]
        self.action_names = ACTION_NAMES[:num_actions]
        self.start_state = layout.state_of(layout.start)
        self.state = self.start_state

        self.action_space = gymnasium.spaces.Discrete(num_actions)
        self.observation_space: gymnasium.Space[Any]
        if observation == "image":
            self._image = GridImage(layout)
            self.observation_space = gymnasium.spaces.Box(0, 255, GridImage.shape, np.uint8)
        elif observation == "one_hot":
            self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (layout.num_states,), np.float32)
        else:
            self.observation_space = gymnasium.spaces.Discrete(layout.num_states)

        # The world never changes, so transitions[state][action] is computed once.
        self._transitions = [
            [self._work_out_step(layout.cell_of(state), move) for move in self.moves]
            for state in range(layout.num_states)
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        state = (options or {}).get("state", self.start_state)
        if not 0 <= state < self.layout.num_states or not self.layout.acts_in(self.layout.cell_of(state)):
            raise ValueError(
                f"options={{'state': {state}}} is not a state to act in; give one of 0 to "
                f"{self.layout.num_states - 1} that is not a wall, goal or cliff"
            )
        self.state = int(state)
        return self.observe(self.state), {"state": self.state}

    def step(self, action: int) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        self.state, reward, terminated = self.step_from(self.state, action)
        return self.observe(self.state), reward, terminated, False, {"state": self.state}

    def step_from(self, state: int, action: int) -> tuple[int, float, bool]:
        """The model of the world: (next state, reward, terminated); the agent does not move.

        A goal leads to itself with reward 0, as a terminal state does in S&B section 3.4; so does every other cell in
        which no agent can act (wall, cliff). Raises ValueError for an action or state that does not exist.
        """
        if not (0 <= action < len(self.moves) and 0 <= state < self.layout.num_states):
            raise ValueError(
                f"state={state}, action={action} does not exist; give a state below {self.layout.num_states} "
                f"and an action below {len(self.moves)}, from 0 up"
            )
        return self._transitions[state][action]

    def observe(self, state: int) -> Observation:
        """The observation of `state` (a new array for "image" and "one_hot"); the agent does not move."""
        if self.observation == "image":
            return self._image.with_agent(state)
        if self.observation == "one_hot":
            one_hot = np.zeros(self.layout.num_states, np.float32)
            one_hot[state] = 1.0
            return one_hot
        return state

    def render(self) -> Pixels | None:
        """RGB uint8 [height, width, 3] for render_mode="rgb_array", else None."""
        return draw_picture(self.layout, self.state) if self.render_mode == "rgb_array" else None

    def _work_out_step(self, cell: Cell, move: Cell) -> tuple[int, float, bool]:
        layout = self.layout
        if not layout.acts_in(cell):
            return layout.state_of(cell), 0.0, True
        target = self._moved(cell, move)
        for _ in range(layout.wind_at(cell[1])):
            target = self._moved(target, (1, 0))
        if target in layout.cliff:
            return self.start_state, self.rewards.cliff, False
        if target in layout.goals:
            goal_rewards = (self.rewards.goal_1, self.rewards.goal_2)
            return layout.state_of(target), goal_rewards[layout.goals.index(target)], True
        return layout.state_of(target), self.rewards.step, False

    def _moved(self, cell: Cell, move: Cell) -> Cell:
        target = cell[0] + move[0], cell[1] + move[1]
        return target if self.layout.can_enter(target) else cell


def make_grid_world(world: str, size: Sequence[int], **arguments: Any) -> GridWorld:
    """A grid world. `world` is a name in LAYOUTS, `size` is (rows, columns). All ids in GRID_WORLDS create this
    class.
    """
    return GridWorld(build_layout(world, size), **arguments)


def register_grid_worlds() -> None:
    """Register the ids of GRID_WORLDS with Gymnasium, unless they are registered."""
    for env_id, defaults in GRID_WORLDS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point="lit_dqn.envs.grid.world:make_grid_world",
                max_episode_steps=MAX_EPISODE_STEPS,
                kwargs=dict(defaults),
            )


def _parse_rewards(rewards: str | Sequence[float]) -> Rewards:
    if isinstance(rewards, str):
        if rewards in REWARD_SETS:
            parsed = REWARD_SETS[rewards]
            return Rewards(*map(float, parsed))
    elif (
        isinstance(rewards, Sequence)
        and len(rewards) == 4
        and all(isinstance(reward, Real) and isfinite(reward) for reward in rewards)
    ):
        return Rewards(*map(float, rewards))
    raise ValueError(
        f"rewards={rewards!r} is not a reward set; give one of {', '.join(REWARD_SETS)}, "
        "or four numbers (step, goal 1, goal 2, cliff)"
    )
