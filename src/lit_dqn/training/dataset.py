from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils.data import IterableDataset

from lit_dqn.playing.ahead import PlayAhead
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.sharded import ShardedCollector
from lit_dqn.replay import ShardedReplay
from lit_dqn.types import Chunk, CopiedAgent, Drawn, Store


class ReplayDataset(IterableDataset[Chunk]):
    """Play, store, draw: one chunk per training step. All state is on objects, for `__iter__` runs every epoch.

    Its length keeps Lightning from fetching a chunk ahead, which would be played with old weights.

    Args:
        collector: that plays.
        store: where timesteps go.
        agent: that acts.
        draw: the batches of a training step, at an env step.
        batch_size: transitions that the store must hold before the first of them; of shards each one's.
        env_steps_per_chunk: that are played for a training step; 0: it learns offline.
        updates_per_chunk: of a training step, by which offline the clock goes on.
        chunks_per_epoch: training steps in an epoch.
        min_replay_size: env steps that are played before the first update; 0: none.
        warm_up_policy: how actions are chosen then.
        refill: whether the store is empty though the run is not at its start.
        stopped: whether the run shall end.
        play_ahead: plays while the agent learns; None: in turn.

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
                    collector.collect(self.agent, self.env_steps_per_chunk)
                yield self._draw(collector.env_step)
            else:
                env_step = collector.env_step + self.env_steps_per_chunk
                chunk = self._draw(env_step, self.play_ahead.wait)
                self.play_ahead.start(self.agent, self.env_steps_per_chunk)
                yield chunk

    def _draw(self, env_step: int, wait: Callable[[], None] = lambda: None) -> Chunk:
        batches, start = self.draw(env_step)

        def settle(priority: Tensor | None) -> None:
            wait()  # the store is the player's until then
            if priority is not None:
                self.store.settle(start, priority)

        share = self.collector.share if isinstance(self.collector, ShardedCollector) else _nothing
        return Chunk(batches, env_step, settle, wait, share)


def _nothing() -> None:
    """One collector has all episodes."""
