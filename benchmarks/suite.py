"""Suites of envs in numbers: each config with each overlay and each seed, two runs at a time, one thread each.

    python benchmarks/suite.py classic                                    # train what is missing, then write the page
    python benchmarks/suite.py minatar --only minatar/breakout --overlays configs/double.yaml --seeds 0 1 2
    python benchmarks/suite.py minatar_200k --overlays - benchmarks/minatar_200k/iqn_*.yaml --seeds 0    # an ablation
    python benchmarks/suite.py classic --only acrobot --seeds 100 101 --overlays - slower.yaml     # a search

A run is `python -m lit_dqn fit --config configs/NAME.yaml [--config BASE] [--config OVERLAY] --seed_everything SEED` in
lightning_logs/SUITE, where BASE is what the suite changes in all of its runs; the last weights then play 100 test
episodes. A run that was ended from outside goes on where it was, and one that has its line is not trained again.

The seeds 0 to 9 are for reports: docs/results/SUITE.csv (a line for each run), SUITE_curves.csv (the training return
over env steps), docs/images/SUITE.png, and the table in docs/results.md between its two marks. The seeds 100 to 109 are
for searches: search.csv and curves.csv in lightning_logs/SUITE, and the table on the screen.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seeds import are_for_a_report
from suite_page import ROOT, TEST_EPISODES, WINDOW, Row, Suite, table, write

SUITES = {
    "classic": Suite(
        "classic",
        {
            "cartpole_layer_norm": "CartPole-v1",
            "acrobot": "Acrobot-v1",
            "mountain_car": "MountainCar-v0",
            "lunar_lander": "LunarLander-v3",
        },
        goal="CleanRL DQN (torch)",
    ),
    "minatar": Suite(
        "minatar",
        {
            "minatar/asterix": "Asterix",
            "minatar/breakout": "Breakout",
            "minatar/freeway": "Freeway",
            "minatar/seaquest": "Seaquest",
            "minatar/space_invaders": "Space Invaders",
        },
        relative=True,
    ),
    "minatar_200k": Suite(
        "minatar_200k",
        {
            "minatar/asterix": "Asterix",
            "minatar/breakout": "Breakout",
            "minatar/space_invaders": "Space Invaders",
        },
        relative=True,
        base=ROOT / "benchmarks" / "minatar_200k" / "short.yaml",
    ),
}
POINTS = 100
AS_IT_IS = "-"


class RunError(RuntimeError):
    """A command of lit_dqn failed; the message is what it said."""


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        config: below configs/, without its ending.
        base: a file of the suite that is put over it; None: there is none.
        overlay: a file that is put over both; None for the config as it is.
        seed: of everything.
        logs: the suite's folder for runs.

    """

    config: str
    base: Path | None
    overlay: Path | None
    seed: int
    logs: Path

    @property
    def key(self) -> dict[str, str]:
        """The key of its line."""
        return {"config": self.config, "overlay": self.overlay.stem if self.overlay else "", "seed": str(self.seed)}

    def train(self) -> tuple[Row, list[Row]]:
        """Train and test.

        Returns:
            Its line, and its curve.

        Raises:
            RunError: if lit_dqn does not do it.

        """
        name = "_".join(filter(None, self.key.values())).replace("/", "_")
        over = [str(file.resolve()) for file in (self.base, self.overlay) if file]
        configs = [word for file in (f"configs/{self.config}.yaml", *over) for word in ("--config", file)]
        settings = [*configs, "--seed_everything", str(self.seed)]
        settings += ["--trainer.logger.init_args.save_dir", str(self.logs), "--trainer.logger.init_args.name", name]
        begun = list((ROOT / self.logs / name).glob("version_*/checkpoints/*.ckpt"))
        lit_dqn("fit", *settings, *(["--ckpt_path", "last"] if begun else []))
        lit_dqn("test", *settings, "--ckpt_path", "last", "--data.eval_episodes", str(TEST_EPISODES))
        (run,) = (file.parent for file in (ROOT / self.logs / name).glob("version_*/results.json"))
        greedy = json.loads((run / "results.json").read_text())[-1]["return"]["mean"]
        with (run / "episodes.csv").open() as file:
            episodes = list(csv.DictReader(file))
        line, curve = summary(episodes)
        return self.key | line | {"greedy_return": f"{greedy:.2f}"}, [self.key | point for point in curve]


