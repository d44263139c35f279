import contextlib
import inspect
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lit_dqn.envs import RowSpace, Wrapper, check_first_step, is_image, make_env, stored_dtype
from lit_dqn.envs.processes import end_if_this_plays_an_env
from lit_dqn.playing.ahead import PlayAhead
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.demonstrations import Demonstrations
from lit_dqn.playing.memory import memory_size_of
from lit_dqn.playing.places import Place
from lit_dqn.playing.policies import EpsilonGreedy, Greedy, Policy, UniformRandom
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.playing.seeds import sampling_generator
from lit_dqn.playing.sharded import ShardedCollector
from lit_dqn.ranks import Ranks
from lit_dqn.replay import Sampler, Sequences, ShardedReplay, Uniform, stacked_shape
from lit_dqn.saving.specification import specification
from lit_dqn.schedules import Schedule
from lit_dqn.training.actions import actions_of
from lit_dqn.training.dataset import ReplayDataset
from lit_dqn.training.played_data import OneStore
from lit_dqn.training.prefilled_data import PrefilledData
from lit_dqn.training.ranks import check_ranks
from lit_dqn.training.replay_placement import ReplayDevice
from lit_dqn.training.rollout_settings import check_rollout
from lit_dqn.training.sequence_settings import check_sequences
from lit_dqn.training.settings import check_policies, check_settings, stacked_parts
from lit_dqn.types import Chunk, StaticBatches

log = logging.getLogger("lit_dqn")


