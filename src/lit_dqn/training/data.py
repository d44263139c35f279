import bisect
import contextlib
import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import gymnasium
import lightning
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from lit_dqn.envs import (
    AtariProtocol,
    Wrapper,
    check_first_step,
    is_atari,
    make_env,
    make_env_with_pictures,
    make_vec,
    stored_dtype,
)
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.playing.ahead import PlayAhead
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.evaluation import PlayedDataset, Trajectory, play_episodes, play_trajectories
from lit_dqn.playing.policies import EpsilonGreedy, Greedy, Policy, UniformRandom
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.playing.seeds import EVALUATION_ENV, TEST_ENV, evaluation_seeds, sampling_generator
from lit_dqn.replay import (
    DeviceFrames,
    Replay,
    ReplayBuffer,
    Sampler,
    Uniform,
    check_fits,
    device_bytes,
    stacked_shape,
)
from lit_dqn.saving.specification import as_typed, specification
from lit_dqn.training.dataset import ReplayDataset
from lit_dqn.training.settings import check_policies, check_settings
from lit_dqn.types import Chunk, CopiedAgent, Episode, StaticBatches

log = logging.getLogger("lit_dqn")

KEPT_ON_RESUME = (
    "env_id",
    "env_kwargs",
    "wrappers",
    "num_envs",
    "capacity",
    "n_step",
    "frame_stack",
    "updates_per_epoch",
    "gradient_steps",
)
"""What must be as in the checkpoint: the layout of the replay, and how updates and epochs are counted."""


class ReplayDevice(Enum):
    """Where a replay's frames lie, besides in the memory of the machine."""

    auto = "auto"
    """On the GPU that learns, if there is one and they fit."""

    cpu = "cpu"
    """Nowhere else: batches are put together by the CPU."""

    cuda = "cuda"
    """On the GPU that learns."""


