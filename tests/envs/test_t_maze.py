import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from lit_dqn import ConfigError, make_env
from lit_dqn.envs.t_maze import EAST, NORTH, SOUTH, T_MAZE_ID, WEST


def walked(env, seed, actions):
    """What is seen, as numbers, and the steps' (reward, terminated, truncated)."""
    seen = [env.reset(seed=seed)[0].argmax()]
    paid = []
    for action in actions:
        observation, *step, _ = env.step(action)
        seen.append(observation.argmax())
        paid.append(tuple(step))
    return list(map(int, seen)), paid


def test_it_is_a_gymnasium_env_that_lit_dqn_takes():
    check_env(gymnasium.make(T_MAZE_ID).unwrapped, skip_render_check=True)
    assert make_env(T_MAZE_ID).reset(seed=0)[0].shape == (4,)


def test_the_sign_at_the_start_says_which_way_pays_at_the_end():
    env = gymnasium.make(T_MAZE_ID, length=3)
    signs = []
    for seed in range(40):
        seen, paid = walked(env, seed, [EAST, WEST, EAST, EAST, EAST, NORTH])
        sign = seen[0]
        signs.append(sign)
        assert seen[1:-1] == [2, sign, 2, 2, 3]  # the sign is seen again by whoever goes back
        assert paid[:-1] == [(0, False, False)] * 5
        assert paid[-1] == (float(sign == 0), True, False)
        assert walked(env, seed, [EAST, EAST, EAST, SOUTH])[1][-1] == (float(sign == 1), True, False)
    assert 10 < sum(signs) < 30


@pytest.mark.parametrize("action", [NORTH, SOUTH, WEST])
def test_a_step_against_a_wall_costs_a_tenth_and_goes_nowhere(action):
    env = gymnasium.make(T_MAZE_ID, length=3)
    seen, paid = walked(env, 0, [action, EAST, EAST, EAST, EAST])
    assert paid[0] == (-0.1, False, False)
    assert seen[0] == seen[1]
    assert seen[2:] == [2, 2, 3, 3]
    assert paid[-1] == (-0.1, False, False)


def test_an_episode_is_truncated_and_a_corridor_without_length_refused():
    assert walked(gymnasium.make(T_MAZE_ID), 0, [WEST] * 200)[1][-1] == (-0.1, False, True)
    with pytest.raises(ConfigError, match="length=0 is not possible"):
        make_env(T_MAZE_ID, {"length": 0})


def test_whoever_acts_by_what_is_seen_alone_is_right_half_of_the_time_at_most():
    """All deterministic policies at the junction, by their mean over both signs."""
    env = gymnasium.make(T_MAZE_ID, length=1)
    for action in (NORTH, SOUTH):
        rewards = {}
        for seed in range(20):
            seen, paid = walked(env, seed, [EAST, action])
            rewards[seen[0]] = paid[-1][0]
        assert np.mean(list(rewards.values())) == 0.5
