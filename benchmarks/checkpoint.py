"""Time and bytes of a checkpoint by the size of the replay: Nature CNN, 84 x 84 frames, 4 envs, 50,000 new frames.

    python benchmarks/checkpoint.py                                  # 1,000,000 timesteps take 7.3 GB of memory
    python benchmarks/checkpoint.py --timesteps 50000 200000

Each size: a full replay is saved, 50,000 timesteps are played, it is saved again (this is what a run pays at each
interval), and loaded into a new buffer. The files go to --folder, which must lie on the disk that is meant.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from lit_dqn import LitDQN, ReplayCheckpointIO
from lit_dqn.replay import ReplayBuffer
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.contents import DATA_STATE, REPLAY_STATE, Contents
from lit_dqn.types import Timestep

ENVS = 4
NEW_TIMESTEPS = 50_000
EPISODE_LENGTH = 800
RESULTS = Path(__file__).parent / "results/checkpoint.json"


def make_replay(capacity: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, ENVS, (84, 84), np.uint8, gamma=0.99, n_step=3, frame_stack=4)


def play(replay: ReplayBuffer, timesteps: int, frames: np.ndarray, played: int) -> None:
    for step in range(played // ENVS, (played + timesteps) // ENVS):
        last = (step + np.arange(ENVS) * 100) % EPISODE_LENGTH == EPISODE_LENGTH - 1
        now, then = frames[step % len(frames)], frames[(step + 1) % len(frames)]
        replay.add(Timestep(now, np.full(ENVS, step % 6), np.zeros(ENVS), ~last, last, then))


def checkpoint_of(agent: LitDQN, optimizer: torch.optim.Optimizer, replay: ReplayBuffer) -> dict:
    return {
        "env_step": 0,
        "state_dict": agent.state_dict(),
        "hyper_parameters": dict(agent.hparams),
        "optimizer_states": [optimizer.state_dict()],
        DATA_STATE: {REPLAY_STATE: replay.state_dict()},
    }


def written(folder: Path) -> int:
    """Bytes of the files with a single name."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.stat().st_nlink == 1)


def measure(timesteps: int, folder: Path) -> dict:
    agent = LitDQN((4, 84, 84), 6)
    optimizer = torch.optim.Adam(agent.online.parameters())
    agent.online(torch.zeros(2, 4, 84, 84)).sum().backward()
    optimizer.step()
    frames = np.random.default_rng(0).integers(0, 256, (256, ENVS, 84, 84), np.uint8)
    replay, checkpoint_io = make_replay(timesteps), ReplayCheckpointIO()
    play(replay, timesteps, frames, 0)

    cpu_seconds = []

    def save(name: str) -> float:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        checkpoint_io.save_checkpoint(checkpoint_of(agent, optimizer, replay), folder / name)
        cpu_seconds.append(time.process_time() - cpu_begin)
        return time.perf_counter() - begin

    first = save("env_step_0.ckpt")
    first_bytes = written(folder)
    incremental, bytes_of_it = [], []
    for number in range(1, 4):
        play(replay, NEW_TIMESTEPS, frames, timesteps + (number - 1) * NEW_TIMESTEPS)
        incremental.append(save(f"env_step_{number}.ckpt"))
        bytes_of_it.append(
            written(folder / f"env_step_{number}.replay") + (folder / f"env_step_{number}.ckpt").stat().st_size
        )
    begin = time.perf_counter()
    (segments,) = Checkpoint.read(folder / "env_step_3.ckpt").segments()
    segments.verify()
    verified = time.perf_counter() - begin
    del replay
    replay = make_replay(timesteps)
    before = psutil.Process().memory_info().rss
    begin = time.perf_counter()
    (state,) = Contents(ReplayCheckpointIO().load_checkpoint(folder / "env_step_3.ckpt")).replays
    assert state is not None
    replay.load_state_dict(state)
    loaded = time.perf_counter() - begin
    grown = psutil.Process().memory_info().rss - before
    weights = sum(p.nbytes for p in agent.online.parameters())
    return {
        "timesteps": timesteps,
        "first_save_seconds": first,
        "first_save_bytes": first_bytes,
        "save_seconds": incremental,
        "save_cpu_seconds": cpu_seconds[1:],
        "save_bytes": bytes_of_it,
        "load_average": os.getloadavg()[0],
        "ckpt_bytes": (folder / "env_step_3.ckpt").stat().st_size,
        "weights_and_optimizer_bytes": 3 * weights,
        "verify_seconds": verified,
        "load_seconds": loaded,
        "memory_of_loading_bytes": grown,
        "memory_of_the_replay_bytes": sum(tensor.nbytes for tensor in replay.state_dict()["arrays"].values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    for timesteps in arguments.timesteps:
        folder = Path(tempfile.mkdtemp(dir=arguments.folder))
        try:
            rows.append(measure(timesteps, folder))
        finally:
            shutil.rmtree(folder)
        print(json.dumps(rows[-1]), flush=True)
    machine = {"cores": psutil.cpu_count(), "machine": platform.machine(), "torch": torch.__version__}
    arguments.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
