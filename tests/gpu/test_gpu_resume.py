"""Runs by the command line that are killed and resumed on the GPU, or that move between CPU and GPU."""

import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from helpers import read_checkpoint
from lit_dqn.commands.cli import main

ROOT = Path(__file__).parents[2]
ACCELERATOR = "gpu"

CARTPOLE = [
    "fit",
    f"--config={ROOT}/configs/cartpole.yaml",
    "--data.capacity=1500",
    "--data.min_replay_size=400",
    "--data.updates_per_epoch=80",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=60",
    "--trainer.log_every_n_steps=7",
    "--trainer.enable_progress_bar=false",
]
T_MAZE = [
    "fit",
    f"--config={ROOT}/configs/t_maze.yaml",
    "--data.capacity=1500",
    "--data.min_replay_size=400",
    "--data.updates_per_epoch=80",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=60",
    "--trainer.log_every_n_steps=7",
    "--trainer.enable_progress_bar=false",
]
PONG = [
    "fit",
    f"--config={ROOT}/configs/atari/pong.yaml",
    "--data.capacity=1200",
    "--data.min_replay_size=400",
    "--data.updates_per_epoch=80",
    "--data.eval_episodes=1",
    "--data.eval_max_steps=40",
    "--data.policy.init_args.epsilon=0.2",
    "--checkpoints.every_n_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--model.target_update_period=25",
    "--trainer.log_every_n_steps=3",
    "--trainer.enable_progress_bar=false",
    "--stop.max_env_steps=1200",
]
PATIENCE = 120
RUN_WITH_A_KILL = """
import sys
from prove_resume import Phases
phases = Phases(sys.argv[1], int(sys.argv[2]))
phases.watch()
from lit_dqn.commands.cli import main
main(sys.argv[3:])
"""


def start(folder, phase, number, command):
    folder.mkdir(exist_ok=True)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    output = (folder / "output.txt").open("a")
    return subprocess.Popen(
        [sys.executable, "-c", RUN_WITH_A_KILL, phase, str(number), *command, f"--trainer.accelerator={ACCELERATOR}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=output,
        stderr=subprocess.STDOUT,
    )


KILLED = {
    "cartpole": [*CARTPOLE, "--stop.max_env_steps=4000"],
    "cartpole, ahead, bf16": [
        *CARTPOLE,
        "--stop.max_env_steps=4000",
        "--data.play_ahead=true",
        "--trainer.precision=bf16-mixed",
    ],
    "memory": [*T_MAZE, "--stop.max_env_steps=4000"],
    "pong": PONG,
    "pong, ahead": [*PONG, "--data.play_ahead=true"],
}


class Pieces:
    """A run, and beside it one that is killed and resumed; both begin at once."""

    def __init__(self, folder, command):
        self.whole, self.pieces = folder / "whole", folder / "pieces"
        self.command = command
        killed_at = 20 if command[1].endswith("pong.yaml") else 25
        self.first = start(self.whole, "", 0, command), start(self.pieces, "learning", killed_at, command)
        self.resumed = threading.Thread(target=self._resume, daemon=True)
        self.codes = []
        self.resumed.start()

    def _resume(self):
        self.codes = [process.wait() for process in reversed(self.first)]
        self.codes.append(start(self.pieces, "", 0, [*self.command, "--ckpt_path=last"]).wait())


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    """All of them side by side, for most of their time goes into imports."""
    at_hand = {name: command for name, command in KILLED.items() if "pong" not in name or find_spec("ale_py")}
    return {name: Pieces(tmp_path_factory.mktemp("killed"), command) for name, command in at_hand.items()}


@pytest.mark.parametrize("name", KILLED)
def test_a_run_that_was_killed_is_the_run_that_was_not(name, killed_runs):
    from prove_resume import differences, fingerprints

    if name not in killed_runs:
        pytest.skip("ale_py is not installed")
    runs = killed_runs[name]
    runs.resumed.join(PATIENCE)
    said = "\n".join((folder / "output.txt").read_text()[-3000:] for folder in (runs.whole, runs.pieces))
    assert runs.codes == [-signal.SIGKILL, 0, 0], said
    found = differences(fingerprints(runs.whole), fingerprints(runs.pieces))
    assert not found, f"{len(found)} differ: {found[:12]}"


def test_a_run_moves_from_the_cpu_to_the_gpu_and_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    groups, steps = [], []
    for number, (accelerator, env_steps) in enumerate(
        [("cpu", 1500), (ACCELERATOR, 2500), ("cpu", 3500), (ACCELERATOR, 4000)]
    ):
        resume = ["--ckpt_path=last"] if number else []
        main([*CARTPOLE, f"--trainer.accelerator={accelerator}", f"--stop.max_env_steps={env_steps}", *resume])
        (path,) = tmp_path.glob("lightning_logs/*/*/checkpoints/last.ckpt")
        checkpoint = read_checkpoint(path)
        (state,) = checkpoint["optimizer_states"]
        groups.append([{k: v for k, v in group.items() if k != "lr"} for group in state["param_groups"]])
        rates = [group["lr"] for group in state["param_groups"]]
        assert all(type(rate) is float for rate in rates)
        steps.append(int(state["state"][0]["step"]))
        assert steps[-1] == checkpoint["global_step"]
        assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())
        assert not any(key in str(checkpoint.keys()) for key in ("graph", "captur"))
    assert groups[0] == groups[1] == groups[2] == groups[3]
    assert steps == sorted(set(steps))
