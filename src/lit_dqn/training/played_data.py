from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from lit_dqn.envs import make_vec
from lit_dqn.errors import ConfigError
from lit_dqn.parts import Parts
from lit_dqn.playing.actor import PlayerSpec
from lit_dqn.playing.asynchronous import Asynchronous
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.distant import DistantPlayers
from lit_dqn.playing.journal import arrivals_of, check_journal, read_journal
from lit_dqn.playing.places import Place
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import Policy
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.playing.sharded import ShardedCollector
from lit_dqn.ranks import Ranks
from lit_dqn.replay import (
    DeviceFrames,
    Replay,
    ReplayBuffer,
    Rollout,
    RolloutStore,
    Sequences,
    SequenceStore,
    ShardedReplay,
)
from lit_dqn.training.checkpointed_data import CheckpointedData
from lit_dqn.training.evaluation_data import EvaluationData
from lit_dqn.training.replay_placement import ReplayPlacement
from lit_dqn.types import Drawn

OneStore = Replay | RolloutStore | SequenceStore


class PlayedData(EvaluationData, CheckpointedData, ReplayPlacement):
    """Data that are played: the collector and the store of each shard."""

    gradient_steps: int
    env_steps_per_update: int
    batch_size: int
    reward_clip: float | None
    policy: Policy

    place: Place | None
    parts: Parts | None
    _row_shape: tuple[int, ...]
    _distant: DistantPlayers | None = None

    replay_journal: Path | None = None
    """The journal of the run that the next fit repeats; None: a run of its own."""

    first_env = 0
    """The number of the first env over the whole run, which determines its seeds; here this process plays all envs."""

    def _make_shards(
        self, device: torch.device | None
    ) -> tuple[Collector | ShardedCollector, OneStore | ShardedReplay]:
        """The collector and the store: of a single shard directly, and with a copy of the frames on a device, if there
        is one.
        """
        ranks = Ranks.now()
        here = ranks.shards(self.shards)
        stores = [self._make_store(device) for _ in here]
        collectors = [self._make_collector(shard, store) for shard, store in zip(here, stores, strict=True)]
        if self.shards == 1:
            return collectors[0], stores[0]
        replays = dict(zip(here, cast(list[Replay | SequenceStore], stores), strict=True))
        return ShardedCollector(collectors, ranks), ShardedReplay(replays)

    def check_place(self) -> None:
        """Refuse data that `place` cannot play, or a journal that cannot be replayed, without starting anything.

        Raises:
            ConfigError: such as for a package that is missing, or a journal that is none.

        """
        if self.replay_journal is not None:
            if self.place is None or not self.place.asynchronous:
                raise ConfigError(
                    "replay_journal: only asynchronous play keeps a journal, and this config does not use it; give the "
                    "config.yaml of the journal's run."
                )
            steps = self.gradient_steps * self.env_steps_per_update // self.num_envs
            envs = self.place.envs_per_player
            check_journal(arrivals_of(self.replay_journal), self.num_envs, self.first_env, envs, steps)
        if self.place is None:
            return
        self.place.check()

    def begin_place(self) -> None:
        """Start the actors of `place`, if there is one, so that errors are reported before the run starts.

        Raises:
            ConfigError: if they cannot be started.

        """
        if self.place is None or self._distant is not None:
            return
        self.check_place()
        make_envs = partial(
            make_vec,
            self.env_id,
            env_kwargs=self.env_kwargs,
            wrappers=tuple(self.wrappers),
            action_mask=self.action_mask,
        )
        spec = PlayerSpec(
            make_envs=make_envs,
            envs_per_player=self.place.envs_per_player,
            num_envs=self.num_envs,
            all_envs=self.num_envs,
            first_env=self.first_env,
            frame_stack=self.frame_stack,
            seed=self.seed,
            num_actions=self.num_combinations,
            action_mask=self.action_mask,
        )
        comes_back = self.resume_env is ResumeEnv.exact
        self._distant = DistantPlayers(spec, self.place, comes_back, np.zeros(self._row_shape, self._frame_dtype))

    def _make_collector(self, shard: int, store: OneStore) -> Collector:
        num_envs = self.num_envs // self.shards
        first_env = self.first_env + shard * num_envs
        if self.place is not None:
            self.begin_place()
            assert self._distant is not None
            players, self._distant = self._distant, None
            return Collector(players, self.policy, store)
        envs = self._make_vec(num_envs, first_env)
        player = Player(envs, self.frame_stack, self.seed, first_env, self.action_mask, self.num_envs, self.memory_size)
        return Collector(player, self.policy, store)

    def _make_asynchronous(self) -> Asynchronous | None:
        """Asynchronous play, if `place` says so."""
        if self.place is None or not self.place.asynchronous:
            return None
        assert isinstance(self.collector, Collector)
        journal = None if self.replay_journal is None else read_journal(self.replay_journal)
        return Asynchronous(self.collector, self.place, self.gradient_steps * self.env_steps_per_update, journal)

    def _make_store(self, device: torch.device | None) -> OneStore:
        buffer = ReplayBuffer(
            self.capacity // self.shards,
            self.num_envs // self.shards,
            self._frame_shape,
            self._frame_dtype,
            gamma=self.horizon.discount(0),
            n_step=self.horizon.longest,
            frame_stack=self.frame_stack,
            reward_clip=self.reward_clip,
            num_actions=self.num_masked_actions,
            memory_size=self.memory_size,
        )
        if isinstance(self.sampler, Sequences):
            return SequenceStore(buffer, self.sampler, self.horizon)
        if isinstance(self.sampler, Rollout):
            values = lambda *seen: self._agent().state_values(*seen)  # noqa: E731
            return RolloutStore(buffer, self.sampler, values, self.horizon)
        frames = None if device is None else DeviceFrames(buffer, device)
        return Replay(buffer, self.sampler, frames, self.horizon)

    def _draw(self, env_step: int) -> Drawn:
        """The batches of a training step."""
        assert self.store is not None
        if isinstance(self.store, ShardedReplay):
            generators = [self._sampling[shard] for shard in self.store.replays]
            return self.store.draw(self.gradient_steps, self.batch_size // self.shards, generators, env_step)
        return self.store.draw(self.gradient_steps, self.batch_size, self._sampling[0], env_step)
