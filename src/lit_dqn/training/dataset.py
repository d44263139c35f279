from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils.data import IterableDataset

from lit_dqn.playing.ahead import PlayAhead
from lit_dqn.playing.asynchronous import Asynchronous
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.sharded import ShardedCollector
from lit_dqn.replay import ShardedReplay
from lit_dqn.types import Chunk, CopiedAgent, Drawn, Store


class ReplayDataset(IterableDataset[Chunk]):
    """Play, store, draw: one chunk per training step. All state is on objects, because `__iter__` runs every epoch.

    It has a length so that Lightning does not prefetch a chunk, which would be played with old weights.

    Args:
        collector: plays the envs.
        store: receives the timesteps.
        agent: the agent that acts.
        draw: returns the batches of a training step, at an env step.
        batch_size: transitions that the store, or each shard's store, must hold before the first batch.
        env_steps_per_chunk: env steps per training step; 0: offline learning.
        updates_per_chunk: updates per training step, by which the clock advances offline.
        chunks_per_epoch: training steps per epoch.
        min_replay_size: env steps before the first update; 0: none.
        warm_up_policy: how actions are chosen before the first update.
        refill: whether the store is empty although the run has started before.
        stopped: returns whether the run should end.
        play_ahead: plays during the updates; None: playing and learning alternate.
        asynchronous: takes what players have played on their own; None: the collector orders each chunk.

    """

    def __init__(
        self,
        collector: Collector | ShardedCollector,
        store: Store | ShardedReplay,
        agent: CopiedAgent,
        draw: Callable[[int], Drawn],
        *,
        batch_size: int,
        env_steps_per_chunk: int,
        updates_per_chunk: int,
        chunks_per_epoch: int,
        min_replay_size: int,
        warm_up_policy: Policy,
        refill: bool,
        stopped: Callable[[], bool],
        play_ahead: PlayAhead | None,
        asynchronous: Asynchronous | None,
    ) -> None:
        self.collector = collector
        self.store = store
        self.agent = agent
        self.draw = draw
        self.batch_size = batch_size
        self.env_steps_per_chunk = env_steps_per_chunk
        self.updates_per_chunk = updates_per_chunk
        self.chunks_per_epoch = chunks_per_epoch
        self.min_replay_size = min_replay_size
        self.warm_up_policy = warm_up_policy
        self.refill = refill
        self.stopped = stopped
        self.play_ahead = play_ahead
        self.collect = collector.collect if asynchronous is None else asynchronous.collect

    def __len__(self) -> int:
        return self.chunks_per_epoch

    def __iter__(self) -> Iterator[Chunk]:
        collector = self.collector
        if self.refill:
            collector.refill(self.agent, self.min_replay_size, self.stopped)
            self.refill = False
        if self.min_replay_size > 0:
            collector.warm_up(self.agent, self.min_replay_size, self.batch_size, self.warm_up_policy, self.stopped)
        if self.stopped():
            return
        for _ in range(self.chunks_per_epoch):
            if self.env_steps_per_chunk == 0:
                collector.let_pass(self.updates_per_chunk)
                yield self._draw(collector.env_step)
            elif self.play_ahead is None:
                with self.agent.exploring():
                    self.collect(self.agent, self.env_steps_per_chunk)
                yield self._draw(collector.env_step)
            else:
                env_step = collector.env_step + self.env_steps_per_chunk
                chunk = self._draw(env_step, self.play_ahead.wait)
                self.play_ahead.start(self.agent, self.env_steps_per_chunk)
                yield chunk

    def _draw(self, env_step: int, wait: Callable[[], None] = lambda: None) -> Chunk:
        batches, start = self.draw(env_step)

        def settle(priority: Tensor | None) -> None:
            wait()  # until then the player may write to the store
            if priority is not None:
                self.store.settle(start, priority)

        share = self.collector.share if isinstance(self.collector, ShardedCollector) else _nothing
        return Chunk(batches, env_step, settle, wait, share)


def _nothing() -> None:
    """A single collector already has all episodes."""
