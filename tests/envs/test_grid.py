from collections import deque

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lit_dqn.envs.grid import world as grid
from lit_dqn.envs.grid.layouts import build_layout, maze, random_walk
from lit_dqn.envs.grid.pictures import AGENT_GREY, BACKGROUND_GREY, CLIFF_GREY, GOAL_GREY, WALL_GREY, draw_picture

grid.register_grid_worlds()

LEFT, RIGHT, DOWN, UP, LEFT_DOWN, LEFT_UP, RIGHT_DOWN, RIGHT_UP = range(8)
ALL_WORLDS = pytest.mark.parametrize("env_id", grid.GRID_WORLDS)


def make(name: str, **arguments) -> grid.GridWorld:
    return gymnasium.make(f"lit_dqn/{name}-v0", **arguments).unwrapped


def shortest_path(env: grid.GridWorld) -> int | None:
    steps = {env.start_state: 0}
    to_visit = deque([env.start_state])
    while to_visit:
        state = to_visit.popleft()
        for action in range(len(env.moves)):
            next_state, _, terminated = env.step_from(state, action)
            if terminated:
                return steps[state] + 1
            if next_state not in steps:
                steps[next_state] = steps[state] + 1
                to_visit.append(next_state)
    return None


def play(env: grid.GridWorld, actions: list[int]) -> list[int]:
    env.reset()
    return [env.step(action)[-1]["state"] for action in actions]


# The facts of each world


@pytest.mark.parametrize(
    ("name", "size", "start", "goals"),
    [
        ("Maze", (6, 9), 3 * 9, [5 * 9 + 8]),
        ("MazeLarge", (16, 26), 8 * 26, [15 * 26 + 25]),
        ("Grid", (8, 10), 31, [36]),
        ("WindyGrid", (7, 10), 30, [37]),
        ("CliffWalk", (4, 12), 0, [11]),
        ("RandomWalk", (1, 7), 3, [0, 6]),
    ],
)
def test_size_start_and_goals(name, size, start, goals):
    layout = make(name).layout
    assert (layout.rows, layout.columns) == size
    assert layout.state_of(layout.start) == start
    assert [layout.state_of(goal) for goal in layout.goals] == goals


def test_walls_cliff_and_wind():
    assert make("Maze").layout.walls == {(2, 2), (3, 2), (4, 2), (1, 5), (3, 7), (4, 7), (5, 7)}
    large = {(row, 2) for row in range(2, 15)} | {(1, column) for column in range(5, 23)}
    assert make("MazeLarge").layout.walls == large | {(row, 24) for row in range(3, 16)}
    cliff = make("CliffWalk").layout
    assert {cliff.state_of(cell) for cell in cliff.cliff} == set(range(1, 11))
    assert make("WindyGrid").layout.wind == (0, 0, 0, 1, 1, 1, 2, 2, 1, 0)
    assert not make("Grid").layout.walls
    assert not make("Grid").layout.wind


@pytest.mark.parametrize(
    ("name", "num_actions", "steps"),
    [
        ("Maze", 4, 14),
        ("MazeLarge", 4, 46),  # 7 down, 25 right, 1 + 13 up
        ("Grid", 4, 5),
        ("Grid", 2, 5),
        ("WindyGrid", 4, 15),  # S&B example 6.5
        ("WindyGrid", 8, 7),  # S&B exercise 6.9
        ("CliffWalk", 4, 13),  # S&B example 6.6
        ("RandomWalk", 2, 3),
        ("Maze", 2, None),
    ],
)
def test_shortest_path(name, num_actions, steps):
    assert shortest_path(make(name, num_actions=num_actions)) == steps


# Moves


def test_moves_follow_the_order_of_the_action_names():
    env = make("Grid", num_actions=8)
    env.reset(options={"state": 55})
    ends = {name: env.step_from(55, action)[0] for action, name in enumerate(env.action_names)}
    assert ends == {
        "left": 54,
        "right": 56,
        "down": 45,
        "up": 65,
        "left-down": 44,
        "left-up": 64,
        "right-down": 46,
        "right-up": 66,
    }


