import itertools

import pytest

from lit_dqn.errors import ConfigError
from lit_dqn.schedules import Constant, Exponential, Linear, Repeated


def test_constant_never_changes():
    schedule = Constant(0.3)
    assert [schedule(env_step) for env_step in (0, 1, 10**9)] == [0.3, 0.3, 0.3]
    assert (schedule.start, schedule.end) == (0.3, 0.3)


def test_linear_is_a_straight_line_and_then_its_end():
    schedule = Linear(1.0, 0.2, env_steps=8)
    values = [schedule(env_step) for env_step in range(11)]
    assert values == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2, 0.2])


def test_exponential_shrinks_by_one_factor_a_step_and_then_stays_at_its_end():
    schedule = Exponential(1.0, 0.0625, env_steps=4)
    assert [schedule(env_step) for env_step in range(7)] == pytest.approx([1, 0.5, 0.25, 0.125, 0.0625, 0.0625, 0.0625])


@pytest.mark.parametrize("kind", [Linear, Exponential])
def test_a_schedule_may_rise(kind):
    values = [kind(0.1, 0.9, env_steps=10)(env_step) for env_step in range(12)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == pytest.approx((0.1, 0.9))


@pytest.mark.parametrize("kind", [Linear, Exponential])
def test_the_end_is_met_to_the_last_bit(kind):
    tenths = [number / 10 for number in range(1, 80)]
    missed = [(start, end) for start in tenths for end in tenths if kind(start, end, env_steps=7)(7) != end]
    assert missed == []
    assert Exponential(0.97, 0.997, 7, towards=1.0)(7) == 0.997


@pytest.mark.parametrize("kind", [Linear, Exponential])
def test_a_schedule_over_one_step_is_at_its_end_after_it(kind):
    schedule = kind(1.0, 0.25, env_steps=1)
    assert [schedule(env_step) for env_step in range(3)] == [1.0, 0.25, 0.25]


@pytest.mark.parametrize("kind", [Linear, Exponential])
@pytest.mark.parametrize("env_steps", [0, -5])
def test_a_schedule_over_no_steps_is_refused_with_key_and_value(kind, env_steps):
    with pytest.raises(ConfigError, match=f"env_steps: {env_steps} "):
        kind(1.0, 0.1, env_steps)


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.5)])
def test_an_exponential_that_touches_0_is_refused_with_its_values(start, end):
    with pytest.raises(ConfigError, match=f"start {start} and end {end} "):
        Exponential(start, end, 10)


def test_schedules_of_the_same_arguments_are_equal():
    assert Linear(1.0, 0.1, 10) == Linear(1.0, 0.1, 10) != Exponential(1.0, 0.1, 10)


def test_a_distance_may_shrink_by_one_factor_a_step_as_that_of_gamma_from_1():
    schedule = Exponential(0.9, 0.9936, env_steps=4, towards=1.0)
    horizons = [1 / (1 - schedule(env_step)) for env_step in range(6)]
    ratios = [after / before for before, after in itertools.pairwise(horizons)]
    assert ratios[:4] == pytest.approx([(0.1 / 0.0064) ** 0.25] * 4)
    assert schedule(5) == schedule(4) == pytest.approx(0.9936)
    with pytest.raises(ConfigError, match=r"on one side of towards 1\.0"):
        Exponential(0.9, 1.1, 4, towards=1.0)


def test_a_repeated_schedule_restarts_until_its_limit():
    schedule = Repeated(Linear(10, 3, env_steps=2), every_env_steps=4, until_env_steps=8)
    assert [schedule(env_step) for env_step in range(12)] == [10, 6.5, 3, 3, 10, 6.5, 3, 3, 3, 3, 3, 3]
    assert (schedule.start, schedule.end) == (10, 3)
    assert Repeated(Linear(10, 3, env_steps=2), every_env_steps=4)(8) == 10
