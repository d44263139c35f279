"""`python -m lit_dqn fit | validate | test | predict | export`: LightningCLI around an agent and ReplayDataModule."""

import copy
import logging
import sys
import tempfile
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from lit_dqn.callbacks import (
    Checkpoints,
    EpisodeView,
    MazeView,
    ResultsWriter,
    StoppingRules,
    TrainingProgress,
    TrainingStatistics,
    TrajectoryWriter,
)
from lit_dqn.callbacks.run_folder import already_there
from lit_dqn.commands.inputs import EXTENDS, PROGRAM, first_look
from lit_dqn.commands.launch_checks import check_accelerator, check_output
from lit_dqn.commands.parser import Parser, explained, first_said, sentence_of
from lit_dqn.commands.process_settings import StandardError, prepare_process
from lit_dqn.commands.processes import check_together, rank_of_process, settings_of_process, with_earlier_run
from lit_dqn.commands.refusal import end_together
from lit_dqn.commands.resume import (
    check_can_be_read,
    check_can_resume,
    check_env,
    resume_in_its_folder,
    warn_of_other_env,
    with_settings_of,
)
from lit_dqn.commands.run_config import SaveRunConfig
from lit_dqn.commands.run_name import as_list, expand_folders, folder_of_runs, name_run, run_logger, version_of_run
from lit_dqn.commands.trainer import Trainer
from lit_dqn.commands.trainer_settings import check_episodes, check_trainer, processes
from lit_dqn.commands.verbs import Verbs
from lit_dqn.errors import ConfigError, TrainingError, one_line
from lit_dqn.saving.find import Found, find_checkpoint
from lit_dqn.saving.io import ReplayCheckpointIO
from lit_dqn.saving.layout import version_folder
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule
from lit_dqn.training.strategy import ShardedStrategy

log = logging.getLogger("lit_dqn")


