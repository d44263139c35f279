from pathlib import Path
from typing import cast

import lightning
import numpy as np
import torch
from torch import Tensor

from lit_dqn.callbacks.run_folder import make_new_folder
from lit_dqn.commands.export import export_agent
from lit_dqn.commands.resume import settings_of
from lit_dqn.errors import ConfigError
from lit_dqn.replay import ShardedReplay
from lit_dqn.saving.io import ReplayCheckpointIO
from lit_dqn.saving.layout import EXPORT, output_folder
from lit_dqn.saving.specification import specification
from lit_dqn.saving.trust import Trust
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule

OBSERVATIONS = 64
"""The number of observations with which an export is checked."""

SMALL_CAPACITY = 1_000
"""Timesteps of the replay from which they are drawn: that of training may not fit on the exporting machine."""


class Trainer(lightning.Trainer):
    """Lightning's Trainer with one more verb."""

    def export(
        self,
        model: LitAgent,
        datamodule: ReplayDataModule,
        ckpt_path: str | None = None,
        output_dir: str | None = None,
    ) -> None:
        """Write the agent of a checkpoint as model.safetensors with its config.yaml, and as model.onnx.

        Args:
            model: the agent.
            datamodule: plays some steps at random, to check the files with real observations.
            ckpt_path: `last`, `best`, a run folder, or a file.
            output_dir: for the files, which overwrite those of an earlier export there. By default a new folder in the
                run's folder, `export/env_step_<n>`, or `env_step_<n>_2` if that exists.

        Raises:
            ConfigError: without a checkpoint, or if the folder cannot be created.
            TrainingError: if a written file does not give the values of the agent.

        """
        if ckpt_path is None:
            raise ConfigError("ckpt_path: export needs an agent; give --ckpt_path best, or a file.")
        checkpoint = cast(ReplayCheckpointIO, self.strategy.checkpoint_io).read(ckpt_path)
        model.load_state_dict(checkpoint.weights())
        datamodule.capacity = min(datamodule.capacity, SMALL_CAPACITY)
        datamodule.shards = 1  # shards do not matter here
        datamodule.memory_size = model.memory_size
        datamodule.setup("fit")
        assert datamodule.collector is not None
        assert not isinstance(datamodule.store, ShardedReplay | None)
        try:
            datamodule.collector.warm_up(model, OBSERVATIONS, transitions=1)
        finally:
            datamodule.teardown("fit")
        buffer = datamodule.store.buffer
        starts = np.array(buffer.starts[-OBSERVATIONS:])
        batch = buffer.sample(np.resize(starts, max(len(starts), 2)))
        trust = Trust.of({"model": dict(model.hparams), "data": dict(datamodule.hparams)})
        settings = settings_of(checkpoint, type(model), trust)
        settings["model"] = {**specification(type(model)), "init_args": settings["model"]}
        if output_dir is None:
            folder = make_new_folder(output_folder(checkpoint.path, checkpoint.env_step, EXPORT), "output_dir")
        else:
            folder = Path(output_dir)
        export_agent(
            model.online,
            model.by_parts(batch.observation),
            settings,
            folder,
            output_name=model.output_name,
            action_mask=batch.action_mask if model.has_preferences else None,  # V alone chooses no actions
            memory=_remembered(model, batch.observation) if model.memory_size > 0 else None,
        )


def _remembered(model: LitAgent, observation: Tensor) -> Tensor:
    """The agent's memory after each observation as the first of an episode, [B, M]."""
    nothing = np.zeros((len(observation), model.memory_size), np.float32)
    return torch.from_numpy(model.remember(observation.numpy(), nothing)[1])
