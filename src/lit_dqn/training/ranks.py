"""The processes of one run, which Lightning calls ranks, and the shards of its data."""

import lightning

from lit_dqn.errors import ConfigError
from lit_dqn.learning.sharded import Shards, tree_sum
from lit_dqn.training.protocols import data_of


def check_one_process(trainer: lightning.Trainer) -> None:
    """Refuse to be one of several processes that would each play and learn by themselves, and save over each other.

    Args:
        trainer: of the run.

    Raises:
        ConfigError: if it runs in several.

    """
    if trainer.world_size > 1:
        raise ConfigError(
            f"trainer.devices: this Trainer runs in {trainer.world_size} processes, and lit_dqn trains in one on one "
            "device; give it devices=1, num_nodes=1 and strategy='auto'."
        )


def shards_of(trainer: lightning.Trainer) -> Shards | None:
    """The shards that a run learns from; None where there is but one."""
    data = data_of(trainer)
    return None if data is None or data.shards == 1 else Shards(data.shards, range(data.shards), tree_sum)
