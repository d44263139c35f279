import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lit_dqn.errors import ConfigError
from lit_dqn.replay import Sidecar

DATA_KEY = "ReplayDataModule"
"""Where Lightning keeps the state of the data module: the name of its class."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a `.ckpt`, without its replay.

    Nothing in it is executed: only tensors and plain values are read.

    Raises:
        ConfigError: if it is missing, damaged, or no checkpoint of lit_dqn.

    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"ckpt_path: there is no checkpoint {path}; give a .ckpt file, a run folder, last or best.")
    try:
        # torch reads on over flipped bits; the checksums of its zip file tell.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise OSError(f"its part {damaged} does not match its checksum")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"ckpt_path: {path} holds more than tensors and plain values, and reading it could run code of whoever "
            "made it; only checkpoints of lit_dqn can be continued."
        ) from error
    except Exception as error:  # torch.load says what is wrong by exceptions of many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"ckpt_path: {path} is damaged or no checkpoint ({reason}); take an earlier one.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or "env_step" not in checkpoint:
        raise ConfigError(f"ckpt_path: {path} is no checkpoint of lit_dqn; only its own can be continued.")
    return checkpoint


def open_replay(path: str | Path, checkpoint: dict[str, Any]) -> Sidecar | None:
    """The replay that belongs to a checkpoint; None if it was saved without one.

    Raises:
        ConfigError: if it is missing or damaged, as far as its manifest tells.

    """
    replay = checkpoint.get(DATA_KEY, {}).get("replay", {})
    if "folder" not in replay:
        return None
    try:
        return Sidecar.open(Path(path).with_name(replay["folder"]), replay["manifest_crc32"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def verify_checkpoint(path: str | Path, replay: bool = True) -> dict[str, Any]:
    """Read a checkpoint and check all of it.

    Args:
        path: of the `.ckpt`.
        replay: whether its replay counts, too.

    Returns:
        Its contents, without the replay.

    Raises:
        ConfigError: if a part is missing or damaged.

    """
    checkpoint = read_checkpoint(path)
    sidecar = open_replay(path, checkpoint) if replay else None
    if sidecar is not None:
        try:
            sidecar.verify()
        except OSError as error:
            raise _unreadable(path, error) from error
    return checkpoint


def _unreadable(path: str | Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"ckpt_path: the replay of the checkpoint {path} cannot be read ({error}); take another checkpoint, or start "
        "anew from its weights with --model.init_from."
    )
