"""Chunks that travel between machines arrive as they were sent."""

import numpy as np
import pytest

from lit_dqn.playing.actor import Played
from lit_dqn.playing.packing import Packed, pack, unpack


def played(frames, final_frames) -> Played:
    steps, envs = len(frames) - 1, frames.shape[1]
    none = np.zeros((steps, envs), bool)
    return Played(
        frames, none.astype(np.int64), none.astype(float), none, none, none, final_frames, None, None, [{}] * envs, None
    )


@pytest.mark.parametrize("ended", [0, 2])
def test_a_chunk_of_images_arrives_as_it_was_and_is_smaller(ended):
    frames = np.zeros((9, 2, 1, 30, 40), np.uint8)
    frames[:, :, 0, 3, 5:9] = np.arange(9)[:, None, None]
    sent = played(frames, frames[3, :ended])
    packed = pack(sent)
    assert isinstance(packed, Packed)
    assert 10 * len(packed.frames) < frames.nbytes
    assert packed.played.frames.nbytes == packed.played.final_frames.nbytes == 0
    found = unpack(packed)
    for name, value in sent._asdict().items():
        assert np.array_equal(getattr(found, name), value), name
    assert found.frames.dtype == np.uint8
    assert found.final_frames.shape == (ended, 1, 30, 40)


def test_numbers_are_sent_as_they_are():
    frames = np.random.default_rng(0).standard_normal((3, 2, 4), np.float32)
    sent = played(frames, frames[0, :0])
    assert pack(sent) is sent
