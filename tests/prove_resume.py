"""Proves that a run which is killed again and again is the run that was never killed.

    python tests/prove_resume.py                  # 20 kills for each case, some minutes
    python tests/prove_resume.py --kills 3 --cases cartpole

Each case trains once without a break; once with SIGKILL at random moments: while it acts, learns, copies the target
network, evaluates, saves (between two calls of the operating system), or at any time; and once stopped by SIGUSR1 while
the replay is filled, by SIGTERM before and by SIGINT in an evaluation, and by SIGTERM in the middle of an epoch, each
time resumed in another folder and by another number of threads. What they have left is compared: every tensor and
number of the last checkpoint, the replay, the generators, every logged point, every line of episodes.csv. Only wall
time is left out: `time/fps`, `time/seconds`, the column `seconds`.
"""

import argparse
import csv
import hashlib
import importlib.util
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lit_dqn.learning.learner
import lit_dqn.training.agent
from lit_dqn.commands.cli import main
from lit_dqn.playing.collector import Collector
from lit_dqn.saving import durable, sidecar_writer
from lit_dqn.saving.checkpoint import Checkpoint

torch.set_num_threads(1)  # a fork of a process that has OpenMP's threads waits for them for ever: they are not in it

CONFIGS = Path(__file__).parent.parent / "configs"
SMALL_MAZE = [
    f"--config={CONFIGS}/maze.yaml",
    "--data.capacity=300",
    "--data.min_replay_size=100",
    "--data.batch_size=8",
    "--data.updates_per_epoch=30",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=20",
    "--model.network.init_args.dense_size=32",
    "--model.target_update_period=25",
    "--stop.max_episodes=null",
    "--stop.max_env_steps=400",
    "--trainer.log_every_n_steps=7",
]
CASES = {
    "maze": SMALL_MAZE,
    "maze_double": [SMALL_MAZE[0], f"--config={CONFIGS}/double.yaml", *SMALL_MAZE[1:]],
    "cartpole": [  # 8 envs, 3-step returns, 8 updates per training step
        f"--config={CONFIGS}/cartpole.yaml",
        "--data.capacity=1500",
        "--data.min_replay_size=400",
        "--data.updates_per_epoch=120",
        "--data.eval_episodes=2",
        "--data.eval_max_steps=60",
        "--stop.max_env_steps=4000",
        "--trainer.log_every_n_steps=7",
    ],
    "pong": [  # sticky actions, 4 envs
        f"--config={CONFIGS}/maze.yaml",
        "--data.env_id=ALE/Pong-v5",
        "--data.env_kwargs=null",
        "--data.num_envs=4",
        "--data.frame_stack=4",
        "--data.capacity=1200",
        "--data.min_replay_size=400",
        "--data.batch_size=8",
        "--data.gradient_steps=4",
        "--data.updates_per_epoch=40",
        "--data.eval_episodes=1",
        "--data.eval_max_steps=40",
        "--data.sampler.init_args.replacement=true",
        "--model.network.init_args.dense_size=32",
        "--model.target_update_period=25",
        "--stop.max_episodes=null",
        "--stop.max_env_steps=900",
        "--trainer.log_every_n_steps=3",
        "--trainer.logger.init_args.name=pong",
    ],
}
CASES["minatar"] = [  # sticky actions, bool images, 8 envs, of which most end an episode between two saves
    f"--config={CONFIGS}/minatar/breakout.yaml",
    "--data.capacity=1500",
    "--data.min_replay_size=400",
    "--data.batch_size=8",
    "--data.updates_per_epoch=120",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=60",
    "--model.network.init_args.dense_size=32",
    "--model.target_update_period=25",
    "--stop.max_env_steps=4000",
    "--trainer.check_val_every_n_epoch=2",
    "--trainer.log_every_n_steps=7",
]
CASES["cartpole_ahead"] = [*CASES["cartpole"], "--data.play_ahead=true"]
CASES["cartpole_shards"] = [  # 4 shards with noise, numbers that are drawn, and priorities of their own
    CASES["cartpole"][0],
    f"--config={CONFIGS}/prioritized.yaml",
    *CASES["cartpole"][1:],
    "--data.sampler.init_args.beta.init_args.env_steps=3000",
    "--data.shards=4",
    "--data.capacity=1600",
    "--model.network.init_args.noise=0.5",
    "--model.network.init_args.dueling=true",
    "--model.network.init_args.head=lit_dqn.ImplicitQuantileHead",
    "--model.objective=ImplicitQuantileLearning",
    "--model.objective.init_args.num_samples=4",
    "--model.objective.init_args.num_target_samples=4",
]
CASES["cartpole_compiled"] = [*CASES["cartpole"], "--model.update=compiled"]
CASES["cartpole_prioritized"] = [
    CASES["cartpole"][0],
    f"--config={CONFIGS}/prioritized.yaml",
    *CASES["cartpole"][1:],
    "--data.sampler.init_args.beta.init_args.env_steps=3000",
    "--data.play_ahead=true",
]
CASES["cartpole_draws"] = [  # noise while acting and in updates, levels drawn for implicit quantiles
    *CASES["cartpole_ahead"],
    "--model.network.init_args.noise=0.5",
    "--model.network.init_args.dueling=true",
    "--model.network.init_args.head=lit_dqn.ImplicitQuantileHead",
    "--model.objective=ImplicitQuantileLearning",
    "--model.objective.init_args.num_samples=4",
    "--model.objective.init_args.num_target_samples=4",
]
CASES["pqn"] = [  # rollouts, returns by the weights of now, no target network
    CASES["cartpole"][0],
    f"--config={CONFIGS}/pqn.yaml",
    "--data.num_envs=4",
    "--data.capacity=64",
    "--data.env_steps_per_update=16",
    "--data.gradient_steps=4",
    "--data.batch_size=32",
    "--data.updates_per_epoch=120",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=60",
    "--data.frame_stack=2",
    "--stop.max_env_steps=7000",
    "--trainer.log_every_n_steps=7",
]
CASES["actor_critic"] = [  # advantages from rollouts, a policy that is random, a temperature that changes
    f"--config={CONFIGS}/cartpole_actor_critic.yaml",
    f"--config={CONFIGS}/gae.yaml",
    "--data.capacity=64",
    "--data.env_steps_per_update=64",
    "--data.batch_size=64",
    "--data.policy.init_args.temperature=Linear",
    "--data.policy.init_args.temperature.init_args.start=2.0",
    "--data.policy.init_args.temperature.init_args.end=1.0",
    "--data.policy.init_args.temperature.init_args.env_steps=4000",
    "--data.updates_per_epoch=30",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=60",
    "--stop.max_env_steps=7000",
    "--trainer.log_every_n_steps=7",
]
CASES["cartpole_horizon"] = [  # n and gamma change while it learns, and begin anew
    *CASES["cartpole_ahead"],
    "--data.n_step=Repeated",
    "--data.n_step.init_args.schedule=Exponential",
    "--data.n_step.init_args.schedule.init_args.start=10",
    "--data.n_step.init_args.schedule.init_args.end=3",
    "--data.n_step.init_args.schedule.init_args.env_steps=500",
    "--data.n_step.init_args.every_env_steps=1000",
    "--data.gamma=Exponential",
    "--data.gamma.init_args.start=0.97",
    "--data.gamma.init_args.end=0.997",
    "--data.gamma.init_args.env_steps=2000",
    "--data.gamma.init_args.towards=1.0",
]
CASES["cartpole_resets"] = [  # networks and optimiser begin partly anew, and weights decay
    *CASES["cartpole_ahead"],
    "--model.resets=ShrinkAndPerturb",
    "--model.resets.init_args.every_env_steps=600",
    "--model.resets.init_args.until_env_steps=3000",
    "--model.optimizer=torch.optim.AdamW",
    "--model.weight_decay=Linear",
    "--model.weight_decay.init_args.start=0.1",
    "--model.weight_decay.init_args.end=0.01",
    "--model.weight_decay.init_args.env_steps=3000",
]
CASES["taxi"] = [  # action masks, of which no env knows the next one without being there
    f"--config={CONFIGS}/taxi.yaml",
    "--data.num_envs=4",
    "--data.capacity=1500",
    "--data.min_replay_size=400",
    "--data.batch_size=16",
    "--data.updates_per_epoch=120",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=60",
    "--data.play_ahead=true",
    "--model.network.init_args.hidden_sizes=[16]",
    "--stop.max_env_steps=4000",
    "--trainer.log_every_n_steps=7",
]
CASES["memory"] = [  # what is remembered of running episodes, in 8 envs of which most are in the middle of one
    f"--config={CONFIGS}/t_maze.yaml",
    "--data.capacity=1500",
    "--data.min_replay_size=400",
    "--data.updates_per_epoch=120",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=60",
    "--data.play_ahead=true",
    "--model.network.init_args.lstm_size=8",
    "--model.target_update_period=25",
    "--stop.max_env_steps=2400",
    "--trainer.log_every_n_steps=7",
]
CASES["cartpole_memory"] = [  # in shards, with noise
    *CASES["cartpole"],
    "--data.shards=2",
    "--data.sampler=Sequences",
    "--data.sampler.init_args={length: 8, burn_in: 4, overlap: 4}",
    "--data.batch_size=16",
    "--data.n_step=2",
    "--model.network=lit_dqn.RecurrentNetwork",
    "--model.network.init_args={lstm_size: 8, noise: 0.5, encoder: lit_dqn.MLP}",
    "--stop.max_env_steps=2400",
]
CASES["branches"] = [  # 20 actions at once, whose combinations need more than 32 bits
    *CASES["cartpole_prioritized"],
    "--data.env_id=dials:lit_dqn_tests/Dials-v0",
    "--data.env_kwargs={dials: 20, choices: 4}",
    "--model.network.init_args.dueling=true",
]
PLAY = '{"class_path": "lit_dqn.Play", "init_args": {"env_steps": 600}}'
CASES["cartpole_prefilled"] = [  # demonstrations, and then steps of the agent's own
    *CASES["cartpole_prioritized"],
    f"--data.prefill=[{PLAY}]",
    "--data.min_replay_size=800",
]
CASES["cartpole_offline"] = [  # demonstrations alone; updates are the clock
    *CASES["cartpole"],
    f"--data.prefill=[{PLAY}, {PLAY}]",
    "--data.env_steps_per_update=0",
    "--model.objective.init_args.conservative=1.0",
    "--stop.max_env_steps=1500",
]
CASES["minigrid_parts"] = [  # images and numbers in one row, frames stacked
    f"--config={CONFIGS}/minigrid_parts.yaml",
    "--data.capacity=900",
    "--data.min_replay_size=200",
    "--data.batch_size=8",
    "--data.frame_stack=2",
    "--data.updates_per_epoch=60",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=40",
    "--data.play_ahead=true",
    "--model.network.init_args.dense_size=16",
    "--model.target_update_period=25",
    "--stop.max_env_steps=1200",
    "--trainer.check_val_every_n_epoch=2",
    "--trainer.log_every_n_steps=7",
]
CASES["cartpole_processes"] = [*CASES["cartpole"], "--data.env_processes=true", "--data.num_envs=2"]
CHUNKS_BETWEEN_EVALUATIONS = dict.fromkeys(CASES, 30) | {"pong": 10}
SEGMENT_BYTES = 20_000
"""So small that these small replays have many, of which most are linked and not written."""

