import json
import logging
import math
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

from lit_dqn.callbacks.datamodule import data_of
from lit_dqn.envs import human_normalised_score
from lit_dqn.errors import ConfigError, one_line
from lit_dqn.saving import durable
from lit_dqn.saving.layout import RESULTS, run_of_checkpoint
from lit_dqn.types import Episode

log = logging.getLogger("lit_dqn")


class ResultsWriter(Callback):
    """Writes the results of `test`, with their protocol, to `results.json` in the run's folder.

    The file is a list with one entry per test, the newest last.
    """

    def __init__(self) -> None:
        self._episodes: list[Episode] = []

    def on_test_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start a new list of episodes."""
        self._episodes.clear()

    def on_test_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record an episode."""
        self._episodes.append(batch)

    def on_test_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the score with its protocol, and write both.

        Raises:
            ConfigError: if the file cannot be written.

        """
        data = data_of(trainer)
        score = summarize(self._episodes)
        normalised = human_normalised_score(data.env_id, score["mean"])
        protocol = data.evaluation_protocol()
        log.info(
            "return %s, median %.2f%s",
            mean_with_error(score["mean"], score["standard_error"], len(self._episodes)),
            score["median"],
            "" if normalised is None else f", human-normalised {normalised:.3f}",
        )
        log.info("protocol: %s", ", ".join(f"{key} {value}" for key, value in protocol.items()))
        if trainer.ckpt_path is None:
            return  # an agent without a run
        checkpoint = Path(trainer.ckpt_path)
        entry = {
            "env_id": data.env_id,
            "checkpoint": checkpoint.name,
            "env_step": pl_module.env_step,
            "protocol": protocol,
            "return": score,
            "human_normalised_score": normalised,
            "episodes": [
                {"return": e.total_reward, "length": e.length, "terminated": e.terminated} for e in self._episodes
            ],
        }
        path = _results_of(checkpoint)
        try:
            _append(path, entry)
        except (OSError, ValueError) as error:
            raise _cannot_be_written(path, error) from error
        log.info("results: %s", path)


def check_results_of(checkpoint: Path) -> None:
    """Refuse to test a checkpoint whose results could not be written, before anything is played.

    Args:
        checkpoint: its file.

    Raises:
        ConfigError: if the folder of its run cannot be written to.

    """
    path = _results_of(checkpoint)
    try:
        durable.check_can_be_made(path.parent)
    except OSError as error:
        raise _cannot_be_written(path, error) from error


def _results_of(checkpoint: Path) -> Path:
    return (run_of_checkpoint(checkpoint) or checkpoint.parent) / RESULTS


def _cannot_be_written(path: Path, error: OSError | ValueError) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    return ConfigError(
        f"ckpt_path: the results cannot be written to {path} ({reason}); fix that, or copy the checkpoint to a folder "
        "that you may write to."
    )


def standard_error(spread: float, count: int) -> float | None:
    """The standard error of a mean over `count` numbers; None for a single number.

    Args:
        spread: the standard deviation of these numbers about their mean (NumPy's `std`).
        count: how many there are.

    """
    return spread / math.sqrt(count - 1) if count > 1 else None


def mean_with_error(mean: float, error: float | None, count: int) -> str:
    """A mean over episodes as text. ± is always the standard error of the mean."""
    if error is None:
        return f"{mean:,.2f} (1 episode)"
    return f"{mean:,.2f} ± {error:,.2f} (mean and its standard error over {count:,} episodes)"


def summarize(episodes: list[Episode]) -> dict[str, Any]:
    """Mean, its standard error, median, and extremes of the undiscounted returns."""
    returns = np.array([episode.total_reward for episode in episodes])
    return {
        "mean": float(returns.mean()),
        "standard_error": standard_error(float(returns.std()), len(returns)),
        "median": float(np.median(returns)),
        "min": float(returns.min()),
        "max": float(returns.max()),
    }


def _append(path: Path, entry: dict[str, Any]) -> None:
    entries = json.loads(path.read_text()) if path.exists() else []
    text = json.dumps([*entries, entry], indent=1) + "\n"
    durable.replace_text(path, text)