class CLI(Verbs):
    """LightningCLI with the callbacks of lit_dqn, checkpoints with a replay, and readable errors."""

    def __init__(self, args: Sequence[str] | None = None) -> None:
        words = first_look(sys.argv[1:] if args is None else args)
        self.words, self.is_restarted = with_earlier_run(words)
        self.resumed: Found | None = None
        self.processes = 1
        super().__init__(
            LitAgent,
            ReplayDataModule,
            # `model: {class_path: lit_dqn.LitTD, init_args: ...}`; without a class path it is LitDQN.
            subclass_mode_model=True,
            args=self.words,
            trainer_class=Trainer,
            parser_class=Parser,
            save_config_callback=SaveRunConfig,
            # The optimiser belongs only to the online network; LightningCLI would also pass it the target network.
            auto_configure_optimizers=False,
            # A checkpoint describes its agent itself, whether or not this command line created it.
            load_from_checkpoint_support=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's subcommands, and `export`."""
        return {**LightningCLI.subcommands(), "export": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the configurable callbacks, and link the agent's arguments to the data."""
        # The first look has already inserted the file that it names.
        parser.add_argument(f"--{EXTENDS}", default=SUPPRESS, help=SUPPRESS)
        parser.add_lightning_class_args(StoppingRules, "stop")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(TrainingStatistics, "statistics")
        parser.add_lightning_class_args(MazeView, "maze_view")
        parser.add_lightning_class_args(EpisodeView, "episode_view")
        parser.add_lightning_class_args(TrajectoryWriter, "trajectories")
        parser.link_arguments("data.observation_shape", "model.init_args.observation_shape", apply_on="instantiate")
        parser.link_arguments("data.num_actions", "model.init_args.num_actions", apply_on="instantiate")
        parser.set_defaults(
            {
                "model": {"class_path": "lit_dqn.LitDQN"},
                "trainer.max_epochs": -1,  # the stopping rules end a run
                "trainer.devices": 1,
                "trainer.log_every_n_steps": 100,
                "trainer.num_sanity_val_steps": 0,  # an untrained greedy policy can walk in circles for a long time
                "trainer.enable_model_summary": False,
                "trainer.logger": {
                    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": "lightning_logs", "name": None},  # `name_run` sets it
                },
            }
        )

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.usage = f"{PROGRAM} {subcommand} --config FILE [--KEY VALUE ...]"
        if subcommand == "predict":
            # They are written while they are played; twenty Atari games would take gigabytes.
            parser.set_defaults({"return_predictions": False})
        if subcommand == "fit":
            self.add_arguments_of_fit(parser)
        return parser

    def _parse_ckpt_path(self) -> None:
        # Lightning would let the hyperparameters of the checkpoint override the command line.
        pass

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; for resuming, find the checkpoint, and use its settings where nothing else sets them.

        Raises:
            ConfigError: if the checkpoint is unusable.

        """
        with explained(self.words):
            self.config = parser.parse_args(self.words)
        config = self.config.get(self.config.subcommand)
        if config is None:
            return
        name_run(config)
        if config.get("ckpt_path") is None:
            return
        expand_folders(config.trainer.logger)
        runs = folder_of_runs(run_logger(config.trainer.logger))
        fits, version = self.config.subcommand == "fit", version_of_run(config, runs)
        self.resumed = find_checkpoint(config.ckpt_path, runs, fits, version)
        checkpoint = self.resumed.checkpoint
        check_env(checkpoint, config.data.env_id, self.config.subcommand)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "settings_of_the_checkpoint.yaml"
            words = with_settings_of(checkpoint, self.words, self.config, file)
            with explained(words):
                self.config = parser.parse_args(words)
        self.config[self.config.subcommand].config = config.config  # without the temporary file
        name_run(self.config[self.config.subcommand])

    def before_instantiate_classes(self) -> None:
        """Refuse invalid settings, and find the checkpoint and the folder of the run.

        Raises:
            ConfigError: if a setting of the Trainer does not work here, the checkpoint is unusable, or the run would
                overwrite another.

        """
        config = self.config[self.subcommand]
        # Resuming in a run's folder changes the logger, which does not belong to the run's settings.
        self.save_config_kwargs = {"as_given": copy.deepcopy(config)}
        check_trainer(config.trainer)
        check_episodes(config.trainer, str(self.subcommand))
        if self.subcommand == "fit" and not config.get("plan"):  # one process does everything else
            self.processes = processes(config.trainer)
        if self.processes == 1:
            config.trainer.strategy, config.trainer.devices, config.trainer.num_nodes = "auto", 1, 1
        check_together(self.processes, config.data.shards)
        is_first = rank_of_process(config.trainer) == 0
        check_accelerator(config.trainer.accelerator)
        expand_folders(config.trainer.logger)
        logger = run_logger(config.trainer.logger)
        runs = folder_of_runs(logger)
        self.resumes_in_its_folder = (config.ckpt_path == "last" and self.subcommand == "fit") or self.is_restarted
        if self.resumed is not None:
            if self.resumes_in_its_folder and is_first:
                resume_in_its_folder(self.resumed.checkpoint, logger)
            config.ckpt_path = str(self.resumed.path)
            config.model.init_args.init_from = None  # the checkpoint has the weights
        if not is_first:  # only the first process writes, but Lightning's callbacks need a logger in each
            config.trainer.logger = Namespace(class_path="lightning.pytorch.loggers.logger.DummyLogger")
            log.setLevel(logging.WARNING)
            return
        check_output(str(self.subcommand), config, runs, self.resumed)
        if config.get("plan"):
            # The trial keeps nothing.
            config.trainer.logger = False
            config.trainer.limit_val_batches = 0
            config.trainer.enable_progress_bar = False
            self.save_config_callback = None
            return
        if self.subcommand != "fit":
            # Only fit creates a run, with a folder and a config.
            config.trainer.logger = False
            self.save_config_callback = None
            if self.resumed is None and config.model.init_args.get("init_from") is None:
                log.warning("no --ckpt_path is given: the agent that plays has not learned anything")
            return
        if logger.init_args.get("version") is not None and not self.resumes_in_its_folder:
            folder = version_folder(runs, logger.init_args.version)
            if folder.exists():
                raise already_there(folder)
            self.version_is_chosen = True

    def instantiate_classes(self) -> None:
        """Build data, agent and trainer.

        Raises:
            ConfigError: if one of them refuses its arguments.

        """
        try:
            super().instantiate_classes()
        except (ConfigError, TrainingError):
            raise
        except (TypeError, ValueError, ImportError, OSError, MisconfigurationException) as error:
            log.debug("while building the parts", exc_info=True)
            said = first_said(error)
            raise ConfigError(one_line(said) if said is not error else sentence_of(str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """The trainer, with its progress bar and checkpoint writer."""
        config = self.config_init[self.subcommand]
        callbacks = as_list(config.trainer.get("callbacks"))
        if config.trainer.get("enable_progress_bar") is not False and not any(
            isinstance(callback, ProgressBar) for callback in callbacks
        ):
            callbacks.append(TrainingProgress(config.statistics, config.stop))
        if self.subcommand == "test":
            callbacks.append(ResultsWriter())
        # Only training needs the replay.
        keeps = self.subcommand == "fit" and (self.resumed is None or self.resumed.replay_is_whole)
        checkpoint_io = ReplayCheckpointIO(keeps, None if self.resumed is None else self.resumed.checkpoint)
        plugins = [*as_list(config.trainer.get("plugins")), checkpoint_io]
        if self.processes > 1:
            settings = settings_of_process(self.config[self.subcommand].as_dict(), self.model, self.datamodule)
            kwargs["strategy"] = ShardedStrategy(settings, self.begin)
        return super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)

    def after_instantiate_classes(self) -> None:
        """Refuse data or a checkpoint that does not fit the agent before the run creates or changes a folder.

        Raises:
            ConfigError: if agent, data, limits, memory and checkpoint do not fit together.

        """
        self.model.check_can_learn_from(self.datamodule)
        if self.subcommand == "fit":
            check_can_be_read(self.model, self.datamodule)
            self.model.check_device(self.trainer.strategy.root_device)
            self.datamodule.processes, self.datamodule.memory_size = self.processes, self.model.memory_size
            self.datamodule.check_memory(self.processes // self.trainer.num_nodes)
            if self.resumed is None:
                prefilled = self.datamodule.check_prefill()
                self.config_init[self.subcommand].stop.check_warm_up(self.datamodule.min_replay_size - prefilled)
            self.datamodule.check_device(self.trainer.strategy.root_device)
        if self.resumed is not None:
            data = self.datamodule if self.subcommand == "fit" else None
            check_can_resume(self.resumed.checkpoint, self.model, data)
            warn_of_other_env(self.resumed.checkpoint, self.datamodule)
            self.resumed = None  # the Trainer keeps it as long as necessary
        if self.subcommand == "fit":
            self.datamodule.replay_journal = self.journal()
            self.datamodule.check_place()


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; a user error ends with one sentence and exit code 2."""
    handler = StandardError()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    prepare_process()
    try:
        CLI(args)
    except (ConfigError, TrainingError, MisconfigurationException) as error:
        end_together(error)
        sys.exit(2)
    finally:
        log.removeHandler(handler)
