"""Two hosts on one machine: network namespaces with a cable between them, which can be cut."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

ADDRESSES = ("10.213.0.1", "10.213.0.2")
INTERFACE = "lit0"

NETWORK = 0x40000000
"""`CLONE_NEWNET` of Linux's sched.h."""

ENVIRONMENT = {"GLOO_SOCKET_IFNAME": INTERFACE}
"""gloo asks which address the machine's name has, and that is of neither of these hosts."""


def why_not() -> str | None:
    """Why this machine cannot have them; None where it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip"
    name = f"lit{os.getpid()}t"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    _ip("netns", "delete", name)
    return None


class Hosts:
    """Two hosts, numbered 0 and 1, at `ADDRESSES`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def on(self, host: int, command: Sequence[str]) -> list[str]:
        """The command, as one that runs there; its process is that of the command."""
        return ["ip", "netns", "exec", self._names[host], *command]

    def enter(self, host: int) -> None:
        """Let this process be there from now on."""
        with open(f"/run/netns/{self._names[host]}") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), NETWORK):
                raise OSError(ctypes.get_errno(), f"cannot enter {self._names[host]}")

    def cut(self, by: str) -> None:
        """Let nothing through.

        Args:
            by: `link`, as a cable that is pulled, or `loss`, as a network that loses all.

        """
        for host in (0, 1):
            self._change(host, by, is_cut=True)

    def mend(self, by: str) -> None:
        """Let all through again."""
        for host in (0, 1):
            self._change(host, by, is_cut=False)

    def _change(self, host: int, by: str, is_cut: bool) -> None:
        if by == "link":
            command = ["link", "set", INTERFACE, "down" if is_cut else "up"]
        else:
            # Where frames are addressed to nobody they are lost, and no end is told; netem is not in every kernel.
            command = ["neighbour", "replace" if is_cut else "delete", ADDRESSES[1 - host], "dev", INTERFACE]
            command += ["lladdr", "02:00:00:00:00:99", "nud", "permanent"] if is_cut else []
        _ip("-n", self._names[host], *command)


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Two of them, for a while."""
    names = [f"lit{os.getpid()}h{host}" for host in (0, 1)]
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        peer = {"name": INTERFACE, "netns": names[1]}
        words = [word for pair in peer.items() for word in pair]
        _ip("link", "add", "name", INTERFACE, "netns", names[0], "type", "veth", "peer", *words)
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            _ip("-n", name, "link", "set", INTERFACE, "up")
        yield Hosts(names)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
