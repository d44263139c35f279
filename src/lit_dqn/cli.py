"""`python -m lit_dqn fit | validate | test | predict`: LightningCLI around LitDQN and ReplayDataModule."""

import difflib
import inspect
import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from lit_dqn.callbacks import (
    Checkpoints,
    MazeView,
    StoppingRules,
    TrainingProgress,
    TrainingStatistics,
    TrajectoryWriter,
)
from lit_dqn.checkpoint import ReplayCheckpointIO, check_shapes, find_checkpoint, read_checkpoint
from lit_dqn.data import ReplayDataModule
from lit_dqn.dqn import LitDQN
from lit_dqn.errors import ConfigError, TrainingError

log = logging.getLogger("lit_dqn")

REMEDIES = {
    "num_workers": "the envs are played in the training process, so there are no workers; "
    "for more envs side by side set --data.num_envs",
}
"""What to do instead of keys that people know from elsewhere."""

UNKNOWN_KEY = re.compile(
    r"nrecognized arguments: --([\w.]+)|does not accept option '([\w.]+)'|Option '([\w.]+)' is not accepted"
)
"""How jsonargparse speaks of them."""

KNOWN_KEYS = [
    name
    for owner in (LitDQN, ReplayDataModule, StoppingRules, Checkpoints, TrainingStatistics, MazeView, Trainer)
    for name in inspect.signature(owner).parameters
]


class Parser(LightningArgumentParser):
    """Says what is wrong in one sentence, without the usage text of some hundred keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A misspelt key must not pass for the beginning of another one.
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with exit code 2."""
        sentence = " ".join(message.split())
        unknown = UNKNOWN_KEY.search(sentence)
        if unknown:
            sentence = self._unknown_key(next(filter(None, unknown.groups())))
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)

    def _unknown_key(self, key: str) -> str:
        name = key.split(".")[-1]
        if name in REMEDIES:
            return f"{key}: {REMEDIES[name]}."
        near = difflib.get_close_matches(name, KNOWN_KEYS, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}?" if near else "`python -m lit_dqn fit --help` lists all keys."
        return f"{key}: there is no such key; {hint}"


