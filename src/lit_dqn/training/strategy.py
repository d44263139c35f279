"""How Lightning starts and connects the processes of one run."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch._C._distributed_c10d import PrefixStore, Store

from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.ranks import Ranks
from lit_dqn.saving.random_state import random_state, set_random_state
from lit_dqn.training.heartbeat import Heartbeat, connect

# The newer name of torch's option.
set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout

WATCH_SECONDS = 0.2

MEET_MINUTES, WAIT_MINUTES = 5, 30
"""How long processes wait for all to start, and later for each other, for example while one saves a large replay."""


STARTED_BY = "LIT_DQN_STARTED_BY"
"""The first process, in the environment of those that Lightning lets it start."""


class ShardedStrategy(DDPStrategy):
    """DDP's processes without its wrapper: the learner exchanges gradients itself, in a fixed order.

    Every process writes its part of a checkpoint. Communication uses gloo on CPUs, NCCL on GPUs.

    Args:
        settings: of this process, by key, which must be equal in all processes.
        begin: called by the first process when all have started with equal settings, before anything is built.

    """

    def __init__(self, settings: Mapping[str, str] | None = None, begin: Callable[[], None] | None = None) -> None:
        super().__init__(timeout=timedelta(minutes=MEET_MINUTES))
        self.settings = dict(settings or {})
        self.begin = begin
        self._store: Store | None = None
        self._heartbeat: Heartbeat | None = None

    def _get_process_group_backend(self) -> str:
        # The host communicates tensors on the CPU, whatever the device.
        return "gloo" if self.root_device.type == "cpu" else f"cpu:gloo,{self.root_device.type}:nccl"

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        """As in Lightning, which seeds the generators again; the weights have already been drawn from them.

        Raises:
            ConfigError: if the processes were started with different settings, one of them does not start, or their
                port is taken.
            TrainingError: if they do not find each other.

        """
        before = random_state()
        self.set_world_ranks()
        ranks = Ranks(self.global_rank, self.world_size)
        try:
            if not dist.is_initialized():
                assert self.cluster_environment is not None
                os.environ["MASTER_ADDR"] = self.cluster_environment.main_address
                os.environ["MASTER_PORT"] = str(self.cluster_environment.main_port)
                self._store = connect(timedelta(minutes=MEET_MINUTES), as_first=ranks.rank == 0)
            self._heartbeat = Heartbeat(ranks)
            self._heartbeat.meet(60 * MEET_MINUTES)
            self._connect(ranks)
            super().setup_distributed()
        except TrainingError:
            raise
        except RuntimeError as error:
            if "EADDRINUSE" in str(error):
                port = os.environ.get("MASTER_PORT")
                raise ConfigError(
                    f"MASTER_PORT: {port} is taken by another process of this machine, such as another run; set "
                    "MASTER_PORT to a port that is free, or leave it out where Lightning starts the processes."
                ) from error
            first_line = (str(error).splitlines() or [""])[0]
            raise TrainingError(
                f"process {ranks.rank} of {ranks.count} did not reach the first one within {MEET_MINUTES} minutes, so "
                f"it ends, too; its message tells why ({first_line})."
            ) from error
        set_random_state(before)
        set_timeout(timedelta(minutes=WAIT_MINUTES))
        check_alike(ranks, self.settings)
        ranks.on_first(self.begin or (lambda: None))

    def _connect(self, ranks: Ranks) -> None:
        if dist.is_initialized():
            return
        assert self._store is not None
        # The store of torchrun survives a restart, with the addresses from before.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group(
            self._get_process_group_backend(),
            store=PrefixStore(f"attempt_{attempt}", self._store),
            rank=ranks.rank,
            world_size=ranks.count,
            timeout=timedelta(minutes=MEET_MINUTES),
            device_id=None if self.root_device.type == "cpu" else self.root_device,
        )

    def configure_ddp(self) -> None:
        """The model, without a wrapper."""

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """All processes write, each its own part."""
        self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options=storage_options)

    def teardown(self) -> None:
        """From now on the processes end independently."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        super().teardown()


def check_alike(ranks: Ranks, settings: Mapping[str, str]) -> None:
    """Refuse processes with different settings.

    Args:
        ranks: the processes.
        settings: of this process, by key.

    Raises:
        ConfigError: in all processes, names the first key that differs.

    """
    first, *others = ranks.gather(dict(settings))
    for rank, other in enumerate(others, start=1):
        for key in sorted(first.keys() | other.keys()):
            if first.get(key) != other.get(key):
                raise ConfigError(
                    f"{key}: process 0 of this run has {first.get(key)} and process {rank} has {other.get(key)}; start "
                    "all of them by the same command, with the same files and versions."
                )


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other processes on this machine, and watches them until they are connected.

    Lightning's own launcher watches them until the end, and kills the first process when another has ended, even after
    a signal at which all have saved.
    """

    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        has_failed = threading.Event()
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[STARTED_BY] = str(os.getpid())
            self._call_children_scripts()
            del os.environ[STARTED_BY]
        _watch(self._others_have_ended, has_failed)
        try:
            result = function(*args, **kwargs)
        except BaseException:
            has_failed.set()
            if not dist.is_initialized():  # they would wait for this process without end
                self.kill(signal.SIGTERM)
            raise
        for process in self.procs:
            process.wait()
        return result

    def _others_have_ended(self) -> bool:
        if self.procs:
            return any(process.poll() is not None for process in self.procs)
        return os.environ.get(STARTED_BY, str(os.getppid())) != str(os.getppid())


def _watch(others_have_ended: Callable[[], bool], has_failed: threading.Event) -> None:
    """Watch on a thread, until the processes are connected."""

    def watch() -> None:
        while not (dist.is_initialized() or has_failed.is_set()):
            if others_have_ended() and not has_failed.is_set():
                os.write(2, b"error: another process of this run has ended before it began; its message tells why.\n")
                os._exit(2)
            time.sleep(WATCH_SECONDS)

    threading.Thread(target=watch, daemon=True).start()
