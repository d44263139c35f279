"""One process for each measurement; machine, versions and results as JSON. For the standard library alone."""

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "lit_dqn": ["lit-dqn", "torch", "lightning", "gymnasium", "ale-py", "numpy"],
    "bare": [],
    "stable_baselines3": ["stable-baselines3", "torch", "gymnasium"],
    "cleanrl": ["torch", "gymnasium"],
    "tianshou": ["tianshou", "torch", "envpool"],
    "torchrl": ["torchrl", "torch", "envpool"],
}
"""The distributions behind each contestant."""
OURS = ("lit_dqn", "bare")
"""Contestants that run in lit_dqn's environment."""
MARK = "measured: "
"""What a process prints before its figures, as JSON."""


class RunError(Exception):
    """A process failed; says why in one line."""


def run_process(command: list[str], timeout: float = 1800, **environment: str) -> str:
    """What a command prints.

    Raises:
        RunError: with the last line that it wrote to its standard error.

    """
    try:
        process = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=timeout
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(str(error)) from error
    if process.returncode:
        lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        raise RunError(lines[-1])
    return process.stdout


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options that all benchmarks have."""
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: all cores)")
    parser.add_argument(
        "--peer-python",
        type=os.path.abspath,  # runs have another working directory
        default=sys.executable,
        help="Python that has benchmarks/peers.txt installed (default: this)",
    )
    parser.add_argument("--cleanrl", type=os.path.abspath, help="a clone of CleanRL; without it CleanRL is not run")
    parser.add_argument("--output", type=Path, default=ROOT / f"benchmarks/results/{name}.json", help="JSON")


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Where and how a benchmark ran."""
    # Paths differ between machines, and carry no information.
    names = {"--peer-python": "PEER_PYTHON", "--cleanrl": "CLEANRL", "--output": "OUTPUT"}
    words = [names.get(before, word) for before, word in zip(sys.argv, sys.argv[1:], strict=False)]
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {processor()}",
        "cores": os.cpu_count(),
        "threads": options.threads,
        "load_before": os.getloadavg()[0],  # processes that wanted a core in the last minute; quiet is below 0.5
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def versions(options: argparse.Namespace, contestants: list[str]) -> dict[str, dict[str, str]]:
    """Of each contestant's packages, in the environment that it runs in; CleanRL's is its commit."""
    found: dict[str, dict[str, str]] = {}
    for name in contestants:
        ask = (
            "import importlib.metadata as m, json, sys\n"
            "have = {d.metadata['Name'].lower().replace('_', '-') for d in m.distributions()}\n"
            "print(json.dumps({n: m.version(n) for n in sys.argv[1:] if n in have}))"
        )
        python = sys.executable if name in OURS else options.peer_python
        try:
            found[name] = json.loads(run_process([python, "-c", ask, *PACKAGES[name]]))
        except RunError as error:
            sys.exit(f"error: --peer-python: {error}")
        if name == "cleanrl" and options.cleanrl:
            try:
                head = run_process(["git", "-C", str(options.cleanrl), "rev-parse", "HEAD"])
            except RunError:
                head = "unknown"
            found[name]["commit"] = head.strip()
    return found


def write(options: argparse.Namespace, record: dict[str, Any]) -> None:
    """The record as JSON."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written: {os.path.relpath(options.output)}")
