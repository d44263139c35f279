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
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.contents import Contents
from lit_dqn.saving.loops import keep_settings_of_optimizer, write_position
from lit_dqn.saving.settings import checked_arguments
from lit_dqn.saving.trust import Trust
from lit_dqn.saving.weights import check_weights


class Checkpointed(lightning.LightningModule):
    """A module that is built from a checkpoint, and saves everything that determines how its training continues."""

    env_step: int
    online: nn.Module
    make_optimizer: OptimizerCallable
    _learner: Learner | None
    _loss_watch: LossWatch
    _resumed_from: Contents | None = None
    """The checkpoint, between loading and the start of training."""

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str = "cpu",
        *,
        trust: Sequence[type] = (),
        **arguments: Any,
    ) -> Self:
        """The agent of a checkpoint. Lightning's own method would create whatever the checkpoint names.

        Args:
            checkpoint_path: a `.ckpt` file.
            map_location: the device of the agent.
            trust: your own classes that the checkpoint may name, such as its network.
            arguments: of the constructor, in place of those in the checkpoint.

        Raises:
            ConfigError: if the file is missing or damaged, its weights do not fit or are not finite, or the class of a
                part of the agent is not trusted or cannot be created.

        """
        return cls.of_checkpoint(Checkpoint.read(checkpoint_path), map_location, trust=trust, **arguments)

    @classmethod
    def of_checkpoint(
        cls,
        checkpoint: Checkpoint,
        map_location: torch.device | str = "cpu",
        *,
        trust: Sequence[type] = (),
        **arguments: Any,
    ) -> Self:
        """As `load_from_checkpoint`, for a checkpoint that has been read."""
        given = {"init_from", *arguments}  # the checkpoint has the weights
        saved = checked_arguments(
            cls,
            {key: value for key, value in checkpoint.settings.agent.items() if key not in given},
            Trust.registered(trust),
            source=str(checkpoint.path),
            remedy="hand its class over, as in load_agent(path, trust=[MyNetwork])",
        )
        try:
            agent = instantiate_module(cls, saved | arguments)
        except argparse.ArgumentError as error:
            raise ConfigError(f"{checkpoint.path}: the agent cannot be built: {one_line(error)}") from error
        check_weights(agent, checkpoint.weights(), "checkpoint", checkpoint.path)
        agent.on_load_checkpoint(checkpoint.contents)
        agent.load_state_dict(checkpoint.weights())
        return agent.to(map_location)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the class of the agent, the env step, and everything else that determines how the run continues."""
        self._loss_watch.settle()
        contents = Contents(checkpoint)
        contents.describe(type(self).__name__, self.env_step)
        write_position(contents, self.trainer)
        if self._learner is not None:
            for state in contents.optimizer_states:
                self._learner.plain_settings(state)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the env step; for training, also the optimiser's state, with the settings of this run."""
        contents = Contents(checkpoint).migrate()  # readers other than our plugin have not done so
        self.env_step = contents.env_step
        if self._trainer is not None and self.trainer.state.fn == "fit":
            keep_settings_of_optimizer(contents, self.make_optimizer, self.online.parameters())
            self._resumed_from = contents
