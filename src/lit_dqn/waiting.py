"""How the threads of OpenMP, which torch computes with, wait for each other."""

import os
import sys

CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""The environment variables by which a user decides it."""


def wait_passively_in_a_crowd() -> None:
    """Let threads that wait for others sleep if there are more of them than free cores.

    A thread that waits for another usually spins for some milliseconds. If the other has no core, that takes the core
    from it. OpenMP's runtime reads the policy once, when torch is loaded: if that has happened, nothing can be done.
    """
    if "torch" in sys.modules or any(name in os.environ for name in CHOSEN):
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if (int(threads) if threads.isdecimal() else cores) > max(cores - busy, 1):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
