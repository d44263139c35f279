import bisect
from collections.abc import Callable
from pathlib import Path

import psutil

from lit_dqn.errors import ConfigError

RESERVE = 512 * 2**20
"""Bytes that a full replay must leave to the rest of the program."""


def available_bytes(cgroup_root: Path = Path("/sys/fs/cgroup"), cgroup: str | None = None) -> float:
    """Memory that this process can still take, in bytes: that of the machine, or of its cgroup if that is less.

    Args:
        cgroup_root: where cgroups are mounted (version 2; version 1 is read from its folder `memory`).
        cgroup: of this process, such as "/user.slice"; None reads it from /proc.

    """
    available: float = psutil.virtual_memory().available
    own = Path(_own_cgroup() if cgroup is None else cgroup).relative_to("/")
    for folder in (own, *own.parents):
        available = min(
            available,
            _left(cgroup_root / folder, "memory.max", "memory.current"),
            _left(cgroup_root / "memory" / folder, "memory.limit_in_bytes", "memory.usage_in_bytes"),
        )
    return available


def _own_cgroup() -> str:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return "/"
    groups = [line.split(":", 2) for line in lines]  # id:controllers:path
    version_1 = [path for _, controllers, path in groups if "memory" in controllers.split(",")]
    return [*version_1, *(path for number, _, path in groups if number == "0"), "/"][0]


def _left(folder: Path, limit_file: str, usage_file: str) -> float:
    """Memory left below a cgroup's limit, in bytes; the kernel's cache of files does not count as used."""
    try:
        limit = int((folder / limit_file).read_text())
        usage = int((folder / usage_file).read_text())
    except (OSError, ValueError):  # no such cgroup, or its limit is "max"
        return float("inf")
    try:
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        statistics = {}
    return max(limit - usage + int(statistics.get("inactive_file", 0)), 0)


def check_fits(capacity: int, required_bytes: Callable[[int], int]) -> None:
    """Refuse a replay that does not fit.

    Args:
        capacity: timesteps.
        required_bytes: capacity -> bytes of the full replay.

    Raises:
        ConfigError: if there is not enough memory; the message names a capacity that fits.

    """
    available = max(available_bytes() - RESERVE, 0)
    required = required_bytes(capacity)
    if required > available:
        # Less than what fits now, because other processes may take memory before the user tries it.
        fits = (bisect.bisect_right(range(capacity), available, key=required_bytes) - 1) * 97 // 100
        remedy = f"set --data.capacity {fits} or less." if fits > 0 else "free some memory."
        raise ConfigError(
            f"capacity: a replay of {capacity:,} timesteps takes {required / 2**30:,.2f} GiB "
            f"({required / capacity:,.0f} bytes each), but only {available / 2**30:,.2f} GiB are free; {remedy}"
        )
