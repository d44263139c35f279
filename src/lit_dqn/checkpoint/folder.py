import re
from pathlib import Path

from lit_dqn import durable
from lit_dqn.checkpoint.contents import REPLAY_SUFFIX
from lit_dqn.checkpoint.io import ReplayCheckpointIO, remove_unused
from lit_dqn.checkpoint.read import open_replay, read_checkpoint
from lit_dqn.errors import ConfigError

LAST, BEST = "last.ckpt", "best.ckpt"

NUMBERED = re.compile(r"env_step_(\d+)\.ckpt")


class CheckpointFolder:
    """The `checkpoints/` of a run: `env_step_<n>.ckpt` for each that is kept, `last.ckpt` and `best.ckpt` as second
    names of one of them, and the replays of all.

    Args:
        path: the folder.

    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def numbered(self) -> list[Path]:
        """The checkpoints that are kept, oldest env step first."""
        found = [path for path in self.path.glob("*.ckpt") if NUMBERED.fullmatch(path.name)]
        return sorted(found, key=env_step_of)

    def path_at(self, env_step: int) -> Path:
        """Where the checkpoint of an env step stands."""
        return self.path / f"env_step_{env_step}.ckpt"

    def newest_first(self) -> list[Path]:
        """All checkpoints, each once."""
        paths = self.numbered()[::-1]
        paths += [self.path / name for name in (LAST, BEST) if (self.path / name).is_file()]
        seen: dict[tuple[int, int], Path] = {}
        for path in paths:
            status = path.stat()
            seen.setdefault((status.st_dev, status.st_ino), path)
        return list(seen.values())

    def bring_best(self, source: Path, env_step: int) -> bool:
        """Take over the best checkpoint of the folder that a run goes on from, if it was there at that env step.

        Raises:
            OSError: if it cannot be linked or copied.

        """
        best = source / BEST
        try:
            checkpoint = read_checkpoint(best)
            sidecar = open_replay(best, checkpoint)
        except ConfigError:
            return False
        if checkpoint["env_step"] > env_step:
            return False
        durable.make_folder(self.path)
        if sidecar is not None:
            folder = self.path / sidecar.folder.name
            durable.make_folder(folder)
            for path in sidecar.folder.iterdir():
                durable.link_or_copy(path, folder / path.name)
            durable.sync_folder(folder)
        durable.point(self.path / BEST, best)
        return True

    def remove_all_but(self, keep: list[Path], checkpoint_io: ReplayCheckpointIO) -> None:
        """Remove the other numbered checkpoints, but for the best, and what is left of broken ones.

        Raises:
            OSError: if a file cannot be removed.

        """
        best = self.path / BEST
        for path in self.numbered():
            if path not in keep and not (best.exists() and path.samefile(best)):
                durable.remove_file(path)
        for path in self.path.glob(f"*{durable.TEMPORARY}"):
            durable.remove_file(path)
        remove_unused(self.path, list(self.path.glob(f"*{REPLAY_SUFFIX}")), checkpoint_io)


def env_step_of(path: Path) -> int:
    """The env step in the name of a numbered checkpoint."""
    number = NUMBERED.fullmatch(path.name)
    assert number is not None
    return int(number[1])