WALL_TIME = ("time/fps", "time/seconds")


# --- running and killing ---


class Phases:
    """Counts how often a run enters each phase, and sends a signal the n-th time that it enters one of them."""

    def __init__(self, phase: str = "", number: int = 0, signal_number: int = signal.SIGKILL) -> None:
        self.phase, self.number, self.signal_number = phase, number, signal_number
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    def enter(self, phase: str) -> None:
        with self.lock:  # the segments of a replay are written by several threads
            self.counts[phase] += 1
            now = phase == self.phase and self.counts[phase] == self.number
        if now:
            os.kill(os.getpid(), self.signal_number)

    def watch(self) -> None:
        """Let the parts of lit_dqn tell when they enter their phase."""
        agent = lit_dqn.training.agent.LitAgent
        lit_dqn.learning.learner.update_target = self._announcing(
            "copying the target", lit_dqn.learning.learner.update_target
        )
        agent.training_step = self._announcing("learning", agent.training_step)
        agent.validation_step = self._announcing("evaluating", agent.validation_step)
        Collector._finish_episodes = self._announcing("ending an episode", Collector._finish_episodes)
        Collector.collect = self._announcing("acting", Collector.collect)
        durable.os = SystemCalls(self)

    def _announcing(self, phase: str, function: Callable) -> Callable:
        def announced(*args: Any, **kwargs: Any) -> Any:
            self.enter(phase)
            return function(*args, **kwargs)

        return announced


