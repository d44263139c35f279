"""Sending pictures and videos to the loggers of a run."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import lightning
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary

from lit_dqn.callbacks.datamodule import collector_of
from lit_dqn.plots import Animation
from lit_dqn.saving import durable
from lit_dqn.saving.layout import PICTURES, name_at

TAKES_PICTURES = (TensorBoardLogger, CSVLogger, WandbLogger, MLFlowLogger)


def takes_pictures(trainer: lightning.Trainer) -> bool:
    """Whether a run has a logger that takes pictures."""
    return any(isinstance(logger, TAKES_PICTURES) for logger in trainer.loggers)


def send_picture(trainer: lightning.Trainer, tag: str, picture: NDArray[Any]) -> None:
    """Log a picture at the present env step, to TensorBoard, W&B or MLflow; with a CSVLogger as a file.

    Args:
        trainer: of the run.
        tag: its name.
        picture: RGB uint8 [height, width, 3].

    """
    env_step = collector_of(trainer).env_step
    for logger in trainer.loggers:
        with contextlib.suppress(OSError):  # a full disk is already reported for the curves
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(tag, picture, env_step, dataformats="HWC")
            elif isinstance(logger, WandbLogger):
                logger.log_image(tag, [picture], env_step)
            elif isinstance(logger, MLFlowLogger):
                logger.experiment.log_image(logger.run_id, picture, key=tag, step=env_step)
            elif isinstance(logger, CSVLogger):
                _write(logger, f"{tag}_{name_at(env_step)}.png", iio.imwrite("<bytes>", picture, extension=".png"))


def send_video(trainer: lightning.Trainer, tag: str, video: Animation) -> None:
    """Log a video in the same way, as a small GIF.

    Args:
        trainer: of the run.
        tag: its name.
        video: its pictures.

    """
    env_step = collector_of(trainer).env_step
    gif, height, width = video.small_gif()
    for logger in trainer.loggers:
        with contextlib.suppress(OSError):
            if isinstance(logger, TensorBoardLogger):
                image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
                summary = Summary(value=[Summary.Value(tag=tag, image=image)])
                logger.experiment._get_file_writer().add_summary(summary, env_step)
            elif isinstance(logger, WandbLogger):
                logger.log_video(tag, [io.BytesIO(gif)], env_step, format=["gif"])
            elif isinstance(logger, MLFlowLogger):
                _send_artifact(logger, f"{tag}_{name_at(env_step)}.gif", gif)
            elif isinstance(logger, CSVLogger):
                _write(logger, f"{tag}_{name_at(env_step)}.gif", gif)


def _write(logger: CSVLogger, name: str, content: bytes) -> None:
    folder = Path(logger.log_dir) / PICTURES
    durable.make_folder(folder)
    durable.replace_file(folder / name, [memoryview(content)])


def _send_artifact(logger: MLFlowLogger, name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        durable.replace_file(path, [memoryview(content)])
        logger.experiment.log_artifact(logger.run_id, str(path), PICTURES)
