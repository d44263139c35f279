import io
import os
import pickle
import pickletools
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from lit_dqn.errors import ConfigError, one_line
from lit_dqn.exports import with_public_paths
from lit_dqn.saving.contents import DATA_KEY, check_agent, check_training
from lit_dqn.saving.sidecar import Sidecar

RECORDS = 100_000
"""Parts of a `.ckpt`, which has one for each tensor."""

READABLE = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")
"""What a pickle may name besides torch's types. torch itself lets through more, such as a `bytearray` of any size."""

SETTINGS = {"hyper_parameters", "datamodule_hyper_parameters"}
"""Lightning's names for what agent and data are made of."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a `.ckpt`, without its replay; lit_dqn's classes go by their public names of today.

    Nothing in it is executed: only tensors and plain values are read, and never more than the file is long.

    Raises:
        ConfigError: if it is missing, damaged, or no checkpoint of lit_dqn.

    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"ckpt_path: there is no checkpoint {path}; give a .ckpt file, a run folder, last or best.")
    try:
        _check_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"ckpt_path: {path} holds more than tensors and plain values, and reading it could run code of whoever "
            "made it; only checkpoints of lit_dqn can be continued."
        ) from error
    except Exception as error:  # torch.load says what is wrong by exceptions of many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"ckpt_path: {path} is damaged or no checkpoint ({reason}); take an earlier one.") from error
    try:
        check_agent(checkpoint)
    except ValueError as error:
        raise _unusable(path, error) from error
    for described in SETTINGS & checkpoint.keys():
        checkpoint[described] = with_public_paths(checkpoint[described])
    return checkpoint


def glance(path: Path) -> dict[str, Any]:
    """The contents of a `.ckpt` whose tensors are not looked at: they are read from the disk when they are used.

    Raises:
        Exception: of many types, if it cannot be read; `read_checkpoint` says what is wrong.

    """
    _check_archive(path, checksums=False)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _check_archive(path: Path, checksums: bool = True) -> None:
    """Refuse what is damaged, and what would take more memory than its size says.

    Raises:
        OSError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError: saying what is wrong.

    """
    _check_outline(path)
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if len(parts) > RECORDS or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("its parts are compressed, or too many")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        # torch reads on over flipped bits; the checksums of its zip file tell.
        damaged = archive.testzip() if checksums else None
        if damaged is not None:
            raise OSError(f"its part {damaged} does not match its checksum")
        for part in parts:
            if part.filename.lower().endswith(".pkl"):  # torch finds names in either case
                _check_pickle(archive.read(part))


def _check_outline(path: Path) -> None:
    """Refuse a file that torch could read otherwise than Python, by which it is checked.

    What does not begin as a zip file torch takes for a pickle. And there are several ways to find the list of parts,
    which agree if it is the last thing before the end.

    Raises:
        ValueError: saying so.

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
        raise ValueError("it is no zip file, or more than one file")


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


def open_replay(path: str | Path, checkpoint: dict[str, Any]) -> Sidecar | None:
    """The replay that belongs to a checkpoint; None if it was saved without one.

    Raises:
        ConfigError: if it is missing or damaged, as far as its manifest tells.

    """
    replay = checkpoint.get(DATA_KEY, {}).get("replay", {})
    if "folder" not in replay:
        return None
    try:
        sidecar = Sidecar.open(Path(path).with_name(replay["folder"]), replay["manifest_crc32"])
        heads = replay["arrays"]["head"].tolist()
        if (list(sidecar.extent.heads), sidecar.extent.next_start) != (heads, replay["next_start"]):
            raise ValueError("its manifest does not belong to the checkpoint")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from error
    return sidecar


def verify_checkpoint(path: str | Path, replay: bool = True, training: bool | None = None) -> dict[str, Any]:
    """Read a checkpoint and check all of it.

    Args:
        path: of the `.ckpt`.
        replay: whether its replay counts, too.
        training: whether a run shall be resumed from it, which takes more than its agent; None: as `replay`.

    Returns:
        Its contents, without the replay.

    Raises:
        ConfigError: if a part is missing or damaged, or its run's folder holds what would lead elsewhere.

    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    if path.parent.name == "checkpoints":
        _check_run_folder(path.parent.parent)
    if replay if training is None else training:
        try:
            check_training(checkpoint, replay)
        except ValueError as error:
            raise _unusable(path, error) from error
    sidecar = open_replay(path, checkpoint) if replay else None
    if sidecar is not None:
        try:
            sidecar.verify(checkpoint["hyper_parameters"]["num_actions"])
        except OSError as error:
            raise _unreadable(path, error) from error
    return checkpoint


def _check_run_folder(folder: Path) -> None:
    """Refuse a run's folder with links, pipes and the like: what a run writes into its files would land elsewhere."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = Path(parent) / name
            mode = found.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise ConfigError(
                    f"ckpt_path: {found} is a link or no file, and what the run writes there would land elsewhere; "
                    "remove it."
                )


def _unusable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"ckpt_path: {path} is no checkpoint that can be used ({one_line(error)}); take another one.")


def _unreadable(path: str | Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"ckpt_path: the replay of the checkpoint {path} cannot be read ({one_line(error)}); take another checkpoint, "
        f"or start anew from its weights with --model.init_from {path}."
    )
