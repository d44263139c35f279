"""TorchRL's replay buffers."""

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from torchrl.data import LazyTensorStorage, ReplayBuffer, TensorDictReplayBuffer
from torchrl.envs import CatFrames

from contestants.buffers.stacks import Stacks
from replay import BATCH_SIZE, NUM_ENVS, STACK

BLOCK = 50  # agent steps of each game that are written together


def make(capacity: int, frames_once: bool) -> tuple[Callable, Callable]:
    """How to write and how to draw.

    Args:
        capacity: timesteps.
        frames_once: store single frames and stack them when a batch is drawn; else store the stacks.

    """
    return _frames_once(capacity) if frames_once else _stacks(capacity)


def _stacks(capacity: int) -> tuple[Callable, Callable]:
    # Returns are folded before they are written (MultiStep), so that drawing is no more work with n steps.
    replay = TensorDictReplayBuffer(storage=LazyTensorStorage(capacity), batch_size=BATCH_SIZE)
    stacks = Stacks(NUM_ENVS)

    def add(played: Any) -> None:
        stack, next_stack = stacks.push(played)
        replay.extend(_as_tensordict(played, stack, next_stack))

    return add, replay.sample


def _frames_once(capacity: int) -> tuple[Callable, Callable]:
    transform, sampler = CatFrames(
        N=STACK,
        dim=-3,
        in_keys=["pixels"],
        out_keys=["stacked"],
        reset_key="_reset",
    ).make_rb_transform_and_sampler(batch_size=BATCH_SIZE, traj_key="trajectory", cache_values=True)
    storage = LazyTensorStorage(capacity)
    replay = ReplayBuffer(storage=storage, sampler=sampler, transform=transform, batch_size=BATCH_SIZE)
    games = torch.arange(NUM_ENVS)
    block = []

    def add(played: Any) -> None:
        nonlocal games
        games = games + NUM_ENVS * torch.from_numpy(played.first)
        step = _as_tensordict(played, played.frame[:, None], played.next_frame[:, None])
        block.append(step.set("trajectory", games))
        if len(block) == BLOCK:  # game by game, for slices are of consecutive rows
            replay.extend(torch.stack(block, 1).reshape(-1))
            block.clear()

    return add, replay.sample


def _as_tensordict(played: Any, pixels: Any, next_pixels: Any) -> TensorDict:
    following = {
        "pixels": torch.from_numpy(next_pixels.copy()),
        "reward": torch.from_numpy(played.reward)[:, None],
        "done": torch.from_numpy(played.terminated)[:, None],
        "terminated": torch.from_numpy(played.terminated)[:, None],
    }
    return TensorDict(
        {"pixels": torch.from_numpy(pixels), "action": torch.from_numpy(played.action), "next": following},
        batch_size=[NUM_ENVS],
    )
