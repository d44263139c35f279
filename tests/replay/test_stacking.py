import numpy as np
import pytest

from lit_dqn.replay import stack_frames, stacked_shape
from lit_dqn.replay.stacking import FrameStack, first_observations, observations_of_episode


def test_a_frame_stack_is_the_newest_frames_after_any_number_of_pushes():
    generator = np.random.default_rng(0)
    for shape in ((3, 2), (2, 3, 2), (5,)):
        for count in (1, 2, 4):
            stack, expected = FrameStack(3, count, shape, np.uint8), None
            for step in range(150):
                frames = generator.integers(0, 255, (3, *shape), np.uint8)
                mask = generator.random(3) < 0.1 if step else np.ones(3, bool)
                if step:
                    stack.push(frames)
                    expected = np.concatenate([expected[:, 1:], frames[:, None]], axis=1)
                else:
                    expected = np.zeros((3, count, *shape), np.uint8)
                first = generator.integers(0, 255, (3, *shape), np.uint8)
                stack.reset(first, mask)
                expected[mask] = first[mask, None]
                assert (stack.observation == (expected[:, 0] if count == 1 else stack_frames(expected))).all()
                assert (stack.frames == expected[:, -1]).all()


@pytest.mark.parametrize("shape", [(5,), (3, 2), (2, 3, 2)])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_episode_that_is_looked_at_later_shows_what_was_seen_while_it_was_played(shape, count):
    frames = np.random.default_rng(0).integers(0, 255, (9, *shape), np.uint8)
    stack, seen = FrameStack(1, count, shape, np.uint8), []
    for step in range(9):
        if step == 0:
            stack.reset(frames[:1], np.ones(1, bool))
        else:
            stack.push(frames[step : step + 1])
        seen.append(stack.observation[0].copy())
    assert seen[0].shape == stacked_shape(count, shape)
    np.testing.assert_array_equal(observations_of_episode(frames, count), seen)
    np.testing.assert_array_equal(
        observations_of_episode(frames, count, np.array([7, 0, 2])), np.array(seen)[[7, 0, 2]]
    )
    np.testing.assert_array_equal(first_observations(frames[:1], count), seen[:1])
