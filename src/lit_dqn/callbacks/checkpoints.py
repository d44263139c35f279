from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt`, to go on from, and `best.ckpt`, the best by `eval/mean_reward`.

    Both are written after an evaluation, so that the weights and their grade belong together; the newer of two
    equal grades is kept. `last.ckpt` is also written between evaluations, and when the run ends.

    Args:
        every_n_epochs: epochs between two writings of `last.ckpt`.

    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = every_n_epochs
        self.best_mean_reward = float("-inf")
        self._saved_at = -1  # update

    def folder(self, trainer: lightning.Trainer) -> Path | None:
        """`checkpoints/` in the run's folder; None for a run without a logger, which has no folder."""
        return Path(trainer.log_dir) / "checkpoints" if trainer.loggers and trainer.log_dir else None

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the weights if they are the best so far."""
        folder = self.folder(trainer)
        mean_reward = trainer.callback_metrics.get("eval/mean_reward")
        if trainer.state.fn != "fit" or trainer.sanity_checking or folder is None or mean_reward is None:
            return
        if mean_reward.item() >= self.best_mean_reward:
            self.best_mean_reward = mean_reward.item()
            trainer.save_checkpoint(folder / "best.ckpt", weights_only=False)

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
            trainer.save_checkpoint(folder / "last.ckpt", weights_only=False)
            self._saved_at = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """The best grade so far."""
        return {"best_mean_reward": self.best_mean_reward}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best grade so far."""
        self.best_mean_reward = state_dict["best_mean_reward"]
