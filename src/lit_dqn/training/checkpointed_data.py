import inspect
import logging
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import lightning
import numpy as np

from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.playing.asynchronous import Asynchronous
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.places import Place
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.playing.sharded import ShardedCollector
from lit_dqn.ranks import Ranks
from lit_dqn.replay import ShardedReplay
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.contents import ASYNCHRONOUS, lacks_segments
from lit_dqn.saving.specification import as_typed, specification
from lit_dqn.types import Store

log = logging.getLogger("lit_dqn")

KEPT_ON_RESUME = (
    "env_id",
    "env_kwargs",
    "wrappers",
    "action_mask",
    "num_envs",
    "shards",
    "capacity",
    "n_step",
    "frame_stack",
    "updates_per_epoch",
    "gradient_steps",
)
"""Settings that must equal the checkpoint's: the layout of the replay, and how updates and epochs are counted."""


class CheckpointedData(lightning.LightningDataModule):
    """Data that are saved with a run and resumed with it: the collector, the store, and the generator of sampling."""

    collector: Collector | ShardedCollector | None = None
    store: Store | ShardedReplay | None = None
    asynchronous: Asynchronous | None = None
    """Asynchronous play during training; None: players play in turn."""

    place: Place | None
    resume_env: ResumeEnv
    min_replay_size: int
    seed: int
    shards: int
    prefilled = 0
    """Number of timesteps of demonstrations with which the replay was filled before learning began."""

    _sampling: list[np.random.Generator]
    _refill = False

    @classmethod
    def load_from_checkpoint(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Not supported: Lightning's method would create whatever the checkpoint names.

        Raises:
            ConfigError: always.

        """
        raise ConfigError(
            "ReplayDataModule.load_from_checkpoint: the data of a checkpoint are made with its agent; use "
            "Run.from_config(config, ckpt_path=...)."
        )

    def state_dict(self) -> dict[str, Any]:
        """Collector, replay and generators during training, otherwise nothing; with several shards a list of each."""
        if self.collector is None or self.store is None:
            return {}
        replay: Any = self.store.state_dict()
        sampling: Any = [generator.bit_generator.state for generator in self._sampling]
        if self.shards > 1:
            ranks = Ranks.now()
            here = ranks.shards(self.shards)
            sampling = [state for states in ranks.gather(sampling[here.start : here.stop]) for state in states]
            # Each process writes its own replay.
            replay = [replay.get(shard, {}) for shard in range(self.shards)]
        return {
            "collector": self.collector.state_dict(),
            "replay": replay,
            "sampling": sampling[0] if self.shards == 1 else sampling,
            "seed": self.seed,
            **({"prefilled": self.prefilled} if self.prefilled else {}),
            **({} if self.asynchronous is None else {ASYNCHRONOUS: self.asynchronous.state_dict()}),
        }

    def check_can_resume(self, checkpoint: Checkpoint) -> None:
        """Refuse to resume with settings that do not fit the saved replay or the count of epochs.

        Args:
            checkpoint: of the run.

        Raises:
            ConfigError: names the first key that differs.

        """
        saved = checkpoint.settings.data
        for key in KEPT_ON_RESUME:
            # Settings that an earlier release did not have had today's default values.
            then = saved[key] if key in saved else specification(inspect.signature(type(self)).parameters[key].default)
            if then != self.hparams[key]:
                raise ConfigError(
                    f"{key}: the checkpoint was made with {then}, not {self.hparams[key]}, and cannot resume "
                    f"otherwise; set --data.{key} {as_typed(then)}, or start a new run from its weights with "
                    f"--model.init_from {checkpoint.path}."
                )

        if self.place is not None and self.place.asynchronous:
            self._check_journal(checkpoint.asynchronous, str(checkpoint.path))

    def _check_journal(self, then: Mapping[str, int] | None, path: str) -> None:
        """Refuse to start a journal in the middle of a run."""
        now = cast(Place, self.place).envs_per_player
        if then is None:
            raise ConfigError(
                "place: the checkpoint is of a run without asynchronous play, whose first steps are in no journal; set "
                "--data.place.init_args.asynchronous false, or start a new run from its weights "
                f"with --model.init_from {path}."
            )
        if then["envs_per_player"] != now:
            raise ConfigError(
                f"place: the players of the checkpoint's journal have {then['envs_per_player']} envs, not {now}; set "
                f"--data.place.init_args.envs_per_player {then['envs_per_player']}."
            )

    def no_replay(self) -> TrainingError:
        """The error of a Trainer that has counted updates and has no replay for further ones."""
        assert self.trainer is not None
        if self.trainer.ckpt_path is None:
            return TrainingError(
                "this Trainer has trained before, and its replay is gone; create another Trainer for the agent, which "
                "keeps its weights, or resume a checkpoint by fit(..., ckpt_path=...)."
            )
        return TrainingError(
            "the checkpoint has no state of ReplayDataModule, so the run cannot resume; "
            f"start a new run from its weights with --model.init_from {self.trainer.ckpt_path}."
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a saved state, for training.

        Raises:
            ConfigError: if the saved replay is damaged, or a journal would begin in the middle of a run.
            TrainingError: if the replay was not read with the checkpoint.

        """
        if self.collector is None or self.store is None:
            return
        replay = state_dict.get("replay")
        resume_env = self.resume_env
        if replay is None:
            log.warning(
                "the checkpoint comes without its replay: it is filled again with %s env steps before learning "
                "continues, so from here on the run is not the one that was saved",
                f"{self.min_replay_size:,}",
            )
            self._refill = True
            resume_env = ResumeEnv.new_episode
        elif lacks_segments(replay):
            raise TrainingError(
                "the checkpoint's replay lies in a folder beside it, which Lightning does not read by itself; "
                "give the Trainer plugins=[lit_dqn.ReplayCheckpointIO()]."
            )
        else:
            self.prefilled = state_dict.get("prefilled", 0)
            try:
                self.store.load_state_dict(replay)
            except (OSError, ValueError, KeyError) as error:
                raise ConfigError(f"ckpt_path: the replay of the checkpoint cannot be read: {error}.") from error
        self.collector.load_state_dict(state_dict["collector"], resume_env)
        if self.asynchronous is not None:
            self._check_journal(state_dict.get(ASYNCHRONOUS), "CHECKPOINT")
            self.asynchronous.load_state_dict(state_dict[ASYNCHRONOUS])
        saved = state_dict["sampling"] if self.shards > 1 else [state_dict["sampling"]]
        for generator, state in zip(self._sampling, saved, strict=True):
            generator.bit_generator.state = state
