"""Classification of observations by their spaces: images and their channel axis, other arrays, rows of several
parts.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lit_dqn.errors import ConfigError
from lit_dqn.parts import Parts


class RowSpace(spaces.Box):
    """The space of rows of bytes, each an observation of several parts.

    Args:
        parts: the parts of a row.

    """

    def __init__(self, parts: Parts) -> None:
        super().__init__(0, 255, parts.row_shape, np.uint8)
        self.parts = parts


def stored_dtype(space: spaces.Space[Any]) -> np.dtype:
    """The dtype in which observations are stored: uint8 and bool images (two axes or more) keep theirs, others get
    float32.
    """
    assert space.shape is not None
    as_it_is = isinstance(space, RowSpace) or (space.dtype in (np.uint8, np.bool_) and len(space.shape) >= 2)
    return np.dtype(space.dtype if as_it_is else np.float32)


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether observations are images, whose frames can be stacked: uint8 or bool with two or three axes, or numbers
    from 0 to 1 with three.
    """
    if not isinstance(space, spaces.Box):
        return False
    axes = len(space.shape)
    if space.dtype in (np.uint8, np.bool_):
        return axes in (2, 3)
    return axes == 3 and bool((space.low == 0).all() and (space.high == 1).all())


def channels_last(space: spaces.Box) -> bool:
    """Whether observations are images in Gymnasium's order, (height, width, channels)."""
    shape = space.shape
    return is_image(space) and len(shape) == 3 and shape[2] < min(shape[:2])


class ChannelsFirst(gymnasium.ObservationWrapper):
    """Images (height, width, channels) as (channels, height, width), as networks take them.

    uint8 and bool images, and parts, are converted automatically. Other floats could be anything: use this wrapper if
    they are images.

    Args:
        env: an env whose observations are arrays of three axes.

    Raises:
        ConfigError: if they are not.

    """

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ConfigError(f"it shows {space}, and no image (height, width, channels); leave the wrapper out.")
        low, high = (np.moveaxis(bound, -1, 0) for bound in (space.low, space.high))
        self.observation_space = spaces.Box(low, high, dtype=space.dtype)

    def observation(self, observation: NDArray[Any]) -> NDArray[Any]:
        """[height, width, channels] to [channels, height, width]."""
        return np.moveaxis(observation, -1, 0)
