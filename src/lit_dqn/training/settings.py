"""Checks of the settings of `ReplayDataModule`, each and in combination."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_dqn.envs import is_atari
from lit_dqn.errors import ConfigError, one_line
from lit_dqn.parts import Parts
from lit_dqn.playing.places import Place
from lit_dqn.playing.policies import Policy
from lit_dqn.schedules import bounds
from lit_dqn.training.given import check_given, check_object

MOST = 10**15
"""More than any machine can count to; a larger number must be a typing error."""

LARGEST_SEED = 2**32 - 1
"""The limit of Lightning's `seed_everything`."""

COUNTS = (
    "shards",
    "num_envs",
    "frame_stack",
    "capacity",
    "min_replay_size",
    "env_steps_per_update",
    "gradient_steps",
    "batch_size",
    "updates_per_epoch",
    "eval_episodes",
    "eval_envs",
    "eval_max_steps",
)

EXAMPLES = {"policy": "EpsilonGreedy(0.1)", "warm_up_policy": "UniformRandom()", "eval_policy": "Greedy()"}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings that cannot work, before anything is built.

    Args:
        settings: the arguments of `ReplayDataModule` by name.

    Raises:
        ConfigError: names the first key that is of a wrong type or out of its range, its value, and one that fits.

    """
    check_given(settings, (*COUNTS, "seed"))
    is_rollout = settings["sampler"].is_rollout
    for key in COUNTS:
        least = 0 if key == "env_steps_per_update" or (is_rollout and key == "min_replay_size") else 1
        if not least <= settings[key] <= MOST:
            raise ConfigError(f"{key}: {settings[key]} must be at least {least}, and at most 10^15.")
    for value in bounds(settings["gamma"]):
        if not 0 <= value <= 1:
            raise ConfigError(f"gamma: {value} is a discount per step and must lie in [0, 1].")
    if settings["reward_clip"] is not None and not settings["reward_clip"] > 0:
        raise ConfigError(f"reward_clip: {settings['reward_clip']} must be positive, or null for no clipping.")
    if not 0 <= settings["seed"] <= LARGEST_SEED:
        raise ConfigError(f"seed: {settings['seed']} must lie between 0 and {LARGEST_SEED}; set --data.seed 1.")
    if settings["env_processes"] and is_atari(settings["env_id"]):
        raise ConfigError(f"env_processes: true is not for {settings['env_id']}: ALE plays on threads of its own.")
    check_prefill(settings)
    if not is_rollout:
        _check_replay(settings["batch_size"], settings["min_replay_size"], settings["capacity"])
        _check_windows(settings)
    _check_chunk(settings)
    check_shards(settings)
    if settings["place"] is not None:
        _check_place(settings, settings["place"])


def check_prefill(settings: Mapping[str, Any]) -> None:
    """Refuse demonstrations that would not be used, and offline learning without demonstrations.

    Args:
        settings: as for `check_settings`.

    Raises:
        ConfigError: names a value that fits.

    """
    if settings["prefill"] and settings["sampler"].is_rollout:
        raise ConfigError(
            "prefill: only the newest rollout is learned from, so demonstrations would not be used; set --data.prefill "
            "[]."
        )
    if settings["env_steps_per_update"] == 0 and not settings["prefill"]:
        raise ConfigError(
            "env_steps_per_update: with 0 nothing is played, and without data.prefill the replay stays empty; set "
            "--data.env_steps_per_update 1, or give data.prefill demonstrations."
        )
    if settings["env_steps_per_update"] == 0 and settings["play_ahead"]:
        raise ConfigError(
            "play_ahead: true, but with env_steps_per_update 0 nothing is played; set --data.play_ahead false."
        )


def check_shards(settings: Mapping[str, Any]) -> None:
    """Refuse shards that cannot be equal, or whose sum has no fixed order.

    Args:
        settings: as for `check_settings`.

    Raises:
        ConfigError: names a value that fits.

    """
    shards = settings["shards"]
    if shards == 1:
        return
    if settings["sampler"].is_rollout:
        raise ConfigError(
            f"shards: {shards}, but a rollout is learned from in passes over all of it; set --data.shards 1."
        )
    if shards & (shards - 1):
        raise ConfigError(
            f"shards: {shards} is not a power of two, by which gradients are added up in pairs; set --data.shards "
            f"{1 << (shards.bit_length() - 1)}."
        )
    for key, what in (("num_envs", "envs"), ("batch_size", "transitions"), ("capacity", "timesteps")):
        if settings[key] % shards:
            raise ConfigError(
                f"{key}: {settings[key]} {what} cannot be shared equally by {shards} shards; set --data.{key} "
                f"{-(-settings[key] // shards) * shards}."
            )
    smallest = settings["capacity"] // shards
    for key, least in (
        ("n_step", max(map(round, bounds(settings["n_step"])))),
        ("frame_stack", settings["frame_stack"]),
    ):
        if least > smallest:
            raise ConfigError(
                f"{key}: {least} does not fit into the {smallest} timesteps that each of {shards} shards keeps; set "
                f"--data.capacity {least * shards}."
            )


def _check_place(settings: Mapping[str, Any], place: Place) -> None:
    num_envs, size = settings["num_envs"], place.envs_per_player
    if settings["env_steps_per_update"] == 0:
        raise ConfigError(
            f"place: {type(place).__name__}, but with env_steps_per_update 0 nothing is played; set --data.place null."
        )
    if settings["env_processes"]:
        raise ConfigError(
            "env_processes: true and a place both determine where envs are played; set --data.env_processes false."
        )
    if place.asynchronous and settings["play_ahead"]:
        raise ConfigError(
            "play_ahead: true, but asynchronous players never wait for updates; set --data.play_ahead false."
        )
    if place.asynchronous and settings["sampler"].is_rollout:
        raise ConfigError(
            "place: asynchronous players act by older weights, and a rollout must be played by the present ones; set "
            "--data.place.init_args.asynchronous false."
        )
    if settings["shards"] > 1:
        raise ConfigError(
            f"place: {type(place).__name__} plays for one shard, and there are {settings['shards']}; set --data.shards "
            "1, or --data.place null."
        )
    if num_envs % size:
        raise ConfigError(
            f"num_envs: {num_envs} envs cannot be split among players with {size} each (place.envs_per_player); set "
            f"--data.place.init_args.envs_per_player {math.gcd(num_envs, size)}."
        )
    if place.actors > num_envs // size:
        raise ConfigError(
            f"place: {place.actors} actors are too many for {num_envs // size} players ({num_envs} envs, {size} each); "
            f"set --data.place.init_args.actors {num_envs // size}."
        )


def _check_replay(batch_size: int, min_replay_size: int, capacity: int) -> None:
    if batch_size > capacity:
        raise ConfigError(
            f"batch_size: {batch_size} transitions cannot be drawn from a replay with capacity {capacity}; "
            f"set --data.capacity {batch_size} or more."
        )
    if not batch_size <= min_replay_size <= capacity:
        raise ConfigError(
            f"min_replay_size: {min_replay_size} must lie between batch_size {batch_size} and capacity {capacity}; "
            f"set --data.min_replay_size {capacity if min_replay_size > capacity else batch_size}."
        )


def _check_windows(settings: Mapping[str, Any]) -> None:
    num_envs, capacity = settings["num_envs"], settings["capacity"]
    if num_envs > capacity:
        raise ConfigError(
            f"num_envs: {num_envs} envs do not fit into a replay of {capacity}; set --data.num_envs {min(8, capacity)}."
        )
    shortest, longest = map(round, bounds(settings["n_step"]))
    if not 1 <= shortest <= longest <= MOST:
        raise ConfigError(f"n_step: {shortest if shortest < 1 else longest} must be at least 1, and at most 10^15.")
    for key, most, steps in (("n_step", longest, "steps"), ("frame_stack", settings["frame_stack"], "frames")):
        if most > capacity:
            raise ConfigError(
                f"{key}: {most} {steps} do not fit into a replay of {capacity} timesteps; "
                f"set --data.{key} {min(4, capacity)}, or a larger --data.capacity."
            )


def _check_chunk(settings: Mapping[str, Any]) -> None:
    gradient_steps, num_envs, sampler = settings["gradient_steps"], settings["num_envs"], settings["sampler"]
    if settings["updates_per_epoch"] % gradient_steps:
        fits = max(settings["updates_per_epoch"] // gradient_steps, 1) * gradient_steps
        raise ConfigError(
            f"updates_per_epoch: {settings['updates_per_epoch']} must be a multiple of gradient_steps "
            f"{gradient_steps}; set --data.updates_per_epoch {fits}."
        )
    if gradient_steps > 1 and not sampler.random:
        raise ConfigError(
            f"gradient_steps: the {gradient_steps} batches of a chunk are drawn from one replay, and the sampler "
            f"{type(sampler).__name__} would draw the same one each time; set --data.gradient_steps 1."
        )
    env_steps_per_chunk = gradient_steps * settings["env_steps_per_update"]
    if env_steps_per_chunk % num_envs:
        unit = num_envs // math.gcd(num_envs, gradient_steps)
        fits = math.ceil(settings["env_steps_per_update"] / unit) * unit
        raise ConfigError(
            f"num_envs: {num_envs} envs step together, so gradient_steps x env_steps_per_update = "
            f"{env_steps_per_chunk} env steps must be a multiple of {num_envs}; "
            f"set --data.env_steps_per_update {fits}."
        )


def stacked_parts(parts: Parts, frame_stack: int) -> Parts:
    """The parts of an observation of `frame_stack` frames; only images are stacked.

    Raises:
        ConfigError: if no part is an image.

    """
    if frame_stack > 1 and not any(part.image for part in parts.values()):
        raise ConfigError(
            f"frame_stack: {frame_stack} frames of images, and the parts of these observations are none: "
            f"{', '.join(parts)}; set --data.frame_stack 1."
        )
    return parts.stacked(frame_stack)


def check_policies(policies: Mapping[str, Policy], env_id: str, observation: NDArray[Any], num_actions: int) -> None:
    """Refuse what is no policy, and policies that do not use the agent and cannot play the env.

    Args:
        policies: by the key of their setting.
        env_id: of the env.
        observation: any observation, [1, *observation_shape].
        num_actions: of the env.

    Raises:
        ConfigError: names the key and the policy's error.

    """
    for key, policy in policies.items():
        check_object(key, policy, "policy", "act", EXAMPLES[key])
        if not policy.asks_agent:
            try:
                policy.act(Nobody(num_actions), observation, 0, [np.random.default_rng(0)])
            except Exception as error:
                raise ConfigError(f"{key}: {type(policy).__name__} cannot play {env_id}: {one_line(error)}.") from error


class Nobody:
    """A stand-in for policies that do not need an agent."""

    def __init__(self, num_actions: int) -> None:
        self.num_actions = num_actions

    def preferences(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        raise ConfigError("it uses the agent's preferences, although its asks_agent is False")