class CLI(LightningCLI):
    """LightningCLI with the callbacks of lit_dqn, checkpoints that hold a replay, and errors for people."""

    def __init__(self, args: ArgsType = None) -> None:
        self.ckpt_path: Path | None = None
        super().__init__(
            LitDQN,
            ReplayDataModule,
            args=args,
            parser_class=Parser,
            # The optimiser belongs to the online network alone; LightningCLI would hand it the target network too.
            auto_configure_optimizers=False,
            # A checkpoint describes its agent itself, whether it was made by this command line or not.
            load_from_checkpoint_support=False,
            save_config_kwargs={"overwrite": True},  # a resumed run goes on in its folder
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks that can be configured, and what the data tells the agent."""
        parser.add_lightning_class_args(StoppingRules, "stop")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(TrainingStatistics, "statistics")
        parser.add_lightning_class_args(MazeView, "maze_view")
        parser.add_lightning_class_args(TrajectoryWriter, "trajectories")
        parser.link_arguments("data.observation_shape", "model.observation_shape", apply_on="instantiate")
        parser.link_arguments("data.num_actions", "model.num_actions", apply_on="instantiate")
        parser.set_defaults(
            {
                "trainer.max_epochs": -1,  # the stopping rules end a run
                "trainer.devices": 1,
                "trainer.log_every_n_steps": 100,
                "trainer.num_sanity_val_steps": 0,  # an untrained greedy policy can walk in circles for long
                "trainer.enable_model_summary": False,
                "trainer.logger": {
                    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": "lightning_logs", "name": "run"},
                },
            }
        )

    def _parse_ckpt_path(self) -> None:
        # Lightning would let the hyper-parameters of the checkpoint override the command line.
        pass

    def before_instantiate_classes(self) -> None:
        """Refuse what cannot work, and find the checkpoint and the folder of the run.

        Raises:
            ConfigError: if the Trainer is asked for what the module does itself, or the checkpoint is unusable.

        """
        config = self.config[self.subcommand]
        for key in ("gradient_clip_val", "gradient_clip_algorithm"):
            if config.trainer.get(key) is not None:
                raise ConfigError(
                    f"trainer.{key}: Lightning cannot clip in manual optimisation; set --model.max_grad_norm instead."
                )
        if config.trainer.get("accumulate_grad_batches", 1) != 1:
            raise ConfigError("trainer.accumulate_grad_batches: an update uses one batch; set --data.batch_size.")
        logger = config.trainer.logger
        runs = None
        if logger and not isinstance(logger, (bool, list)) and "init_args" in logger:
            runs = Path(logger.init_args.save_dir) / (logger.init_args.name or "")
        ckpt_path = config.get("ckpt_path")
        if ckpt_path is not None:
            self.ckpt_path = find_checkpoint(ckpt_path, runs or Path("lightning_logs"))
            config.ckpt_path = str(self.ckpt_path)
            checkpoint = read_checkpoint(self.ckpt_path)
            if ckpt_path == "last" and self.subcommand == "fit" and runs is not None:
                # The run goes on in its own folder and its own curves, without what was played after the checkpoint.
                logger.init_args.version = self.ckpt_path.parent.parent.name
                logger.dict_kwargs = {"purge_step": checkpoint["env_step"] + 1}
        if self.subcommand != "fit":
            # Only fit makes a run, with a folder and a config.
            config.trainer.logger = False
            self.save_config_callback = None
            if self.ckpt_path is None:
                log.warning("no --ckpt_path is given: the agent that plays has not learned anything")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer, with the progress bar and the checkpoint writer that it needs."""
        config = self.config_init[self.subcommand]
        progress = TrainingProgress(config.statistics, config.stop)
        plugins = [*(config.trainer.get("plugins") or []), ReplayCheckpointIO()]
        callbacks = [*(config.trainer.get("callbacks") or [])]
        if config.trainer.get("enable_progress_bar") is not False:
            callbacks.append(progress)
        return super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)

    def after_instantiate_classes(self) -> None:
        """Refuse a checkpoint that does not fit before the run makes or changes a folder.

        Raises:
            ConfigError: if it was made with another network, or cannot go on with these settings of the data.

        """
        if self.ckpt_path is None:
            return
        checkpoint = read_checkpoint(self.ckpt_path)
        check_shapes(self.model, checkpoint["state_dict"], "ckpt_path", self.ckpt_path)
        if self.subcommand == "fit":
            self.datamodule.check_continues(checkpoint.get("datamodule_hyper_parameters", {}))

    def fit(self, **kwargs: Any) -> None:
        """Train, and say in two lines what was reached.

        Raises:
            TrainingError: if the loss is no number any more.

        """
        try:
            self.trainer.fit(**kwargs)
        except TrainingError as error:
            raise TrainingError(f"{error} {self._last_good_checkpoint()}") from error
        self._say_what_was_reached()

    def _last_good_checkpoint(self) -> str:
        folder = self._get(self.config_init, "checkpoints").folder(self.trainer)
        last = None if folder is None else folder / "last.ckpt"
        return f"The last good checkpoint is {last}." if last and last.exists() else "No checkpoint was written yet."

    def _say_what_was_reached(self) -> None:
        statistics, stop = self._get(self.config_init, "statistics"), self._get(self.config_init, "stop")
        collector = self.datamodule.collector
        metrics = self.trainer.callback_metrics
        words = []
        if "eval/mean_reward" in metrics:
            words.append(
                f"evaluation return {metrics['eval/mean_reward'].item():.2f} "
                f"± {metrics['eval/std_reward'].item():.2f}, length {metrics['eval/mean_ep_length'].item():.1f}"
            )
        minutes, seconds = divmod(int(statistics.seconds), 60)
        words.append(
            f"{collector.episodes:,} episodes, {collector.env_step:,} env steps, "
            f"{self.trainer.global_step:,} updates in {minutes}:{seconds:02} min"
        )
        if stop.reason:
            words.append(stop.reason)
        log.info("reached: %s", "; ".join(words))
        if self.trainer.loggers and self.trainer.log_dir:
            folder = Path(self.trainer.log_dir)
            log.info("run: %s; look at it with: tensorboard --logdir %s", folder, folder.parent.parent)


class _StandardError(logging.Handler):
    """Writes to the standard error of the moment, which is the progress bar's while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


class _NoAdvertisement(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "Tip:" not in record.getMessage()


def main(args: ArgsType = None) -> None:
    """Run the command line; a mistake of the user's ends with one sentence and exit code 2."""
    handler = _StandardError()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_NoAdvertisement())
    # Lightning's own call of a function that torch has since renamed; nothing that a user could mend.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    # Lightning makes torch look for GPUs through NVML, and fused Adam then looks at every step; we never fork, which
    # is what this is for.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    # Half of Adam's averages of the maze's gradients sink below the smallest normal number, where CPUs are slow.
    torch.set_flush_denormal(True)
    try:
        CLI(args)
    except (ConfigError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        log.removeHandler(handler)
