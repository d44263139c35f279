"""The number of processes of a run, the rank of this one, and the run to resume after a restart by a launcher."""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch._C._distributed_c10d import Store

from lit_dqn.commands.trainer_settings import processes
from lit_dqn.errors import ConfigError
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule
from lit_dqn.training.heartbeat import connect
from lit_dqn.training.ranks import check_share

STORE_SECONDS = 30
RUN_FOLDER = "lit_dqn/run"
"""The key of the run's folder in the store of torchrun, which outlives restarts."""

OF_ONE_PROCESS = ("trainer.logger", "config", "extends")
"""Settings that only the first process has, because only it writes."""


def check_together(count: int, shards: int) -> None:
    """Refuse several processes that would each make the same run, in the same folder.

    Args:
        count: number of processes that should share the run.
        shards: number of shards of its data.

    Raises:
        ConfigError: if another number was started, or they cannot share the shards equally.

    """
    launchers = [("WORLD_SIZE", "RANK", "without torchrun")]
    if os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):  # there the tasks belong to the shell
        launchers.append(("SLURM_NTASKS", "SLURM_PROCID", "by srun --ntasks=1"))
    for size, rank, remedy in launchers:
        started = os.environ.get(size, "1")
        if started not in ("1", str(count)):
            raise ConfigError(
                f"{size}: {started} processes were started together (this one has {rank} {os.environ.get(rank, '0')}), "
                f"and the config shares the run by {count}; set --trainer.strategy ddp --trainer.devices {started} "
                f"--data.shards {started}, with the devices of one of several nodes, or start it {remedy}."
            )
    check_share(count, shards)


def rank_of_process(settings: Mapping[str, Any]) -> int:
    """The rank of this process, by the launcher that Lightning detects; 0 for a single process.

    Args:
        settings: of the Trainer.

    Raises:
        ConfigError: if torchrun has started other numbers of processes on the machines.

    """
    if processes(settings) == 1:
        return 0
    if SLURMEnvironment.detect():
        return int(os.environ["SLURM_PROCID"])
    if TorchElasticEnvironment.detect():
        devices, here = int(settings["devices"]), int(os.environ.get("LOCAL_WORLD_SIZE", settings["devices"]))
        if here != devices:
            raise ConfigError(
                f"trainer.devices: {devices}, and torchrun has started {here} processes on this machine; set "
                f"--trainer.devices {here} --trainer.num_nodes {max(processes(settings) // here, 1)}."
            )
        return int(os.environ["RANK"])
    node = int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", 0)))
    return node * int(settings["devices"]) + int(os.environ.get("LOCAL_RANK", 0))


def settings_of_process(config: Mapping[str, Any], agent: LitAgent, data: ReplayDataModule) -> dict[str, str]:
    """Everything that must be equal in all processes of a run, by key: settings, versions, and initial weights.

    Args:
        config: of the verb, as plain values.
        agent: after construction.
        data: after construction.

    """
    weights = 0
    for weight in agent.state_dict().values():
        weights = zlib.crc32(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy(), weights)
    return {
        **{key: value for key, value in _flat(config) if not key.startswith(OF_ONE_PROCESS)},
        "data.seed": str(data.seed),
        "the version of lit-dqn": version("lit-dqn"),
        "the version of torch": torch.__version__,
        "the checksum of the weights": f"{weights:08x}",
    }


def _flat(settings: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(settings)


def with_earlier_run(words: Sequence[str]) -> tuple[list[str], bool]:
    """The command line of `fit`, extended to resume the run that these processes had begun before torchrun restarted
    them.

    Args:
        words: the command line.

    Returns:
        The command line, and whether there is such a run with a checkpoint.

    """
    store = _store_of_torchrun()
    if "fit" not in words[:1] or store is None or not store.check([RUN_FOLDER]):
        return [*words], False
    run = store.get(RUN_FOLDER).decode()
    if not any(Path(run, "checkpoints").glob("env_step_*.ckpt")):
        return [*words], False
    return [*words, "--ckpt_path", run], True


def tell_next_attempt(run: Path) -> None:
    """Let these processes find their run if torchrun restarts them.

    Args:
        run: its folder.

    """
    store = _store_of_torchrun()
    if store is not None:
        store.set(RUN_FOLDER, str(run.absolute()))


def _store_of_torchrun() -> Store | None:
    """The store of torchrun's agent, which lives as long as the agent; None without torchrun."""
    if not TorchElasticEnvironment.detect() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return connect(timedelta(seconds=STORE_SECONDS))