def summary(episodes: list[Row]) -> tuple[Row, list[Row]]:
    """The results of a run's training episodes: its part of the line, and the curve."""
    env_step, returns = (np.array([float(episode[key]) for episode in episodes]) for key in ("env_step", "return"))
    line = {
        "env_steps": f"{int(env_step[-1])}",
        "minutes": f"{float(episodes[-1]['seconds']) / 60:.1f}",
        "training_return": f"{returns[-WINDOW:].mean():.2f}",
    }
    ends = np.linspace(0, env_step[-1], POINTS + 1)[1:].round().astype(int)
    curve = [
        # Fewer episodes than the window while there are not more.
        {"env_step": str(end), "training_return": f"{round(float(returns[env_step <= end][-WINDOW:].mean()), 2)}"}
        for end in ends
        if (env_step <= end).any()
    ]
    return line, curve


def lit_dqn(*arguments: str) -> None:
    """A command of lit_dqn, on one thread."""
    print("python -m lit_dqn", *arguments, flush=True)
    command = [sys.executable, "-m", "lit_dqn", *arguments]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"{' '.join(arguments)}: {last_line(done.stderr)}")


def last_line(said: str) -> str:
    """The text about an error."""
    return (re.split(r"[\r\n]+", said.strip()) or [""])[-1]


def train_all(jobs: Iterable[Job], runs: Path, curves: Path, at_a_time: int) -> list[str]:
    """Run everything without a line, and write each line when it is finished.

    Returns:
        One sentence for each run that failed.

    """
    known = [{key: row[key] for key in ("config", "overlay", "seed")} for row in read(runs)]
    failed: list[str] = []
    pool = ThreadPoolExecutor(at_a_time)
    try:
        for future in as_completed([pool.submit(job.train) for job in jobs if job.key not in known]):
            try:
                line, curve = future.result()
            except RunError as error:
                failed.append(str(error))
                print(f"failed: {error}", flush=True)
                continue
            append(curves, curve)
            append(runs, [line])
            print(line, flush=True)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C has reached the runs, too, and ends those that play
    return failed


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def append(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--only", nargs="+", metavar="CONFIG", help="default: all configs of the suite")
    parser.add_argument("--overlays", nargs="+", default=[AS_IT_IS], help=f"{AS_IT_IS}: the config as it is (default)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--at-a-time", type=int, default=2, help="runs; default: 2")
    options = parser.parse_args()
    suite = SUITES[options.suite]
    configs = options.only or list(suite.envs)
    if unknown := set(configs) - set(suite.envs):
        parser.error(f"--only: {', '.join(sorted(unknown))}; {suite.name} has {', '.join(suite.envs)}")
    try:
        reported = are_for_a_report(options.seeds)
    except ValueError as error:
        parser.error(f"--seeds: {error}")
    overlays = [None if overlay == AS_IT_IS else Path(overlay) for overlay in options.overlays]
    logs = Path("lightning_logs") / suite.name
    jobs = [
        Job(config, suite.base, overlay, seed, logs)
        for seed in options.seeds
        for overlay in overlays
        for config in configs
    ]
    runs, curves = (suite.runs, suite.curves) if reported else (ROOT / logs / "search.csv", ROOT / logs / "curves.csv")
    failed = train_all(jobs, runs, curves, options.at_a_time)
    if reported and read(runs):
        write(suite, read(runs), read(curves), read(suite.published))
    print(table(suite, read(runs)))
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
