"""How fast lit_dqn learns the lesson's maze.

    python benchmarks/lesson.py        # env steps/s: lit_dqn, a bare loop, Stable-Baselines3, in turn
    python benchmarks/lesson.py --e4   # experiment E4 of the lesson whole, seeds 1 to 3

All are given the settings of configs/maze.yaml and the same number of threads. Each run is a process of its own, one
after the other; close everything else, for on a busy machine the figures mean nothing. What counts is the learning
phase: one update per env step, after the replay is full, without evaluations.
"""

import argparse
import copy
import csv
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/maze.yaml"
BURN_IN = 200  # env steps that learn and are not timed, while allocators and caches settle
LESSON_SECONDS = 1 * 3600 + 33 * 60 + 50  # E4 in the lesson: Keras on a laptop's CPU
GOALS = {"stable_baselines3": 2.0, "bare": 0.9}  # lit_dqn's env steps/s as a multiple of theirs
PACKAGES = ("lit-dqn", "torch", "lightning", "gymnasium", "numpy", "stable-baselines3")


def read_config() -> dict[str, Any]:
    with (ROOT / CONFIG).open() as file:
        return yaml.safe_load(file)


# --- the runs that are compared; each gives the seconds of `steps` env steps ---


def time_lit_dqn(steps: int) -> float:
    """`python -m lit_dqn fit`, with callbacks, checkpoints and TensorBoard, by the clock in its own log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = read_config()["data"]["min_replay_size"] + BURN_IN
    with tempfile.TemporaryDirectory() as folder:
        run = fit(
            folder,
            *("--stop.max_episodes", "null", "--stop.max_env_steps", first + steps),
            *("--trainer.limit_val_batches", 0),  # no evaluations
        )
        log = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
        seconds = {event.step: event.value for event in log.Scalars("time/seconds")}
    return seconds[first + steps] - seconds[first]


def fit(folder: str, *arguments: object) -> Path:
    """Run the command line with logs in `folder`; gives the folder of the run."""
    command = [sys.executable, "-m", "lit_dqn", "fit", "--config", CONFIG, *map(str, arguments)]
    command += ["--trainer.logger.init_args.save_dir", folder]
    # The progress bar is drawn as in a terminal: it is part of what a person waits for.
    run_process(command, {"FORCE_COLOR": "1"})
    (hyper_parameters,) = Path(folder).rglob("hparams.yaml")
    return hyper_parameters.parent


def time_bare(steps: int) -> float:
    """A loop without Lightning, of lit_dqn's own parts."""
    from lit_dqn.collector import Collector
    from lit_dqn.envs import make_vec
    from lit_dqn.networks import NatureCNN, update_target
    from lit_dqn.objectives import QLearning
    from lit_dqn.policies import EpsilonGreedy
    from lit_dqn.replay import ReplayBuffer, Uniform

    leave_lightning()
    config = read_config()
    data, model = config["data"], config["model"]
    torch.manual_seed(config["seed_everything"])

    class Agent:
        """A network that acts, without Lightning."""

        def __init__(self, network: torch.nn.Module, num_actions: int) -> None:
            self.network = network
            self.num_actions = num_actions

        @torch.inference_mode()
        def q_values(self, observation: NDArray) -> NDArray[np.float32]:
            return self.network(torch.as_tensor(observation)).numpy()

    envs = make_vec(data["env_id"], 1, data["env_kwargs"])
    shape, num_actions = envs.single_observation_space.shape, int(envs.single_action_space.n)
    replay = ReplayBuffer(data["capacity"], 1, shape, np.uint8, gamma=data["gamma"])
    policy = EpsilonGreedy(**data["policy"]["init_args"])
    collector = Collector(envs, policy, replay, config["seed_everything"])
    sampler, generator = Uniform(**data["sampler"]["init_args"]), np.random.default_rng(config["seed_everything"])
    online = NatureCNN(shape, num_actions, **model["network"]["init_args"])
    target = copy.deepcopy(online).requires_grad_(False)
    agent = Agent(online, num_actions)
    objective = QLearning(**model["objective"]["init_args"])
    optimizer = torch.optim.Adam(online.parameters(), **model["optimizer"]["init_args"])

    def learn(updates: range) -> None:
        for update in updates:
            collector.collect(agent, 1)
            batch = replay.sample(sampler.sample(replay.starts, data["batch_size"], generator))
            loss = objective(online, target, batch).loss.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if update % model["target_update_period"] == 0:
                update_target(online, target)

    collector.warm_up(agent, data["min_replay_size"])
    learn(range(1, BURN_IN + 1))
    started = time.perf_counter()
    learn(range(BURN_IN + 1, BURN_IN + steps + 1))
    return time.perf_counter() - started


