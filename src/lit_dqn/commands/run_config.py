from typing import Any

import lightning
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from lit_dqn.callbacks.run_folder import run_folder
from lit_dqn.commands.run_name import as_list, has_folder
from lit_dqn.saving import durable


def forget_the_call(config: Namespace) -> None:
    """Remove from a config what belongs to the call of a verb, not to the run."""
    for key in ("config", "extends", "ckpt_path", "weights_only", "replay_journal"):
        config.pop(key, None)
    for logger in as_list(config.trainer.logger):
        if has_folder(logger) and "version" in logger.init_args:
            logger.init_args.version = None


class SaveRunConfig(SaveConfigCallback):
    """Saves the settings of the run without those of the call, so that each verb takes the file, and `fit` starts a new
    run.

    The new settings of a resumed run replace the old ones atomically.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, as_given: Namespace, **kwargs: Any) -> None:
        forget_the_call(as_given)
        super().__init__(parser, as_given, save_to_log_dir=False, **kwargs)

    def save_config(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Write the file."""
        folder = run_folder(trainer)
        assert folder is not None
        durable.make_folder(folder)
        durable.replace_text(folder / self.config_filename, self.parser.dump(self.config, skip_none=False))