class ReplayDataModule(lightning.LightningDataModule):
    """Everything around the agent: envs, replay, and how they feed the updates.

    Args:
        env_id: a Gymnasium env with discrete actions; `module:id` imports the module first.
        env_kwargs: handed to `gymnasium.make`; for ALE's games, the fields of `AtariProtocol`.
        wrappers: classes of Gymnasium wrappers that are put around the env, the first one innermost.
        num_envs: envs that are played side by side.
        env_processes: play each of them in a process of its own, which pays where a step takes milliseconds.
        frame_stack: frames in an observation.
        capacity: timesteps that the replay keeps, over all envs.
        replay_device: where batches are put together: `cuda` keeps a copy of all frames on the GPU and sends it new
            ones only, `cpu` sends whole batches, `auto` takes the GPU that learns, if the frames fit there.
        min_replay_size: env steps that are played by `warm_up_policy` before the first update.
        env_steps_per_update: env steps, over all envs, for each update.
        gradient_steps: updates for each training step of Lightning; their env steps are played before the first of
            them. 1 is the textbook loop, more is faster where the network is small.
        play_ahead: play the env steps of the next training step while this one learns, by the weights from before its
            updates, on a thread. It pays where a core is free for it: set OMP_NUM_THREADS one below their number. Off,
            acting always has the newest weights.
        batch_size: transitions in a batch.
        updates_per_epoch: updates in an epoch, after which Lightning may evaluate and save.
        gamma: γ, per step.
        n_step: steps in a transition's window (Sutton & Barto 2020, section 7.1).
        reward_clip: each step's reward is clipped to [-reward_clip, reward_clip] for learning (Mnih et al. 2015: 1);
            None for no clipping. Returns are reported as the env gave them.
        policy: how the agent acts while it learns.
        warm_up_policy: how it acts before the first update. Policy evaluation wants the policy itself, so that the
            replay is on-policy from the start.
        sampler: which transitions make a batch.
        eval_episodes: episodes of an evaluation.
        eval_envs: envs that play them side by side; the episodes are the same for any number.
        eval_max_steps: cap on the agent steps of an evaluation episode; a greedy policy can loop for ever.
        eval_policy: how the agent acts while it is evaluated; a schedule in it stays at its start.
        resume_env: what becomes of the episodes that were running when a run goes on: `exact` plays them again from
            their seeds and actions; `new_episode` cuts them, for envs that are not deterministic.
        seed: of episodes, exploration and sampling; None takes the one of `seed_everything`.

    Raises:
        ConfigError: if a value is out of its range, or the env cannot be played.

    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Sequence[Wrapper] = (),
        num_envs: int = 1,
        env_processes: bool = False,
        frame_stack: int = 1,
        capacity: int = 10_000,
        replay_device: ReplayDevice = ReplayDevice.auto,
        min_replay_size: int = 1_000,
        env_steps_per_update: int = 1,
        gradient_steps: int = 1,
        play_ahead: bool = False,
        batch_size: int = 32,
        updates_per_epoch: int = 1_000,
        gamma: float = 0.99,
        n_step: int = 1,
        reward_clip: float | None = None,
        policy: Policy = EpsilonGreedy(),  # noqa: B008 - policies have no state
        warm_up_policy: Policy = UniformRandom(),  # noqa: B008
        sampler: Sampler = Uniform(),  # noqa: B008 - nor have samplers
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
        self.num_envs = num_envs
        self.env_processes = env_processes
        self.frame_stack = frame_stack
        self.capacity = capacity
        self.replay_device = ReplayDevice(replay_device)
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
        self.resume_env = resume_env
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        check_settings(vars(self))

        env = make_env(env_id, env_kwargs, wrappers)
        check_first_step(env_id, env)
        assert isinstance(env.action_space, spaces.Discrete)
        assert env.observation_space.shape is not None
        self.num_actions = int(env.action_space.n)
        self._frame_shape = env.observation_space.shape
        self._frame_dtype = stored_dtype(env.observation_space)
        env.close()
        self.observation_shape = stacked_shape(frame_stack, self._frame_shape)
        policies = {key: getattr(self, key) for key in ("policy", "warm_up_policy", "eval_policy")}
        check_policies(policies, env_id, self.blank_observation, self.num_actions)
        settings = {name: vars(self)[name] for name in _argument_names(type(self))}
        self.save_hyperparameters(specification(settings), logger=False)  # `RunDescription` logs them

        self.collector: Collector | None = None
        self._play_ahead: PlayAhead | None = None
        self.store: Replay | None = None
        self.stopped = False  # set from outside when the run shall end: filling the replay then ends, too
        self._refill = False
        self._evaluation_envs: list[gymnasium.Env | VectorEnv] = []
        self._sampling = sampling_generator(self.seed)

    @property
    def blank_observation(self) -> np.ndarray:
        """An observation of zeros, as the agent is shown them: [1, *observation_shape]."""
        return np.zeros((1, *self.observation_shape), self._frame_dtype)

    @property
    def env_steps_per_chunk(self) -> int:
        """Env steps, over all envs, that are played for each training step."""
        return self.gradient_steps * self.env_steps_per_update

    def replay_bytes(self, capacity: int) -> int:
        """Memory of a full replay of so many timesteps, in bytes."""
        return ReplayBuffer.required_bytes(
            capacity,
            self.num_envs,
            self._frame_shape,
            self._frame_dtype,
            n_step=self.n_step,
            frame_stack=self.frame_stack,
        )

    def device_frames_bytes(self, capacity: int) -> int:
        """Memory that the frames of a full replay of so many timesteps take on a GPU, in bytes."""
        return ReplayBuffer.frames_bytes(
            capacity,
            self.num_envs,
            self._frame_shape,
            self._frame_dtype,
            n_step=self.n_step,
            frame_stack=self.frame_stack,
        )

    def check_memory(self) -> None:
        """Refuse a replay that does not fit, before it is allocated; only training has one.

        Raises:
            ConfigError: naming the capacity that would fit.

        """
        check_fits(self.capacity, self.replay_bytes)

    def check_device(self, device: torch.device) -> None:
        """Refuse a device that the replay's frames shall lie on and cannot.

        Args:
            device: that learns.

        Raises:
            ConfigError: naming what would do.

        """
        if self.replay_device is ReplayDevice.cuda:
            self.device_of_frames(device)

    def device_of_frames(self, device: torch.device) -> torch.device | None:
        """Where the replay's frames lie besides in the memory of the machine; None: nowhere.

        Args:
            device: that learns.

        Raises:
            ConfigError: if they shall lie on a GPU that is not there, or where they do not fit.

        """
        if self.replay_device is ReplayDevice.cpu or (
            self.replay_device is ReplayDevice.auto and device.type != "cuda"
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
        # Less than what fits now, for others take memory, too, until it is typed.
        fits = (bisect.bisect_right(range(self.capacity), free, key=self.device_frames_bytes) - 1) * 97 // 100
        raise ConfigError(
            f"replay_device: {sentence}; set --data.replay_device cpu, or --data.capacity {max(fits, 1)} or less."
        )

    def _make_vec(self, num_envs: int) -> VectorEnv:
        return make_vec(self.env_id, num_envs, self.env_kwargs, self.wrappers, processes=self.env_processes)

    # --- training ---

    def setup(self, stage: str) -> None:
        """Build the envs and the replay of training, once for each fit."""
        if stage == "fit" and (self.collector is None or self.collector.envs.closed):
            self.collector = self.store = None  # and with them the replay of a fit before this one
            self.check_memory()
            learns_on = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
            device = self.device_of_frames(learns_on)
            envs = self._make_vec(self.num_envs)
            buffer = ReplayBuffer(
                self.capacity,
                self.num_envs,
                self._frame_shape,
                self._frame_dtype,
                gamma=self.gamma,
                n_step=self.n_step,
                frame_stack=self.frame_stack,
                reward_clip=self.reward_clip,
            )
            self.collector = Collector(envs, self.policy, buffer, self.seed)
            self._play_ahead = PlayAhead(self.collector) if self.play_ahead else None
            self.store = Replay(buffer, self.sampler, DeviceFrames(buffer, device) if device is not None else None)

    def train_dataloader(self) -> ReplayDataset:
        """The dataset itself: it gives whole chunks and plays in this process, so a DataLoader has nothing to do.

        Raises:
            TrainingError: if the run goes on from a checkpoint that has no replay.

        """
        assert self.trainer is not None
        assert self.collector is not None
        assert self.store is not None
        if self.trainer.global_step > 0 and self.collector.env_step == 0:
            raise TrainingError(
                "the checkpoint has no state of ReplayDataModule, so the run cannot go on; "
                f"start anew from its weights with --model.init_from {self.trainer.ckpt_path}."
            )
        refill, self._refill = self._refill, False
        return ReplayDataset(
            self.collector,
            self.store,
            self._agent(),
            self._sampling,
            batch_size=self.batch_size,
            gradient_steps=self.gradient_steps,
            env_steps_per_chunk=self.env_steps_per_chunk,
            chunks_per_epoch=self.updates_per_epoch // self.gradient_steps,
            min_replay_size=self.min_replay_size,
            warm_up_policy=self.warm_up_policy,
            refill=refill,
            stopped=lambda: self.stopped,
            play_ahead=self._play_ahead,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """As Lightning has it, but where there is nothing to move, looking through a chunk would take time."""
        is_there = device.type == "cpu" or (isinstance(batch, Chunk) and isinstance(batch.batches, StaticBatches))
        return batch if is_there else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _agent(self) -> CopiedAgent:
        # The policy acts by the weights of the module, which this room must not import.
        return cast(CopiedAgent, self.trainer.lightning_module)  # type: ignore[union-attr]

    # --- evaluation ---

    def val_dataloader(self) -> PlayedDataset[Episode]:
        """`eval_episodes` episodes with the same seeds each time, in envs of their own."""
        return self._evaluation_episodes(EVALUATION_ENV)

    def test_dataloader(self) -> PlayedDataset[Episode]:
        """As `val_dataloader`, with other seeds."""
        return self._evaluation_episodes(TEST_ENV)

    def _evaluation_episodes(self, env: int) -> PlayedDataset[Episode]:
        envs = self._make_vec(min(self.eval_envs, self.eval_episodes))
        self._evaluation_envs.append(envs)
        return PlayedDataset(envs, self._seeds(env), partial(play_episodes, **self._evaluation()))

    def predict_dataloader(self) -> PlayedDataset[Trajectory]:
        """The same episodes as `test_dataloader`, with pictures where the env can render them."""
        env = make_env_with_pictures(self.env_id, self.env_kwargs, self.wrappers)
        self._evaluation_envs.append(env)
        return PlayedDataset(env, self._seeds(TEST_ENV), partial(play_trajectories, **self._evaluation()))

    @property
    def evaluation_seeds(self) -> list[int]:
        """Of the evaluation episodes during training."""
        return self._seeds(EVALUATION_ENV)

    @property
    def test_seeds(self) -> list[int]:
        """Of the episodes of `test`, and of `predict`."""
        return self._seeds(TEST_ENV)

    def _seeds(self, env: int) -> list[int]:
        return evaluation_seeds(self.seed, env, self.eval_episodes)

    def evaluation_protocol(self) -> dict[str, Any]:
        """What must be known of the evaluation episodes to compare their returns, as plain values."""
        protocol: dict[str, Any] = {
            "episodes": self.eval_episodes,
            "max_steps": self.eval_max_steps,
            "policy": type(self.eval_policy).__name__,
            **self.eval_policy.metrics(0),
            "frame_stack": self.frame_stack,
            "seed": self.seed,
        }
        kwargs = self.env_kwargs
        env = AtariProtocol.of(self.env_id, kwargs).describe() if is_atari(self.env_id) else kwargs
        if self.wrappers:
            protocol["wrappers"] = specification(self.wrappers)
        return {**protocol, **specification(env)}

    def _evaluation(self) -> dict[str, Any]:
        return {
            "agent": self._agent(),
            "policy": self.eval_policy,
            "max_steps": self.eval_max_steps,
            "frame_stack": self.frame_stack,
        }

    def teardown(self, stage: str) -> None:
        """Close the envs; the replay stays, for whoever looks at it after the run."""
        with contextlib.ExitStack() as closing:  # all of them, also if one cannot be closed
            while self._evaluation_envs:
                closing.callback(self._evaluation_envs.pop().close)
            if stage == "fit" and self.collector is not None:
                closing.callback(self.collector.envs.close)
                if self._play_ahead is not None:
                    closing.callback(self._play_ahead.close)

    def on_exception(self, exception: BaseException) -> None:
        """Close the envs here, too: Lightning tears nothing down after an exception, such as a signal's."""
        try:
            self.teardown("fit")
        except Exception as error:
            log.warning("an env could not be closed: %s", error)  # what ended the run matters more

    # --- checkpoints ---

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Not from a checkpoint alone: Lightning's way would make whatever it names.

        Raises:
            ConfigError: always.

        """
        raise ConfigError(
            "ReplayDataModule.load_from_checkpoint: the data of a checkpoint are made with its agent; use "
            "Run.from_config(config, ckpt_path=...)."
        )

    def state_dict(self) -> dict[str, Any]:
        """Collector, replay and generators while training, nothing otherwise."""
        if self.collector is None or self.store is None:
            return {}
        return {
            "collector": self.collector.state_dict(),
            "replay": self.store.state_dict(),
            "sampling": self._sampling.bit_generator.state,
            "seed": self.seed,
        }

    def check_continues(self, saved: Mapping[str, Any], path: str | Path) -> None:
        """Refuse to go on with settings that a saved replay or the count of epochs was not made for.

        Args:
            saved: the data module's hyper-parameters in the checkpoint.
            path: where that is.

        Raises:
            ConfigError: naming the first key that differs.

        """
        for key in KEPT_ON_RESUME:
            # What an earlier release did not know was as it is by default.
            then = saved[key] if key in saved else specification(inspect.signature(type(self)).parameters[key].default)
            if then != self.hparams[key]:
                raise ConfigError(
                    f"{key}: the checkpoint was made with {then}, not {self.hparams[key]}, and cannot go on "
                    f"otherwise; set --data.{key} {as_typed(then)}, or start anew from its weights with "
                    f"--model.init_from {path}."
                )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, when training.

        Raises:
            ConfigError: if the saved replay is damaged.
            TrainingError: if the replay was not read with the checkpoint.

        """
        if self.collector is None or self.store is None:
            return
        replay = state_dict.get("replay")
        resume_env = self.resume_env
        if replay is None:
            log.warning(
                "the checkpoint comes without its replay: it is filled again with %s env steps before learning goes "
                "on, so from here on the run is not the one that was saved",
                f"{self.min_replay_size:,}",
            )
            self._refill = True
            resume_env = ResumeEnv.new_episode
        elif "folder" in replay and "sidecar" not in replay:
            raise TrainingError(
                "the checkpoint's replay lies in a folder beside it, which Lightning does not read by itself; "
                "give the Trainer plugins=[lit_dqn.ReplayCheckpointIO()]."
            )
        else:
            try:
                self.store.load_state_dict(replay)
            except (OSError, ValueError, KeyError) as error:
                raise ConfigError(f"ckpt_path: the replay of the checkpoint cannot be read: {error}.") from error
        self.collector.load_state_dict(state_dict["collector"], resume_env)
        self._sampling.bit_generator.state = state_dict["sampling"]


def _argument_names(cls: type) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name != "seed"]
