"""The data of a run with their type, which Lightning's Trainer does not declare."""

from typing import cast

import lightning

from lit_dqn.playing.collector import Collector
from lit_dqn.playing.sharded import ShardedCollector
from lit_dqn.training.data import ReplayDataModule


def data_of(trainer: lightning.Trainer) -> ReplayDataModule:
    """The data module of a run."""
    return cast(ReplayDataModule, trainer.datamodule)  # type: ignore[attr-defined]


def collector_of(trainer: lightning.Trainer) -> Collector | ShardedCollector:
    """The collector of a run during training."""
    collector = data_of(trainer).collector
    assert collector is not None
    return collector
