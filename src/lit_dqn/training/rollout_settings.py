"""Checks of the settings of `ReplayDataModule` with a `Rollout`."""

import math
from collections.abc import Mapping
from typing import Any

from lit_dqn.errors import ConfigError
from lit_dqn.replay.rollout import LONGEST
from lit_dqn.schedules import Schedule
from lit_dqn.training.replay_placement import ReplayDevice


def check_rollout(settings: Mapping[str, Any]) -> None:
    """Refuse settings that a rollout does not use, and sizes that are not multiples of each other.

    A chunk is a rollout: gradient_steps x env_steps_per_update timesteps, used in batch_size / env_steps_per_update
    passes.

    Args:
        settings: the arguments of `ReplayDataModule` by name.

    Raises:
        ConfigError: names the first key that does not fit, its value, and one that does.

    """
    for key, fits, reason in (
        ("play_ahead", False, "would play a rollout by weights from before the updates on the one before"),
        ("n_step", 1, "steps in a window mean nothing to a rollout, whose returns mix them by trace_decay"),
        ("min_replay_size", 0, "env steps before the first update would be forgotten: a rollout is learned from alone"),
    ):
        given = settings[key]
        if given != fits:
            changes = isinstance(given, Schedule)
            value = f"from {given.start:g} to {given.end:g}" if changes else str(given).lower()
            raise ConfigError(f"{key}: {value} {reason}; set --data.{key} {str(fits).lower()}.")
    if ReplayDevice(settings["replay_device"]) is ReplayDevice.cuda:
        raise ConfigError(
            "replay_device: cuda would keep frames on the GPU that are soon forgotten; set --data.replay_device auto."
        )
    per_update, updates = settings["env_steps_per_update"], settings["gradient_steps"]
    batch_size = settings["batch_size"]
    if batch_size % per_update:
        raise ConfigError(
            f"batch_size: {batch_size} transitions per {per_update} env steps are not a whole number of passes over "
            f"a rollout; set --data.batch_size {max(round(batch_size / per_update), 1) * per_update}."
        )
    rollout, passes = updates * per_update, batch_size // per_update
    if updates % passes:
        fits = math.ceil(updates / passes) * passes
        raise ConfigError(
            f"gradient_steps: {updates} updates of {batch_size} transitions do not make {passes} whole passes over a "
            f"rollout of {rollout}; set --data.gradient_steps {fits} --data.updates_per_epoch "
            f"{math.ceil(settings['updates_per_epoch'] / fits) * fits} --data.capacity {fits * per_update}."
        )
    if rollout > LONGEST * settings["num_envs"]:
        raise ConfigError(
            f"num_envs: {settings['num_envs']} envs play a rollout of {rollout} env steps, which is more than "
            f"{LONGEST:,} of each; set --data.num_envs {_more_envs(rollout)}."
        )
    if settings["capacity"] != rollout:
        raise ConfigError(
            f"capacity: {settings['capacity']} timesteps, but a rollout has gradient_steps x env_steps_per_update = "
            f"{rollout}; set --data.capacity {rollout}."
        )


def _more_envs(rollout: int) -> int:
    """The smallest number of envs that plays a rollout with at most `LONGEST` steps each."""
    envs = -(-rollout // LONGEST)
    while rollout % envs:
        envs += 1
    return envs
