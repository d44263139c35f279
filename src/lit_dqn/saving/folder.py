import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.saving import durable
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.io import ReplayCheckpointIO, remove_unused
from lit_dqn.saving.layout import (
    BEST,
    CKPT_SUFFIX,
    LAST,
    NUMBERED,
    OF_AN_ENV_STEP,
    REPLAY_SUFFIX,
    env_step_of,
    name_at,
)


class Moment(NamedTuple):
    """The order of a checkpoint among all of a run's name; a later one is greater.

    File times are unreliable: files are touched and copied, and clocks are set back.
    """

    session: int  # counted over all starts and resumes of the run's name; 0 in checkpoints without a count
    env_step: int
    is_best: bool = False  # the best of its run when it was made


def moment_of(path: Path) -> Moment | None:
    """The order of a checkpoint, read without its tensors; None if that fails."""
    try:
        checkpoint = Checkpoint.glance(path)
        return Moment(checkpoint.session, checkpoint.env_step, checkpoint.is_best)
    except Exception:  # reading it completely names the defect
        return None


class CheckpointFolder:
    """The `checkpoints/` of a run: `env_step_<n>.ckpt` for each kept checkpoint, `last.ckpt` and `best.ckpt` as second
    names, and the replays of all.

    Args:
        path: the folder.

    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def numbered(self) -> list[Path]:
        """The kept checkpoints, oldest env step first."""
        found = [path for path in self.path.glob(f"*{CKPT_SUFFIX}") if NUMBERED.fullmatch(path.name)]
        return sorted(found, key=env_step_of)

    def path_at(self, env_step: int) -> Path:
        """The path of the checkpoint of an env step."""
        return self.path / f"{name_at(env_step)}{CKPT_SUFFIX}"

    def newest_first(self) -> list[Path]:
        """All checkpoints, each once: the last session first, and within a session the latest env step first."""
        names = [*self.numbered()[::-1], *(self.path / name for name in (LAST, BEST))]
        paths: dict[tuple[int, int], Path] = {}
        for path in names:
            with contextlib.suppress(OSError):  # it never existed, or a training process has just removed it
                status = path.stat()
                paths.setdefault((status.st_dev, status.st_ino), path)
        moments = {path: moment_of(path) for path in paths.values()}
        session = max((moment.session for moment in moments.values() if moment is not None), default=0)

        def place(path: Path) -> Moment:
            # An unreadable one is included, so that it is named before an older one is used.
            env_step = env_step_of(path) if NUMBERED.fullmatch(path.name) else 0
            return moments[path] or Moment(session, env_step)

        return sorted(moments, key=place, reverse=True)

    def session(self) -> int | None:
        """The last session that saved anything here; None if nothing can be read."""
        moments = [moment_of(path) for path in self.path.glob(f"*{CKPT_SUFFIX}")]
        return max((moment.session for moment in moments if moment is not None), default=None)

    def check_alone(self, session: int, env_step: int) -> None:
        """Check whether another process has resumed this run, which is possible on file systems without locks.

        Args:
            session: of this process.
            env_step: of this process.

        Raises:
            TrainingError: if one has, and is further ahead.

        """
        last = moment_of(self.path / LAST)
        if last is not None and (last.session, last.env_step) > (session, env_step):
            raise TrainingError(
                f"another process has resumed this run and saved env step {last.env_step:,} in {self.path}; this one "
                "ends and leaves that as it is."
            )

    def best(self) -> list[Path]:
        """Candidates for the best checkpoint, the likeliest first.

        That is `best.ckpt`, or a checkpoint that is the best but has no such name yet because its process was killed.
        """
        best = self.path / BEST
        found = [best] if best.is_file() else []
        newest = next(((path, moment) for path in self.newest_first() if (moment := moment_of(path))), None)
        if newest is not None and newest[1].is_best and not (found and newest[0].samefile(best)):
            # A damaged one is included, so that it is named.
            found.insert(0 if found and moment_of(best) else len(found), newest[0])
        return found

    def bring_best(self, best: Path, env_step: int) -> bool:
        """Take over the best checkpoint of the resumed run, if it existed at that env step.

        Raises:
            OSError: if it cannot be linked or copied.

        """
        try:
            checkpoint = Checkpoint.read(best)
            sidecars = checkpoint.segments()
        except ConfigError:
            return False
        if checkpoint.env_step > env_step:
            return False
        durable.make_folder(self.path)
        for sidecar in sidecars:
            if sidecar.folder.parent.samefile(self.path):
                continue
            folder = self.path / sidecar.folder.name
            durable.make_folder(folder)
            for path in sidecar.folder.iterdir():
                durable.link_or_copy(path, folder / path.name)
            durable.sync_folder(folder)
        durable.point(self.path / BEST, best)
        return True

    def point(self, target: Path, names: Sequence[str]) -> None:
        """Add a checkpoint's second names.

        Raises:
            OSError: if that fails.

        """
        for name in names:
            durable.point(self.path / name, target)

    def remove_all_but(
        self, keep: list[Path], env_step: int, own: set[Path], checkpoint_io: ReplayCheckpointIO
    ) -> None:
        """Remove other numbered checkpoints, except the best, and remains of damaged ones.

        Checkpoints that are further ahead and not our own are kept: another process may have resumed the run.

        Args:
            keep: checkpoints to keep.
            env_step: of the run.
            own: checkpoints that this process wrote.
            checkpoint_io: finds and removes their replays.

        Raises:
            OSError: if a file cannot be removed.

        """

        def may_go(path: Path) -> bool:
            found = OF_AN_ENV_STEP.match(path.name)
            return found is None or int(found[1]) <= env_step or self.path_at(int(found[1])) in own

        best = self.path / BEST
        for path in self.numbered():
            if path not in keep and may_go(path) and not (best.exists() and path.samefile(best)):
                durable.remove_file(path)
        for path in filter(may_go, self.path.glob(f"*{durable.TEMPORARY}")):
            durable.remove_file(path)
        remove_unused(self.path, list(filter(may_go, self.path.glob(f"*{REPLAY_SUFFIX}"))), checkpoint_io)
