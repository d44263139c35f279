"""A device and a clock."""

import contextlib
import gc
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from gpu_sections.cases import Figure
from processes import processor

REPEATS = 7
"""Number of repeats for a median."""
WARM_UP_SHARE = 0.3
"""Of a case's time: kernels are chosen, loaded and captured, and the caches fill."""
TF32 = {"float32": (False, False), "TF32": (True, True), "torch's default": (False, True)}
"""Whether matrix products and cuDNN's convolutions may round their float32 inputs to TF32."""
PACKAGES = ("torch", "triton", "lightning", "gymnasium", "ale-py", "numpy", "stable-baselines3")


@dataclass(frozen=True)
class Bench:
    """Where the cases run.

    Args:
        device: of the networks.
        smoke: everything tiny: it shall run through, and the figures mean nothing.

    """

    device: torch.device
    smoke: bool

    @classmethod
    def here(cls, smoke: bool) -> "Bench":
        """On the GPU; where there is none, a smoke test on the CPU."""
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as runs set it; read when cuBLAS is first used
        cuda = torch.cuda.is_available()
        return cls(torch.device("cuda" if cuda else "cpu"), smoke or not cuda)

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def card(self) -> str:
        """The GPU's name, or the processor's."""
        return torch.cuda.get_device_name(self.device) if self.cuda else processor()

    def machine(self) -> dict[str, str | int]:
        """Driver, libraries, processor, packages."""
        found: dict[str, str | int] = {
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
            "threads of torch": torch.get_num_threads(),
        }
        if self.cuda:
            found["driver"] = _driver()
            found["GPU memory"] = f"{torch.cuda.get_device_properties(self.device).total_memory / 2**30:.0f} GiB"
            found["CUDA"], found["cuDNN"] = str(torch.version.cuda), str(torch.backends.cudnn.version())
        for package in PACKAGES:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(package)
        return found

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def tidy(self) -> None:
        """Free the memory of the last case; end the process if it left the device unusable."""
        gc.collect()
        if self.cuda:
            try:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                torch.zeros(1, device=self.device).item()
            except RuntimeError:
                os._exit(1)

    def time_of(self, call: Callable[[], Any], seconds: float) -> list[float]:
        """Seconds of a call, REPEATS times: each the mean of as many calls as fit, between two waits for the device."""
        seconds, number = (0.0, 2) if self.smoke else (seconds, REPEATS)
        call()
        self.synchronise()
        calls, began = 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - began < WARM_UP_SHARE * seconds:
            call()
            calls += 1
            if calls % 10 == 0:
                self.synchronise()  # or launches that wait in a queue would make calls look quick
        self.synchronise()
        warm_up = time.perf_counter() - began
        calls = max(1, round(calls * (1 - WARM_UP_SHARE) * seconds / number / warm_up))
        repeats = []
        for _ in range(number):
            began = time.perf_counter()
            for _ in range(calls):
                call()
            self.synchronise()
            repeats.append((time.perf_counter() - began) / calls)
        return repeats

    def milliseconds(self, call: Callable[[], Any], seconds: float, per: float = 1, **notes: Any) -> Figure:
        """Milliseconds of a call; where it does the work of several, of one of them.

        Args:
            call: what is timed.
            seconds: that it may take in all.
            per: how many pieces of work a call does.
            notes: of the figure.

        """
        return Figure.of([1e3 * repeat / per for repeat in self.time_of(call, seconds)], "ms", **notes)


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


@contextlib.contextmanager
def arithmetic(float32: str, *, deterministic: bool = False) -> Iterator[None]:
    """Within it, torch computes as is said, and afterwards as before, whatever was changed meanwhile.

    Args:
        float32: what that means, a name in TF32.
        deterministic: whether cuDNN takes only algorithms that give the same bits each time, as lit_dqn's runs set it.

    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    matmul.allow_tf32, cudnn.allow_tf32 = TF32[float32]
    cudnn.deterministic, cudnn.benchmark = deterministic, False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
