"""The arrays of a replay before they are allocated: their shapes, dtypes and sizes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lit_dqn.replay.masks import packed_bytes


def array_layout(
    capacity: int,
    num_envs: int,
    observation_shape: tuple[int, ...],
    observation_dtype: DTypeLike,
    n_step: int,
    frame_stack: int,
    num_actions: int | None = None,
    memory_size: int = 0,
) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
    """Shape and dtype of every array.

    `num_actions` is for the action masks, None without masks; `memory_size` for the agent's memory, 0 without one.
    """
    timesteps = -(-capacity // num_envs)
    last_observations = min(timesteps, 1024 + timesteps // 50)
    # Room for incomplete windows in this column and in the others, for stacks, and for the rows of the next `add`.
    rows = (num_envs, timesteps + last_observations + 2 * n_step + frame_stack + 2)
    layout: dict[str, tuple[tuple[int, ...], DTypeLike]] = {
        "observation": ((*rows, *observation_shape), observation_dtype),
        "action": (rows, np.int64),
        "reward": (rows, np.float32),
        "discount": (rows, np.bool_),
        "last": (rows, np.bool_),
        "step": (rows, np.int32),
        "start_number": (rows, np.int64),
        "start_column": ((capacity,), np.int32),
        "start_row": ((capacity,), np.int64),
        "head": ((num_envs,), np.int64),
    }
    if num_actions is not None:
        layout["action_mask"] = ((*rows, packed_bytes(num_actions)), np.uint8)
    if memory_size > 0:
        layout["memory"] = ((*rows, memory_size), np.float32)
    return layout


def replay_bytes(
    capacity: int,
    num_envs: int,
    observation_shape: tuple[int, ...],
    observation_dtype: DTypeLike,
    *,
    n_step: int = 1,
    frame_stack: int = 1,
    num_actions: int | None = None,
    memory_size: int = 0,
) -> int:
    """Memory of a full replay, in bytes."""
    layout = array_layout(
        capacity, num_envs, observation_shape, observation_dtype, n_step, frame_stack, num_actions, memory_size
    )
    return sum(map(_bytes, layout.values()))


def frames_bytes(
    capacity: int,
    num_envs: int,
    observation_shape: tuple[int, ...],
    observation_dtype: DTypeLike,
    *,
    n_step: int = 1,
    frame_stack: int = 1,
) -> int:
    """Memory of the frames only, in bytes."""
    layout = array_layout(capacity, num_envs, observation_shape, observation_dtype, n_step, frame_stack)
    return _bytes(layout["observation"])


def check_same_layout(arrays: Mapping[str, NDArray[Any]], found: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """Refuse the saved arrays of a replay with another layout.

    Args:
        arrays: of the replay.
        found: name of the dtype and shape of each saved array.

    Raises:
        ValueError: names the first array that differs.

    """
    for name, array in arrays.items():
        if found.get(name) != (array.dtype.name, array.shape):
            there = " ".join(map(str, found.get(name, ("nothing",))))
            raise ValueError(f"the replay's {name} is {array.dtype.name} {array.shape} here, and {there} there")


def _bytes(array: tuple[tuple[int, ...], DTypeLike]) -> int:
    shape, dtype = array
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
