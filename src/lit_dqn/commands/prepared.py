"""The command line up to the moment where it would run, for notebooks and for checks."""

import warnings
from collections.abc import Sequence

from lit_dqn.commands.cli import CLI
from lit_dqn.commands.process_settings import prepare_process


class Prepared(CLI):
    """What a command line builds before it starts.

    Args:
        words: `fit --config ...`.

    Raises:
        ConfigError: if it cannot work.

    """

    def __init__(self, words: Sequence[str]) -> None:
        prepare_process()
        with warnings.catch_warnings():
            # A notebook's process has arguments of its own, which are none of ours.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().__init__(words)

    def _run_subcommand(self, subcommand: str) -> None:
        pass

    def run(self) -> None:
        """Train."""
        super()._run_subcommand("fit")
