"""The verbs of the command line, after their parts have been built."""

import logging
import signal
import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lit_dqn.callbacks.run_folder import make_run_folder, run_folder
from lit_dqn.commands.launch_checks import check_metrics, warn_of_slow_bfloat16
from lit_dqn.commands.plan import plan
from lit_dqn.commands.processes import tell_next_attempt
from lit_dqn.commands.report import say_metrics, say_what_begins, say_what_was_reached
from lit_dqn.errors import ConfigError, Interrupted, TrainingError

log = logging.getLogger("lit_dqn")


class Verbs(LightningCLI):
    """The verbs, with reports for people and the exit codes of stopped runs."""

    resumes_in_its_folder = False
    """Whether `fit` resumes a run in its own folder."""

    version_is_chosen = False
    """Whether the command line sets the version of the run's folder."""

    @staticmethod
    def add_arguments_of_fit(parser: LightningArgumentParser) -> None:
        """Add what is asked of `fit` alone, and is no setting: --print_config writes it into no file for all verbs."""
        parser.add_argument(
            "--plan",
            action="store_true",
            default=SUPPRESS,
            help="Print what the run needs and how long it will take; do not run it.",
        )
        parser.add_argument(
            "--replay_journal",
            type=str | None,
            default=SUPPRESS,
            help="The journal.csv of a run whose players were asynchronous: make the same run again.",
        )

    def journal(self) -> Path | None:
        """That the run shall follow, if any.

        Raises:
            ConfigError: if it shall resume, too.

        """
        path = self._get(self.config_init, "replay_journal")
        if path is not None and self._get(self.config_init, "ckpt_path") is not None:
            raise ConfigError(
                f"replay_journal: {path} repeats a run from its beginning, and ckpt_path resumes one in its middle; "
                "leave --ckpt_path out."
            )
        return None if path is None else Path(path)

    def fit(self, **kwargs: Any) -> None:
        """Train, and log a few lines about the start and the result.

        Raises:
            ConfigError: if another process trains this run.
            TrainingError: if the loss is NaN or infinite.

        """
        stop, trainer = self._get(self.config_init, "stop"), self.trainer
        warn_of_slow_bfloat16(trainer)
        if self._get(self.config_init, "plan"):
            try:
                plan(trainer, self.model, self.datamodule, stop)
            except Interrupted as interruption:
                sys.exit(128 + interruption.signal_number)
            return
        self.datamodule.begin_place()
        if trainer.world_size == 1:
            self.begin()
        try:
            trainer.fit(**kwargs)
        except TrainingError as error:
            raise TrainingError(f"{error} {self._last_good_checkpoint()}") from error
        except Interrupted as interruption:
            log.info("stopped. %s", self._last_good_checkpoint())
            sys.exit(128 + interruption.signal_number)
        except SystemExit:
            if not trainer.interrupted:
                raise
            log.info("stopped at once. %s", self._last_good_checkpoint())
            sys.exit(128 + signal.SIGINT)
        except (ConfigError, MisconfigurationException):
            raise
        except Exception as error:
            check_metrics(error, trainer)
            log.error("the run failed. %s", self._last_good_checkpoint())
            raise
        say_what_was_reached(trainer, self.datamodule, self._get(self.config_init, "statistics"), stop)

    def begin(self) -> None:
        """Create and lock the folder of a run, and log its description.

        Raises:
            ConfigError: if another process trains this run.

        """
        trainer = self.trainer
        if not self.resumes_in_its_folder:
            make_run_folder(trainer, self.version_is_chosen)
        self._get(self.config_init, "checkpoints").lock_folder(trainer)
        folder = run_folder(trainer)
        if folder is not None:
            tell_next_attempt(folder)
        say_what_begins(trainer, self.model, self.datamodule, self._get(self.config_init, "stop"))

    def validate(self, verbose: bool = True, **kwargs: Any) -> None:
        """Play evaluation episodes, and log their metrics."""
        (metrics,) = self.trainer.validate(**kwargs, verbose=False)
        if verbose:
            say_metrics(metrics)

    def test(self, verbose: bool = True, **kwargs: Any) -> None:
        """Play the episodes of `test`, and log their metrics."""
        (metrics,) = self.trainer.test(**kwargs, verbose=False)
        if verbose:
            say_metrics(metrics)

    def _last_good_checkpoint(self) -> str:
        last = self._get(self.config_init, "checkpoints").last_saved
        if last is None:
            return "No checkpoint was written yet."
        return f"The last good checkpoint is {last}. Resume from it with --ckpt_path last."
