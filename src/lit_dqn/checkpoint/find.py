import logging
from pathlib import Path
from typing import NamedTuple

from lit_dqn.checkpoint.folder import BEST, CheckpointFolder
from lit_dqn.checkpoint.read import verify_checkpoint
from lit_dqn.errors import ConfigError

log = logging.getLogger("lit_dqn")


class Found(NamedTuple):
    """A checkpoint that can be gone on with."""

    path: Path
    replay_is_whole: bool


def find_checkpoint(ckpt_path: str, runs: Path, replay: bool = False) -> Found:
    """The checkpoint that `--ckpt_path` means.

    Args:
        ckpt_path: `last` for the newest whole one over all versions in `runs`; `best` for the newest `best.ckpt`; a run
            folder for the newest whole one in it; or a file.
        runs: the folder that holds the run's versions.
        replay: whether its replay is needed.

    Raises:
        ConfigError: if there is none.

    """
    if ckpt_path in ("last", "best"):
        found = candidates(runs)
        if ckpt_path == "best":
            found = sorted(runs.glob(f"*/checkpoints/{BEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
        if not found:
            raise ConfigError(
                f"ckpt_path: there is no {ckpt_path}.ckpt under {runs} yet; start the run without --ckpt_path."
            )
        return _first_whole(found, replay)
    path = Path(ckpt_path)
    if not path.is_dir():
        verify_checkpoint(path, replay)
        return Found(path, True)
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    found = CheckpointFolder(folder).newest_first()
    if not found:
        raise ConfigError(
            f"ckpt_path: there is no checkpoint in {folder}; give a .ckpt file, a run folder, last or best."
        )
    return _first_whole(found, replay)


def candidates(runs: Path) -> list[Path]:
    """All checkpoints of a run, newest first: the version that was written to last, and in it the latest env step."""
    versions = [CheckpointFolder(folder).newest_first() for folder in runs.glob("*/checkpoints")]
    written = [(max(path.stat().st_mtime_ns for path in paths), paths) for paths in versions if paths]
    return [path for _, paths in sorted(written, reverse=True) for path in paths]


def _first_whole(found: list[Path], replay: bool) -> Found:
    """The first that is whole; failing that, the first whose replay alone is damaged."""
    reasons: list[tuple[Path, ConfigError]] = []
    for path in found:
        try:
            verify_checkpoint(path, replay)
        except ConfigError as error:
            log.warning("%s is passed over: %s", path, error)
            reasons.append((path, error))
        else:
            return Found(path, True)
    for path, _ in reasons:
        try:
            verify_checkpoint(path, replay=False, training=replay)
        except ConfigError:
            continue
        log.warning("no checkpoint is whole; of %s all but the replay is", path)
        return Found(path, False)
    raise reasons[0][1]
