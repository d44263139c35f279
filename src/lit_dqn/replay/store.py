from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_dqn.replay.buffer import ReplayBuffer
from lit_dqn.replay.device_frames import DeviceFrames
from lit_dqn.replay.horizon import Horizon
from lit_dqn.replay.samplers import PrioritySampler, Sampler
from lit_dqn.types import ALL, Batch, Drawn, Timestep


class BufferedStore:
    """The operations of every store on its buffer while envs are played."""

    buffer: ReplayBuffer

    @property
    def frame_stack(self) -> int:
        """Frames in an observation."""
        return self.buffer.frame_stack

    def __len__(self) -> int:
        """The number of transitions that can be drawn now."""
        return len(self.buffer.starts)

    def add(self, timestep: Timestep, envs: slice = ALL) -> None:
        """Store one step of a range of envs, by default of all."""
        self.buffer.add(timestep, envs)

    def cut_episodes(self, envs: NDArray[np.bool_] | None = None) -> None:
        """Truncate the running episodes of the envs in `envs` [N]; None: of all."""
        self.buffer.cut_episodes(envs)


class Replay(BufferedStore):
    """The `Store` for off-policy learning: a buffer that keeps timesteps, and a sampler that chooses among them.

    Args:
        buffer: stores the timesteps.
        sampler: chooses the transitions of a batch.
        frames: a copy of the buffer's frames on a device, which then builds the batches; None: the CPU builds them.
        horizon: n and γ of drawn transitions; None: the buffer's.

    """

    def __init__(
        self,
        buffer: ReplayBuffer,
        sampler: Sampler,
        frames: DeviceFrames | None = None,
        horizon: Horizon | None = None,
    ) -> None:
        self.buffer = buffer
        self.frames = frames
        self.horizon = Horizon(buffer.n_step, buffer.gamma) if horizon is None else horizon
        self.device = torch.device("cpu") if frames is None else frames.device
        self.sampler = sampler.for_replay(buffer.capacity) if isinstance(sampler, PrioritySampler) else sampler

    def draw(self, updates: int, batch_size: int, generator: np.random.Generator, env_step: int) -> Drawn:
        """The batches of some updates, chosen by the sampler among all present transitions."""
        start = self.sampler.sample_many(self.buffer.starts, updates, batch_size, generator)
        weight = self.sampler.weight(start, env_step) if isinstance(self.sampler, PrioritySampler) else None
        window = self.horizon.steps(env_step), self.horizon.discount(env_step)
        if self.frames is not None:
            return Drawn(self.frames.batches(self.buffer.lookup(start.reshape(-1), *window), updates, weight), start)
        # Built together and then split: most of the time depends on the number of calls.
        together = self.buffer.sample(start.reshape(-1), *window)
        if weight is not None:
            together = together._replace(weight=torch.from_numpy(weight.reshape(-1)))
        columns = {name: tensor.split(batch_size) for name, tensor in together.given.items()}
        parts = zip(*columns.values(), strict=True)
        return Drawn(tuple(Batch(**dict(zip(columns, part, strict=True))) for part in parts), start)

    def settle(self, start: NDArray[np.int64], priority: Tensor) -> None:
        """Pass new priorities to the sampler, if it uses them.

        Raises:
            TrainingError: if one is negative or not finite.

        """
        if isinstance(self.sampler, PrioritySampler):
            self.sampler.settle(start, priority.float().cpu().numpy())

    def state_dict(self) -> dict[str, Any]:
        """Everything that determines the next draws; the tensors share memory with the replay."""
        state = self.buffer.state_dict()
        if isinstance(self.sampler, PrioritySampler):
            self.sampler.follow(self.buffer.starts)
            state["rewritten"] = {name: torch.from_numpy(array) for name, array in self.sampler.arrays.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a replay of the same layout; transitions without saved priorities count as new.

        Raises:
            ValueError: if n, the frame stack, or an array's shape or dtype differ, or the priorities are invalid.
            OSError: if arrays on disk are damaged.

        """
        if not isinstance(self.sampler, PrioritySampler):
            self.buffer.load_state_dict(state)
            return
        sampler = self.sampler = self.sampler.for_replay(self.buffer.capacity)
        saved = state["sidecar"].rewritten if "sidecar" in state else state.get("rewritten", {})
        arrays = sampler.arrays if sampler.arrays.keys() <= saved.keys() else {}
        self.buffer.load_state_dict(state, arrays)
        if arrays:
            sampler.take_up(self.buffer.starts)