class SystemCalls:
    """The module `os`, telling before each call that changes the file system that the run is saving."""

    CHANGING = ("open", "write", "fsync", "close", "replace", "link", "mkdir", "unlink", "rmdir")

    def __init__(self, phases: Phases) -> None:
        self._phases = phases

    def __getattr__(self, name: str) -> Any:
        value = getattr(os, name)
        return self._phases._announcing("saving", value) if name in self.CHANGING else value


def start(command: list[str], folder: Path, phases: Phases, output: Path, threads: int = 1) -> int:
    """Run `lit-dqn` in a process of its own; forked, because importing takes longer than the whole run."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(folder)
        for stream in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.argv = ["lit-dqn", *command, "--trainer.enable_progress_bar=false"]
        torch.set_num_threads(threads)
        sidecar_writer.SEGMENT_BYTES = SEGMENT_BYTES
        phases.watch()
        main()
        (folder / "phases.json").write_text(json.dumps(phases.counts))
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(child: int) -> int:
    """Wait; the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train_without_a_break(command: list[str], folder: Path) -> tuple[Counter[str], float]:
    """How often the run entered each phase, and the seconds that it took."""
    folder.mkdir(parents=True)
    begin = time.monotonic()
    code = finish(start(["fit", *command], folder, Phases(), folder / "output.txt"))
    if code != 0:
        sys.exit(f"the run without a break failed:\n{(folder / 'output.txt').read_text()}")
    return Counter(json.loads((folder / "phases.json").read_text())), time.monotonic() - begin


