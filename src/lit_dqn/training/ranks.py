"""The processes of one run under Lightning, and the shards of its data."""

import lightning

from lit_dqn.errors import ConfigError
from lit_dqn.learning.sharded import Shards
from lit_dqn.ranks import Ranks, tree_sum
from lit_dqn.training.protocols import data_of
from lit_dqn.training.strategy import ShardedStrategy


def check_ranks(trainer: lightning.Trainer, shards: int) -> None:
    """Refuse to be one of several processes that would each play and learn by themselves, and save over each other.

    Args:
        trainer: of the run.
        shards: of its data.

    Raises:
        ConfigError: if it runs in several that are not Lightning's as they are needed here, or that cannot share the
            shards alike.

    """
    count = trainer.world_size
    if count > 1 and not isinstance(trainer.strategy, ShardedStrategy):
        raise ConfigError(
            f"trainer.strategy: this Trainer runs in {count} processes by {type(trainer.strategy).__name__}, which "
            "would each learn by themselves; give it strategy=lit_dqn.ShardedStrategy(), or devices=1."
        )
    check_share(count, shards)


def check_share(count: int, shards: int) -> None:
    """Refuse a number of processes that cannot share the shards alike.

    Raises:
        ConfigError: naming a number of shards that they can.

    """
    if shards % count:
        power = 1 << (count - 1).bit_length()
        remedy = f"set --data.shards {power}, in a run that begins anew" if power == count else "start fewer"
        raise ConfigError(
            f"trainer.devices: {count} processes cannot share {shards} {'shards' if shards > 1 else 'shard'} of the "
            f"data alike; {remedy}, or one process by --trainer.devices 1 --trainer.num_nodes 1."
        )


def shards_of(trainer: lightning.Trainer) -> Shards | None:
    """The shards that a run learns from; None where there is but one."""
    data = data_of(trainer)
    if data is None or data.shards == 1:
        return None
    ranks = Ranks.now()
    return Shards(data.shards, ranks.shards(data.shards), lambda parts: ranks.add_up(tree_sum(parts)))
