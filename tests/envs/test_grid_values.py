import gymnasium
import numpy as np
import pytest

from lit_dqn.envs import make_env
from lit_dqn.envs.grid.values import (
    observe_all,
    optimal_action_values,
    policy_action_values,
    policy_state_values,
)


def world(env_id="Maze-v0", **kwargs):
    return gymnasium.make(f"lit_dqn/{env_id}", **kwargs).unwrapped


def uniform(grid):
    return np.full((grid.layout.num_states, len(grid.moves)), 1 / len(grid.moves))


def test_the_random_walk_has_the_values_of_the_book():
    values = policy_state_values(walk := world("RandomWalk-v0"), uniform(walk), gamma=1.0)
    np.testing.assert_allclose(values, [0, *np.arange(1, 6) / 6, 0], atol=1e-12)
    values = policy_state_values(walk := world("RandomWalk-v0", size=(1, 21), rewards="randwalk_"), uniform(walk), 1.0)
    np.testing.assert_allclose(values, [0, *np.arange(-18, 19, 2) / 20, 0], atol=1e-12)


def test_values_of_a_policy_are_what_its_episodes_return_on_average():
    maze = world(rewards="reward10")
    gamma, generator, returns = 0.9, np.random.default_rng(0), []
    for _ in range(3000):
        state, discount, total, terminated = 13, 1.0, 0.0, False
        while not terminated and discount > 1e-4:
            state, reward, terminated = maze.step_from(state, int(generator.integers(4)))
            total += discount * reward
            discount *= gamma
        returns.append(total)
    expected = policy_state_values(maze, uniform(maze), gamma)[13]
    assert np.mean(returns) == pytest.approx(expected, abs=4 * np.std(returns) / np.sqrt(len(returns)))


@pytest.mark.parametrize("env_id", ["Maze-v0", "CliffWalk-v0", "WindyGrid-v0"])
def test_values_satisfy_the_bellman_equations(env_id):
    grid = world(env_id)
    policy = np.random.default_rng(0).dirichlet(np.ones(4), size=grid.layout.num_states)
    v, q = policy_state_values(grid, policy, 0.95), policy_action_values(grid, policy, 0.95)
    best = optimal_action_values(grid, 0.95)
    for state in grid.layout.acting_states:
        assert v[state] == pytest.approx(policy[state] @ q[state])
        for action in range(4):
            next_state, reward, terminated = grid.step_from(int(state), action)
            assert q[state, action] == pytest.approx(reward + 0.95 * (not terminated) * v[next_state])
            future = 0 if terminated else 0.95 * best[next_state].max()
            assert best[state, action] == pytest.approx(reward + future)
    others = np.setdiff1d(np.arange(grid.layout.num_states), grid.layout.acting_states)
    assert not v[others].any()
    assert not best[others].any()


@pytest.mark.parametrize("gamma", [1.0, 0.99])
def test_the_best_way_through_the_maze_takes_14_steps(gamma):
    maze = world(rewards="reward_1")
    best = optimal_action_values(maze, gamma)
    assert best[maze.start_state].max() == pytest.approx(-sum(gamma**step for step in range(14)))


def test_what_has_no_value_is_refused():
    maze = world(rewards="reward_1")
    always_left = np.eye(4)[np.zeros(maze.layout.num_states, int)]
    with pytest.raises(ValueError, match="gamma=1 gives a state"):
        policy_state_values(maze, always_left, 1.0)
    assert policy_state_values(maze, always_left, 0.5)[27] == pytest.approx(-2)
    with pytest.raises(ValueError, match=r"shape \(54, 3\)"):
        policy_state_values(maze, np.ones((54, 3)) / 3, 0.9)
    with pytest.raises(ValueError, match="grow without bound"):
        optimal_action_values(world(rewards=[1, 0, 0, 0]), 1.0)


@pytest.mark.parametrize("observation", ["image", "index", "one_hot"])
def test_all_observations_are_those_that_an_agent_gets(observation):
    env = make_env("lit_dqn/Maze-v0", {"observation": observation})
    seen = observe_all(env.unwrapped)
    for state in (0, 13, 27):
        np.testing.assert_array_equal(env.reset(options={"state": state})[0], seen[state])
