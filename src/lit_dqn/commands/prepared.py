"""The command line up to the point where it would run, for notebooks and checks."""

import warnings
from collections.abc import Sequence

from lit_dqn.commands.cli import CLI
from lit_dqn.commands.process_settings import prepare_process


class Prepared(CLI):
    """The objects that a command line builds before it starts.

    Args:
        words: `fit --config ...`.

    Raises:
        ConfigError: if it is invalid.

    """

    def __init__(self, words: Sequence[str]) -> None:
        prepare_process()
        with warnings.catch_warnings():
            # A notebook's process has its own arguments, which do not concern us.
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
            super().__init__(words)

    def _run_subcommand(self, subcommand: str) -> None:
        pass

    def run(self) -> None:
        """Train."""
        super()._run_subcommand("fit")
