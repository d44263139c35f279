"""How glibc treats memory that tensors free."""

import ctypes
import os

SETTINGS = {-1: 256 * 2**20, -3: 32 * 2**20}
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD [bytes]; this is the largest value that the second accepts."""

CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""The environment variables with which a user sets them."""


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next update instead of returning it to the system each time.

    The activations of a convolutional network take some megabytes, and each page that is allocated again costs a page
    fault: 2 of 46 ms of CPU time per update of 32 transitions with `NatureCNN`. Other C libraries are not changed, and
    neither is glibc if an environment variable configures it. Replays are larger, and are returned as before.
    """
    mallopt = None if any(name in os.environ for name in CHOSEN) or os.name != "posix" else _mallopt()
    if mallopt is not None:
        for setting, size in SETTINGS.items():
            mallopt(setting, size)


def _mallopt() -> "ctypes._NamedFuncPointer | None":
    library = ctypes.CDLL(None)
    return library.mallopt if hasattr(library, "gnu_get_libc_version") else None
