from collections.abc import Iterator, Mapping
from typing import Any

import lightning
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from lit_dqn.callbacks.datamodule import data_of
from lit_dqn.callbacks.run_folder import run_folder
from lit_dqn.saving.layout import CONFIG

NO_SETTINGS = ("_instantiator", "observation_shape", "num_actions")
"""Hyperparameters of an agent that only tell Lightning how to build it, or come from the env."""


class RunDescription(Callback):
    """Sends a description of the run to the loggers, once at its start.

    TensorBoard gets a page HParams, which compares runs and their scores, and the config as text; other loggers get the
    hyperparameters.
    """

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Log it before Lightning writes the loggers' files for the first time."""
        if stage != "fit":
            return
        agent: Any = pl_module
        data = data_of(trainer)
        settings = {
            "data": dict(data.hparams),
            "model": {key: value for key, value in agent.hparams.items() if key not in NO_SETTINGS},
        }
        flat = dict(_flat(settings))
        folder = run_folder(trainer)
        config = None if folder is None else folder / CONFIG
        text = config.read_text() if config is not None and config.is_file() else yaml.safe_dump(settings)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.hparams.update(flat)
                writer = logger.experiment
                # Its scores are already curves, so none is logged for the page.
                for summary in hparams(flat, dict.fromkeys(agent.scores, 0.0)):
                    writer._get_file_writer().add_summary(summary)
                writer.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))
            else:
                logger.log_hyperparams(flat)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted key, as numbers and texts: a class by its name, with its arguments below it."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "class_path" in value:
            yield name, value["class_path"].rpartition(".")[2]
            yield from _flat(value.get("init_args") or {}, f"{name}.")
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value if isinstance(value, bool | int | float | str) else str(value)
