"""Checkpoints on disk: written completely or not at all, each with its replay in a separate folder."""

import errno
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from lit_dqn.errors import ConfigError
from lit_dqn.ranks import Ranks
from lit_dqn.saving import durable
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.contents import Contents
from lit_dqn.saving.layout import CKPT_SUFFIX, REPLAY_SUFFIX
from lit_dqn.saving.sidecar import Sidecar
from lit_dqn.saving.sidecar_writer import SidecarWriter

log = logging.getLogger("lit_dqn")

FREE_BYTES = 64 * 2**20
"""Disk space that a checkpoint must leave to the rest of the system, in bytes."""


class ReplayCheckpointIO(CheckpointIO):
    """Writes the replay's arrays to the folder `<name>.replay` beside `<name>.ckpt`; with shards, to one folder each.

    A checkpoint holds weights, optimiser, counters and generators, and the name of its replay folder with the checksum
    of its manifest. The replay is written first, under a new name, so that a checkpoint on disk always has its own
    replay. Segments that have not changed since the previous checkpoint are hard links to its files.

    Args:
        load_replay: whether reading a checkpoint includes its replay; only training needs it.
        checkpoint: one that has already been read, and is not read again when it is loaded.

    """

    def __init__(self, load_replay: bool = True, checkpoint: Checkpoint | None = None) -> None:
        self.load_replay = load_replay
        self._checkpoint = checkpoint
        self._previous: Sequence[Sidecar] = ()
        self._references: dict[tuple[int, int], list[str]] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint and its replay; an old one of that name is removed once the new one is complete.

        Raises:
            OSError: if it cannot be written completely; the old one is kept.

        """
        path = Path(path)
        ranks = Ranks.now()
        ranks.on_first(lambda: durable.make_folder(path.parent))
        contents = Contents(checkpoint)
        replays = contents.replays
        here = ranks.shards(len(replays)) if len(replays) > 1 else range(len(replays))
        replaced = self.replay_folders(path) if path.exists() else []
        folders: list[Path] = []
        try:
            previous: Sequence[Sidecar | None] = self._previous or [None] * len(replays)
            writers = {shard: SidecarWriter.of(replays[shard], previous[shard]) for shard in here}
            new_bytes = sum(ranks.gather(sum(writer.new_bytes for writer in writers.values())))
            required = new_bytes + 2 * _tensor_bytes(checkpoint, leave_out=replays)
            ranks.together(lambda: _check_space(path.parent, required))
            folders = ranks.on_first(lambda: _new_folders(path, len(replays)))
            own = ranks.together(lambda: {shard: writer.write(folders[shard]) for shard, writer in writers.items()})
            contents.detach_arrays(own)
            self._bring_together(contents, ranks, {shard: replays[shard] for shard in here})
            sidecars = [sidecar for part in ranks.gather(list(own.values())) for sidecar in part]
            content = io.BytesIO()
            if ranks.rank == 0:
                torch.save(checkpoint, content)
            ranks.on_first(lambda: durable.replace_file(path, [content.getbuffer()]))
        except OSError:
            _clean_up(path, folders)
            raise
        self._previous = [*sidecars] or self._previous
        self._references[_identity(path)] = [folder.name for folder in folders]
        try:
            if ranks.rank == 0:
                remove_unused(path.parent, replaced, self)
        except OSError as error:  # the checkpoint is complete
            log.warning("the replay %s of before stays: %s", replaced[0], error)

    @staticmethod
    def _bring_together(contents: Contents, ranks: Ranks, own: dict[int, dict[str, Any]]) -> None:
        """Send the other processes' references to their replays to the first process."""
        for part in ranks.gather(own):
            for shard, replay in part.items():
                contents.replays[shard].update(replay)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; its replay stays on disk until the data module reads it.

        Raises:
            ConfigError: if either is missing or damaged.

        """
        checkpoint = self.read(path)
        self._checkpoint = None  # frees its memory after loading
        self._references[_identity(checkpoint.path)] = [folder.name for folder in checkpoint.replay_folders]
        if self.load_replay:
            self._previous = checkpoint.attach_segments()
        else:
            checkpoint.drop_replay()
        return checkpoint.contents

    def read(self, path: str | Path) -> Checkpoint:
        """A checkpoint, which is not read again if it is the one that was passed.

        Raises:
            ConfigError: if it is missing or damaged.

        """
        given = self._checkpoint
        return given if given is not None and given.path == Path(path) else Checkpoint.read(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its replay."""
        path = Path(path)
        folders = self.replay_folders(path) if path.exists() else []
        durable.remove_file(path)
        remove_unused(path.parent, folders, self)

    def replay_folders(self, path: Path) -> list[Path]:
        """The folders of a checkpoint's replay, one per shard; empty if it has none or cannot be read."""
        key = _identity(path)
        if key not in self._references:
            try:
                found = Checkpoint.read(path).replay_folders
            except ConfigError:
                found = []
            self._references[key] = [folder.name for folder in found]
        return [path.with_name(name) for name in self._references[key]]


def remove_unused(folder: Path, replays: list[Path], checkpoint_io: ReplayCheckpointIO) -> None:
    """Remove the replays in a folder of checkpoints to which no checkpoint refers."""
    if not replays:
        return
    used = {own for path in folder.glob(f"*{CKPT_SUFFIX}") for own in checkpoint_io.replay_folders(path)}
    for replay in replays:
        own = replay.with_name(replay.name.split(".")[0] + CKPT_SUFFIX)
        # An unreadable checkpoint may still be repaired, and its replay has its name.
        unreadable = own.exists() and not checkpoint_io.replay_folders(own)
        if replay not in used and not unreadable:
            durable.remove_folder(replay)


def _identity(path: Path) -> tuple[int, int]:
    """The identity of a file, which all its names share."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _new_folders(path: Path, shards: int) -> list[Path]:
    """Unused names for the replay folders of some shards."""
    number = 1
    while True:
        again = "" if number == 1 else f".{number}"
        folders = [
            path.with_suffix(again + (f".shard_{shard}" if shards > 1 else "") + REPLAY_SUFFIX)
            for shard in range(shards)
        ]
        if not any(folder.exists() for folder in folders):
            return folders
        number += 1


def _check_space(folder: Path, needed: int) -> None:
    free = durable.free_bytes(folder)
    if free < needed + FREE_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"the checkpoint takes {needed / 2**20:,.0f} MiB, and {folder} has {free / 2**20:,.0f} MiB left",
        )


def _tensor_bytes(part: Any, leave_out: Sequence[Any]) -> int:
    if any(part is left_out for left_out in leave_out):
        return 0
    if isinstance(part, Tensor):
        return part.nbytes
    if isinstance(part, Mapping):
        return sum(_tensor_bytes(value, leave_out) for value in part.values())
    if isinstance(part, list | tuple):
        return sum(_tensor_bytes(value, leave_out) for value in part)
    return 0


def _clean_up(path: Path, folders: Sequence[Path]) -> None:
    """Remove the remains of a failed save, as far as possible."""
    try:
        durable.remove_file(path.with_name(path.name + durable.TEMPORARY))
        for folder in folders:
            durable.remove_folder(folder)
    except OSError:
        pass  # the next successful save removes it
