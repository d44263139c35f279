import numpy as np

from lit_dqn.replay import stack_frames
from lit_dqn.replay.stacking import FrameStack


def test_a_frame_stack_is_the_newest_frames_however_long_it_goes_on():
    generator = np.random.default_rng(0)
    for shape in ((3, 2), (2, 3, 2), (5,)):
        for count in (1, 2, 4):
            stack, expected = FrameStack(3, count), None
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
