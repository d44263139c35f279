"""What the benchmarks have in common: one process per run, in turn, several rounds, ratios within each round.

Nothing but the standard library is imported here, for the peers may live in an environment without lit_dqn.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from processes import MARK, OURS, RunError, add_options, machine, run_process, versions, write


@dataclass(frozen=True)
class Work:
    """What every contestant does: Q-learning with a replay, one update for some env steps, without evaluations.

    Args:
        name: of the benchmark; contestants keep their settings by it.
        env_id: a Gymnasium env.
        config: lit_dqn's, relative to the repository.
        images: whether the network is the CNN of Mnih et al. (2015), else an MLP of 120 and 84 units.
        batch_size: transitions.
        env_steps_per_update: env steps for each update.
        capacity: timesteps of the replay.
        min_replay_size: env steps before the first update.
        burn_in: env steps after it that are not timed, while caches and allocators settle.
        target_update_period: updates.
        learning_rate: of Adam.
        gamma: γ, per step.
        epsilon: chance of a random action, constant.
        bf16: whether networks compute in bfloat16: lit_dqn by its `trainer.precision`, the others within
            `torch.autocast`, which is their user's to add.

    """

    name: str
    env_id: str
    config: str
    images: bool
    batch_size: int
    env_steps_per_update: int
    capacity: int
    min_replay_size: int
    burn_in: int
    target_update_period: int
    learning_rate: float
    gamma: float = 0.99
    epsilon: float = 0.05
    seed: int = 1
    bf16: bool = False


PONG = Work(
    name="pong",
    env_id="ALE/Pong-v5",
    config="configs/atari/pong.yaml",
    images=True,
    batch_size=32,
    env_steps_per_update=4,
    capacity=100_000,
    min_replay_size=1_600,
    burn_in=320,
    target_update_period=500,
    learning_rate=1e-4,
)
CARTPOLE = Work(
    name="cartpole",
    env_id="CartPole-v1",
    config="configs/cartpole.yaml",
    images=False,
    batch_size=128,
    env_steps_per_update=10,
    capacity=10_000,
    min_replay_size=2_000,
    burn_in=4_000,
    target_update_period=50,
    learning_rate=2.5e-4,
)


class Stopwatch:
    """Takes wall time and CPU time between two env steps. CPU time can be compared on a busy machine too."""

    def __init__(self) -> None:
        self._laps: list[tuple[int, float, float]] = []

    def lap(self, env_step: int) -> None:
        """Take the time at an env step; the first and the last lap count."""
        lap = (env_step, time.perf_counter(), time.process_time())
        self._laps = [*self._laps[:1], lap]

    def speeds(self) -> dict[str, float]:
        """Env steps per second, and per second of CPU time of all threads."""
        (first, wall, cpu), (last, wall_now, cpu_now) = self._laps
        return {"wall": (last - first) / (wall_now - wall), "cpu": (last - first) / (cpu_now - cpu)}


@dataclass(frozen=True)
class Run:
    """One contestant with its settings."""

    contestant: str
    label: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """The contestants, and the goals.

    Args:
        script: the benchmark's file.
        description: its docstring.
        contestants: modules of `contestants/`; the first is the one whose ratios to the others are wanted.
        steps: work -> env steps timed in each run, unless --steps says otherwise.
        goals: name of the work -> the ratio to the fastest of the others that is wanted.

    """

    script: str
    description: str | None
    contestants: list[str]
    steps: dict[Work, int]
    goals: dict[str, float]

    def main(self) -> None:
        """The command line."""
        works = {work.name: work for work in self.steps}
        options = self._options(list(works))
        if options.run:
            settings = dict(options.settings)
            if options.run == "cleanrl":
                settings["clone"] = options.cleanrl
            work = replace(works[options.work[0]], bf16=options.bf16)
            stopwatch = Stopwatch()
            measure = importlib.import_module(f"contestants.{options.run}").measure
            with _autocast() if work.bf16 and options.run != "lit_dqn" else contextlib.nullcontext():
                measure(work, options.steps, stopwatch, **settings)
            print(f"{MARK}{json.dumps(stopwatch.speeds())}")
            return
        record = machine(options) | {"versions": versions(options, options.only)}
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
        record["works"] = {
            name: self._compare(replace(works[name], bf16=options.bf16), options) for name in options.work
        }
        write(options, record)

    def _options(self, works: list[str]) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        add_options(parser, Path(self.script).stem)
        steps = ", ".join(f"{work.name} {number:,}" for work, number in self.steps.items())
        parser.add_argument("--rounds", type=int, default=3, help="default: 3")
        parser.add_argument("--steps", type=int, help=f"env steps timed in each run (default: {steps})")
        parser.add_argument("--work", nargs="+", choices=works, default=works, help="default: all")
        parser.add_argument(
            "--only", nargs="+", choices=self.contestants, default=self.contestants, help="default: all"
        )
        parser.add_argument(
            "--variants",
            action="store_true",
            help="each contestant's other settings too, from which the best were chosen",
        )
        parser.add_argument("--bf16", action="store_true", help="networks in bfloat16, all contestants'")
        parser.add_argument("--run", choices=self.contestants, help=argparse.SUPPRESS)  # the one run of a process
        parser.add_argument("--settings", type=json.loads, help=argparse.SUPPRESS)
        return parser.parse_args()

    def _compare(self, work: Work, options: argparse.Namespace) -> dict[str, Any]:
        steps = options.steps or next(steps for known, steps in self.steps.items() if known.name == work.name)
        runs = []
        for name in options.only:
            module = importlib.import_module(f"contestants.{name}")  # its package is imported in `measure` only
            chosen = module.SETTINGS[work.name] | (module.VARIANTS[work.name] if options.variants else {})
            runs += [Run(name, label, settings) for label, settings in chosen.items()]
        rounds: list[dict[str, dict[str, float]]] = []
        not_run: dict[str, str] = {}
        for number in range(1, options.rounds + 1):
            speeds: dict[str, dict[str, float]] = {}
            for run in runs:
                if run.label in not_run:
                    continue
                try:
                    speeds[run.label] = self._run(run, work, steps, options)
                except RunError as error:
                    not_run[run.label] = str(error)
                    print(f"{work.name}, {run.label}: not run: {error}", flush=True)
                    continue
                both = f"{speeds[run.label]['wall']:,.1f} env steps/s, {speeds[run.label]['cpu']:,.1f} per CPU second"
                print(f"{work.name}, round {number}, {run.label}: {both}", flush=True)
            rounds.append(speeds)
        rounds = [{label: speeds[label] for label in speeds if label not in not_run} for speeds in rounds]
        ours = {run.label for run in runs if run.contestant == runs[0].contestant}
        summary = summarise(rounds, runs[0].label, ours)
        print(f"\n{table(rounds, runs[0].label, summary, not_run)}\n")
        goal = self.goals[work.name]
        if "fastest" in summary["ratios"]:
            wall, cpu = summary["ratios"]["fastest"], summary["cpu"]["ratios"]["fastest"]
            print(f"{work.name}: {runs[0].label} / the fastest other: {wall:.2f}, by CPU {cpu:.2f}, goal {goal:.2f}")
        return {
            "work": vars(work),
            "env_steps": steps,
            "settings": {run.label: run.settings for run in runs},
            "rounds": rounds,
            "not_run": not_run,
            "goal": goal,
            **summary,
        }

    def _run(self, run: Run, work: Work, steps: int, options: argparse.Namespace) -> dict[str, float]:
        python = sys.executable if run.contestant in OURS else options.peer_python
        command = [python, self.script, "--run", run.contestant, "--work", work.name, "--steps", str(steps)]
        command += ["--settings", json.dumps(run.settings)]
        if options.cleanrl:
            command += ["--cleanrl", options.cleanrl]
        if options.bf16:
            command += ["--bf16"]
        return json.loads(run_process(command).rpartition(MARK)[2])


def _autocast() -> Any:
    import torch

    return torch.autocast("cpu", torch.bfloat16)


def summarise(rounds: list[dict[str, dict[str, float]]], first: str, ours: set[str]) -> dict[str, Any]:
    """As `summarise_clock`, by wall time, and by CPU time under `cpu`, which counts where a machine is shared."""
    return summarise_clock(rounds, first, ours, "wall") | {"cpu": summarise_clock(rounds, first, ours, "cpu")}


def summarise_clock(
    rounds: list[dict[str, dict[str, float]]], first: str, ours: set[str], clock: str
) -> dict[str, Any]:
    """Medians of the env steps/s over the rounds, and of the ratios of `first` to the others within each round.

    "fastest" is the one with the best median that is not among `ours`.
    """
    walls = [{label: speed[clock] for label, speed in speeds.items()} for speeds in rounds]
    medians = {label: statistics.median(speeds[label] for speeds in walls) for label in walls[0]}
    ratios: dict[str, float] = {}
    if first in medians:
        labels = [label for label in medians if label != first]
        ratios = {label: statistics.median(speeds[first] / speeds[label] for speeds in walls) for label in labels}
        others = [label for label in labels if label not in ours]
        if others:
            ratios["fastest"] = ratios[max(others, key=lambda other: medians[other])]
    return {"medians": medians, "ratios": ratios}


def table(
    rounds: list[dict[str, dict[str, float]]], ours: str, summary: dict[str, Any], not_run: dict[str, str]
) -> str:
    """Markdown: env steps/s by round, and our ratios to the others."""
    lines = [
        f"| env steps/s | {' | '.join(f'round {number}' for number in range(1, len(rounds) + 1))} | median "
        f"| median per CPU second | {ours} / it |",
        "|---" * (len(rounds) + 4) + "|",
    ]
    for label, median in summary["medians"].items():
        values = " | ".join(f"{speeds[label]['wall']:,.0f}" for speeds in rounds)
        cpu = statistics.median(speeds[label]["cpu"] for speeds in rounds)
        ratio = f"{summary['ratios'][label]:.2f}" if label in summary["ratios"] else ""
        lines.append(f"| {label} | {values} | {median:,.0f} | {cpu:,.0f} | {ratio} |")
    lines += [f"| {label} | not run: {reason} |" for label, reason in not_run.items()]
    return "\n".join(lines)
