"""What an agent thinks of a grid world: its network is asked about every state."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lit_dqn.envs.grid import GridWorld
from lit_dqn.plots.action_values import draw_q_values
from lit_dqn.plots.grid import draw_grid
from lit_dqn.replay import stack_frames
from lit_dqn.types import ActionValues


def grid_frames(world: GridWorld) -> NDArray:
    """What the env shows in each state, [num_states, *shape]; "index" as one-hot, as `make_env` does."""
    if world.observation == "index":
        return np.eye(world.layout.num_states, dtype=np.float32)
    return np.stack([np.asarray(world.observe(state)) for state in range(world.layout.num_states)])


def grid_observations(world: GridWorld, frame_stack: int = 1) -> NDArray:
    """What a network sees in each state, [num_states, *observation_shape]: the frame of the state, k times stacked."""
    frames = grid_frames(world)
    return frames if frame_stack == 1 else stack_frames(np.repeat(frames[:, None], frame_stack, axis=1))


def grid_path(world: GridWorld, frames: NDArray) -> list[int]:
    """The states that the frames [T, *shape] of an episode show."""
    state_of = {frame.tobytes(): state for state, frame in enumerate(grid_frames(world))}
    return [state_of[frame.tobytes()] for frame in frames]


def draw_agent(
    world: GridWorld,
    agent: ActionValues,
    *,
    frame_stack: int = 1,
    path: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """V(s) = max_a Q(s, a) in the cells, the greedy actions as arrows, and the way that the agent went.

    Args:
        world: the grid world.
        agent: its action values.
        frame_stack: frames in an observation.
        path: states, as `grid_path` gives them.
        title: a line above the grid.

    """
    q_values = agent.q_values(grid_observations(world, frame_stack))
    greedy = [np.flatnonzero(row == row.max()).tolist() for row in q_values]
    return draw_grid(
        world.layout, values=q_values.max(axis=1), greedy_actions=greedy, path=path, moves=world.moves, title=title
    )


def draw_agent_q_values(
    world: GridWorld, agent: ActionValues, *, frame_stack: int = 1, title: str | None = None
) -> Figure:
    """Q(s, a) of every state and action, as `draw_q_values` draws it."""
    q_values = agent.q_values(grid_observations(world, frame_stack))
    return draw_q_values(world.layout, q_values, moves=world.moves, title=title)
