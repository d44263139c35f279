"""A chunk of steps on its way between two machines: its frames are compressed."""

import zlib
from typing import NamedTuple

import numpy as np

from lit_dqn.playing.actor import Played

FASTEST = 1
"""The level of zlib. A grey frame of Pong, 84 x 84, becomes 230 bytes in 14 µs, and is back in 11 µs."""


class Packed(NamedTuple):
    """A chunk whose frames are compressed."""

    frames: bytes
    final_frames: bytes
    played: Played  # with empty frames of the same shapes and dtype, but for the first axis


def pack(played: Played) -> Packed | Played:
    """Compress the frames if they are bytes, as those of images are; floats hardly become smaller."""
    if played.frames.dtype != np.uint8:
        return played
    return Packed(
        zlib.compress(played.frames.tobytes(), FASTEST),
        zlib.compress(played.final_frames.tobytes(), FASTEST),
        played._replace(frames=played.frames[:0], final_frames=played.final_frames[:0]),
    )


def unpack(packed: Packed) -> Played:
    """The chunk as it was before `pack`."""
    played = packed.played
    return played._replace(
        frames=np.frombuffer(zlib.decompress(packed.frames), np.uint8).reshape(-1, *played.frames.shape[1:]),
        final_frames=np.frombuffer(zlib.decompress(packed.final_frames), np.uint8).reshape(
            -1, *played.final_frames.shape[1:]
        ),
    )