class ReplayDataModule(PrefilledData):
    """Everything around the agent: envs and replay, and how they feed the updates.

    Args:
        env_id: a Gymnasium env with discrete actions, one or several at once; `module:id` imports the module first.
        env_kwargs: passed to `gymnasium.make`; for ALE's games, the fields of `AtariProtocol`.
        wrappers: classes of Gymnasium wrappers for the env, the first one innermost.
        action_mask: the env reports the allowed actions in `info["action_mask"]`, one number per action, with every
            observation. A forbidden action is never played, and never used in the targets of learning.
        combine_actions: whether each combination of several discrete actions at once (`MultiDiscrete`) is an action
            with a value of its own; false: each choice of each of them has one, and the mean counts. None: up to 1,024
            combinations.
        num_envs: number of envs that are played in parallel.
        shards: number of parts into which envs, replay and each batch are split, a power of two. Each part has its own
            envs, its part of `capacity` and its part of every batch, and their gradients are added in a fixed order.
            The processes of a run share the shards; 1 is an ordinary run.
        strict: add the gradients of several processes in that order, too, so that their number changes no bit. False:
            one all-reduce of the backend, whose order depends on their number. One process ignores it.
        env_processes: play each env in its own process, which pays off if a step takes milliseconds.
        place: where envs are played, `RayActors`; None: in this process. The result of learning does not depend on it.
        frame_stack: frames in an observation.
        capacity: timesteps that the replay keeps, over all envs; with a `Rollout`, the timesteps of a training step.
        replay_device: where batches are built: `cuda` keeps a copy of all frames on the GPU and copies only new ones to
            it, `cpu` copies whole batches, `auto` uses the GPU that learns, if the frames fit there.
        prefill: demonstrations, `Play` or `MinariEpisodes`, with which the replay is filled before the first step of a
            run; they are not env steps of the agent, but they count towards `min_replay_size`.
        min_replay_size: timesteps in the replay before the first update: those of `prefill`, and env steps played by
            `warm_up_policy`; 0 with a `Rollout`.
        env_steps_per_update: env steps, over all envs, per update; 0: learn offline, from `prefill` alone. Schedules,
            curves and limits then count updates instead of env steps.
        gradient_steps: updates per training step of Lightning; their env steps are played before the first of them. 1
            is the textbook loop, more is faster for small networks.
        play_ahead: play the env steps of the next training step while this one learns, with the weights from before its
            updates, on a thread. It pays off if a core is free: set OMP_NUM_THREADS to the number of cores minus 1.
            Without it, the newest weights always act.
        batch_size: transitions in a batch; with `Sequences`, the number of sequences.
        updates_per_epoch: updates in an epoch, after which Lightning may evaluate and save.
        gamma: γ, per step, a number or a schedule over env steps.
        n_step: number of steps in a transition's window (Sutton & Barto 2020, section 7.1), a number or a schedule,
            which is rounded. The replay has room for the longest window, and a timestep can be drawn once that is
            complete.
        reward_clip: each step's reward is clipped to [-reward_clip, reward_clip] for learning (Mnih et al. 2015: 1);
            None: no clipping. Reported returns are never clipped.
        policy: how the agent acts during training.
        warm_up_policy: how it acts before the first update. For policy evaluation use the policy itself, so that the
            replay is on-policy from the start.
        sampler: chooses the transitions of a batch.
        eval_episodes: number of episodes of an evaluation.
        eval_envs: number of envs that play them in parallel; the episodes do not depend on it.
        eval_max_steps: cap on the agent steps of an evaluation episode; a greedy policy can loop endlessly.
        eval_policy: how the agent acts in evaluations; a schedule in it keeps its start value.
        resume_env: how a resumed run treats the episodes that were running: `exact` plays them again from their seeds
            and actions; `new_episode` truncates them, for envs that are not deterministic.
        seed: of episodes, exploration and sampling; None: that of `seed_everything`.

    Raises:
        ConfigError: if a value is out of its range, or the env cannot be played.

    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Sequence[Wrapper] = (),
        action_mask: bool = False,
        combine_actions: bool | None = None,
        num_envs: int = 1,
        shards: int = 1,
        strict: bool = True,
        env_processes: bool = False,
        place: Place | None = None,
        frame_stack: int = 1,
        capacity: int = 10_000,
        replay_device: ReplayDevice = ReplayDevice.auto,
        prefill: Sequence[Demonstrations] = (),
        min_replay_size: int = 1_000,
        env_steps_per_update: int = 1,
        gradient_steps: int = 1,
        play_ahead: bool = False,
        batch_size: int = 32,
        updates_per_epoch: int = 1_000,
        gamma: Schedule | float = 0.99,
        n_step: Schedule | int = 1,
        reward_clip: float | None = None,
        policy: Policy = EpsilonGreedy(),  # noqa: B008 - policies have no state
        warm_up_policy: Policy = UniformRandom(),  # noqa: B008
        sampler: Sampler = Uniform(),  # noqa: B008 - samplers have no state
        eval_episodes: int = 10,
        eval_envs: int = 1,
        eval_max_steps: int = 27_000,
        eval_policy: Policy = Greedy(),  # noqa: B008
        resume_env: ResumeEnv = ResumeEnv.exact,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.env_id = env_id
        self.env_kwargs = env_kwargs or {}
        self.wrappers = wrappers
        self.action_mask = action_mask
        self.combine_actions = combine_actions
        self.num_envs = num_envs
        self.shards = shards
        self.strict = strict
        self.env_processes = env_processes
        if env_processes:
            end_if_this_plays_an_env()
        self.place = place
        self.frame_stack = frame_stack
        self.capacity = capacity
        self.replay_device = ReplayDevice(replay_device)
        self.prefill = prefill
        self.min_replay_size = min_replay_size
        self.env_steps_per_update = env_steps_per_update
        self.gradient_steps = gradient_steps
        self.play_ahead = play_ahead
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.gamma = gamma
        self.n_step = n_step
        self.reward_clip = reward_clip
        self.policy = policy
        self.warm_up_policy = warm_up_policy
        self.sampler = sampler
        self.eval_episodes = eval_episodes
        self.eval_envs = eval_envs
        self.eval_max_steps = eval_max_steps
        self.eval_policy = eval_policy
        self.resume_env = ResumeEnv(resume_env)
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        check_settings(vars(self))
        if sampler.is_rollout:
            check_rollout(vars(self))
        if isinstance(sampler, Sequences):
            check_sequences(vars(self), sampler)

        env = make_env(env_id, env_kwargs, wrappers, action_mask=action_mask)
        self.num_actions, self.num_combinations = actions_of(
            env.action_space, env_id, action_mask=action_mask, combine_actions=combine_actions
        )
        check_first_step(env_id, env, action_mask)
        env.close()
        space = env.observation_space
        assert space.shape is not None
        self._frame_shape, self._frame_dtype = space.shape, stored_dtype(space)
        self.frame_parts = space.parts if isinstance(space, RowSpace) else None
        self.parts = None if self.frame_parts is None else stacked_parts(self.frame_parts, frame_stack)
        self._row_shape = stacked_shape(frame_stack, self._frame_shape) if self.parts is None else self.parts.row_shape
        self.sees_images = self.parts is None and len(self._row_shape) == 3 and is_image(space)
        self.observation_shape = self._row_shape if self.parts is None else self.parts.described()
        policies = {key: getattr(self, key) for key in ("policy", "warm_up_policy", "eval_policy")}
        check_policies(policies, env_id, self.blank_observation, self.num_combinations)
        settings = {name: vars(self)[name] for name in _argument_names(type(self))}
        self.save_hyperparameters(specification(settings), logger=False)  # `RunDescription` logs them

        self.collector: Collector | ShardedCollector | None = None
        self._play_ahead: PlayAhead | None = None
        self.store: OneStore | ShardedReplay | None = None
        self.prefilled = 0
        self.stopped = False  # set by callbacks to end the run, even during the warm-up
        self._refill = False
        self.processes = 1  # number of processes of the run, which share the shards
        self._sampling = [sampling_generator(self.seed, shard) for shard in range(shards)]

    @property
    def blank_observation(self) -> np.ndarray:
        """An observation of zeros in the agent's form: [1, *observation_shape], or a row of its parts."""
        return np.zeros((1, *self._row_shape), self._frame_dtype)

    @property
    def env_steps_per_chunk(self) -> int:
        """Env steps, over all envs, per training step."""
        return self.gradient_steps * self.env_steps_per_update

    def setup(self, stage: str) -> None:
        """Build the envs and the replay for training, once per fit.

        Raises:
            ConfigError: if the processes cannot share the shards, or the replay does not fit.

        """
        if self.trainer is not None:
            check_ranks(self.trainer, self.shards)
        if stage == "fit" and (self.collector is None or self.collector.closed):
            self.collector = self.store = None  # frees the replay of an earlier fit
            self.prefilled = 0
            self.processes = Ranks.now().count
            if self.trainer is not None:
                self.memory_size = memory_size_of(self._agent())
            self.check_memory()
            learns_on = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
            device = self.device_of_frames(learns_on)
            self.collector, self.store = self._make_shards(device)
            self._play_ahead = PlayAhead(self.collector) if self.play_ahead else None
            self.asynchronous = self._make_asynchronous()

    def train_dataloader(self) -> ReplayDataset:
        """The dataset itself: it yields whole chunks and plays in this process, so a DataLoader has nothing to do.

        Raises:
            ConfigError: if the demonstrations are not available, or too few for offline learning.
            TrainingError: if the run resumes from a checkpoint that has no replay.

        """
        assert self.trainer is not None
        assert self.collector is not None
        assert self.store is not None
        if self.trainer.global_step > 0 and self.collector.env_step == 0:
            raise self.no_replay()
        refill, self._refill = self._refill, False
        if self.prefill and (refill or self.trainer.ckpt_path is None):
            self.fill(self.store)
        return ReplayDataset(
            self.collector,
            self.store,
            self._agent(),
            self._draw,
            batch_size=self.batch_size // self.shards,
            env_steps_per_chunk=self.env_steps_per_chunk,
            updates_per_chunk=self.gradient_steps,
            chunks_per_epoch=self.updates_per_epoch // self.gradient_steps,
            min_replay_size=max(self.min_replay_size - self.prefilled, 0),
            warm_up_policy=self.warm_up_policy,
            refill=refill,
            stopped=lambda: Ranks.now().highest(int(self.stopped)) > 0,
            play_ahead=self._play_ahead,
            asynchronous=self.asynchronous,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """As in Lightning, but skipped if there is nothing to move, because traversing a chunk takes time."""
        is_there = device.type == "cpu" or (isinstance(batch, Chunk) and isinstance(batch.batches, StaticBatches))
        return batch if is_there else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def teardown(self, stage: str) -> None:
        """Close the envs; the replay is kept for inspection after the run."""
        with contextlib.ExitStack() as closing:  # close all of them, even if one fails
            while self._evaluation_envs:
                closing.callback(self._evaluation_envs.pop().close)
            if stage == "fit" and self.collector is not None:
                closing.callback(self.collector.close)
            if self._distant is not None:
                closing.callback(self._distant.close)
                if self._play_ahead is not None:
                    closing.callback(self._play_ahead.close)

    def on_exception(self, exception: BaseException) -> None:
        """Also close the envs here: Lightning skips teardown after an exception, such as that of a signal."""
        try:
            self.teardown("fit")
        except Exception as error:
            log.warning("an env could not be closed: %s", error)  # the error that ended the run matters more


def _argument_names(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name != "seed"]