def time_stable_baselines3(steps: int) -> float:
    """Stable-Baselines3's DQN, as fast as its own settings make it.

    Tried here (CPU time per step, one thread), and kept where it helped: see SETTINGS_TRIED below.
    """
    from stable_baselines3 import DQN
    from stable_baselines3.common.vec_env import DummyVecEnv

    from lit_dqn.envs import make_env

    leave_lightning()
    config = read_config()
    data, model = config["data"], config["model"]
    epsilon = data["policy"]["init_args"]["epsilon"]
    agent = DQN(
        "CnnPolicy",
        DummyVecEnv([lambda: make_env(data["env_id"], data["env_kwargs"])]),
        learning_rate=model["optimizer"]["init_args"]["lr"],
        buffer_size=data["capacity"],
        learning_starts=data["min_replay_size"],
        batch_size=data["batch_size"],
        gamma=data["gamma"],
        train_freq=1,
        gradient_steps=1,
        target_update_interval=model["target_update_period"],
        exploration_initial_eps=epsilon,
        exploration_final_eps=epsilon,
        optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False},
        policy_kwargs={
            "net_arch": [],
            "features_extractor_kwargs": {"features_dim": model["network"]["init_args"]["dense_size"]},
            "optimizer_kwargs": {"fused": True},
        },
        seed=config["seed_everything"],
        device="cpu",
    )
    agent.learn(data["min_replay_size"] + BURN_IN, log_interval=None)
    started = time.perf_counter()
    agent.learn(steps, log_interval=None, reset_num_timesteps=False)
    return time.perf_counter() - started


def leave_lightning() -> None:
    """Undo what importing Lightning does to every update of Adam, where nothing else of Lightning is used.

    It has torch search for the driver of a GPU again and again, which costs about 0.1 ms each time.
    """
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)


RUNS: dict[str, Callable[[int], float]] = {
    "lit_dqn": time_lit_dqn,
    "bare": time_bare,
    "stable_baselines3": time_stable_baselines3,
}


# --- both modes ---


def compare(rounds: int, steps: int) -> dict[str, Any]:
    """Env steps/s of all runs in turn, and the ratios within each round."""
    speeds: list[dict[str, float]] = []
    ratios: dict[str, list[float]] = {peer: [] for peer in GOALS}
    for number in range(1, rounds + 1):
        speeds.append({name: steps / time_in_process(name, steps) for name in RUNS})
        words = [f"{name} {speed:.1f}" for name, speed in speeds[-1].items()]
        for peer in GOALS:
            ratios[peer].append(speeds[-1]["lit_dqn"] / speeds[-1][peer])
            words.append(f"lit_dqn/{peer} {ratios[peer][-1]:.2f}")
        print(f"round {number}, env steps/s: {', '.join(words)}", flush=True)
    medians = {peer: statistics.median(values) for peer, values in ratios.items()}
    for peer, median in medians.items():
        print(f"lit_dqn/{peer}: median of {rounds} rounds {median:.2f}, goal at least {GOALS[peer]:.2f}")
    return {
        "env_steps_per_run": steps,
        "rounds": [{name: round(speed, 2) for name, speed in speed_of.items()} for speed_of in speeds],
        "ratios": {peer: [round(value, 3) for value in values] for peer, values in ratios.items()},
        "median_ratios": {peer: round(median, 3) for peer, median in medians.items()},
        "goals": GOALS,
    }


