"""Batches from a ring of 1M frames: gathered on the device, or sampled on the host and sent there."""

from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from gpu_sections.cases import Case, Figure
from gpu_sections.measuring import Bench
from lit_dqn.replay import ReplayBuffer
from lit_dqn.types import Batch, Timestep

UPDATES, BATCH_SIZE, STACK, ENVS = 8, 32, 4, 64
"""Of a chunk: its batches are drawn together."""
FRAME = (84, 84)
Send = Callable[[torch.Tensor], torch.Tensor]


def cases(bench: Bench) -> list[Case]:
    """Ways of getting a chunk's batches, then what the device's way is made of."""
    rows = 1_000 if bench.smoke else 1_000_000
    batches = f"{UPDATES} batches of {BATCH_SIZE}"

    def host(name: str, send: Send) -> Case:
        return Case(f"{batches}: sampled on the host, {name}", lambda seconds: _sampled(bench, rows, seconds, send))

    pinned: Send = lambda tensor: tensor.pin_memory() if bench.cuda else tensor  # noqa: E731
    # The first of them fills the replay.
    return [
        Case(f"{batches}: looked up on the host, gathered on the device", partial(_gathered, bench, rows), 8, 10),
        host("sent pinned", lambda tensor: pinned(tensor).to(bench.device, non_blocking=True)),
        host("sent as it is", lambda tensor: tensor.to(bench.device)),
        Case(f"frames of {batches}: gather alone", partial(_gather, bench, rows)),
        Case(f"{ENVS} frames: upload into the ring", partial(_upload, bench, rows)),
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


def _gathered(bench: Bench, rows: int, seconds: float) -> Figure:
    from lit_dqn.replay import DeviceFrames

    replay = full_replay(rows)
    frames = DeviceFrames(replay, bench.device)
    frames.update()  # all of them; from then on there are no new ones here
    starts = _starts(replay)

    def draw() -> None:
        for batch in frames.batches(replay.lookup(next(starts)), UPDATES):
            assert batch.observation.device.type == bench.device.type

    return bench.milliseconds(draw, min(seconds, 2.0), timesteps=len(replay.starts))


def _sampled(bench: Bench, rows: int, seconds: float, send: Send) -> Figure:
    replay = full_replay(rows)
    starts = _starts(replay)
    return bench.milliseconds(
        lambda: Batch(*map(send, replay.sample(next(starts)).tensors)), seconds, timesteps=len(replay.starts)
    )


def _starts(replay: ReplayBuffer) -> Iterator[NDArray[np.int64]]:
    """Of the transitions of a chunk, without end."""
    generator = np.random.default_rng(0)
    while True:
        yield generator.integers(replay.starts.start, replay.starts.stop, UPDATES * BATCH_SIZE)


@cache
def full_replay(timesteps: int) -> ReplayBuffer:
    """A replay with so many timesteps in it, as Pong would have them."""
    replay = ReplayBuffer(timesteps, ENVS, FRAME, np.uint8, gamma=0.99, n_step=3, frame_stack=STACK, reward_clip=1.0)
    pictures = np.random.default_rng(0).integers(0, 256, (8, ENVS, *FRAME), np.uint8)
    action, reward, going = np.zeros(ENVS, np.int64), np.zeros(ENVS), np.ones(ENVS, bool)
    for step in range(timesteps // ENVS + 8):
        before, after = pictures[step % 8], pictures[(step + 1) % 8]
        replay.add(Timestep(before, action, reward, going, ~going, after))
    return replay
