import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any, cast

import gymnasium
import lightning
import numpy as np
from gymnasium import spaces
from torch.utils.data import IterableDataset

from lit_dqn.collector import Collector
from lit_dqn.envs import (
    check_first_observation,
    episode_seed,
    make_env,
    make_env_with_pictures,
    make_vec,
    stored_dtype,
)
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.evaluation import EvaluationDataset, TrajectoryDataset
from lit_dqn.policies import EpsilonGreedy, Greedy, Policy, UniformRandom
from lit_dqn.replay import ReplayBuffer, Sampler, Uniform, check_fits, stack_frames
from lit_dqn.specification import specification
from lit_dqn.types import ActionPreferences, Chunk

SAMPLING_STREAM = 2
"""Sets the generator of sampling apart from those of exploration."""

EVALUATION_ENV = 2**32 - 1
"""The index that the evaluation env has in the seeds of its episodes; no training env has it."""


class ReplayDataset(IterableDataset[Chunk]):
    """Play, store, sample: one chunk per training step. All state is on objects, for `__iter__` runs every epoch.

    Its length keeps Lightning from fetching a chunk ahead, which would be played with old weights.
    """

    def __init__(
        self,
        collector: Collector,
        sampler: Sampler,
        agent: ActionPreferences,
        generator: np.random.Generator,
        *,
        batch_size: int,
        gradient_steps: int,
        env_steps_per_chunk: int,
        chunks_per_epoch: int,
        min_replay_size: int,
        warm_up_policy: Policy,
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

    def __len__(self) -> int:
        return self.chunks_per_epoch

    def __iter__(self) -> Iterator[Chunk]:
        collector = self.collector
        collector.warm_up(self.agent, self.min_replay_size, starts=self.batch_size, policy=self.warm_up_policy)
        for _ in range(self.chunks_per_epoch):
            collector.collect(self.agent, self.env_steps_per_chunk)
            starts = collector.replay.starts
            yield Chunk(
                batches=tuple(
                    collector.replay.sample(self.sampler.sample(starts, self.batch_size, self.generator))
                    for _ in range(self.gradient_steps)
                ),
                env_step=collector.env_step,
            )


class ReplayDataModule(lightning.LightningDataModule):
    """Everything around the agent: envs, replay, and how they feed the updates.

    Args:
        env_id: a Gymnasium env with discrete actions; `module:id` imports the module first.
        env_kwargs: handed to `gymnasium.make`.
        num_envs: envs that are played side by side.
        frame_stack: frames in an observation.
        capacity: timesteps that the replay keeps, over all envs.
        min_replay_size: env steps that are played by `warm_up_policy` before the first update.
        env_steps_per_update: env steps, over all envs, for each update.
        gradient_steps: updates for each training step of Lightning; their env steps are played before the first of
            them. 1 is the textbook loop, more is faster where the network is small.
        batch_size: transitions in a batch.
        updates_per_epoch: updates in an epoch, after which Lightning may evaluate and save.
        gamma: γ, per step.
        n_step: steps in a transition's window (Sutton & Barto 2020, section 7.1).
        policy: how the agent acts while it learns.
        warm_up_policy: how it acts before the first update. Policy evaluation wants the policy itself, so that the
            replay is on-policy from the start.
        sampler: which transitions make a batch.
        eval_episodes: episodes of an evaluation.
        eval_max_steps: cap on the agent steps of an evaluation episode; a greedy policy can loop for ever.
        eval_policy: how the agent acts while it is evaluated.
        seed: of episodes, exploration and sampling; None takes the one of `seed_everything`.

    Raises:
        ConfigError: if a value is out of its range, the env cannot be played, or the replay does not fit in memory.

    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: dict[str, Any] | None = None,
        num_envs: int = 1,
        frame_stack: int = 1,
        capacity: int = 10_000,
        min_replay_size: int = 1_000,
        env_steps_per_update: int = 1,
        gradient_steps: int = 1,
        batch_size: int = 32,
        updates_per_epoch: int = 1_000,
        gamma: float = 0.99,
        n_step: int = 1,
        policy: Policy = EpsilonGreedy(),  # noqa: B008 - policies have no state
        warm_up_policy: Policy = UniformRandom(),  # noqa: B008
        sampler: Sampler = Uniform(),  # noqa: B008 - nor have samplers
        eval_episodes: int = 10,
        eval_max_steps: int = 27_000,
        eval_policy: Policy = Greedy(),  # noqa: B008
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.env_id = env_id
        self.env_kwargs = env_kwargs or {}
        self.num_envs = num_envs
        self.frame_stack = frame_stack
        self.capacity = capacity
        self.min_replay_size = min_replay_size
        self.env_steps_per_update = env_steps_per_update
        self.gradient_steps = gradient_steps
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.gamma = gamma
        self.n_step = n_step
        self.policy = policy
        self.warm_up_policy = warm_up_policy
        self.sampler = sampler
        self.eval_episodes = eval_episodes
        self.eval_max_steps = eval_max_steps
        self.eval_policy = eval_policy
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self._check_numbers()

        env = make_env(env_id, env_kwargs)
        check_first_observation(env_id, env)
        assert isinstance(env.action_space, spaces.Discrete)
        assert env.observation_space.shape is not None
        self.num_actions = int(env.action_space.n)
        self._frame_shape = env.observation_space.shape
        self._frame_dtype = stored_dtype(env.observation_space)
        env.close()
        self.observation_shape = self._frame_shape
        if frame_stack > 1:
            frames = np.broadcast_to(np.uint8(0), (1, frame_stack, *self._frame_shape))
            self.observation_shape = stack_frames(frames).shape[1:]
        check_fits(
            capacity,
            lambda timesteps: ReplayBuffer.required_bytes(
                timesteps, num_envs, self._frame_shape, self._frame_dtype, n_step=n_step, frame_stack=frame_stack
            ),
        )
        self.save_hyperparameters(specification({name: vars(self)[name] for name in _argument_names(type(self))}))

        self.collector: Collector | None = None
        self._evaluation_envs: list[gymnasium.Env] = []
        self._sampling = np.random.default_rng((self.seed, 0, 0, SAMPLING_STREAM))

    def _check_numbers(self) -> None:
        for key in [
            "num_envs",
            "frame_stack",
            "capacity",
            "min_replay_size",
            "env_steps_per_update",
            "gradient_steps",
            "batch_size",
            "updates_per_epoch",
            "n_step",
            "eval_episodes",
            "eval_max_steps",
        ]:
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}: {getattr(self, key)} must be at least 1.")
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"gamma: {self.gamma} is a discount per step and must lie in [0, 1].")
        if self.batch_size > self.capacity:
            raise ConfigError(
                f"batch_size: {self.batch_size} transitions cannot be drawn from a replay with capacity "
                f"{self.capacity}; set --data.capacity {self.batch_size} or more."
            )
        if not self.batch_size <= self.min_replay_size <= self.capacity:
            raise ConfigError(
                f"min_replay_size: {self.min_replay_size} must lie between batch_size {self.batch_size} "
                f"and capacity {self.capacity}."
            )
        if self.updates_per_epoch % self.gradient_steps:
            raise ConfigError(
                f"updates_per_epoch: {self.updates_per_epoch} must be a multiple of "
                f"gradient_steps {self.gradient_steps}."
            )
        if self.seed < 0:
            raise ConfigError(f"seed: {self.seed} must not be negative.")
        if self.gradient_steps > 1 and not self.sampler.random:
            raise ConfigError(
                f"gradient_steps: the {self.gradient_steps} batches of a chunk are drawn from one replay, and the "
                f"sampler {type(self.sampler).__name__} would draw the same one each time; set --data.gradient_steps 1."
            )
        if self.env_steps_per_chunk % self.num_envs:
            raise ConfigError(
                f"num_envs: {self.num_envs} envs step together, so gradient_steps x env_steps_per_update = "
                f"{self.env_steps_per_chunk} env steps must be a multiple of {self.num_envs}; "
                f"set --data.gradient_steps {self.num_envs} or fewer envs."
            )

    @property
    def env_steps_per_chunk(self) -> int:
        """Env steps, over all envs, that are played for each training step."""
        return self.gradient_steps * self.env_steps_per_update

    # --- training ---

    def setup(self, stage: str) -> None:
        """Build the envs and the replay of training, once for each fit."""
        if stage == "fit" and (self.collector is None or self.collector.envs.closed):
            envs = make_vec(self.env_id, self.num_envs, self.env_kwargs)
            replay = ReplayBuffer(
                self.capacity,
                self.num_envs,
                self._frame_shape,
                self._frame_dtype,
                gamma=self.gamma,
                n_step=self.n_step,
                frame_stack=self.frame_stack,
            )
            self.collector = Collector(envs, self.policy, replay, self.seed)

    def train_dataloader(self) -> ReplayDataset:
        """The dataset itself: it gives whole chunks and plays in this process, so a DataLoader has nothing to do.

        Raises:
            TrainingError: if the run goes on from a checkpoint that has no replay.

        """
        assert self.trainer is not None
        assert self.collector is not None
        if self.trainer.global_step > 0 and self.collector.env_step == 0:
            raise TrainingError(
                "the checkpoint has no state of ReplayDataModule, so the run cannot go on; "
                "start anew from its weights with --model.init_from."
            )
        return ReplayDataset(
            self.collector,
            self.sampler,
            self._agent(),
            self._sampling,
            batch_size=self.batch_size,
            gradient_steps=self.gradient_steps,
            env_steps_per_chunk=self.env_steps_per_chunk,
            chunks_per_epoch=self.updates_per_epoch // self.gradient_steps,
            min_replay_size=self.min_replay_size,
            warm_up_policy=self.warm_up_policy,
        )

    def _agent(self) -> ActionPreferences:
        # The policy acts by the weights of the module, which this room must not import.
        return cast(ActionPreferences, self.trainer.lightning_module)  # type: ignore[union-attr]

    # --- evaluation ---

    def val_dataloader(self) -> EvaluationDataset:
        """`eval_episodes` episodes with the same seeds each time, in an env of their own."""
        return EvaluationDataset(self._watched(make_env(self.env_id, self.env_kwargs)), **self._evaluation())

    def test_dataloader(self) -> EvaluationDataset:
        """The same episodes as `val_dataloader`."""
        return self.val_dataloader()

    def predict_dataloader(self) -> TrajectoryDataset:
        """The same episodes as `val_dataloader`, with pictures where the env can render them."""
        env = self._watched(make_env_with_pictures(self.env_id, self.env_kwargs))
        return TrajectoryDataset(env, **self._evaluation())

    @property
    def evaluation_seeds(self) -> list[int]:
        """Of the evaluation episodes."""
        return [episode_seed(self.seed, EVALUATION_ENV, number) for number in range(1, self.eval_episodes + 1)]

    def _watched(self, env: gymnasium.Env) -> gymnasium.Env:
        self._evaluation_envs.append(env)
        return env

    def _evaluation(self) -> dict[str, Any]:
        return {
            "agent": self._agent(),
            "policy": self.eval_policy,
            "seeds": self.evaluation_seeds,
            "max_steps": self.eval_max_steps,
            "frame_stack": self.frame_stack,
        }

    def teardown(self, stage: str) -> None:
        """Close the envs; the replay stays, for whoever looks at it after the run."""
        if stage == "fit" and self.collector is not None:
            self.collector.envs.close()
        while self._evaluation_envs:
            self._evaluation_envs.pop().close()

    # --- checkpoints ---

    def state_dict(self) -> dict[str, Any]:
        """Collector, replay and generators while training, nothing otherwise."""
        if self.collector is None:
            return {}
        return {
            "collector": self.collector.state_dict(),
            "replay": self.collector.replay.state_dict(),
            "sampling": self._sampling.bit_generator.state,
        }

    def check_continues(self, saved: Mapping[str, Any]) -> None:
        """Refuse to go on with settings that a saved replay was not made for.

        Args:
            saved: the data module's hyper-parameters in the checkpoint.

        Raises:
            ConfigError: naming the first key that differs.

        """
        for key in ("env_id", "env_kwargs", "num_envs", "capacity", "n_step", "frame_stack"):
            if saved.get(key) != self.hparams[key]:
                raise ConfigError(
                    f"{key}: the checkpoint's replay was made with {saved.get(key)}, not {self.hparams[key]}; set "
                    f"--data.{key} {saved.get(key)}, or start anew from its weights with --model.init_from."
                )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, when training.

        Raises:
            TrainingError: if the replay was not read with the checkpoint.

        """
        if self.collector is not None:
            if "arrays" not in state_dict["replay"]:
                raise TrainingError(
                    "the checkpoint's replay lies in a file beside it, which Lightning does not read by itself; "
                    "give the Trainer plugins=[lit_dqn.ReplayCheckpointIO()]."
                )
            self.collector.replay.load_state_dict(state_dict["replay"])
            self.collector.load_state_dict(state_dict["collector"])
            self._sampling.bit_generator.state = state_dict["sampling"]


def _argument_names(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name != "seed"]
