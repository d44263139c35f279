import logging
import math
from pathlib import Path
from typing import NamedTuple

from lit_dqn.errors import ConfigError
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.folder import CheckpointFolder
from lit_dqn.saving.layout import CHECKPOINTS, VERSION, checkpoints_of_versions

log = logging.getLogger("lit_dqn")


class Found(NamedTuple):
    """A checkpoint from which a run can be resumed."""

    checkpoint: Checkpoint
    replay_is_whole: bool

    @property
    def path(self) -> Path:
        """The path of the checkpoint."""
        return self.checkpoint.path


def find_checkpoint(ckpt_path: str, runs: Path, replay: bool = False, version: str | None = None) -> Found:
    """The checkpoint that `--ckpt_path` selects.

    Args:
        ckpt_path: `last` for the newest intact one over all versions in `runs`; `best` for the best one of the newest
            version that has one; a run folder for the newest intact one in it; or a file.
        runs: the folder that holds the run's versions.
        replay: whether its replay is needed.
        version: the folder in `runs` in which `last` and `best` are looked for; None: in all.

    Raises:
        ConfigError: if there is none.

    """
    if ckpt_path in ("last", "best"):
        folders = [of for of in _newest_first(runs) if version in (None, of.path.parent.name)]
        found = [path for folder in folders for path in folder.newest_first()]
        if ckpt_path == "best":
            found = [path for folder in folders for path in folder.best()]
        if not found:
            remedy = (
                "start the run without --ckpt_path" if replay else "train an agent first, by fit with the same --config"
            )
            under = runs if version is None else runs / version
            raise ConfigError(f"ckpt_path: there is no {ckpt_path}.ckpt under {under} yet; {remedy}.")
        return _first_whole(found, replay)
    path = Path(ckpt_path)
    if not path.is_dir():
        return Found(Checkpoint.read(path).verify(replay), True)
    folder = path if path.name == CHECKPOINTS else path / CHECKPOINTS
    found = CheckpointFolder(folder).newest_first()
    if not found:
        raise ConfigError(
            f"ckpt_path: there is no checkpoint in {folder}; give a .ckpt file, a run folder, last or best."
        )
    return _first_whole(found, replay)


def _newest_first(runs: Path) -> list[CheckpointFolder]:
    """The checkpoint folders of all versions of a run, the one that was started or resumed last first."""
    folders = [CheckpointFolder(path) for path in checkpoints_of_versions(runs)]
    return sorted(folders, key=_age, reverse=True)


def _age(folder: CheckpointFolder) -> tuple[float, int, int]:
    session = folder.session()
    # Versions from before sessions were counted are ordered by their number, otherwise by their time.
    number = VERSION.fullmatch(folder.path.parent.name)
    return (
        math.inf if session is None else session,  # a version that cannot be read is named before another is used
        int(number[1]) if number else -1,
        folder.path.stat().st_mtime_ns,
    )


def _first_whole(found: list[Path], replay: bool) -> Found:
    """The first intact checkpoint; if there is none, the first with damage only in its replay."""
    reasons: list[tuple[Path, ConfigError]] = []
    for path in found:
        try:
            return Found(Checkpoint.read(path).verify(replay), True)
        except ConfigError as error:
            log.warning("%s is skipped: %s", path, error)
            reasons.append((path, error))
    for path, _ in reasons:
        try:
            checkpoint = Checkpoint.read(path).verify(replay=False, training=replay)
        except ConfigError:
            continue
        log.warning("no checkpoint is whole; of %s all but the replay is", path)
        return Found(checkpoint, False)
    raise reasons[0][1]
