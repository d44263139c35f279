"""The error of learned state values."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import gymnasium
import numpy as np
from numpy.typing import NDArray

from lit_dqn.envs import Wrapper, make_env
from lit_dqn.envs.grid.values import observe_all, policy_state_values
from lit_dqn.envs.grid.world import GridWorld
from lit_dqn.errors import ConfigError
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.trajectories import play_episode
from lit_dqn.replay.stacking import first_observations, observations_of_episode
from lit_dqn.types import ActionPreferences

NEGLIGIBLE = 0.01
"""The discount below which the unseen future of a truncated episode may be neglected."""


class StateValues(ActionPreferences, Protocol):
    """An agent that estimates V(s)."""

    def state_values(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """V(s) of observations [N, *shape], as [N]."""
        ...


def value_errors(
    agent: StateValues,
    env_id: str,
    env_kwargs: Mapping[str, Any],
    wrappers: Sequence[Wrapper] = (),
    *,
    policy: Policy,
    gamma: float,
    frame_stack: int,
    reward_clip: float | None = None,
    action_mask: bool = False,
    seeds: Sequence[int],
    max_steps: int,
    env_step: int,
) -> dict[str, float]:
    """The error of V, by the names of the log.

    In a grid world V is compared with v_π, which is known exactly. Elsewhere it is compared with the discounted returns
    of episodes, which scatter around v_π: that error does not go to 0. Returns end where learning sees no future, so
    with lives that are terminal also where one is lost.

    Args:
        agent: the agent that estimates V.
        env_id: of the env, as for `make_env`.
        env_kwargs: as for `make_env`.
        wrappers: as for `make_env`; v_π of a wrapped grid world is not known, so returns are used.
        policy: the policy whose values V should be.
        gamma: γ, per step.
        frame_stack: frames in an observation.
        reward_clip: bound of each step's reward for learning; with clipped rewards returns are used.
        action_mask: whether the env's infos contain action masks.
        seeds: of the episodes that are played if v_π is not known.
        max_steps: cap on the agent steps of each.
        env_step: at which the policy's schedules are evaluated.

    Returns:
        `eval/value_rms_error` and `eval/value_relative_error` (`compare`) over the states in which an agent can act; or
        `eval/return_rms_error` over the steps of the episodes, nothing if all of them were truncated too early.

    Raises:
        ConfigError: if γ is 1 and the policy never ends an episode from some state, which then has no value.

    """
    env = make_env(env_id, env_kwargs, wrappers, action_mask=action_mask)
    try:
        if isinstance(env.unwrapped, GridWorld) and not wrappers and reward_clip is None:
            world = env.unwrapped
            observation = stacked_observations(world, frame_stack)
            truth = _true_values(world, policy.probabilities(agent, observation, env_step), gamma)
            states = world.layout.acting_states
            return compare(agent.state_values(observation)[states], truth[states])
        how = {"max_steps": max_steps, "frame_stack": frame_stack, "action_mask": action_mask, "env_step": env_step}
        return _errors_of_returns(agent, env, policy, gamma, reward_clip, seeds, how)
    finally:
        env.close()


def _true_values(world: GridWorld, probabilities: NDArray[Any], gamma: float) -> NDArray[np.float64]:
    try:
        return policy_state_values(world, probabilities, gamma)
    except ValueError as error:
        raise ConfigError(f"gamma: {error}, such as --data.gamma 0.99.") from error


def stacked_observations(world: GridWorld, frame_stack: int) -> NDArray[Any]:
    """The observation of each state of a grid world at the start of an episode, [num_states, *stacked shape]."""
    return first_observations(observe_all(world), frame_stack)


def compare(values: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
    """Two measures of the error of values [S] against the true values [S], with equal weight for every state.

    `eval/value_rms_error` is the root of the mean squared error; `eval/value_relative_error` the mean absolute error
    over the mean absolute truth.
    """
    error = values.astype(np.float64) - truth
    return {
        "eval/value_rms_error": float(np.sqrt(np.mean(error**2))),
        "eval/value_relative_error": float(np.abs(error).mean() / np.abs(truth).mean()),
    }


def discounted_returns(
    rewards: Sequence[float] | NDArray[np.float64], discount: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """G_t for every step of an episode (Sutton & Barto 2020, eq. 3.9), as [T].

    Args:
        rewards: [T].
        discount: [T], of what follows each step: γ, or 0 if nothing does.

    """
    returns = np.zeros(len(rewards) + 1)
    for step in reversed(range(len(rewards))):
        returns[step] = rewards[step] + discount[step] * returns[step + 1]
    return returns[:-1]


def _errors_of_returns(
    agent: StateValues,
    env: gymnasium.Env,
    policy: Policy,
    gamma: float,
    reward_clip: float | None,
    seeds: Sequence[int],
    how: Mapping[str, Any],
) -> dict[str, float]:
    squares = []
    for seed in seeds:
        steps = list(play_episode(env, agent, policy, seed=seed, **how))
        observation = observations_of_episode(np.stack([step.observation for step in steps]), how["frame_stack"])
        rewards = np.array([step.reward for step in steps])
        if reward_clip is not None:
            rewards = rewards.clip(-reward_clip, reward_clip)
        discount = gamma * np.array([step.future for step in steps])
        error = agent.state_values(observation) - discounted_returns(rewards, discount)
        if steps[-1].truncated:
            of_the_unseen = np.cumprod(discount[::-1])[::-1]
            error = error[of_the_unseen < NEGLIGIBLE]
        squares.append(cast(NDArray[Any], error) ** 2)
    together = np.concatenate(squares)
    return {"eval/return_rms_error": float(np.sqrt(together.mean()))} if len(together) else {}
