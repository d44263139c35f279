"""How fast lit_dqn learns the lesson's maze.

    python benchmarks/lesson.py        # env steps/s of lit_dqn, of a bare loop and of Stable-Baselines3, in turn
    python benchmarks/lesson.py --e4   # experiment E4 of the lesson, whole, with the seeds 1, 2 and 3

All have the settings of configs/maze.yaml and the same number of threads. What is timed is the learning phase: one
update per env step once the replay is full, without evaluations. Each run is a process of its own, one after the
other; the figures mean something on a quiet machine only.
"""

import argparse
import csv
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "configs/maze.yaml").read_text())
SEED, DATA, MODEL = CONFIG["seed_everything"], CONFIG["data"], CONFIG["model"]
BURN_IN = 200  # updates that are not timed, while caches and allocators settle
LOG_PERIOD = 100  # training steps
LESSON_SECONDS = 1 * 3600 + 33 * 60 + 50  # E4 in the lesson: Keras on a laptop's CPU
GOALS = {"bare": 0.90, "stable_baselines3": 2.00}  # lit_dqn's env steps/s as a multiple of theirs


# --- what is compared; each gives the seconds of `steps` env steps ---


def time_lit_dqn(steps: int) -> float:
    """The command line with callbacks, checkpoints and TensorBoard, by the clock in the run's own log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = DATA["min_replay_size"] + BURN_IN
    with tempfile.TemporaryDirectory() as folder:
        ends = ["--stop.max_episodes", "null", "--stop.max_env_steps", first + steps]
        logs = ["--trainer.limit_val_batches", 0, "--trainer.log_every_n_steps", LOG_PERIOD]
        log = EventAccumulator(str(fit(folder, *ends, *logs)), size_guidance={"scalars": 0}).Reload()
        seconds = {event.step: event.value for event in log.Scalars("time/seconds")}
    return seconds[first + steps] - seconds[first]


def time_bare(steps: int) -> float:
    """A loop without Lightning, of lit_dqn's own parts."""
    from bare_loop import BareLoop
    from lit_dqn import NatureCNN, QLearning, Uniform
    from lit_dqn.envs import make_vec

    first = DATA["min_replay_size"] + BURN_IN
    loop = BareLoop(
        make_vec(DATA["env_id"], 1, DATA["env_kwargs"]),
        partial(NatureCNN, **MODEL["network"]["init_args"]),
        objective=QLearning(**MODEL["objective"]["init_args"]),
        optimizer=partial(torch.optim.Adam, **MODEL["optimizer"]["init_args"]),
        sampler=Uniform(**DATA["sampler"]["init_args"]),
        capacity=DATA["capacity"],
        min_replay_size=DATA["min_replay_size"],
        batch_size=DATA["batch_size"],
        gradient_steps=1,
        env_steps_per_update=1,
        target_update_period=MODEL["target_update_period"],
        gamma=DATA["gamma"],
        epsilon=DATA["policy"]["init_args"]["epsilon"],
        seed=SEED,
    )
    loop.run(first)
    started = time.perf_counter()
    loop.run(first + steps)
    return time.perf_counter() - started


def time_stable_baselines3(steps: int) -> float:
    """Stable-Baselines3's DQN, as fast as its own arguments allow."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.vec_env import DummyVecEnv

    from lit_dqn.envs import make_env

    # Tried in turns of 25 steps (CPU time, one thread): fused Adam saves 8 %. Within the noise of 2 %: memory optimised
    # or not, time limits handled or not, Monitor or none (a ready VecEnv gets none). Channels-last weights would save
    # 5 %, but no argument offers them.
    agent = DQN(
        "CnnPolicy",
        DummyVecEnv([lambda: make_env(DATA["env_id"], DATA["env_kwargs"])]),
        learning_rate=MODEL["optimizer"]["init_args"]["lr"],
        buffer_size=DATA["capacity"],
        learning_starts=DATA["min_replay_size"],
        batch_size=DATA["batch_size"],
        gamma=DATA["gamma"],
        train_freq=1,
        gradient_steps=1,
        target_update_interval=MODEL["target_update_period"],
        exploration_initial_eps=DATA["policy"]["init_args"]["epsilon"],
        exploration_final_eps=DATA["policy"]["init_args"]["epsilon"],
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},  # the memory optimisation asks for it
        policy_kwargs={
            "net_arch": [],  # with this the network is the same: 512 features, then the linear head
            "features_extractor_kwargs": {"features_dim": MODEL["network"]["init_args"]["dense_size"]},
            "optimizer_kwargs": {"fused": True},
        },
        seed=SEED,
        device="cpu",
    )
    agent.learn(DATA["min_replay_size"] + BURN_IN, log_interval=None)
    started = time.perf_counter()
    agent.learn(steps, log_interval=None, reset_num_timesteps=False)
    return time.perf_counter() - started


RUNS = {"lit_dqn": time_lit_dqn, "bare": time_bare, "stable_baselines3": time_stable_baselines3}


# --- the two modes ---


def compare(rounds: int, steps: int) -> dict[str, Any]:
    """Env steps/s of all runs in turn, and lit_dqn's multiples of its peers within each round."""
    results = []
    for number in range(1, rounds + 1):
        speeds = {name: steps / float(run_process([__file__, "--run", name, "--steps", steps])) for name in RUNS}
        ratios = {f"lit_dqn/{peer}": speeds["lit_dqn"] / speeds[peer] for peer in GOALS}
        results.append(speeds | ratios)
        words = [f"{name} {value:.2f}" for name, value in results[-1].items()]
        print(f"round {number}, env steps/s: {', '.join(words)}", flush=True)
    medians = {name: statistics.median(result[name] for result in results) for name in results[0]}
    for peer, goal in GOALS.items():
        print(f"lit_dqn/{peer}: median {medians[f'lit_dqn/{peer}']:.2f}, goal at least {goal:.2f}")
    return {"env_steps": steps, "rounds": results, "medians": medians, "goals": GOALS}


