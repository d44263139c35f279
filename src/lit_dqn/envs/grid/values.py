"""The true values of a grid world, by solving the Bellman equations of its model, for comparison with learned values.

Episodes end only at a goal; a cap on their length truncates them, and a truncated episode has a future.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_dqn.envs.grid.world import GridWorld

Values = NDArray[np.float64]
Model = tuple[NDArray[np.int64], Values, NDArray[np.bool_]]


def observe_all(world: GridWorld) -> NDArray[Any]:
    """The observation of each state, [num_states, *shape]; "index" as one-hot vectors, as from `make_env`."""
    if world.observation == "index":
        return np.eye(world.layout.num_states, dtype=np.float32)
    return np.stack([np.asarray(world.observe(state)) for state in range(world.layout.num_states)])


def policy_state_values(world: GridWorld, probabilities: NDArray[Any], gamma: float) -> Values:
    """v_π, exactly: the solution of v = r_π + γ P_π v (Sutton & Barto 2020, eq. 4.4), a linear system.

    Args:
        world: the grid world.
        probabilities: π(a|s), [num_states, num_actions], the same at all times.
        gamma: γ, per step.

    Returns:
        [num_states]; 0 where no agent can act.

    Raises:
        ValueError: if the shape differs, or γ is 1 and the policy never reaches a goal from some state, which then
            has no value.

    """
    next_state, reward, goes_on = _model(world)
    if probabilities.shape != reward.shape:
        raise ValueError(
            f"probabilities has shape {probabilities.shape}; give one of {reward.shape}, a row for each state"
        )
    acting = world.layout.acting_states
    transition = np.zeros((len(reward), len(reward)))
    states = np.repeat(np.arange(len(reward))[:, None], reward.shape[1], axis=1)
    np.add.at(transition, (states, next_state), probabilities * goes_on)
    if gamma == 1 and not _reaches_an_end(transition[np.ix_(acting, acting)]):
        raise ValueError("gamma=1 gives a state from which the policy never reaches a goal no value; give less")
    system = np.eye(len(acting)) - gamma * transition[np.ix_(acting, acting)]
    values = np.zeros(len(reward))
    values[acting] = np.linalg.solve(system, (probabilities * reward).sum(axis=1)[acting])
    return values


def policy_action_values(world: GridWorld, probabilities: NDArray[Any], gamma: float) -> Values:
    """q_π, [num_states, num_actions]; arguments and errors as for `policy_state_values`."""
    return _look_ahead(_model(world), policy_state_values(world, probabilities, gamma), gamma)


def optimal_action_values(world: GridWorld, gamma: float) -> Values:
    """q*, [num_states, num_actions], by value iteration (Sutton & Barto 2020, eq. 4.10); v* is its maximum.

    Raises:
        ValueError: if the values grow without bound, for example if γ = 1 and walking in circles is rewarded.

    """
    model, values = _model(world), np.zeros(world.layout.num_states)
    limit = 100 * world.layout.num_states + (int(50 / (1 - gamma)) if gamma < 1 else 0)
    for _ in range(limit):
        action_values = _look_ahead(model, values, gamma)
        new_values = action_values.max(axis=1)
        if np.abs(new_values - values).max() <= 1e-12 * max(1.0, np.abs(new_values).max()):
            return action_values
        values = new_values
    raise ValueError(f"gamma={gamma} lets the values grow without bound in this world; give less")


def _look_ahead(model: Model, state_values: NDArray[Any], gamma: float) -> Values:
    next_state, reward, goes_on = model
    action_values: Values = reward + gamma * goes_on * state_values[next_state]
    return action_values


def _model(world: GridWorld) -> Model:
    """Next state, reward, and whether the episode continues, each [num_states, num_actions]."""
    steps = [
        [world.step_from(state, action) for action in range(len(world.moves))]
        for state in range(world.layout.num_states)
    ]
    next_state = np.array([[step[0] for step in row] for row in steps])
    reward = np.array([[step[1] for step in row] for row in steps])
    return next_state, reward, ~np.array([[step[2] for step in row] for row in steps])


def _reaches_an_end(transition: NDArray[Any]) -> bool:
    """Whether the process leaves the states of `transition` eventually, from every state."""
    leaves = transition.sum(axis=1) < 1 - 1e-12
    for _ in range(len(transition)):
        leaves = leaves | (transition[:, leaves].sum(axis=1) > 0)
    return bool(leaves.all())
