from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
from torch import Tensor

from lit_dqn.learning.loss_watch import LossWatch
from lit_dqn.types import Episode


class Evaluated(lightning.LightningModule):
    """A module that is evaluated by episodes: how `validate`, `test` and `predict` use them."""

    env_step: int
    _loss_watch: LossWatch

    scores: tuple[str, ...] = ("eval/mean_reward",)
    """The metrics by which its runs are compared, by the names of the log."""

    def __init__(self) -> None:
        super().__init__()
        self._evaluated: list[Episode] = []

    def on_validation_epoch_start(self) -> None:
        """Discard the episodes of an interrupted evaluation, and check the last losses before an evaluation."""
        self._loss_watch.settle()
        self._evaluated.clear()

    def on_test_epoch_start(self) -> None:
        """As `on_validation_epoch_start`."""
        self._evaluated.clear()

    def validation_step(self, episode: Episode, batch_idx: int) -> None:
        """Record an evaluation episode."""
        self._evaluated.append(episode)

    def test_step(self, episode: Episode, batch_idx: int) -> None:
        """Record an evaluation episode."""
        self._evaluated.append(episode)

    def predict_step(self, trajectory: Any, batch_idx: int) -> Any:
        """The trajectory, unchanged."""
        return trajectory

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the evaluation episodes."""
        self._log_evaluation()

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the evaluation episodes."""
        self._log_evaluation()

    def evaluation_metrics(self, episodes: list[Episode]) -> dict[str, float]:
        """The metrics of the evaluation episodes, by the names of the log."""
        returns = np.array([episode.total_reward for episode in episodes])
        return {
            "eval/mean_reward": float(returns.mean()),
            "eval/std_reward": float(returns.std()),
            "eval/mean_ep_length": float(np.mean([episode.length for episode in episodes])),
            "eval/episodes": float(len(returns)),
            "eval/truncated_episodes": float(sum(not episode.terminated for episode in episodes)),
        }

    def grade(self, metrics: Mapping[str, Tensor]) -> float | None:
        """The score of an evaluation, which selects the best checkpoint: the mean return; None if there is none.

        Args:
            metrics: the logged metrics, by name.

        """
        return metrics["eval/mean_reward"].item() if "eval/mean_reward" in metrics else None

    def _log_evaluation(self) -> None:
        if self.trainer.sanity_checking:
            return
        metrics = self.evaluation_metrics(self._evaluated)
        if self.trainer.state.fn != "fit":
            self.log_dict(metrics)  # validate and test print the logged metrics as a table
            return
        # During training this is for callbacks that monitor a metric; the curves have env steps on the x-axis, which
        # Lightning's own logging does not support.
        self.log_dict(metrics, logger=False)
        del metrics["eval/episodes"]  # constant, and already in the config
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.env_step)
