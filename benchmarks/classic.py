"""Classic control in numbers: every config with three seeds, beside published figures.

    python benchmarks/classic.py                    # train what is missing, then write curves, picture and table
    python benchmarks/classic.py --only acrobot     # train one of them
    python benchmarks/classic.py --seeds 1 2 3 4 5

Each run is `python -m lit_dqn fit --config configs/NAME.yaml --seed_everything SEED`, one after the other, in
lightning_logs/classic; its last weights then play 100 greedy episodes. A run whose line is in docs/results/classic.csv
is not trained again. Written are docs/results/classic.csv (a line for each run), docs/results/classic_curves.csv (the
training return over env steps), docs/images/classic.png, and the table in docs/results.md between its two marks.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
RUNS, CURVES, PUBLISHED = (RESULTS / name for name in ("classic.csv", "classic_curves.csv", "published_classic.csv"))
PICTURE, PAGE = ROOT / "docs" / "images" / "classic.png", ROOT / "docs" / "results.md"
MARKS = "<!-- classic: written by benchmarks/classic.py -->", "<!-- /classic -->"
ENVS = {
    "cartpole": "CartPole-v1",
    "acrobot": "Acrobot-v1",
    "mountain_car": "MountainCar-v0",
    "lunar_lander": "LunarLander-v3",
}
LOGS = Path("lightning_logs") / "classic"
WINDOW, POINTS, TEST_EPISODES = 100, 100, 100
FIELDS = ["config", "seed", "env_steps", "minutes", "training_return", "greedy_return"]
COLOUR, GOAL_COLOUR = "#0072b2", "#d55e00"

Row = dict[str, str]


def train(config: str, seed: int) -> tuple[Row, list[Row]]:
    """One run: its line, and its curve."""
    common = ["--config", f"configs/{config}.yaml", "--seed_everything", str(seed)]
    logger = ["--trainer.logger.init_args.save_dir", str(LOGS), "--trainer.logger.init_args.name", f"{config}_{seed}"]
    said = lit_dqn("fit", *common, *logger).stderr
    run = Path(re.findall(r"^run: (.+)$", said, re.MULTILINE)[-1])
    checkpoint = ["--ckpt_path", str(ROOT / run), "--data.eval_episodes", str(TEST_EPISODES)]
    lit_dqn("test", *common, *checkpoint)
    greedy = json.loads((ROOT / run / "results.json").read_text())[-1]["return"]["mean"]
    hours, minutes, seconds = map(int, re.findall(r"updates in (\d+):(\d+):(\d+)", said)[-1])
    with (ROOT / run / "episodes.csv").open() as file:
        episodes = list(csv.DictReader(file))
    env_step, returns = (np.array([float(episode[key]) for episode in episodes]) for key in ("env_step", "return"))
    line = {
        "config": config,
        "seed": str(seed),
        "env_steps": f"{int(env_step[-1])}",
        "minutes": f"{60 * hours + minutes + seconds / 60:.1f}",
        "training_return": f"{returns[-WINDOW:].mean():.2f}",
        "greedy_return": f"{greedy:.2f}",
    }
    ends = np.linspace(0, env_step[-1], POINTS + 1)[1:].round().astype(int)
    curve = [
        {
            "config": config,
            "seed": str(seed),
            "env_step": str(end),
            "training_return": f"{recent_mean(returns[env_step <= end])}",
        }
        for end in ends
        if (env_step <= end).any()
    ]
    return line, curve


def lit_dqn(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of lit_dqn; its errors are shown."""
    print("python -m lit_dqn", *arguments, flush=True)
    command = [sys.executable, "-m", "lit_dqn", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done


def recent_mean(returns: NDArray[np.float64]) -> float:
    """The mean of the last episodes; fewer than the window while there are not more."""
    return round(float(returns[-WINDOW:].mean()), 2)


def read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def append(path: Path, rows: Iterable[Row]) -> None:
    rows = list(rows)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def picture(curves: list[Row], published: list[Row]) -> Figure:
    """Training return over env steps: the mean over the seeds, a band from the worst to the best of them, and what a
    peer publishes, at the env step that it publishes it for.
    """
    shown = [config for config in ENVS if any(row["config"] == config for row in curves)]
    figure = Figure(figsize=(5.2 * min(len(shown), 2), 3.4 * -(-len(shown) // 2)), layout="constrained")
    grid = figure.subplots(-(-len(shown) // 2), min(len(shown), 2), squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for config, axes in zip(shown, grid.flat, strict=False):
        rows = [row for row in curves if row["config"] == config]
        seeds = sorted({row["seed"] for row in rows})
        by_seed = [[(int(r["env_step"]), float(r["training_return"])) for r in rows if r["seed"] == s] for s in seeds]
        end = min(points[-1][0] for points in by_seed)
        x = np.linspace(max(points[0][0] for points in by_seed), end, POINTS)
        returns = np.array([np.interp(x, *zip(*points, strict=True)) for points in by_seed])
        axes.fill_between(x, returns.min(axis=0), returns.max(axis=0), color=COLOUR, alpha=0.2, linewidth=0)
        axes.plot(
            x,
            returns.mean(axis=0),
            color=COLOUR,
            linewidth=1.8,
            label=f"lit_dqn: mean of {len(seeds)} seeds, band from worst to best",
        )
        for row in published:
            if row["source"].startswith("CleanRL DQN (") and row.get(ENVS[config]):
                steps, value = int(row["steps"]), float(row[ENVS[config]])
                axes.plot([steps], [value], "D", color=GOAL_COLOUR, markersize=7, label=f"{row['source']} at {steps:,}")
        axes.set(title=ENVS[config], xlabel="env step", xscale="log", ylabel=f"return, mean of {WINDOW} episodes")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:.0f}k")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return figure


def table(runs: list[Row], published: list[Row]) -> str:
    """Markdown: our mean over the seeds, each seed, and what others publish."""
    names = [row["source"] for row in published]
    lines = [
        f"| | seeds | env steps | minutes | training return, last {WINDOW} | greedy return, {TEST_EPISODES} episodes |"
        + "".join(f" {name} |" for name in names),
        "|---|---|---|---|---|---|" + "---|" * len(names),
    ]
    for config, env_id in ENVS.items():
        rows = sorted((row for row in runs if row["config"] == config), key=lambda row: int(row["seed"]))
        if not rows:
            continue
        steps = max(int(row["env_steps"]) for row in rows)
        minutes = np.mean([float(row["minutes"]) for row in rows])
        figures = []
        for key in ("training_return", "greedy_return"):
            values = [float(row[key]) for row in rows]
            figures.append(f"**{np.mean(values):.1f}** ({', '.join(f'{value:.1f}' for value in values)})")
        others = "".join(f" {row.get(env_id) or '-'} |" for row in published)
        seeds = ", ".join(row["seed"] for row in rows)
        lines.append(f"| {env_id} | {seeds} | {steps:,} | {minutes:.1f} | {' | '.join(figures)} |{others}")
    return "\n".join(lines)


def write(runs: list[Row], curves: list[Row], published: list[Row]) -> None:
    """The picture, and the table between its marks."""
    if not runs:
        raise SystemExit("nothing has been trained yet")
    picture(curves, published).savefig(PICTURE, dpi=110)
    before, _, rest = PAGE.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    PAGE.write_text(f"{before}{MARKS[0]}\n{table(runs, published)}\n{MARKS[1]}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(ENVS), nargs="+", default=list(ENVS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    for config in options.only:
        for seed in options.seeds:
            if not any((row["config"], row["seed"]) == (config, str(seed)) for row in read(RUNS)):
                line, curve = train(config, seed)
                append(CURVES, curve)
                append(RUNS, [line])
                print(line, flush=True)
    write(read(RUNS), read(CURVES), read(PUBLISHED))


if __name__ == "__main__":
    main()
