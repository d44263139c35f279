from pathlib import Path

import lightning
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger


def run_folder(trainer: lightning.Trainer) -> Path | None:
    """The folder of a run: that of its first logger which has one for each version; None if none has."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger | CSVLogger):
            return Path(logger.log_dir)
    return None


def folder_of_checkpoint(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to; of one that lies alone, the folder where it lies."""
    folder = checkpoint.parent
    return folder.parent if folder.name == "checkpoints" else folder
