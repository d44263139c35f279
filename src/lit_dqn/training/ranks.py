"""The processes of one run, which Lightning calls ranks."""

import lightning

from lit_dqn.errors import ConfigError


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
