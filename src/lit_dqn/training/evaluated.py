from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
from torch import Tensor

from lit_dqn.learning.loss_watch import LossWatch
from lit_dqn.types import Episode


class Evaluated(lightning.LightningModule):
    """A module that is graded by evaluation episodes: what happens to them in `validate`, `test` and `predict`."""

    env_step: int
    _loss_watch: LossWatch

    scores: tuple[str, ...] = ("eval/mean_reward",)
    """What a run of it is judged by, by the names of the log."""

    def __init__(self) -> None:
        super().__init__()
        self._evaluated: list[Episode] = []

    def on_validation_epoch_start(self) -> None:
        """Forget the episodes of an evaluation that was interrupted; nothing is graded that learned from no number."""
        self._loss_watch.settle()
        self._evaluated.clear()

    def on_test_epoch_start(self) -> None:
        """Likewise."""
        self._evaluated.clear()

    def validation_step(self, episode: Episode, batch_idx: int) -> None:
        """Take note of an evaluation episode."""
        self._evaluated.append(episode)

    def test_step(self, episode: Episode, batch_idx: int) -> None:
        """Take note of an evaluation episode."""
        self._evaluated.append(episode)

    def predict_step(self, trajectory: Any, batch_idx: int) -> Any:
        """The trajectory as it was played."""
        return trajectory

    def on_validation_epoch_end(self) -> None:
        """Log what the evaluation episodes say together."""
        self._log_evaluation()

    def on_test_epoch_end(self) -> None:
        """Log what the evaluation episodes say together."""
        self._log_evaluation()

    def evaluation_metrics(self, episodes: list[Episode]) -> dict[str, float]:
        """What the evaluation episodes say together, by the names of the log."""
        returns = np.array([episode.total_reward for episode in episodes])
        return {
            "eval/mean_reward": float(returns.mean()),
            "eval/std_reward": float(returns.std()),
            "eval/mean_ep_length": float(np.mean([episode.length for episode in episodes])),
            "eval/episodes": float(len(returns)),
            "eval/truncated_episodes": float(sum(not episode.terminated for episode in episodes)),
        }

    def grade(self, metrics: Mapping[str, Tensor]) -> float | None:
        """How good an evaluation was, by which the best checkpoint is chosen: the mean return; None if it says nothing.

        Args:
            metrics: what was logged, by name.

        """
        return metrics["eval/mean_reward"].item() if "eval/mean_reward" in metrics else None

    def _log_evaluation(self) -> None:
        if self.trainer.sanity_checking:
            return
        metrics = self.evaluation_metrics(self._evaluated)
        if self.trainer.state.fn != "fit":
            self.log_dict(metrics)  # validate and test print what is logged as a table
            return
        # During training for those who monitor a metric; the curves have env steps on the x-axis, which Lightning's
        # own logging does not know.
        self.log_dict(metrics, logger=False)
        del metrics["eval/episodes"]  # a line as flat as the config
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.env_step)