def test_walls_and_edges_keep_the_agent_where_it_is():
    env = make("Maze", num_actions=8)
    cell = env.layout.state_of
    assert env.step_from(cell((3, 1)), RIGHT)[0] == cell((3, 1))  # wall (3, 2)
    assert env.step_from(cell((1, 1)), RIGHT_UP)[0] == cell((1, 1))  # wall (2, 2)
    assert env.step_from(cell((3, 0)), LEFT)[0] == cell((3, 0))
    assert env.step_from(cell((0, 4)), DOWN)[0] == cell((0, 4))
    assert env.step_from(cell((5, 4)), UP)[0] == cell((5, 4))
    assert env.step_from(cell((0, 4)), LEFT_DOWN)[0] == cell((0, 4))
    assert env.step_from(cell((2, 8)), RIGHT)[0] == cell((2, 8))  # no way round to the next row


def test_wind_is_that_of_the_column_left_behind():
    env = make("WindyGrid", num_actions=8)
    at = env.layout.state_of
    assert env.step_from(at((3, 2)), RIGHT)[0] == at((3, 3))  # calm column, although it enters wind 1
    assert env.step_from(at((3, 3)), RIGHT)[0] == at((4, 4))
    assert env.step_from(at((3, 3)), LEFT)[0] == at((4, 2))
    assert env.step_from(at((2, 6)), RIGHT_DOWN)[0] == at((3, 7))
    assert env.step_from(at((2, 8)), LEFT) == (at((3, 7)), -1, True)  # as S&B's last step
    assert env.step_from(at((1, 7)), UP)[0] == at((4, 7))
    assert env.step_from(at((5, 6)), RIGHT)[0] == at((6, 7))  # the edge stops the second push
    assert env.step_from(at((0, 4)), DOWN)[0] == at((1, 4))  # a move off the grid, then the wind


def test_wind_stops_at_a_wall():
    layout = grid.GridLayout(5, 2, start=(0, 0), goals=((4, 1),), walls=frozenset({(2, 1)}), wind=(3, 0))
    env = grid.GridWorld(layout, observation="index")
    assert env.step_from(0, RIGHT)[0] == layout.state_of((1, 1))


def test_cliff_returns_to_the_start_and_the_episode_continues():
    env = make("CliffWalk", observation="index")
    env.reset()
    assert play(env, [UP, RIGHT, RIGHT]) == [12, 13, 14]
    assert env.step(DOWN) == (0, -100, False, False, {"state": 0})
    assert env.step(UP)[:3] == (12, -1, False)


def test_random_walk_ends_left_and_right():
    env = make("RandomWalk", observation="index")
    env.reset()
    assert [env.step(LEFT)[:3] for _ in range(3)] == [(2, 0, False), (1, 0, False), (0, 0, True)]
    env.reset()
    assert [env.step(RIGHT)[:3] for _ in range(3)] == [(4, 0, False), (5, 0, False), (6, 1, True)]


def random_walk_values(env: grid.GridWorld) -> np.ndarray:
    """V of the uniformly random policy, by solving the Bellman equations of the model."""
    n = env.layout.num_states
    to_next, reward = np.zeros((n, n)), np.zeros(n)
    for state in range(n):
        for action in range(2):
            next_state, r, terminated = env.step_from(state, action)
            reward[state] += r / 2
            to_next[state, next_state] += 0 if terminated else 0.5
    return np.linalg.solve(np.eye(n) - to_next, reward)


def test_random_walk_has_the_true_values_of_the_book():
    small = make("RandomWalk")
    np.testing.assert_allclose(random_walk_values(small)[1:-1], np.arange(1, 6) / 6)
    large = make("RandomWalk", size=(1, 21), rewards="randwalk_")
    np.testing.assert_allclose(random_walk_values(large)[1:-1], np.arange(-9, 10) / 10, atol=1e-12)


def test_goals_absorb_with_reward_0():
    env = make("Maze", rewards="reward_1")
    assert env.step_from(53, LEFT) == (53, 0, True)


# Rewards


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ("default", (0, 1, 0, -100)),
        ("cliffwalk", (-1, -1, -1, -100)),
        ("randwalk", (0, 0, 1, 0)),
        ("randwalk_", (0, -1, 1, 0)),
        ("reward0", (-1, 0, 0, -1)),
        ("reward_1", (-1, -1, -1, -1)),
        ("reward1", (-1, 1, 1, -1)),
        ("reward10", (-1, 10, 10, -1)),
        ("reward100", (-1, 100, 100, -1)),
        ([-0.1, 2, 3, -5], (-0.1, 2, 3, -5)),
    ],
)
def test_rewards_of_step_goals_and_cliff(rewards, expected):
    walk = make("RandomWalk", rewards=rewards)
    cliff = make("CliffWalk", rewards=rewards)
    earned = (walk.step_from(3, RIGHT)[1], walk.step_from(1, LEFT)[1], walk.step_from(5, RIGHT)[1])
    assert (*earned, cliff.step_from(0, RIGHT)[1]) == expected


