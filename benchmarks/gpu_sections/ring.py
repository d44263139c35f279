"""Batches from a ring of 1M frames: gathered on the device, or sampled on the host and sent there."""

from collections.abc import Callable

import numpy as np
import torch

from gpu_sections.cases import Case, Figure
from gpu_sections.measuring import Bench
from lit_dqn.replay import ReplayBuffer
from lit_dqn.types import Batch, Timestep

UPDATES, BATCH_SIZE, STACK, ENVS = 8, 32, 4, 64
"""Of a chunk: its batches are drawn together."""
FRAME = (84, 84)


def cases(bench: Bench) -> list[Case]:
    """The device's ring first."""
    rows = 1_000 if bench.smoke else 1_000_000
    batches = f"{UPDATES} batches of {BATCH_SIZE}"
    return [
        Case(f"gather {batches} on the device", lambda seconds: _gather(bench, rows, seconds)),
        Case(f"upload {ENVS} frames into the ring", lambda seconds: _upload(bench, rows, seconds)),
        Case(f"sample {batches} on the host, pin, send", lambda seconds: _host(bench, rows, seconds, pin=True), 6, 14),
        Case(f"sample {batches} on the host, send unpinned", lambda seconds: _host(bench, rows, seconds), 6, 14),
    ]


def _frames(bench: Bench, rows: int) -> torch.Tensor:
    return torch.randint(0, 256, (rows, *FRAME), dtype=torch.uint8, device=bench.device)


def _gather(bench: Bench, rows: int, seconds: float) -> Figure:
    frames = _frames(bench, rows)
    count = UPDATES * BATCH_SIZE * 2 * STACK
    # Other rows each time, or they would come out of the cache.
    choices = torch.randint(0, rows, (64, count), device=bench.device)
    calls = 0

    def gather() -> None:
        nonlocal calls
        frames.index_select(0, choices[calls % len(choices)])
        calls += 1

    gigabytes = frames.nbytes / 1e9
    return bench.milliseconds(gather, seconds, ring_gb=round(gigabytes, 2), frames=count)


def _upload(bench: Bench, rows: int, seconds: float) -> Figure:
    frames = _frames(bench, rows)
    new = torch.randint(0, 256, (ENVS, *FRAME), dtype=torch.uint8, pin_memory=bench.cuda)
    places = torch.randint(0, rows, (64, ENVS), device=bench.device)
    calls = 0

    def upload() -> None:
        nonlocal calls
        frames.index_copy_(0, places[calls % len(places)], new.to(bench.device, non_blocking=True))
        calls += 1

    return bench.milliseconds(upload, seconds)


def _host(bench: Bench, rows: int, seconds: float, *, pin: bool = False) -> Figure:
    replay = _full_replay(rows)
    generator = np.random.default_rng(0)
    send: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor.to(bench.device)  # noqa: E731
    if pin and bench.cuda:
        send = lambda tensor: tensor.pin_memory().to(bench.device, non_blocking=True)  # noqa: E731

    def sample() -> Batch:
        starts = generator.integers(replay.starts.start, replay.starts.stop, UPDATES * BATCH_SIZE)
        return Batch._make(map(send, replay.sample(starts)))

    return bench.milliseconds(sample, min(seconds, 2.0), timesteps=len(replay.starts))


def _full_replay(timesteps: int) -> ReplayBuffer:
    """A replay with so many timesteps in it, as Pong would have them."""
    replay = ReplayBuffer(timesteps, ENVS, FRAME, np.uint8, gamma=0.99, n_step=3, frame_stack=STACK, reward_clip=1.0)
    pictures = np.random.default_rng(0).integers(0, 256, (8, ENVS, *FRAME), np.uint8)
    action, reward, going = np.zeros(ENVS, np.int64), np.zeros(ENVS), np.ones(ENVS, bool)
    for step in range(timesteps // ENVS + 8):
        before, after = pictures[step % 8], pictures[(step + 1) % 8]
        replay.add(Timestep(before, action, reward, going, ~going, after))
    return replay
