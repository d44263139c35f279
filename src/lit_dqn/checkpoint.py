"""Checkpoints on disk: written whole or not at all, the replay in a file of its own beside each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor, nn

from lit_dqn.errors import ConfigError

DATA_KEY = "ReplayDataModule"
"""Where Lightning keeps the state of the data module: the name of its class."""


class ReplayCheckpointIO(CheckpointIO):
    """Writes the replay's arrays to `<name>-<update>.replay.safetensors` beside `<name>.ckpt`.

    A checkpoint holds weights, optimiser, counters and generators, and the name of its replay file. The replay is
    written first and under a new name, so that the checkpoint on disk always has the replay that belongs to it.

    Args:
        load_replay: whether reading a checkpoint reads its replay; only training needs it.

    """

    def __init__(self, load_replay: bool = True) -> None:
        self.load_replay = load_replay

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint and its replay, then remove the replay of the checkpoint that it replaces."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        data_state = checkpoint.get(DATA_KEY)
        replay_path = None
        if data_state is not None:
            replay_path = path.with_name(f"{path.stem}-{checkpoint['global_step']}.replay.safetensors")
            arrays = data_state["replay"].pop("arrays")
            data_state["replay"]["file"] = replay_path.name
            _write(replay_path, lambda file: safetensors.torch.save_file(arrays, file))
        _write(path, lambda file: torch.save(checkpoint, file))
        for replay_file in _replay_files(path):
            if replay_file != replay_path:
                replay_file.unlink()

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint and its replay.

        Raises:
            ConfigError: if either is missing or damaged.

        """
        checkpoint = read_checkpoint(path)
        replay = checkpoint.get(DATA_KEY, {}).get("replay", {})
        if self.load_replay and "file" in replay:
            replay_path = Path(path).with_name(replay["file"])
            try:
                replay["arrays"] = safetensors.torch.load_file(replay_path)
            except (OSError, safetensors.SafetensorError) as error:
                raise ConfigError(
                    f"ckpt_path: the replay {replay_path} of the checkpoint cannot be read ({error}); take another "
                    "checkpoint, or start anew from its weights with --model.init_from."
                ) from error
        return checkpoint

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its replay."""
        Path(path).unlink(missing_ok=True)
        for replay_file in _replay_files(Path(path)):
            replay_file.unlink()


def _replay_files(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.stem}-*.replay.safetensors"))


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Write to a temporary file in the same folder, then move it into place: a reader sees the old or the new."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a `.ckpt`, without its replay.

    Raises:
        ConfigError: if it is missing, damaged, or no checkpoint of lit_dqn.

    """
    if not Path(path).is_file():
        raise ConfigError(f"ckpt_path: there is no checkpoint {path}; give a .ckpt file, a run folder, or last.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load says what is wrong by exceptions of many types
        reason = str(error).splitlines()[0]
        raise ConfigError(f"ckpt_path: {path} is damaged or no checkpoint ({reason}); take an earlier one.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint or "env_step" not in checkpoint:
        raise ConfigError(f"ckpt_path: {path} is no checkpoint of lit_dqn; only its own can be continued.")
    return checkpoint


def check_shapes(network: nn.Module, weights: dict[str, Tensor], key: str, source: object) -> None:
    """Refuse weights that do not fit.

    Args:
        network: the module that would take the weights.
        weights: by the names of its `state_dict`.
        key: the config key to blame.
        source: where the weights came from.

    Raises:
        ConfigError: naming the first weight that is missing, unknown or of another shape.

    """
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise ConfigError(
                f"{key}: {source} was made for another network: {name} is {found.get(name, 'missing')} there and "
                f"{expected.get(name, 'missing')} here; use the network and the environment that it was trained with."
            )


def load_network_weights(network: nn.Module, path: str | Path) -> None:
    """Give a network the online weights of a checkpoint, or the weights of a `.safetensors` file.

    Raises:
        ConfigError: if the file is missing or damaged, or its weights do not fit.

    """
    if Path(path).suffix == ".safetensors":
        try:
            weights = safetensors.torch.load_file(path)
        except (OSError, safetensors.SafetensorError) as error:
            raise ConfigError(f"init_from: {path} cannot be read ({error}); give another file.") from error
    else:
        try:
            state = read_checkpoint(path)["state_dict"]
        except ConfigError as error:
            raise ConfigError(
                f"init_from: {path} holds no weights of lit_dqn; give one of its .ckpt files, or a .safetensors file."
            ) from error
        weights = {name.removeprefix("online."): tensor for name, tensor in state.items() if name.startswith("online.")}
    check_shapes(network, weights, "init_from", path)
    network.load_state_dict(weights)


def find_checkpoint(ckpt_path: str, runs: Path | None) -> Path:
    """The file that `--ckpt_path` means.

    Args:
        ckpt_path: `last` or `best` for the newest of that name over all versions in `runs`; a run folder for its
            `last.ckpt`; or a file.
        runs: the folder that holds the run's versions, if there is one.

    Raises:
        ConfigError: if there is none.

    """
    if ckpt_path in ("last", "best"):
        if runs is None:
            raise ConfigError(
                f"ckpt_path: {ckpt_path} is looked for in the folder of the run, and without a TensorBoardLogger or "
                "CSVLogger it has none; give a file."
            )
        found = sorted(runs.glob(f"*/checkpoints/{ckpt_path}.ckpt"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise ConfigError(
                f"ckpt_path: there is no {ckpt_path}.ckpt under {runs} yet; start the run without --ckpt_path."
            )
        return found[-1]
    path = Path(ckpt_path)
    if not path.is_dir():
        return path
    return path / "last.ckpt" if path.name == "checkpoints" else path / "checkpoints" / "last.ckpt"
