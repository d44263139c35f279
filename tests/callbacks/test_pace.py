"""Speed and time left, on series that stand for runs."""

import math

import pytest

from lit_dqn.callbacks.pace import LEAST_SECONDS, Left, Pace, typical_length

ENV_STEPS_PER_SECOND = 50.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def maze_lengths() -> list[int]:
    """200 episodes of an agent that learns a maze: its first ones take 600 steps, its last ones 14, some stray."""
    lengths = [round(14 + 586 * math.exp(-number / 6)) for number in range(200)]
    for stray in (25, 60, 110, 150):
        lengths[stray] = 300
    return lengths


def test_the_time_left_of_episodes_that_get_shorter_is_never_off_by_five():
    lengths, clock = maze_lengths(), Clock()
    pace, env_step, by_the_mean_of_the_run = Pace(clock), 0, []
    for episode, length in enumerate(lengths, start=1):
        for _ in range(length):
            env_step += 1
            clock.now += 1 / ENV_STEPS_PER_SECOND
            if pace.due:
                pace.note(env_step, env_step)
        if not 15 <= episode < 195:
            continue
        truth = sum(lengths[episode:]) / ENV_STEPS_PER_SECOND
        told = pace.seconds_left(Left(episodes=200 - episode), lengths[:episode])
        assert truth / 5 < told < truth * 5, f"after {episode} episodes: {told:.0f} s, in truth {truth:.0f} s"
        by_the_mean_of_the_run.append((200 - episode) * env_step / episode / ENV_STEPS_PER_SECOND / truth)
    assert max(by_the_mean_of_the_run) > 5  # what the estimate must be better than


def played(pace: Pace, clock: Clock, seconds: float, env_step: int, speed: float = 100.0) -> int:
    for _ in range(round(seconds / LEAST_SECONDS)):
        clock.now += LEAST_SECONDS
        env_step += round(speed * LEAST_SECONDS)
        assert pace.due
        pace.note(env_step, env_step / 4)
    return env_step


def test_an_evaluation_does_not_pass_for_slow_training():
    clock = Clock()
    pace = Pace(clock)
    env_step = played(pace, clock, 60, 0)
    pace.evaluation_begins()
    clock.now += 300
    assert pace.env_steps_per_second == pytest.approx(100)
    pace.evaluation_ends()
    assert pace.env_steps_per_second == pytest.approx(100)
    env_step = played(pace, clock, 10, env_step)
    assert pace.env_steps_per_second == pytest.approx(100)
    # 1,000 s of training are left, and evaluations took five parts of six until now.
    assert pace.seconds_left(Left(env_steps=100_000)) == pytest.approx(6_000, rel=0.02)


def test_the_speed_is_that_of_the_last_half_minute():
    clock = Clock()
    pace = Pace(clock)
    env_step = played(pace, clock, 100, 0, speed=1000)
    played(pace, clock, 40, env_step, speed=100)
    assert pace.env_steps_per_second == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(
    ("left", "seconds"),
    [
        (Left(), None),
        (Left(env_steps=5_000), 50),
        (Left(updates=5_000), 200),
        (Left(episodes=5), 10),
        (Left(seconds=7), 7),
        (Left(env_steps=5_000, updates=5_000, episodes=100), 50),
        (Left(env_steps=5_000, updates=5_000, episodes=100, seconds=3), 3),
        (Left(env_steps=0), 0),
    ],
)
def test_the_limit_that_is_reached_first_ends_the_run(left, seconds):
    clock = Clock()
    pace = Pace(clock)
    assert pace.seconds_left(Left(env_steps=5_000)) is None
    played(pace, clock, 10, 0)
    told = pace.seconds_left(left, [200] * 10)
    assert told == (None if seconds is None else pytest.approx(seconds))


def test_episode_lengths_are_estimated_once_ten_have_ended():
    clock = Clock()
    pace = Pace(clock)
    played(pace, clock, 10, 0)
    assert pace.seconds_left(Left(episodes=5), [200] * 9) is None
    assert pace.seconds_left(Left(episodes=5), [200] * 10) == pytest.approx(10)


def test_the_typical_length_follows_a_fall_and_waits_out_a_relapse():
    assert typical_length([*[1000] * 15, *[20] * 5]) == pytest.approx(20)
    assert typical_length([*[20] * 15, 200, 1000, 500, 300, 400]) == pytest.approx(20)
    assert typical_length([*[20] * 9, 1000]) == pytest.approx(20)
