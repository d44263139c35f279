"""Reads a `.ckpt` with torch, after checks that reading runs no code and takes no more memory than the file's size."""

import io
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

RECORDS = 100_000
"""The most parts of a `.ckpt`, which has one part per tensor."""

READABLE = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")
"""What a pickle may name in addition to torch's types. torch itself allows more, such as a `bytearray` of any size."""


def read_archive(path: Path) -> Any:
    """The saved contents, after comparison with all checksums.

    Raises:
        pickle.UnpicklingError: if it holds more than tensors and plain values.
        Exception: of many other types, for other defects.

    """
    _check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def glance_at_archive(path: Path) -> Any:
    """The saved contents with unread tensors, which are read from the disk on use.

    Raises:
        Exception: as for `read_archive`.

    """
    _check_archive(path, checksums=False)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _check_archive(path: Path, checksums: bool = True) -> None:
    """Refuse a damaged file, and one that would take more memory than its size.

    Raises:
        OSError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError: names the defect.

    """
    _check_outline(path)
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if len(parts) > RECORDS or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("its parts are compressed, or too many")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        # torch does not notice flipped bits; the checksums of its zip file do.
        damaged = archive.testzip() if checksums else None
        if damaged is not None:
            raise OSError(f"its part {damaged} does not match its checksum")
        for part in parts:
            if part.filename.lower().endswith(".pkl"):  # torch ignores the case of names
                _check_pickle(archive.read(part))


def _check_outline(path: Path) -> None:
    """Refuse a file that torch could read differently from Python, which checks it.

    Torch reads a file that does not begin as a zip file as a pickle. And there are several ways to find the list of
    parts; they agree if it is the last thing before the end.

    Raises:
        ValueError: if that is possible.

    """
    with path.open("rb") as file:
        begin = file.read(4)
        size = file.seek(0, io.SEEK_END)
        file.seek(-min(size, 98), io.SEEK_END)
        end = file.read(98).rjust(98, b"\0")
    record, locator, last = end[:56], end[56:76], end[76:]
    list_end = size - len(last)
    length, offset, comment = struct.unpack("<12xIIH", last)
    agrees = begin == b"PK\3\4" and last[:4] == b"PK\5\6" and comment == 0
    if locator[:4] == b"PK\6\7":  # zip64
        list_end = size - len(end)
        length, offset = struct.unpack("<40xQQ", record)
        agrees &= record[:4] == b"PK\6\6" and struct.unpack("<8xQ4x", locator) == (list_end,)
    if not agrees or offset + length != list_end:
        raise ValueError("it is not a zip file, or more than one file")


def _check_pickle(content: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(io.BytesIO(content)):
        if opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "BYTEARRAY8"):
            raise pickle.UnpicklingError(opcode.name)
        if opcode.name == "GLOBAL" and argument not in READABLE:
            module, _, name = str(argument).partition(" ")
            kind = getattr(torch, name, None) if module == "torch" else None
            is_type = name in ("Size", "device") or name.endswith("Storage")
            if not (isinstance(kind, torch.dtype) or (kind is not None and is_type)):
                raise pickle.UnpicklingError(argument)
