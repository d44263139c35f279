import bisect
import logging
from enum import Enum

import lightning
import torch
from numpy.typing import DTypeLike

from lit_dqn.errors import ConfigError
from lit_dqn.replay import Horizon, PrioritySampler, Rollout, Sampler, Sequences, check_fits, device_bytes
from lit_dqn.replay.layout import frames_bytes, replay_bytes
from lit_dqn.schedules import Schedule

log = logging.getLogger("lit_dqn")


class ReplayDevice(Enum):
    """Where a second copy of a replay's frames is kept."""

    auto = "auto"
    """On the GPU that learns, if there is one and they fit."""

    cpu = "cpu"
    """Nowhere: the CPU builds the batches."""

    cuda = "cuda"
    """On the GPU that learns."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ConfigError(f"replay_device: {value!r} is unknown; give one of {', '.join(way.value for way in cls)}.")


class ReplayPlacement(lightning.LightningDataModule):
    """Data whose replay must fit into the memory of the machine, and optionally its frames into that of a GPU."""

    num_envs: int
    num_combinations: int
    action_mask: bool
    shards: int
    processes: int
    capacity: int
    n_step: Schedule | int
    gamma: Schedule | float
    frame_stack: int
    replay_device: ReplayDevice
    sampler: Sampler
    memory_size = 0
    """The size of the agent's memory, which is stored with each timestep; 0: it has none."""

    _frame_shape: tuple[int, ...]
    _frame_dtype: DTypeLike

    @property
    def horizon(self) -> Horizon:
        """The horizon (n and γ) of drawn transitions."""
        return Horizon(self.n_step, self.gamma)

    def replay_bytes(self, capacity: int) -> int:
        """Memory of a full replay of this capacity, including its sampler, in bytes."""
        priorities = (
            self.shards * self.sampler.bytes_for(capacity // self.shards)
            if isinstance(self.sampler, PrioritySampler)
            else 0
        )
        return priorities + self.shards * replay_bytes(
            capacity // self.shards,
            self.num_envs // self.shards,
            self._frame_shape,
            self._frame_dtype,
            n_step=self.horizon.longest,
            frame_stack=self.frame_stack,
            num_actions=self.num_masked_actions,
            memory_size=self.memory_size,
        )

    @property
    def num_masked_actions(self) -> int | None:
        """Number of actions in the stored masks; None: there are no masks."""
        return self.num_combinations if self.action_mask else None

    def device_frames_bytes(self, capacity: int) -> int:
        """GPU memory of the frames of this process's full replay of this capacity, in bytes."""
        return (
            self.shards
            // self.processes
            * frames_bytes(
                capacity // self.shards,
                self.num_envs // self.shards,
                self._frame_shape,
                self._frame_dtype,
                n_step=self.horizon.longest,
                frame_stack=self.frame_stack,
            )
        )

    def check_memory(self, here: int = 1) -> None:
        """Refuse a replay that does not fit, before it is allocated; only training needs one.

        Args:
            here: number of processes on this machine, each with its share of the replay.

        Raises:
            ConfigError: names a capacity that fits.

        """
        check_fits(self.capacity, lambda capacity: self.replay_bytes(capacity) * here // self.processes)

    def check_device(self, device: torch.device) -> None:
        """Refuse a device that cannot hold the replay's frames.

        Args:
            device: of the training.

        Raises:
            ConfigError: names a remedy.

        """
        if self.replay_device is ReplayDevice.cuda:
            self.device_of_frames(device)

    def device_of_frames(self, device: torch.device) -> torch.device | None:
        """The device with a second copy of the replay's frames; None: there is none.

        Args:
            device: of the training.

        Raises:
            ConfigError: if `replay_device` asks for a GPU and there is none, or they do not fit.

        """
        if self.replay_device is ReplayDevice.cpu or (
            self.replay_device is ReplayDevice.auto
            and (device.type != "cuda" or isinstance(self.sampler, Rollout | Sequences))
        ):
            return None
        if device.type != "cuda":
            raise ConfigError(
                f"replay_device: cuda needs a GPU that learns, and this is a run on {device.type}; "
                "set --data.replay_device auto, or, where there is a GPU, --trainer.accelerator gpu."
            )
        required, free = self.device_frames_bytes(self.capacity), device_bytes(device)
        if required <= free:
            return device
        sentence = (
            f"the frames of {self.capacity:,} timesteps take {required / 2**30:,.2f} GiB, and {free / 2**30:,.2f} GiB "
            "of the GPU are free for them"
        )
        if self.replay_device is ReplayDevice.auto:
            log.info("batches are put together by the CPU: %s", sentence)
            return None
        # Less than what fits now, because other processes may take memory before the user tries it.
        fits = (bisect.bisect_right(range(self.capacity), free, key=self.device_frames_bytes) - 1) * 97 // 100
        raise ConfigError(
            f"replay_device: {sentence}; set --data.replay_device cpu, or --data.capacity {max(fits, 1)} or less."
        )
