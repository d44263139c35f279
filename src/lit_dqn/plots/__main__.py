"""`python -m lit_dqn.plots RUN [RUN ...]`: steps and return per episode, as a picture."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lit_dqn.plots.episodes import plot_episodes, runs_of_seeds
from lit_dqn.saving.layout import EPISODES


def main(arguments: Sequence[str] | None = None) -> int:
    """Save the plot of episodes; 0, or 2 with one sentence if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m lit_dqn.plots", description="Plot steps and return per episode of one or more runs."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", type=Path, help=f"a run's folder, which holds {EPISODES}")
    parser.add_argument(
        "--output",
        type=Path,
        help="the picture to write, a .png if it has no suffix (default: episodes.png in the first RUN)",
    )
    parser.add_argument("--smooth", type=int, default=10, help="episodes in the moving mean (default: %(default)s)")
    parser.add_argument(
        "--band", action="store_true", help="runs that lie in one folder are seeds: draw them as a band"
    )
    parser.add_argument(
        "--clock", choices=("episode", "env_step"), default="episode", help="the x-axis (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    output = options.output or options.runs[0] / "episodes.png"
    if output.is_dir():
        print(f"error: --output {output} is a folder; give a file, such as {output / 'episodes.png'}", file=sys.stderr)
        return 2
    output = output if output.suffix else output.with_name(f"{output.name}.png")
    runs = runs_of_seeds(options.runs) if options.band else options.runs
    try:
        plot_episodes(runs, smooth=options.smooth, clock=options.clock).savefig(output, dpi=120)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: --output {output} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
