import os
import subprocess
import sys

import pytest

from lit_dqn import waiting

CORES = os.cpu_count()


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not loaded torch, on a machine that does nothing else."""
    for name in ("OMP_NUM_THREADS", *waiting.CHOSEN):
        monkeypatch.setenv(name, "")  # so that what the test leaves there is taken back
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)), raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.2, 3.0, 3.0), raising=False)
    return monkeypatch


def policy() -> str | None:
    waiting.wait_passively_in_a_crowd()
    return os.environ.get("OMP_WAIT_POLICY")


@pytest.mark.parametrize(
    ("threads", "busy", "expected"),
    [
        ("2", 0.2, None),
        (None, 0.4, None),  # other processes hardly do anything
        ("5", 0.2, "PASSIVE"),  # more threads than cores
        ("3", 1.5, "PASSIVE"),  # other processes have cores
        ("1", 30.0, None),  # nobody waits
        (None, 1.5, "PASSIVE"),  # as many threads as cores, as torch has it
    ],
)
def test_threads_wait_passively_if_they_are_more_than_free_cores(fresh, threads, busy, expected):
    if threads is not None:
        fresh.setenv("OMP_NUM_THREADS", threads)
    fresh.setattr(os, "getloadavg", lambda: (busy, 0.0, 0.0), raising=False)
    assert policy() == expected


@pytest.mark.parametrize("name", waiting.CHOSEN)
def test_a_user_decides_how_threads_wait(fresh, name):
    fresh.setenv("OMP_NUM_THREADS", "5")
    fresh.setenv(name, "ACTIVE")
    assert policy() == ("ACTIVE" if name == "OMP_WAIT_POLICY" else None)


def test_once_torch_is_loaded_nothing_is_changed(fresh):
    fresh.setenv("OMP_NUM_THREADS", "5")
    fresh.setitem(sys.modules, "torch", sys)
    assert policy() is None


@pytest.mark.skipif(sys.platform != "linux", reason="its runtime of OpenMP says what it has read")
def test_the_runtime_of_openmp_has_read_it():
    many = {"OMP_NUM_THREADS": str(2 * (CORES or 1)), "OMP_DISPLAY_ENV": "TRUE"}
    alone = {key: value for key, value in os.environ.items() if key not in waiting.CHOSEN}
    done = subprocess.run(
        [sys.executable, "-c", "import lit_dqn, torch"], env=alone | many, capture_output=True, text=True, check=True
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
