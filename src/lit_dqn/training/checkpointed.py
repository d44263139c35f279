import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import lightning
import torch
from lightning.pytorch.cli import OptimizerCallable, instantiate_module
from torch import nn

from lit_dqn.errors import ConfigError, one_line
from lit_dqn.learning.learner import Learner
from lit_dqn.learning.loss_watch import LossWatch
from lit_dqn.saving.loops import add_training_state, keep_settings_of_optimizer
from lit_dqn.saving.read import read_checkpoint
from lit_dqn.saving.settings import checked_arguments
from lit_dqn.saving.trust import Trust
from lit_dqn.saving.weights import check_weights


class Checkpointed(lightning.LightningModule):
    """A module that is built from a checkpoint, and adds to one what decides how its training continues."""

    env_step: int
    online: nn.Module
    make_optimizer: OptimizerCallable
    _learner: Learner | None
    _loss_watch: LossWatch
    _resumed_from: dict[str, Any] | None = None
    """The checkpoint, from its load to the start of training."""

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str = "cpu",
        *,
        trust: Sequence[type] = (),
        **arguments: Any,
    ) -> Self:
        """The agent of a checkpoint. Lightning's own way would make whatever the checkpoint names.

        Args:
            checkpoint_path: a `.ckpt` file.
            map_location: the device that the agent is for.
            trust: your own classes that the checkpoint may name, such as its network.
            arguments: of the constructor, in place of those in the checkpoint.

        Raises:
            ConfigError: if the file is missing or damaged, its weights do not fit or are no numbers, or a part of the
                agent is of a class that is not trusted, or cannot be made.

        """
        contents = read_checkpoint(checkpoint_path)
        saved = {key: value for key, value in contents["hyper_parameters"].items() if key != "_instantiator"}
        saved.pop("init_from", None)  # the checkpoint has the weights
        saved = checked_arguments(
            cls,
            {key: value for key, value in saved.items() if key not in arguments},
            Trust.registered(trust),
            source=str(checkpoint_path),
            remedy="hand its class over, as in load_agent(path, trust=[MyNetwork])",
        )
        try:
            agent = instantiate_module(cls, saved | arguments)
        except argparse.ArgumentError as error:
            raise ConfigError(f"{checkpoint_path}: the agent cannot be built: {one_line(error)}") from error
        check_weights(agent, contents["state_dict"], "checkpoint", checkpoint_path)
        agent.on_load_checkpoint(contents)
        agent.load_state_dict(contents["state_dict"])
        return agent.to(map_location)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the class of the agent, the env step, and what else decides how the run continues."""
        self._loss_watch.settle()
        checkpoint["agent"] = type(self).__name__
        checkpoint["env_step"] = self.env_step
        add_training_state(checkpoint, self.trainer)
        if self._learner is not None:
            for state in checkpoint.get("optimizer_states", ()):
                self._learner.plain_settings(state)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the env step; to train on, also the optimiser's state, with the settings of this run."""
        self.env_step = checkpoint["env_step"]
        if self._trainer is not None and self.trainer.state.fn == "fit":
            keep_settings_of_optimizer(checkpoint, self.make_optimizer, self.online.parameters())
            self._resumed_from = checkpoint