def test_best_return_on_the_maze_is_minus_14():
    env = make("Maze", rewards="reward_1")
    env.reset()
    way = [DOWN, DOWN, RIGHT, RIGHT, RIGHT, UP, *[RIGHT] * 5, UP, UP, UP]
    results = [env.step(action) for action in way]
    assert sum(result[1] for result in results) == -14
    assert [result[2] for result in results] == [False] * 13 + [True]


@pytest.mark.parametrize(
    ("name", "rewards"),
    [
        ("Maze", "default"),
        ("MazeLarge", "default"),
        ("Grid", "default"),
        ("WindyGrid", "reward_1"),
        ("CliffWalk", "cliffwalk"),
        ("RandomWalk", "randwalk"),
    ],
)
def test_default_rewards(name, rewards):
    assert make(name).rewards == grid.REWARD_SETS[rewards]


# Observations


def test_image_shows_each_thing_in_its_own_grey():
    greys = {BACKGROUND_GREY, WALL_GREY, CLIFF_GREY, GOAL_GREY, AGENT_GREY}
    assert len(greys) == 5
    image, _ = make("Maze").reset()
    assert image.shape == (1, 50, 84)
    assert image.dtype == np.uint8
    # cells are 50/6 x 84/9 pixels; row 5 is at the top of the image
    assert image[0, 4, 80] == GOAL_GREY
    assert image[0, 4, 70] == WALL_GREY
    assert image[0, 37, 51] == WALL_GREY  # (1, 5), low in the image
    assert image[0, 20, 4] == AGENT_GREY  # (3, 0)
    assert image[0, 46, 4] == BACKGROUND_GREY
    assert make("CliffWalk").reset()[0][0, 45, 40] == CLIFF_GREY
    assert set(np.unique(image)) | {CLIFF_GREY} == greys


@ALL_WORLDS
@pytest.mark.parametrize("observation", grid.OBSERVATIONS)
def test_every_state_looks_different(env_id, observation):
    env = gymnasium.make(env_id, observation=observation).unwrapped
    seen = [np.asarray(env.observe(state)) for state in range(env.layout.num_states)]
    assert len({array.tobytes() for array in seen}) == env.layout.num_states
    assert all(env.observation_space.contains(env.observe(state)) for state in (0, env.layout.num_states - 1))


def test_image_shows_every_cell_of_the_largest_grid():
    layout = maze(50, 84)
    env = grid.GridWorld(layout)
    image = env.reset()[0]
    assert (image == WALL_GREY).sum() == len(layout.walls)
    assert (image == AGENT_GREY).sum() == 1


def test_observe_moves_nothing_and_observations_are_the_callers_own():
    env = make("Maze")
    first, _ = env.reset()
    before = first.copy()
    env.observe(40)
    assert env.state == env.start_state
    first[:] = 7
    np.testing.assert_array_equal(env.reset()[0], before)


def test_index_and_one_hot():
    assert make("Maze", observation="index").reset()[0] == 27
    one_hot, info = make("Maze", observation="one_hot").reset()
    assert info == {"state": 27}
    assert one_hot.tolist() == [float(state == 27) for state in range(54)]


# Gymnasium


@ALL_WORLDS
@pytest.mark.parametrize("observation", grid.OBSERVATIONS)
@pytest.mark.filterwarnings("error")
def test_gymnasium_checker_is_content(env_id, observation):
    check_env(gymnasium.make(env_id, observation=observation, render_mode="rgb_array").unwrapped)


@ALL_WORLDS
def test_time_limit_truncates(env_id):
    env = gymnasium.make(env_id, observation="index")
    env.reset()
    # left, right, left ... ends nowhere
    ends = [env.step(step % 2)[2:4] for step in range(2000)]
    assert ends == [(False, False)] * 1999 + [(False, True)]


def test_reset_option_state():
    env = make("Maze", observation="index")
    assert env.reset(options={"state": 40}) == (40, {"state": 40})
    assert env.reset() == (27, {"state": 27})


def test_registering_again_changes_nothing():
    before = {env_id: gymnasium.registry[env_id] for env_id in grid.GRID_WORLDS}
    grid.register_grid_worlds()
    assert all(gymnasium.registry[env_id] is spec for env_id, spec in before.items())


