"""The processes of one run under Lightning, and the shards of its data."""

import lightning

from lit_dqn.errors import ConfigError
from lit_dqn.learning.sharded import Shards
from lit_dqn.ranks import Ranks, tree_sum
from lit_dqn.saving.io import ReplayCheckpointIO
from lit_dqn.training.protocols import data_of
from lit_dqn.training.strategy import ShardedStrategy


def check_ranks(trainer: lightning.Trainer, shards: int) -> None:
    """Refuse several processes that would each play and learn independently, and overwrite each other's checkpoints.

    Args:
        trainer: of the run.
        shards: of its data.

    Raises:
        ConfigError: if there are several processes without `ShardedStrategy` or `ReplayCheckpointIO`, or they cannot
            share the shards equally.

    """
    count = trainer.world_size
    if count > 1 and not isinstance(trainer.strategy, ShardedStrategy):
        raise ConfigError(
            f"trainer.strategy: this Trainer runs in {count} processes by {type(trainer.strategy).__name__}, which "
            "would each learn by themselves; give it strategy=lit_dqn.ShardedStrategy(), or devices=1."
        )
    if count > 1 and trainer.state.fn == "fit" and not isinstance(trainer.strategy.checkpoint_io, ReplayCheckpointIO):
        raise ConfigError(
            f"trainer.plugins: each of {count} processes writes its part of a checkpoint, which this Trainer's "
            f"{type(trainer.strategy.checkpoint_io).__name__} does not; give it plugins=[lit_dqn.ReplayCheckpointIO()]."
        )
    check_share(count, shards)


def check_share(count: int, shards: int) -> None:
    """Refuse a number of processes that cannot share the shards equally.

    Raises:
        ConfigError: names a number of shards that they can share.

    """
    if shards % count:
        power = 1 << (count - 1).bit_length()
        remedy = f"set --data.shards {power}, in a new run" if power == count else "start fewer"
        raise ConfigError(
            f"trainer.devices: {count} processes cannot share {shards} {'shards' if shards > 1 else 'shard'} of the "
            f"data equally; {remedy}, or one process by --trainer.devices 1 --trainer.num_nodes 1."
        )


def shards_of(trainer: lightning.Trainer) -> Shards | None:
    """The shards of a run; None if there is only one."""
    data = data_of(trainer)
    if data is None or data.shards == 1:
        return None
    ranks = Ranks.now()
    add_up = ranks.add_up if data.strict else ranks.all_reduce
    return Shards(data.shards, ranks.shards(data.shards), lambda parts: add_up(tree_sum(parts)))