def time_in_process(name: str, steps: int) -> float:
    return float(run_process([sys.executable, __file__, "--run", name, "--steps", str(steps)]).split()[-1])


def run_process(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run to the end; gives the standard output."""
    process = subprocess.run(command, cwd=ROOT, env=os.environ | (environment or {}), capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"error: a run ended with exit code {process.returncode}:\n{process.stderr}")
    return process.stdout


def play_e4(episodes: int, seeds: Sequence[int]) -> dict[str, Any]:
    """E4 through the command line, evaluations and all; wall time from the start of the process to its end."""
    runs = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            run = fit(folder, "--seed_everything", seed, "--stop.max_episodes", episodes)
            seconds = time.perf_counter() - started
            with (run / "episodes.csv").open(newline="") as file:
                played = list(csv.DictReader(file))
        last_10 = statistics.mean(float(episode["length"]) for episode in played[-10:])
        runs.append(
            {
                "seed": seed,
                "episodes": len(played),
                "env_steps": int(played[-1]["env_step"]),
                "seconds": round(seconds, 1),
                "last_10_mean_length": last_10,
            }
        )
        print(
            f"seed {seed}: {len(played)} episodes, {int(played[-1]['env_step']):,} env steps, {minutes(seconds)}, "
            f"last 10 episodes {last_10:.1f} steps on average",
            flush=True,
        )
    median = statistics.median(run["seconds"] for run in runs)
    line = f"median {minutes(median)}; the lesson took {minutes(LESSON_SECONDS)} for 100 episodes"
    print(f"{line}: {LESSON_SECONDS / median:.0f} times as long" if episodes == 100 else line)
    return {"runs": runs, "lesson_seconds": LESSON_SECONDS}


def minutes(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min {rest % 60} s" if hours else f"{rest // 60} min {rest % 60} s"


def describe_machine(threads: int) -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_average_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--e4", action="store_true", help="experiment E4 of the lesson instead of the comparison")
    parser.add_argument("--rounds", type=int, default=5, help="comparison: rounds of all three (default: 5)")
    parser.add_argument("--steps", type=int, default=3000, help="comparison: env steps that are timed (default: 3000)")
    parser.add_argument("--episodes", type=int, default=100, help="E4: episodes (default: 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="E4: one run each (default: 1 2 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: its own)")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/lesson_speed.json or lesson_e4.json")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)  # one run, in the process that it needs
    arguments = parser.parse_args()
    if arguments.run:
        print(RUNS[arguments.run](arguments.steps))
        return
    log_period = read_config()["trainer"]["log_every_n_steps"]
    if arguments.steps < 1 or arguments.steps % log_period:
        parser.error(f"--steps: {arguments.steps} must be a multiple of {log_period}, for lit_dqn logs so often")
    if not arguments.e4 and importlib.util.find_spec("stable_baselines3") is None:
        parser.exit(2, "error: Stable-Baselines3 is missing; install it with: pip install -e .[benchmark]\n")

    # Before its import torch reads it; all processes inherit it.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    machine = describe_machine(arguments.threads)
    if arguments.e4:
        results = play_e4(arguments.episodes, arguments.seeds)
    else:
        results = compare(arguments.rounds, arguments.steps)
    output = arguments.output or ROOT / "benchmarks/results" / f"lesson_{'e4' if arguments.e4 else 'speed'}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    installed = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
    head = {
        "command": " ".join(["python", "benchmarks/lesson.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": machine,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES if name in installed},
    }
    output.write_text(json.dumps(head | results, indent=2) + "\n")
    print(f"written: {os.path.relpath(output)}")


if __name__ == "__main__":
    main()
