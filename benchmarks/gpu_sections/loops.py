"""Whole runs through Lightning in their steady state: Double DQN, Nature CNN, an update for four agent steps.

Everything that a user's run has is there (callbacks, statistics, TensorBoard) but the progress bar and evaluations.
"""

import inspect
import itertools
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from gpu_sections.cases import Case, Figure
from gpu_sections.measuring import Bench, arithmetic
from lit_dqn import LitDQN, ReplayDataModule, Run
from processes import ROOT
from side_by_side import PONG

LEAST = 7.0
"""Seconds of a case: including construction, warm-up and capture before the measurement."""
SETTLING = 1.5
"""Seconds of learning before time is taken."""
LAP = 0.5
"""Seconds; the speed is the median of the laps'."""
EARLIER = {"model.update": "eager", "data.replay_device": "cpu"}
"""What release 0.1.0 did, as settings."""


@dataclass(frozen=True)
class Loop:
    """One run.

    Args:
        num_envs: played side by side.
        play_ahead: `data.play_ahead`.
        precision: `trainer.precision`.
        earlier: as release 0.1.0 did it, the baseline.
        capacity: timesteps of the replay.
        chunk: updates in a training step; None: as few as one step of all envs asks for, and at least 8.

    """

    num_envs: int
    play_ahead: bool
    precision: str = "32-true"
    earlier: bool = False
    capacity: int = PONG.capacity
    chunk: int | None = None

    @property
    def name(self) -> str:
        """In words."""
        words = [
            f"{self.num_envs} envs",
            "ahead" if self.play_ahead else "in turn",
            self.precision,
            "eager, replay on the host" if self.earlier else "",
            f"replay of {self.capacity:,}" if self.capacity != PONG.capacity else "",
            f"{self.chunk} updates a chunk" if self.chunk else "",
        ]
        return ", ".join(word for word in words if word)

    @property
    def gradient_steps(self) -> int:
        """Updates in a chunk."""
        return self.chunk or max(8, self.num_envs // PONG.env_steps_per_update)

    def settings(self, bench: Bench, folder: str) -> dict[str, Any]:
        """Over those of pong.yaml."""
        settings = {
            "seed_everything": PONG.seed,
            "data.num_envs": self.num_envs,
            "data.gradient_steps": self.gradient_steps,
            "data.play_ahead": self.play_ahead,
            "data.capacity": 2_000 if bench.smoke else self.capacity,
            "data.min_replay_size": 100 if bench.smoke else PONG.min_replay_size,
            # Neither evaluations nor checkpoints of the replay while time is taken.
            "data.updates_per_epoch": 1_000_000 * self.gradient_steps,
            "trainer.limit_val_batches": 0,
            "checkpoints.save_replay": False,
            # As at the end of a run: the network is asked for nearly all actions.
            "data.policy.init_args.epsilon": PONG.epsilon,
            "stop.max_env_steps": 10**9,
            "trainer.accelerator": "gpu" if bench.cuda else "cpu",
            "trainer.precision": self.precision,
            "trainer.enable_progress_bar": False,
            "trainer.enable_model_summary": False,
            "trainer.logger.init_args.save_dir": folder,
        }
        if bench.smoke:
            settings["data.batch_size"] = 4
        return settings | (earlier() if self.earlier else {})


BASELINE = Loop(8, play_ahead=False, earlier=True)
LOOPS = (
    BASELINE,
    Loop(8, play_ahead=False),
    Loop(64, play_ahead=True),
    Loop(64, play_ahead=True, precision="bf16-mixed"),
    Loop(64, play_ahead=True, chunk=32),
    Loop(64, play_ahead=False),
    Loop(8, play_ahead=True),
    Loop(64, play_ahead=True, earlier=True),
    Loop(64, play_ahead=True, capacity=1_000_000),
    Loop(32, play_ahead=True),
    Loop(64, play_ahead=False, precision="bf16-mixed"),
    Loop(8, play_ahead=False, precision="bf16-mixed"),
    Loop(8, play_ahead=True, precision="bf16-mixed"),
    Loop(64, play_ahead=False, earlier=True),
    Loop(128, play_ahead=True),
    Loop(8, play_ahead=False, earlier=True, precision="bf16-mixed"),
)


def cases(bench: Bench) -> list[Case]:
    """All cases, the baseline and the default first."""
    loops = (BASELINE, Loop(8, play_ahead=True)) if bench.smoke else LOOPS
    least = 2.0 if bench.smoke else LEAST
    return [Case(loop.name, case_of(bench, loop), least, least + 4) for loop in loops]


def case_of(bench: Bench, loop: Loop, **more: Any) -> Any:
    """The measurement of a loop.

    Args:
        bench: where.
        loop: what.
        more: settings over the loop's own.

    """

    def measure(seconds: float) -> Figure:
        laps = Laps(bench, time.perf_counter() + seconds)
        with tempfile.TemporaryDirectory() as folder, arithmetic("torch's default"):
            run = Run.from_config(ROOT / PONG.config, loop.settings(bench, folder) | more)
            run.trainer.callbacks.append(laps)  # type: ignore[attr-defined]
            run.fit()
            notes = {
                "updates/s": round(laps.updates_per_second),
                "cores busy": round(laps.cores_busy, 1),
                "TF32": f"matmul {torch.backends.cuda.matmul.allow_tf32}, cuDNN {torch.backends.cudnn.allow_tf32}",
            }
        if bench.cuda:
            notes["GPU GB"] = round(torch.cuda.max_memory_reserved() / 1e9, 2)
        return Figure.of(laps.speeds, "agent steps/s", **notes)

    return measure


def earlier() -> dict[str, Any]:
    """EARLIER, without settings that this version of lit_dqn does not have."""
    known = {
        "model": inspect.signature(LitDQN).parameters,
        "data": inspect.signature(ReplayDataModule).parameters,
    }
    return {key: value for key, value in EARLIER.items() if key.partition(".")[2] in known[key.partition(".")[0]]}


class Laps(Callback):
    """Agent steps/s of each lap, once the run has settled; ends the run in time.

    Args:
        bench: where it runs.
        end: by the clock of `time.perf_counter`; two laps are made in any case.

    """

    def __init__(self, bench: Bench, end: float) -> None:
        self._bench, self._end = bench, end
        self._settling_since: float | None = None
        self._laps: list[tuple[float, float, int, int]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Take a lap time if it is due; only then wait for the device."""
        now = time.perf_counter()
        self._settling_since = self._settling_since or now
        settling, lap = (0.1, 0.1) if self._bench.smoke else (SETTLING, LAP)
        if now - self._settling_since < settling or (self._laps and now - self._laps[-1][0] < lap):
            return
        self._bench.synchronise()
        env_step = trainer.datamodule.collector.env_step  # type: ignore[attr-defined]
        self._laps.append((time.perf_counter(), time.process_time(), env_step, trainer.global_step))
        if now > self._end and len(self._laps) > 2:
            trainer.should_stop = True

    @property
    def speeds(self) -> list[float]:
        """Agent steps/s of each lap."""
        return [(after[2] - before[2]) / (after[0] - before[0]) for before, after in itertools.pairwise(self._laps)]

    @property
    def updates_per_second(self) -> float:
        """Over all laps."""
        return (self._laps[-1][3] - self._laps[0][3]) / (self._laps[-1][0] - self._laps[0][0])

    @property
    def cores_busy(self) -> float:
        """Seconds of processors per second, over all laps."""
        return (self._laps[-1][1] - self._laps[0][1]) / (self._laps[-1][0] - self._laps[0][0])
