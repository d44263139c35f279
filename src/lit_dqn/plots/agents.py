"""An agent's values and actions in a grid world: its network is evaluated in every state."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lit_dqn.envs.grid.values import observe_all
from lit_dqn.envs.grid.world import GridWorld
from lit_dqn.playing.value_errors import StateValues, stacked_observations
from lit_dqn.plots.action_values import draw_q_values
from lit_dqn.plots.grid import draw_grid


class Watched(StateValues, Protocol):
    """The interface of an agent for pictures."""

    has_preferences: bool
    preferences_name: str  # the symbol of its preferences


def grid_path(world: GridWorld, frames: NDArray[Any]) -> list[int]:
    """The states of the frames [T, *shape] of an episode."""
    state_of = {frame.tobytes(): state for state, frame in enumerate(observe_all(world))}
    return [state_of[frame.tobytes()] for frame in frames]


def draw_agent(
    world: GridWorld,
    agent: Watched,
    *,
    frame_stack: int = 1,
    path: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """V(s) in the cells, the greedy actions as arrows if the agent has preferences, and its path.

    Args:
        world: the grid world.
        agent: an agent that learned, or learns, in it.
        frame_stack: frames in an observation.
        path: states, as from `grid_path`.
        title: a line above the grid.

    """
    observations = stacked_observations(world, frame_stack)
    greedy = None
    if agent.has_preferences:
        greedy = [np.flatnonzero(row == row.max()).tolist() for row in agent.preferences(observations)]
    values = agent.state_values(observations)
    return draw_grid(world.layout, values=values, greedy_actions=greedy, path=path, moves=world.moves, title=title)


def draw_preferences(world: GridWorld, agent: Watched, *, frame_stack: int = 1, title: str | None = None) -> Figure:
    """The agent's preferences in every state, drawn by `draw_q_values`: Q(s, a), or h(s, a) of an actor. The title
    names them.

    Arguments as for `draw_agent`; the title follows the name.
    """
    name = f"{agent.preferences_name.replace('·', 'a')} of the network; bold: the greedy action"
    preferences = agent.preferences(stacked_observations(world, frame_stack))
    title = name if title is None else f"{name}; {title}"
    return draw_q_values(world.layout, preferences, moves=world.moves, title=title)
