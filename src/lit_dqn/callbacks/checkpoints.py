from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint

from lit_dqn.checkpoint import read_checkpoint
from lit_dqn.errors import ConfigError, TrainingError

LAST, BEST = "last.ckpt", "best.ckpt"


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt`, to go on from, and `best.ckpt`, the best by `eval/mean_reward`.

    Both are written after an evaluation, so that the weights and their grade belong together; the newer of two
    equal grades is kept. `last.ckpt` is also written between evaluations, and when the run ends.

    Args:
        every_n_epochs: epochs between two writings of `last.ckpt`.

    Raises:
        ConfigError: if `every_n_epochs` is below 1.

    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ConfigError(f"checkpoints.every_n_epochs: {every_n_epochs} must be at least 1 epoch.")
        self.every_n_epochs = every_n_epochs
        self.best_mean_reward = float("-inf")
        self._saved_at = -1  # update

    def folder(self, trainer: lightning.Trainer) -> Path | None:
        """`checkpoints/` in the run's folder; None for a run without a logger, which has no folder."""
        return Path(trainer.log_dir) / "checkpoints" if trainer.loggers and trainer.log_dir else None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take up the best grade from the `best.ckpt` that is there, whichever checkpoint the run goes on from."""
        folder = self.folder(trainer)
        self.best_mean_reward = float("-inf")
        if folder is not None and (folder / BEST).exists():
            state = read_checkpoint(folder / BEST)["callbacks"][self.state_key]
            self.best_mean_reward = state["best_mean_reward"]

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the weights if they are the best so far."""
        folder = self.folder(trainer)
        mean_reward = trainer.callback_metrics.get("eval/mean_reward")
        if trainer.state.fn != "fit" or trainer.sanity_checking or folder is None or mean_reward is None:
            return
        if mean_reward.item() >= self.best_mean_reward:
            self.best_mean_reward = mean_reward.item()
            self._save(trainer, folder / BEST)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write `last.ckpt` if it is time."""
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save_last(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write `last.ckpt` of the finished run."""
        self._save_last(trainer)

    def _save_last(self, trainer: lightning.Trainer) -> None:
        folder = self.folder(trainer)
        if folder is not None and trainer.global_step != self._saved_at:
            self._save(trainer, folder / LAST)
            self._saved_at = trainer.global_step

    @staticmethod
    def _save(trainer: lightning.Trainer, path: Path) -> None:
        parameters = trainer.lightning_module.parameters()
        if not all(torch.isfinite(parameter).all() for parameter in parameters):
            raise TrainingError(
                f"a weight became infinite or no number before update {trainer.global_step:,}; lower the learning "
                "rate, or set --model.max_grad_norm 10."
            )
        trainer.save_checkpoint(path, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """The best grade so far."""
        return {"best_mean_reward": self.best_mean_reward}