def play_e4(episodes: int, seeds: list[int]) -> dict[str, Any]:
    """E4 by the command line, evaluations and all; the wall time is that of the whole process."""
    results = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            run = fit(folder, "--seed_everything", seed, "--stop.max_episodes", episodes)
            seconds = time.perf_counter() - started
            with (run / "episodes.csv").open(newline="") as file:
                played = list(csv.DictReader(file))
        result = {"seed": seed, "episodes": len(played), "env_steps": int(played[-1]["env_step"]), "seconds": seconds}
        result["last_10_mean_length"] = statistics.mean(int(episode["length"]) for episode in played[-10:])
        results.append(result)
        line = f"seed {seed}: {len(played)} episodes, {result['env_steps']:,} env steps, {clock(seconds)}"
        print(f"{line}, mean length of the last 10 {result['last_10_mean_length']:.1f}", flush=True)
    print(f"the lesson: 100 episodes, {clock(LESSON_SECONDS)}")
    return {"runs": results, "lesson": {"episodes": 100, "seconds": LESSON_SECONDS}}


def fit(folder: str, *arguments: object) -> Path:
    """Run the main job with its logs in `folder`; gives the folder of the run."""
    arguments = ("--config", "configs/maze.yaml", "--trainer.logger.init_args.save_dir", folder, *arguments)
    # Its progress bar is drawn although nobody sees it, for a person's run has one.
    run_process(["-m", "lit_dqn", "fit", *arguments], FORCE_COLOR="1")
    return next(Path(folder).rglob("episodes.csv")).parent


def run_process(arguments: list[object], **environment: str) -> str:
    """Python with `arguments` in a fresh process; gives what it prints, and ends us if it fails."""
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"error: {shlex.join(command[1:])} ended with exit code {process.returncode}:\n{process.stderr}")
    return process.stdout


def clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min {rest % 60} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--e4", action="store_true", help="E4 of the lesson instead of the comparison")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison (default: 5)")
    parser.add_argument("--steps", type=int, default=3000, help="env steps timed in each run (default: 3000)")
    parser.add_argument("--episodes", type=int, default=100, help="of E4 (default: 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of E4 (default: 1 2 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: its own)")
    parser.add_argument("--output", type=Path, help="JSON; default: benchmarks/results/lesson.json or e4.json")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)  # the one run of a process
    arguments = parser.parse_args()
    if arguments.run:
        import lit_dqn  # noqa: F401 - Lightning comes with it, and has torch ask NVML for GPUs at every step of Adam:

        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # nobody without Lightning pays for that
        print(RUNS[arguments.run](arguments.steps))
        return
    if arguments.steps < 1 or arguments.steps % LOG_PERIOD:
        parser.error(f"--steps: {arguments.steps} must be a multiple of {LOG_PERIOD}, the steps between two logs")
    if not arguments.e4 and importlib.util.find_spec("stable_baselines3") is None:
        parser.exit(2, "error: Stable-Baselines3 is missing; install it with: pip install -e .[benchmark]\n")

    packages = ["lit-dqn", "torch", "lightning", "gymnasium", *([] if arguments.e4 else ["stable-baselines3"])]
    record = {
        "command": shlex.join(["python", "benchmarks/lesson.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": os.cpu_count(),
        "threads": arguments.threads,
        "load_before": os.getloadavg()[0],  # processes that wanted a core in the last minute; quiet is below 0.5
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # torch reads it when a run imports it
    if arguments.e4:
        record |= play_e4(arguments.episodes, arguments.seeds)
    else:
        record |= compare(arguments.rounds, arguments.steps)
    output = arguments.output or ROOT / "benchmarks/results" / ("e4.json" if arguments.e4 else "lesson.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written: {os.path.relpath(output)}")


if __name__ == "__main__":
    main()
