"""Files that survive a crash: a file under its final name is always complete and has reached the disk.

Every change of the file system goes through here, so that tests can let each one of a checkpoint fail, or kill the
process before it. Files that other libraries write (curves, pictures, ONNX) do not: no run is resumed from them.
"""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

TEMPORARY = ".tmp"
"""The suffix of unfinished files."""

LONGEST_NAME = 255
"""The longest file name on common file systems, in bytes."""

READ_BYTES = 4 * 2**20


class Content(NamedTuple):
    """A summary of a file's contents. CRC-32 detects every single flipped bit, and is six times as fast as BLAKE2."""

    size: int  # bytes
    crc32: int


def write_file(path: Path, parts: Iterable[memoryview]) -> Content:
    """Write a new file and wait until it is on the disk.

    Raises:
        OSError: if it cannot be written completely.

    """
    size, crc32 = 0, 0
    # Never through a link, which could point anywhere.
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        for part in parts:
            data = part.cast("B")
            crc32 = zlib.crc32(data, crc32)
            size += len(data)
            while len(data):
                written = os.write(descriptor, data)
                data = data[written:]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Content(size, crc32)


def replace_file(path: Path, parts: Iterable[memoryview]) -> Content:
    """Write a file under a temporary name, read it again, and move it: a reader sees the old file or the new one.

    Raises:
        OSError: if it cannot be written completely; the old file is kept.

    """
    temporary = path.with_name(path.name + TEMPORARY)
    content = write_file(temporary, parts)
    verify(temporary, content)
    os.replace(temporary, path)
    sync_folder(path.parent)
    return content


def replace_text(path: Path, text: str) -> None:
    """As `replace_file`, for a text.

    Raises:
        OSError: if it cannot be written completely; the old file is kept.

    """
    replace_file(path, [memoryview(text.encode())])


def append_text(path: Path, text: str) -> None:
    """Append to a file, completely or not at all, without waiting for the disk.

    Raises:
        OSError: if it cannot be written; the file is unchanged.

    """
    size = None
    try:
        with path.open("a", newline="") as file:
            size = file.tell()
            file.write(text)
    except OSError:
        if size is not None:
            with contextlib.suppress(OSError):
                os.truncate(path, size)  # a part may have been written
        raise


def sync_file(path: Path) -> None:
    """Wait until what a file holds is on the disk.

    Raises:
        OSError: if it cannot be.

    """
    descriptor = os.open(path, os.O_RDWR)  # Windows waits for none that is open to read
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_to_append(path: Path) -> BinaryIO:
    """A file, opened for appending, for the output of a process.

    Raises:
        OSError: if it cannot be written.

    """
    return path.open("ab")


def verify(path: Path, content: Content) -> None:
    """Read a file and compare it with its expected contents.

    Raises:
        OSError: if they differ.

    """
    found = content_of(path)
    if found != content:
        what = "is cut short" if found.size < content.size else "was changed"
        raise OSError(f"{path} {what}: {found.size:,} bytes of {content.size:,}, checksum {found.crc32:08x}")


def content_of(path: Path) -> Content:
    """Size and checksum of a file.

    Raises:
        OSError: if it cannot be read.

    """
    size, crc32 = 0, 0
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            size, crc32 = size + len(data), zlib.crc32(data, crc32)
    return Content(size, crc32)


def link_file(source: Path, path: Path) -> None:
    """Give a file a second name.

    Raises:
        OSError: if it is missing, or the file system has no hard links.

    """
    os.link(source, path)


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file a second name, or copy it if links are impossible, for example between two disks.

    Raises:
        OSError: if neither is possible.

    """
    try:
        link_file(source, path)
    except OSError:
        write_file(path, [memoryview(source.read_bytes())])


def point(alias: Path, target: Path) -> None:
    """Point a name to the file `target`; at every moment it points to the old file or the new one.

    Raises:
        OSError: if that fails; the name still points to the old file.

    """
    temporary = alias.with_name(alias.name + TEMPORARY)
    remove_file(temporary)
    link_or_copy(target, temporary)
    os.replace(temporary, alias)
    # Renaming one name of a file onto another name of the same file does nothing.
    remove_file(temporary)
    sync_folder(alias.parent)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        OSError: if it cannot be created.

    """
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process has just created it
            os.mkdir(parent)
        sync_folder(parent.parent)


def claim_folder(folder: Path) -> None:
    """Create a folder, which must not exist, and its parents.

    Raises:
        FileExistsError: if it exists; another process may have just created it.
        OSError: if it cannot be created.

    """
    make_folder(folder.parent)
    os.mkdir(folder)
    sync_folder(folder.parent)


def move_folder(folder: Path, place: Path) -> None:
    """Move a complete folder to its place, on the same file system.

    Raises:
        OSError: if it cannot be moved, or the place is taken.

    """
    os.rename(folder, place)
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":
        return  # Windows cannot open folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_can_be_made(folder: Path) -> None:
    """Test whether a folder can be created and written to, and leave no trace.

    Raises:
        OSError: if it cannot.

    """
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in folder.parts):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    whole = folder.resolve()
    present = next(parent for parent in (whole, *whole.parents) if parent.exists())
    tempfile.TemporaryDirectory(dir=present, prefix=".can_it_be_written").cleanup()


def strange_files(folder: Path) -> Iterator[Path]:
    """Links, pipes and the like in a folder and below: writing to them would change other places."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = Path(parent) / name
            mode = found.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                yield found


def remove_file(path: Path) -> None:
    """Remove a file if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_folder(folder: Path) -> None:
    """Remove a folder of files, if it exists; if it is a link, only the link."""
    if folder.is_symlink():
        remove_file(folder)
    elif folder.is_dir():
        for path in folder.iterdir():
            remove_file(path)
        os.rmdir(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder and everything below it; if it is a link, only the link."""
    if folder.is_symlink():
        remove_file(folder)
    else:
        shutil.rmtree(folder)


def free_bytes(folder: Path) -> int:
    """The free space of the file system of a folder, in bytes."""
    return shutil.disk_usage(folder).free