@ALL_WORLDS
def test_picture_shows_the_agent_where_it_is(env_id):
    env = gymnasium.make(env_id, render_mode="rgb_array").unwrapped
    env.reset()
    picture, elsewhere = env.render(), draw_picture(env.layout, env.start_state + 1)
    assert picture.dtype == np.uint8
    assert picture.shape == (56 * env.layout.rows + 16, 56 * env.layout.columns + 16, 3)
    rows, columns = np.nonzero((picture != elsewhere).any(axis=2))
    row, column = env.layout.start
    assert set((env.layout.rows - 1 - (rows - 8) // 56).tolist()) == {row}
    assert set(((columns - 8) // 56).tolist()) == {column, column + 1}


# Sizes and errors


@pytest.mark.parametrize(
    ("name", "size", "start", "goal"),
    [
        ("Maze", (10, 12), (5, 0), (9, 11)),
        ("Grid", [5, 7], (2, 1), (2, 3)),
        ("WindyGrid", (9, 10), (4, 0), (4, 7)),
        ("CliffWalk", (3, 5), (0, 0), (0, 4)),
        ("RandomWalk", (1, 21), (0, 10), (0, 0)),
    ],
)
def test_other_sizes(name, size, start, goal):
    env = make(name, size=size)
    assert (env.layout.start, env.layout.goals[0]) == (start, goal)
    assert shortest_path(env) is not None


def test_random_walk_has_two_goals_at_its_ends():
    assert random_walk(1, 21).goals == ((0, 0), (0, 20))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("Maze", {"size": (3, 9)}, ["size=(3, 9)", "at least 4 rows and 9 columns"]),
        ("Maze", {"size": (51, 84)}, ["size=(51, 84)", "at most 50 rows"]),
        ("Maze", {"size": (6, 9, 1)}, ["size=(6, 9, 1)", "(rows, columns)"]),
        ("Maze", {"size": (6.5, 9)}, ["size=(6.5, 9)", "whole numbers"]),
        ("Grid", {"size": (8, 5)}, ["size=(8, 5)", "at least 6 columns"]),
        ("WindyGrid", {"size": (7, 12)}, ["size=(7, 12)", "exactly 10 columns"]),
        ("CliffWalk", {"size": (1, 12)}, ["size=(1, 12)", "at least 2 rows"]),
        ("RandomWalk", {"size": (1, 8)}, ["size=(1, 8)", "odd"]),
        ("RandomWalk", {"size": (2, 7)}, ["size=(2, 7)", "1 row"]),
        ("Maze", {"rewards": "reward2"}, ["rewards='reward2'", "reward_1", "four numbers"]),
        ("Maze", {"rewards": [1, 2, 3]}, ["rewards=[1, 2, 3]", "four numbers"]),
        ("Maze", {"rewards": [0, float("nan"), 0, 0]}, ["rewards=", "nan", "four numbers"]),
        ("Maze", {"num_actions": 3}, ["num_actions=3", "2, 4 or 8"]),
        ("Maze", {"observation": "pixels"}, ["observation='pixels'", "image, index, one_hot"]),
    ],
)
def test_bad_arguments_get_one_sentence(name, arguments, words):
    with pytest.raises(ValueError, match="give") as error:
        make(name, **arguments)
    message = str(error.value)
    assert all(word in message for word in words)
    assert "\n" not in message


def test_other_bad_input():
    with pytest.raises(ValueError, match="render_mode='human'"):
        grid.GridWorld(maze(6, 9), render_mode="human")
    with pytest.raises(ValueError, match="world='labyrinth' is unknown; give one of maze"):
        build_layout("labyrinth", (6, 9))
    env = make("Maze")
    for action in (4, -1):
        with pytest.raises(ValueError, match=f"action={action} does not exist"):
            env.step(action)
    for state in (29, 53, 54, -1):  # wall, goal, outside
        with pytest.raises(ValueError, match="not a state to act in"):
            env.reset(options={"state": state})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"start": (2, 0)}, "outside"),
        ({"walls": frozenset({(1, 2)})}, "share a cell"),
        ({"goals": ()}, "one or two"),
        ({"wind": (1,)}, "each of the 3 columns"),
    ],
)
def test_impossible_layouts(parts, message):
    with pytest.raises(ValueError, match=message):
        grid.GridLayout(**{"rows": 2, "columns": 3, "start": (0, 0), "goals": ((1, 2),), **parts})
