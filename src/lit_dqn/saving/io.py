"""Checkpoints on disk: written whole or not at all, the replay in a folder of its own beside each."""

import errno
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from lit_dqn.errors import ConfigError
from lit_dqn.saving import durable
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.contents import Contents
from lit_dqn.saving.layout import CKPT_SUFFIX, REPLAY_SUFFIX
from lit_dqn.saving.sidecar import Sidecar
from lit_dqn.saving.sidecar_writer import SidecarWriter

log = logging.getLogger("lit_dqn")

FREE_BYTES = 64 * 2**20
"""What a checkpoint leaves to the rest of the system."""


class ReplayCheckpointIO(CheckpointIO):
    """Writes the replay's arrays to the folder `<name>.replay` beside `<name>.ckpt`.

    A checkpoint holds weights, optimiser, counters and generators, and the name of its replay folder with the checksum
    of the manifest in it. The replay is written first and under a new name, so that a checkpoint on disk always has the
    replay that belongs to it. What did not change since the checkpoint before is a hard link to its file.

    Args:
        load_replay: whether reading a checkpoint reads its replay; only training needs it.
        checkpoint: one that has been read, and is not read again when it is loaded.

    """

    def __init__(self, load_replay: bool = True, checkpoint: Checkpoint | None = None) -> None:
        self.load_replay = load_replay
        self._checkpoint = checkpoint
        self._previous: Sidecar | None = None
        self._references: dict[tuple[int, int], str | None] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint and its replay; what stood under its name goes when the new one stands.

        Raises:
            OSError: if it cannot be written whole; what stood there stays.

        """
        path = Path(path)
        durable.make_folder(path.parent)
        contents = Contents(checkpoint)
        replay = contents.replay
        replaced = self.replay_folder(path) if path.exists() else None
        folder = sidecar = None
        try:
            if replay is not None:
                writer = SidecarWriter.of(replay, self._previous)
                _check_space(path.parent, writer.new_bytes + 2 * _tensor_bytes(checkpoint, leave_out=replay))
                folder = _new_folder(path)
                sidecar = writer.write(folder)
                contents.detach_arrays(sidecar)
            else:
                _check_space(path.parent, 2 * _tensor_bytes(checkpoint))
            content = io.BytesIO()
            torch.save(checkpoint, content)
            durable.replace_file(path, [content.getbuffer()])
        except OSError:
            _clean_up(path, folder)
            raise
        self._previous = sidecar or self._previous
        self._references[_identity(path)] = None if folder is None else folder.name
        if replaced is not None:
            try:
                remove_unused(path.parent, [replaced], self)
            except OSError as error:  # the checkpoint stands
                log.warning("the replay %s of before stays: %s", replaced, error)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; its replay stays on disk until the data module takes it over.

        Raises:
            ConfigError: if either is missing or damaged.

        """
        checkpoint = self.read(path)
        self._checkpoint = None  # its memory is free once it is loaded
        folder = checkpoint.replay_folder
        self._references[_identity(checkpoint.path)] = None if folder is None else folder.name
        if self.load_replay:
            self._previous = checkpoint.attach_segments()
        else:
            checkpoint.drop_replay()
        return checkpoint.contents

    def read(self, path: str | Path) -> Checkpoint:
        """A checkpoint, which is not read again if it is the one that was handed over.

        Raises:
            ConfigError: if it is missing or damaged.

        """
        given = self._checkpoint
        return given if given is not None and given.path == Path(path) else Checkpoint.read(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its replay."""
        path = Path(path)
        folder = self.replay_folder(path) if path.exists() else None
        durable.remove_file(path)
        if folder is not None:
            remove_unused(path.parent, [folder], self)

    def replay_folder(self, path: Path) -> Path | None:
        """The folder of a checkpoint's replay; None if it has none or cannot be read."""
        key = _identity(path)
        if key not in self._references:
            try:
                found = Checkpoint.read(path).replay_folder
            except ConfigError:
                found = None
            self._references[key] = None if found is None else found.name
        name = self._references[key]
        return None if name is None else path.with_name(name)


def remove_unused(folder: Path, replays: list[Path], checkpoint_io: ReplayCheckpointIO) -> None:
    """Remove those of the replays in a folder of checkpoints that no checkpoint refers to."""
    used = {checkpoint_io.replay_folder(path) for path in folder.glob(f"*{CKPT_SUFFIX}")}
    for replay in replays:
        own = replay.with_name(replay.name.split(".")[0] + CKPT_SUFFIX)
        # A checkpoint that cannot be read may still be mended, and its replay has its name.
        unreadable = own.exists() and checkpoint_io.replay_folder(own) is None
        if replay not in used and not unreadable:
            durable.remove_folder(replay)


def _identity(path: Path) -> tuple[int, int]:
    """What two names of one file have in common."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _new_folder(path: Path) -> Path:
    """A name for a replay's folder that is not taken."""
    number, folder = 1, path.with_suffix(REPLAY_SUFFIX)
    while folder.exists():
        number += 1
        folder = path.with_suffix(f".{number}{REPLAY_SUFFIX}")
    return folder


def _check_space(folder: Path, needed: int) -> None:
    free = durable.free_bytes(folder)
    if free < needed + FREE_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"the checkpoint takes {needed / 2**20:,.0f} MiB, and {folder} has {free / 2**20:,.0f} MiB left",
        )


def _tensor_bytes(part: Any, leave_out: Any = None) -> int:
    if part is leave_out and part is not None:
        return 0
    if isinstance(part, Tensor):
        return part.nbytes
    if isinstance(part, Mapping):
        return sum(_tensor_bytes(value, leave_out) for value in part.values())
    if isinstance(part, list | tuple):
        return sum(_tensor_bytes(value, leave_out) for value in part)
    return 0


def _clean_up(path: Path, folder: Path | None) -> None:
    """Remove what a failed save has left, as far as that goes."""
    try:
        durable.remove_file(path.with_name(path.name + durable.TEMPORARY))
        if folder is not None:
            durable.remove_folder(folder)
    except OSError:
        pass  # the next save that stands removes it
