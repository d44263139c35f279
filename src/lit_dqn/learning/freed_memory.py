"""What glibc does with memory that tensors give back."""

import ctypes
import os

SETTINGS = {-1: 256 * 2**20, -3: 32 * 2**20}
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD [bytes], of which the second can be no larger."""

CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""The environment variables by which a user says it."""


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next update, where it would give it back to the system each time.

    The activations of a convolutional network are some megabytes, and each page of them that is taken anew costs a
    page fault: 2 of 46 ms of CPU time per update of 32 transitions by `NatureCNN`. Other C libraries are left alone,
    and so is glibc if an environment variable says what it shall do. Replays are larger, and are given back as before.
    """
    mallopt = None if any(name in os.environ for name in CHOSEN) or os.name != "posix" else _mallopt()
    if mallopt is not None:
        for setting, size in SETTINGS.items():
            mallopt(setting, size)


def _mallopt() -> "ctypes._NamedFuncPointer | None":
    library = ctypes.CDLL(None)
    return library.mallopt if hasattr(library, "gnu_get_libc_version") else None
