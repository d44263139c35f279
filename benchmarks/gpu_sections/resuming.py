"""Whether a run that was killed and resumed is bit for bit the run that was not, on this device."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from gpu_sections.cases import Case, Figure
from gpu_sections.measuring import Bench
from lit_dqn import Run
from lit_dqn.saving.checkpoint import Checkpoint
from processes import ROOT
from side_by_side import PONG

CHUNKS_PER_EPOCH, EPOCHS, KILLED_AFTER = 10, 5, 27
"""There is a checkpoint after each epoch; the run is killed after so many chunks, in its third."""
LEAST, MOST = 15.0, 60.0


class Kill(Callback):
    """Kills the process, like the system's out-of-memory killer.

    Args:
        chunks: that are learned before.

    """

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Count, and kill."""
        self.chunks -= 1
        if self.chunks == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def cases(bench: Bench) -> list[Case]:
    """As a run is by default; playing ahead; from one device to another."""
    return [
        Case("in turn", _killed(bench, play_ahead=False), LEAST, MOST),
        Case("ahead", _killed(bench, play_ahead=True), LEAST, MOST),
        Case("from the CPU to this device and back", _moved(bench), LEAST, MOST),
    ]


def _settings(folder: Path, accelerator: str, play_ahead: bool, epochs: int = EPOCHS) -> dict[str, Any]:
    gradient_steps = 8
    return {
        "seed_everything": PONG.seed,
        "data.num_envs": 8,
        "data.gradient_steps": gradient_steps,
        "data.play_ahead": play_ahead,
        "data.capacity": 1_500,  # so small that its ring buffer has wrapped around
        "data.min_replay_size": 400,
        "data.batch_size": 8,
        "data.updates_per_epoch": CHUNKS_PER_EPOCH * gradient_steps,
        "data.eval_episodes": 2,
        "data.eval_max_steps": 40,
        "model.target_update_period": 100,
        "model.network.init_args.dense_size": 64,
        "checkpoints.every_n_epochs": 1,
        "trainer.check_val_every_n_epoch": 2,
        "stop.max_env_steps": 400 + epochs * CHUNKS_PER_EPOCH * gradient_steps * PONG.env_steps_per_update,
        "trainer.accelerator": accelerator,
        "trainer.enable_progress_bar": False,
        "trainer.enable_model_summary": False,
        "trainer.logger.init_args.save_dir": str(folder / "lightning_logs"),
    }


def _killed(bench: Bench, *, play_ahead: bool) -> Callable[[float], Figure]:
    accelerator = "gpu" if bench.cuda else "cpu"

    def measure(seconds: float) -> Figure:
        proof = _proof()
        with tempfile.TemporaryDirectory() as temporary:
            whole, pieces = Path(temporary, "whole"), Path(temporary, "pieces")
            module = "gpu_sections.resuming"
            command = [sys.executable, "-m", module, json.dumps(_settings(pieces, accelerator, play_ahead))]
            threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
            process = subprocess.Popen(command, cwd=ROOT / "benchmarks", env=os.environ | threads)
            try:
                Run.from_config(ROOT / PONG.config, _settings(whole, accelerator, play_ahead)).fit()
                code = process.wait(timeout=300)
            finally:
                process.kill()
            if code != -signal.SIGKILL:
                raise RuntimeError(f"the run that was to be killed ended with exit code {code}")
            at = _last_env_step(pieces)
            Run.from_config(ROOT / PONG.config, _settings(pieces, accelerator, play_ahead), ckpt_path="last").fit()
            whole_run, resumed = proof.fingerprints(whole), proof.fingerprints(pieces)
            different = proof.differences(whole_run, resumed)
        compared = ", ".join(f"{len(things)} of {kind}" for kind, things in whole_run.items())
        notes = {"compared": compared, "resumed at env step": at}
        if different:
            notes["first"] = ", ".join(different[:5])
        return Figure(len(different), "different", notes=notes)

    return measure


def _proof() -> ModuleType:
    """tests/prove_resume.py, which knows what must be equal."""
    spec = importlib.util.spec_from_file_location("prove_resume", ROOT / "tests" / "prove_resume.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _moved(bench: Bench) -> Callable[[float], Figure]:
    there = "gpu" if bench.cuda else "cpu"

    def measure(seconds: float) -> Figure:
        steps = []
        with tempfile.TemporaryDirectory() as temporary:
            for number, accelerator in enumerate(("cpu", there, "cpu"), start=1):
                settings = _settings(Path(temporary), accelerator, play_ahead=False, epochs=number)
                path = None if number == 1 else "last"
                run = Run.from_config(ROOT / PONG.config, settings, ckpt_path=path).fit()
                if not all(torch.isfinite(weight).all() for weight in run.agent.parameters()):
                    raise RuntimeError(f"a weight is no number after the run on {accelerator}")
                steps.append(f"{run.data.collector.env_step} on {accelerator}")  # type: ignore[union-attr]
        return Figure("resumes", notes={"env steps": ", ".join(steps)})

    return measure


def _last_env_step(folder: Path) -> int:
    (last,) = folder.glob("lightning_logs/*/*/checkpoints/last.ckpt")
    return Checkpoint.read(last).env_step


if __name__ == "__main__":
    run = Run.from_config(ROOT / PONG.config, json.loads(sys.argv[1]))
    run.trainer.callbacks.append(Kill(KILLED_AFTER))  # type: ignore[attr-defined]
    run.fit()
