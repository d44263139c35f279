from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import IterableDataset

from lit_dqn.playing.ahead import PlayAhead
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.policies import Policy
from lit_dqn.replay import DeviceFrames, Sampler
from lit_dqn.types import Batch, Chunk, CopiedAgent


class ReplayDataset(IterableDataset[Chunk]):
    """Play, store, sample: one chunk per training step. All state is on objects, for `__iter__` runs every epoch.

    Its length keeps Lightning from fetching a chunk ahead, which would be played with old weights.
    """

    def __init__(
        self,
        collector: Collector,
        sampler: Sampler,
        agent: CopiedAgent,
        generator: np.random.Generator,
        *,
        batch_size: int,
        gradient_steps: int,
        env_steps_per_chunk: int,
        chunks_per_epoch: int,
        min_replay_size: int,
        warm_up_policy: Policy,
        refill: bool,
        stopped: Callable[[], bool],
        play_ahead: PlayAhead | None,
        device_frames: DeviceFrames | None = None,
    ) -> None:
        self.collector = collector
        self.sampler = sampler
        self.agent = agent
        self.generator = generator
        self.batch_size = batch_size
        self.gradient_steps = gradient_steps
        self.env_steps_per_chunk = env_steps_per_chunk
        self.chunks_per_epoch = chunks_per_epoch
        self.min_replay_size = min_replay_size
        self.warm_up_policy = warm_up_policy
        self.refill = refill
        self.stopped = stopped
        self.play_ahead = play_ahead
        self.device_frames = device_frames

    def __len__(self) -> int:
        return self.chunks_per_epoch

    def __iter__(self) -> Iterator[Chunk]:
        collector = self.collector
        if self.refill:
            collector.refill(self.agent, self.min_replay_size, self.stopped)
            self.refill = False
        collector.warm_up(self.agent, self.min_replay_size, self.batch_size, self.warm_up_policy, self.stopped)
        if self.stopped():
            return
        for _ in range(self.chunks_per_epoch):
            if self.play_ahead is None:
                collector.collect(self.agent, self.env_steps_per_chunk)
                yield Chunk(self._sample(), collector.env_step)
            else:
                env_step = collector.env_step + self.env_steps_per_chunk
                chunk = Chunk(self._sample(), env_step, self.play_ahead.wait)
                self.play_ahead.start(self.agent, self.env_steps_per_chunk)
                yield chunk

    def _sample(self) -> Sequence[Batch]:
        replay = self.collector.replay
        starts = self.sampler.sample_many(replay.starts, self.gradient_steps, self.batch_size, self.generator)
        if self.device_frames is not None:
            return self.device_frames.batches(replay.lookup(starts.reshape(-1)), self.gradient_steps)
        # Built together and then cut apart: most of the time is in the number of calls.
        together = replay.sample(starts.reshape(-1))
        return tuple(map(Batch._make, zip(*(tensor.split(self.batch_size) for tensor in together), strict=True)))
