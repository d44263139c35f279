import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_dqn.errors import ConfigError, one_line
from lit_dqn.saving import durable
from lit_dqn.saving.archive import glance_at_archive, read_archive
from lit_dqn.saving.contents import AGENT_SETTINGS, MANIFEST_CRC32, REPLAY_FOLDER, SEGMENTS, Contents
from lit_dqn.saving.layout import run_of_checkpoint
from lit_dqn.saving.schema import check_agent, check_training
from lit_dqn.saving.shapes import combinations_of
from lit_dqn.saving.sidecar import Sidecar


class Checkpoint(Contents):
    """A checkpoint: its path, its contents, and the segments of its replay.

    It is read once, by `Checkpoint.read`, and passed on.

    Args:
        contents: Lightning's dictionary.
        path: of the `.ckpt`.

    """

    def __init__(self, contents: dict[str, Any], path: Path) -> None:
        super().__init__(contents)
        self.path = path
        self._segments: list[Sidecar] | None = None  # None until they are opened

    @classmethod
    def read(cls, path: str | Path) -> "Checkpoint":
        """Read a `.ckpt`, without its replay, and migrate the contents of an older release.

        Nothing in it is executed: only tensors and plain values are read, and never more than the file's size.

        Raises:
            ConfigError: if it is missing, damaged, or not a checkpoint of lit_dqn.

        """
        path = Path(path)
        if not path.is_file():
            raise ConfigError(
                f"ckpt_path: there is no checkpoint {path}; give a .ckpt file, such as RUN/checkpoints/last.ckpt."
            )
        try:
            contents = read_archive(path)
        except pickle.UnpicklingError as error:
            raise ConfigError(
                f"ckpt_path: {path} holds more than tensors and plain values, and reading it could run code of whoever "
                "made it; only checkpoints of lit_dqn can be continued."
            ) from error
        except Exception as error:  # torch.load raises exceptions of many types
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"ckpt_path: {path} is damaged or no checkpoint ({reason}); take an earlier one."
            ) from error
        try:
            check_agent(contents)
        except ValueError as error:
            raise _unusable(path, error) from error
        return cls(contents, path).migrate()

    @classmethod
    def glance(cls, path: Path) -> "Checkpoint":
        """A `.ckpt` with unread tensors and unchecked contents, possibly of an older release.

        Raises:
            Exception: of many types, if it cannot be read; `read` names the defect.

        """
        return cls(glance_at_archive(path), path)

    # --- its replay ---

    @property
    def replay_folders(self) -> list[Path]:
        """The folders of the segments of each shard; empty if there are none."""
        return [self.path.with_name(replay[REPLAY_FOLDER]) for replay in self.replays if REPLAY_FOLDER in replay]

    def segments(self) -> list[Sidecar]:
        """The arrays of each shard's replay on disk; empty if it was saved without replay, or contains the arrays.

        Raises:
            ConfigError: if they are missing or damaged, as far as their manifests reveal.

        """
        if self._segments is None:
            self._segments = [self._open(replay) for replay in self.replays if REPLAY_FOLDER in replay]
        return self._segments

    def _open(self, replay: Mapping[str, Any]) -> Sidecar:
        try:
            segments = Sidecar.open(self.path.with_name(replay[REPLAY_FOLDER]), replay[MANIFEST_CRC32])
            heads = replay["arrays"]["head"].tolist()
            if (list(segments.extent.heads), segments.extent.next_start) != (heads, replay["next_start"]):
                raise ValueError("its manifest does not belong to the checkpoint")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable(self.path, error) from error
        return segments

    def attach_segments(self) -> list[Sidecar]:
        """Let the stores find their arrays on disk, if they exist.

        Raises:
            ConfigError: as for `segments`.

        """
        segments = self.segments()
        for replay, own in zip(self.replays, segments, strict=False):
            replay[SEGMENTS] = own
        return segments

    # --- checks ---

    def verify(self, replay: bool = True, training: bool | None = None) -> "Checkpoint":
        """Check all of it.

        Args:
            replay: whether to check its replay, too.
            training: whether it must be possible to resume a run, which needs more than its agent; None: as `replay`.

        Returns:
            The checkpoint itself.

        Raises:
            ConfigError: if a part is missing or damaged, or its run's folder contains a link or pipe.

        """
        run = run_of_checkpoint(self.path)
        strange = None if run is None else next(durable.strange_files(run), None)
        if strange is not None:
            raise ConfigError(
                f"ckpt_path: {strange} is a link or no file, and what the run writes there would land elsewhere; "
                "remove it."
            )
        if replay if training is None else training:
            try:
                check_training(self.contents, replay)
            except ValueError as error:
                raise _unusable(self.path, error) from error
        for segments in self.segments() if replay else ():
            try:
                segments.verify(combinations_of(self.contents[AGENT_SETTINGS]["num_actions"]))
            except OSError as error:
                raise _unreadable(self.path, error) from error
        return self


def _unusable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"ckpt_path: {path} is not a checkpoint that can be used ({one_line(error)}); take another one.")


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"ckpt_path: the replay of the checkpoint {path} cannot be read ({one_line(error)}); take another checkpoint, "
        f"or start a new run from its weights with --model.init_from {path}."
    )
