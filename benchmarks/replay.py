"""Memory and sampling time of replay buffers for Atari: lit_dqn's beside those of three peers.

    python benchmarks/replay.py --peer-python .venv-peers/bin/python

Each buffer is a process of its own: eight games of 84 x 84 grey frames are written to it, then batches of 32
transitions are drawn, with 4 frames in a stack and 3-step returns where it has them. Memory is what the process holds
afterwards (resident set) less what it held before the buffer was made; where less than a million timesteps are written,
it is scaled up.
"""

import argparse
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from processes import MARK, OURS, RunError, add_options, machine, run_process, versions, write

NUM_ENVS, STACK, N_STEP, GAMMA, BATCH_SIZE = 8, 4, 3, 0.99, 32
GAME = 900  # agent steps; Pong's are 760 to several thousand
GOALS = {"gigabytes_per_million": 7.4, "milliseconds": 1.0}
BUFFERS = {  # name -> (module of contestants/buffers/, arguments, timesteps that fit in 16 GB)
    "lit_dqn": ("lit_dqn", {}, 1_000_000),
    "Tianshou, frames once": ("tianshou", {}, 1_000_000),
    "Stable-Baselines3": ("stable_baselines3", {"optimize_memory": False}, 100_000),
    "Stable-Baselines3, memory optimised, 1-step returns": ("stable_baselines3", {"optimize_memory": True}, 200_000),
    "TorchRL, stacks as uint8": ("torchrl", {"frames_once": False}, 100_000),
    "TorchRL, frames once, 1-step returns": ("torchrl", {"frames_once": True}, 200_000),
}


class Played(NamedTuple):
    """One step of all games."""

    frame: Any  # uint8 [N, 84, 84], before the action
    next_frame: Any
    action: Any  # int64 [N]
    reward: Any  # float32 [N]
    terminated: Any  # bool [N]
    first: Any  # bool [N], whether `frame` begins a game


def play(steps: int) -> Iterator[Played]:
    """Games of random frames, which end at different times."""
    import numpy as np

    generator = np.random.default_rng(1)
    frames = generator.integers(0, 256, (257, NUM_ENVS, 84, 84), np.uint8)
    actions = generator.integers(0, 6, (256, NUM_ENVS))
    rewards = generator.integers(-1, 2, (256, NUM_ENVS)).astype(np.float32)
    offsets = np.arange(NUM_ENVS) * (GAME // NUM_ENVS)
    for step in range(steps):
        row = step % 256
        played = (step + offsets) % GAME
        yield Played(
            frames[row], frames[row + 1], actions[row], rewards[row], played == GAME - 1, (played == 0) | (step == 0)
        )


def measure(module: str, arguments: dict[str, Any], timesteps: int) -> dict[str, float]:
    """Fill a buffer and draw from it, in this process."""
    import psutil

    make = importlib.import_module(f"contestants.buffers.{module}").make
    make(NUM_ENVS * 100, **arguments)  # whatever is imported and compiled on the way
    process = psutil.Process()
    steps = timesteps // NUM_ENVS
    before = process.memory_info().rss
    add, sample = make(timesteps, **arguments)
    for played in play(steps):
        add(played)
    held = process.memory_info().rss - before
    for _ in range(20):
        sample()
    seconds = []
    for _ in range(500):
        started = time.perf_counter()
        sample()
        seconds.append(time.perf_counter() - started)
    return {
        "timesteps": timesteps,
        "gigabytes": held / 1e9,
        "gigabytes_per_million": held / timesteps * 1e6 / 1e9,
        "milliseconds": statistics.median(seconds) * 1e3,
        "milliseconds_90th_percentile": statistics.quantiles(seconds, n=10)[-1] * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, Path(__file__).stem)
    parser.add_argument("--timesteps", type=int, help="written to every buffer (default: what fits in 16 GB)")
    parser.add_argument("--run", choices=BUFFERS, help=argparse.SUPPRESS)  # the one run of a process
    options = parser.parse_args()
    if options.run:
        module, buffer_arguments, _ = BUFFERS[options.run]
        print(f"{MARK}{json.dumps(measure(module, buffer_arguments, options.timesteps))}")
        return
    record = machine(options) | {"versions": versions(options, list(dict.fromkeys(m for m, _, _ in BUFFERS.values())))}
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    results: dict[str, dict[str, float]] = {}
    not_run: dict[str, str] = {}
    print("| buffer | timesteps written | GB per million | ms for 32 transitions | 90th percentile |")
    print("|---" * 5 + "|")
    for name, (module, _, timesteps) in BUFFERS.items():
        python = sys.executable if module in OURS else options.peer_python
        command = [python, __file__, "--run", name, "--timesteps", str(options.timesteps or timesteps)]
        try:
            results[name] = json.loads(run_process(command).rpartition(MARK)[2])
        except RunError as error:
            not_run[name] = str(error)
            print(f"| {name} | not run: {error} |", flush=True)
            continue
        measured = results[name]
        print(
            f"| {name} | {measured['timesteps']:,} | {measured['gigabytes_per_million']:.2f} | "
            f"{measured['milliseconds']:.2f} | {measured['milliseconds_90th_percentile']:.2f} |",
            flush=True,
        )
    write(options, record | {"results": results, "not_run": not_run, "goals": GOALS})


if __name__ == "__main__":
    main()
