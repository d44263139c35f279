"""One process at a time: a lock that the system releases when its holder ends, however it ends."""

import errno
import logging
import os
import socket
import time
from pathlib import Path

from lit_dqn.errors import ConfigError

log = logging.getLogger("lit_dqn")

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""Errors of network file systems without locks."""

WAIT_SECONDS = 1.0

NAME_BYTES = 200
"""The most bytes that are read from the file, which names the holder."""

LOCKED_BYTE = 2**30
"""Windows locks bytes, not files, and locked bytes cannot be read: this one is far behind the text."""


class Lock:
    """A lock on a file, held from `acquire` to `release` or to the end of the process.

    The file is never removed, and its existence means nothing: a killed process holds no lock.

    Args:
        path: of the file, in a folder that exists.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, refused: str) -> None:
        """Take the lock; on a file system without locks this always succeeds, with a warning.

        Args:
            refused: the message if another process holds it, with {holder} in place of its name.

        Raises:
            ConfigError: if another process holds it, or the file cannot be written.

        """
        holder = self._take()
        if holder is not None:
            raise ConfigError(refused.format(holder=holder))

    def wait(self) -> None:
        """As `acquire`, but wait until the holder releases it or ends.

        Raises:
            ConfigError: if the file cannot be written.

        """
        while (holder := self._take()) is not None:
            log.warning("%s: waits for %s", self.path, holder)
            time.sleep(WAIT_SECONDS)

    def _take(self) -> str | None:
        """Take the lock if it is free; otherwise return its holder."""
        if self._descriptor is not None:
            return None
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written ({error.strerror}); is the folder yours?") from error
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):
            holder = _printable(os.read(descriptor, NAME_BYTES))
            os.close(descriptor)
            return holder
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(descriptor)
                raise
            log.warning(
                "%s: the file system has no locks (%s), so nothing keeps another process from resuming this run at the "
                "same time",
                self.path,
                error.strerror,
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode()[:NAME_BYTES])
        self._descriptor = descriptor
        return None

    def release(self) -> None:
        """Release the lock, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _printable(name: bytes) -> str:
    return "".join(filter(str.isprintable, name.decode(errors="replace"))) or "another process"


if os.name == "nt":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
