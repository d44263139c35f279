"""The gain of playing ahead: env steps/s of the learning phase with `data.play_ahead` off and on, in turn.

    python benchmarks/play_ahead.py --threads 1

"Pong" is configs/atari/pong_fast.yaml. "slow env" is the maze of configs/maze_fast.yaml with steps that take 2 ms of a
processor, each of four envs in a process of its own, as simulators are.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import lightning
from lightning.pytorch.callbacks import Callback

from lit_dqn import Run
from processes import MARK, ROOT, add_options, machine, run_process, versions, write

STEP_SECONDS = 0.002
WORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "Pong": ("configs/atari/pong_fast.yaml", {"data.capacity": 20_000, "data.min_replay_size": 1_600}),
    "slow env": (
        "configs/maze_fast.yaml",
        {
            "data.wrappers": ["play_ahead.Slow"],
            "data.env_processes": True,
            "data.num_envs": 4,
            "data.gradient_steps": 8,
            "data.env_steps_per_update": 4,
            "data.min_replay_size": 400,
            "data.updates_per_epoch": 8_000,
            "stop.max_episodes": "null",
        },
    ),
}


class Slow(gymnasium.Wrapper):
    """An env whose steps take a processor 2 ms."""

    def step(self, action: Any) -> Any:
        """As the env says, later."""
        end = time.process_time() + STEP_SECONDS
        while time.process_time() < end:
            pass
        return super().step(action)


class Speed(Callback):
    """Env steps/s between the first training step after `warm_up` seconds of learning and the last one."""

    def __init__(self, warm_up: float, seconds: float) -> None:
        self.warm_up, self.seconds = warm_up, seconds
        self.began: float | None = None
        self.first: tuple[float, int] | None = None
        self.env_steps_per_second = 0.0

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Note the time, and end the run when there is enough of it."""
        now, env_step = time.perf_counter(), trainer.datamodule.collector.env_step  # type: ignore[attr-defined]
        self.began = self.began or now
        if self.first is None and now - self.began > self.warm_up:
            self.first = (now, env_step)
        elif self.first is not None and now - self.first[0] > self.seconds:
            self.env_steps_per_second = (env_step - self.first[1]) / (now - self.first[0])
            trainer.should_stop = True


def measure(name: str, play_ahead: bool, seconds: float) -> float:
    """Env steps/s, in this process."""
    config, settings = WORKS[name]
    speed = Speed(5.0, seconds)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.from_config(
            ROOT / config,
            settings
            | {
                "data.play_ahead": play_ahead,
                "data.policy.init_args.epsilon": 0.05,  # as at the end of a run: the network is asked for nearly all
                "stop.max_env_steps": 10_000_000,
                "trainer.limit_val_batches": 0,
                "trainer.logger.init_args.save_dir": folder,
                "trainer.enable_progress_bar": False,
            },
        )
        run.trainer.callbacks.append(speed)  # type: ignore[attr-defined]
        run.fit()
    return speed.env_steps_per_second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, Path(__file__).stem)
    parser.add_argument("--seconds", type=float, default=20.0, help="each speed is measured for (default: 20)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--run", nargs=2, metavar=("WORK", "AHEAD"), help=argparse.SUPPRESS)  # one process
    options = parser.parse_args()
    if options.run:
        name, ahead = options.run
        print(f"{MARK}{json.dumps(measure(name, ahead == 'on', options.seconds))}")
        return
    record = machine(options) | {"versions": versions(options, ["lit_dqn"])}
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in WORKS}
    print("| work | round | off, env steps/s | on | on / off |\n|---|---|---|---|---|")
    for number in range(1, options.rounds + 1):
        for name, rounds in results.items():
            speeds = {}
            for ahead in ("off", "on"):
                command = [sys.executable, __file__, "--run", name, ahead, "--seconds", str(options.seconds)]
                speeds[ahead] = float(json.loads(run_process(command).rpartition(MARK)[2]))
            rounds.append(speeds)
            ratio = speeds["on"] / speeds["off"]
            print(f"| {name} | {number} | {speeds['off']:,.0f} | {speeds['on']:,.0f} | {ratio:.2f} |", flush=True)
    for name, rounds in results.items():
        print(f"{name}: {statistics.median(speeds['on'] / speeds['off'] for speeds in rounds):.2f}, median of rounds")
    write(options, record | {"results": results})


if __name__ == "__main__":
    main()
