from pathlib import Path

import psutil

from lit_dqn.errors import ConfigError

RESERVE = 512 * 2**20
"""Bytes left to the rest of the program when the replay is full."""


def available_bytes(cgroup_root: Path = Path("/sys/fs/cgroup"), cgroup: str | None = None) -> float:
    """Memory that this process can still take, in bytes: the machine's, or its cgroup's if that is less.

    Args:
        cgroup_root: where cgroups are mounted (version 2; version 1 is read from its folder `memory`).
        cgroup: this process's own, such as "/user.slice"; None reads it from /proc.

    """
    available: float = psutil.virtual_memory().available
    own = Path(_own_cgroup() if cgroup is None else cgroup).relative_to("/")
    for folder in (cgroup_root / own, *(cgroup_root / parent for parent in own.parents)):
        available = min(available, _left(folder, "memory.max", "memory.current"))
    version_1 = cgroup_root / "memory"
    return min(available, _left(version_1, "memory.limit_in_bytes", "memory.usage_in_bytes"))


def _own_cgroup() -> str:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return "/"
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::/")), "/")


def _left(folder: Path, limit_file: str, usage_file: str) -> float:
    """What a cgroup's limit leaves, in bytes; files that the kernel holds in memory only as a cache do not count."""
    try:
        limit = int((folder / limit_file).read_text())
        usage = int((folder / usage_file).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such cgroup, or its limit reads "max"
        return float("inf")
    return max(limit - usage + int(statistics.get("inactive_file", 0)), 0)


def check_fits(capacity: int, required_bytes: int) -> None:
    """Refuse a replay that does not fit.

    Args:
        capacity: timesteps.
        required_bytes: of the full replay.

    Raises:
        ConfigError: if the memory at hand is less; the sentence names the capacity that would fit.

    """
    available = max(available_bytes() - RESERVE, 0)
    if required_bytes > available:
        fits = int(capacity * available / required_bytes)
        raise ConfigError(
            f"capacity: a replay of {capacity:,} timesteps takes {required_bytes / 2**30:,.2f} GiB "
            f"({required_bytes / capacity:,.0f} bytes each), but only {available / 2**30:,.2f} GiB are free; "
            f"set --data.capacity {fits} or less."
        )
