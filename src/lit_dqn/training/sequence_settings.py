"""Checks of the settings of `ReplayDataModule` with the sampler `Sequences`."""

from collections.abc import Mapping
from typing import Any

from lit_dqn.errors import ConfigError
from lit_dqn.replay import Sequences
from lit_dqn.schedules import bounds
from lit_dqn.training.replay_placement import ReplayDevice


def check_sequences(settings: Mapping[str, Any], sequences: Sequences) -> None:
    """Refuse demonstrations, frames on a GPU, and a replay that is too small for sequences.

    Args:
        settings: the arguments of `ReplayDataModule` by their names.
        sequences: the sampler.

    Raises:
        ConfigError: naming the first wrong key, its value, and a valid one.

    """
    if settings["prefill"]:
        raise ConfigError(
            "prefill: demonstrations come without the memory from which Sequences start; set --data.prefill [] "
            "--data.env_steps_per_update 1, or use a network and a sampler without memory."
        )
    if ReplayDevice(settings["replay_device"]) is ReplayDevice.cuda:
        raise ConfigError(
            "replay_device: cuda builds batches of single transitions; Sequences are built by the CPU; set "
            "--data.replay_device auto."
        )
    num_envs, capacity = settings["num_envs"], settings["capacity"]
    least = sequences.least_capacity(num_envs, round(bounds(settings["n_step"])[1]))
    if capacity < least:
        raise ConfigError(
            f"capacity: {capacity} timesteps of {num_envs} envs are too few for sequences of {sequences.length} steps "
            f"with {sequences.burn_in} before them; set --data.capacity {least}, or make data.sampler's length and "
            "burn_in shorter."
        )