def train_with_kills(
    command: list[str], folder: Path, kills: int, counts: Counter[str], seconds: float, seed: int
) -> Counter[str]:
    """How often the run was killed in each phase."""
    folder.mkdir(parents=True)
    dice = random.Random(seed)
    killed: Counter[str] = Counter()
    resume: list[str] = []
    while True:
        phase, number = "", 0
        if killed.total() < kills:
            phase = [*sorted(counts), "any time"][(killed.total() + dice.randrange(2)) % (len(counts) + 1)]
            # Every part of the run shall be met, its end included.
            number = dice.randint(1, max(1, 3 * counts[phase] // (2 * kills)))
        child = start(["fit", *command, *resume], folder, Phases(phase, number), folder / "output.txt")
        if phase == "any time":
            time.sleep(dice.uniform(0.05, max(0.5, 1.5 * seconds / kills)))
            os.kill(child, signal.SIGKILL)
        code = finish(child)
        if code == -signal.SIGKILL:
            killed[phase] += 1
        elif code == 0:
            return killed
        else:
            sys.exit(f"a run that was resumed failed:\n{(folder / 'output.txt').read_text()}")
        resume = ["--ckpt_path=last"] if list(folder.glob("lightning_logs/*/*/checkpoints/*.ckpt")) else []
        if not resume:
            shutil.rmtree(folder / "lightning_logs", ignore_errors=True)


def train_with_signals(case: str, folder: Path) -> Path:
    """The folder in which the run ended."""
    chunks = CHUNKS_BETWEEN_EVALUATIONS[case]
    stops = [
        (signal.SIGUSR1, "learning" if case == "cartpole_offline" else "acting", 5),
        (signal.SIGTERM, "learning", chunks),
        (signal.SIGINT, "evaluating", 1),
        (signal.SIGTERM, "learning", chunks // 2),
    ]
    resume: list[str] = []
    for number, (signal_number, phase, times) in enumerate(stops):
        folder.mkdir(parents=True, exist_ok=True)
        phases = Phases(phase, times, signal_number)
        command = ["fit", *CASES[case], *resume]
        code = finish(start(command, folder, phases, folder / "output.txt", threads=1 + number % 2))
        if code != 128 + signal_number:
            sys.exit(f"exit code {code} after {signal_number!r}:\n{(folder / 'output.txt').read_text()}")
        resume = ["--ckpt_path=last"]
        folder = folder.rename(folder.with_name(f"stopped_{number + 1}"))
    if finish(start(["fit", *CASES[case], *resume], folder, Phases(), folder / "output.txt", threads=2)) != 0:
        sys.exit(f"the run that was stopped by signals failed:\n{(folder / 'output.txt').read_text()}")
    return folder


# --- comparing ---


def fingerprints(folder: Path) -> dict[str, dict[str, str]]:
    """What a run has left: for each kind of thing, the hash of each thing of it."""
    (run,) = folder.glob("lightning_logs/*/*")
    path = run / "checkpoints/last.ckpt"
    read = Checkpoint.read(path).verify()
    checkpoint, stored = read.contents, read.segments()
    assert stored
    data = checkpoint["ReplayDataModule"]
    replays = read.replays
    for replay in replays:
        for name in ("identity", "folder", "manifest_crc32"):
            del replay[name]
    for name in ("seconds", "logged_at"):
        del checkpoint["callbacks"]["TrainingStatistics"][name]
    del checkpoint["callbacks"]["Checkpoints"]["session"]  # the count of resumes
    data.pop("replay")
    things = {
        "weights": checkpoint.pop("state_dict"),
        "optimiser": checkpoint.pop("optimizer_states"),
        "replay": [replays, [{name: tuple(content) for name, content in of.contents.items()} for of in stored]],
        "generators": [checkpoint.pop("random"), data.pop("sampling"), data["collector"].pop("generators")],
        "envs and counters": [data, checkpoint.pop("loops"), checkpoint.pop("callbacks"), checkpoint],
        "logged points": points(run),
        "episodes.csv": lines(run / "episodes.csv"),
    }
    return {kind: dict(flat(thing)) for kind, thing in things.items()}


def points(run: Path) -> dict[str, list]:
    """Every point of every curve, and the steps of every picture."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    curves = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    pictures = {tag: [(e.step, e.encoded_image_string) for e in events.Images(tag)] for tag in events.Tags()["images"]}
    return {tag: found for tag, found in (curves | pictures).items() if tag not in WALL_TIME}


def lines(path: Path) -> list:
    with path.open() as file:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in csv.DictReader(file)]


def flat(thing: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(thing, dict):
        for key, value in thing.items():
            yield from flat(value, f"{prefix}/{key}")
    elif isinstance(thing, list | tuple) and any(
        isinstance(value, dict | list | tuple | torch.Tensor) for value in thing
    ):
        for number, value in enumerate(thing):
            yield from flat(value, f"{prefix}/{number}")
    else:
        is_tensor = isinstance(thing, torch.Tensor)  # of any dtype: NumPy has no bfloat16
        content = thing.reshape(-1).view(torch.uint8).numpy().tobytes() if is_tensor else repr(thing).encode()
        yield prefix, hashlib.blake2b(content, digest_size=8).hexdigest()


def differences(one: dict[str, dict[str, str]], other: dict[str, dict[str, str]]) -> list[str]:
    """The names of all things that are not equal."""
    return [
        f"{kind}{name}"
        for kind in one
        for name in sorted(one[kind].keys() | other[kind].keys())
        if one[kind].get(name) != other[kind].get(name)
    ]


def can_be_played(case: str) -> bool:
    """Whether the envs of a case are at hand."""
    package = {"pong": "ale_py", "minatar": "minatar"}.get(case)
    return package is None or importlib.util.find_spec(package) is not None


def prove(case: str, kills: int, seed: int, folder: Path) -> bool:
    """Run one case and print its row of the table."""
    command = CASES[case]
    counts, seconds = train_without_a_break(command, folder / case / "whole")
    whole, killed, different = fingerprints(folder / case / "whole"), Counter[str](), []
    runs = 0
    while killed.total() < kills:  # a run may end before the last of its kills; then there is another
        runs += 1
        pieces = folder / case / f"killed_{runs}"
        killed += train_with_kills(command, pieces, kills - killed.total(), counts, seconds, seed + runs)
        different += differences(whole, fingerprints(pieces))
    different += differences(whole, fingerprints(train_with_signals(case, folder / case / "stopped")))
    compared = ", ".join(f"{len(things)} of {kind}" for kind, things in whole.items())
    phases = ", ".join(f"{number} {phase}" for phase, number in sorted(killed.items()))
    print(f"| {case} | {runs} | {killed.total()}: {phases} | 4 | {compared} | {len(different)} |", flush=True)
    for name in different[:20]:
        print(f"    differs: {name}")
    return not different


def command_line() -> None:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every point that was played again
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each case")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=None, help="of the moments; None: other ones each time")
    parser.add_argument("--folder", type=Path, default=None, help="where the runs are kept; None: nowhere")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed of the moments: {seed}\n")
    print("| case | killed runs | killed while | signals | compared with the run without a break | different |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        cases = [case for case in arguments.cases if can_be_played(case)]
        results = [prove(case, arguments.kills, seed, folder) for case in cases]
    for case in set(arguments.cases) - set(cases):
        print(f"\n{case} was left out: its environment is not installed")
    sys.exit(not all(results))


if __name__ == "__main__":
    command_line()
