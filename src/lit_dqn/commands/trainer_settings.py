"""Checks of settings of Lightning's Trainer that do not work here, or have a counterpart in lit_dqn."""

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from lit_dqn.errors import ConfigError

PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16")

PROFILERS = ("simple", "advanced", "pytorch", "xla")
"""Lightning's short names; class paths are valid, too."""

INSTEAD = {
    "gradient_clip_val": "Lightning cannot clip in manual optimisation; set --model.max_grad_norm 10",
    "gradient_clip_algorithm": "Lightning cannot clip in manual optimisation; set --model.max_grad_norm 10",
    "limit_train_batches": "an epoch has as many updates as data says; set --data.updates_per_epoch 1000",
    "overfit_batches": "the replay is what is learned from; set --data.capacity 1000 for a small one",
    "fast_dev_run": "a short run has limits of its own; set --stop.max_env_steps 2000",
    "barebones": "a run without its callbacks never ends; set --trainer.logger false for one without curves",
    "min_epochs": "stop alone says when a run ends; leave it out, or set --stop.max_env_steps 100000 for a longer one",
    "min_steps": "stop alone says when a run ends; leave it out, or set --stop.max_env_steps 100000 for a longer one",
    "val_check_interval": "evaluations come between epochs; set --data.updates_per_epoch 1000 or another number",
    "reload_dataloaders_every_n_epochs": "the replay changes with every step already; leave it out",
}
"""Remedies for settings that do not work here."""

WHOLE_EPOCHS = ("limit_train_batches", "val_check_interval")
"""Limits for which 1.0 means all, and 1 means one."""

EPISODES = {"validate": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}
"""How many episodes each verb plays."""

LIMITS = {"max_epochs": "epochs", "max_steps": "updates"}
DURATION = re.compile(r"\d+:\d\d?:\d\d?:\d\d?")
AT_LEAST = {"check_val_every_n_epoch": 1, "log_every_n_steps": 0, "num_sanity_val_steps": -1}


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Refuse settings of the Trainer that do not work here.

    Args:
        settings: the given settings, by name.

    Raises:
        ConfigError: names the option and the remedy.

    """
    for key, remedy in INSTEAD.items():
        value = settings.get(key)
        neutral = (None, 1.0) if key in WHOLE_EPOCHS else (None, False, 0)
        if value not in neutral or (key in WHOLE_EPOCHS and _is_whole(value)):
            raise ConfigError(f"trainer.{key}: {value} is not possible: {remedy}.")
    for key in EPISODES.values():
        value = settings.get(key)
        if value not in (None, 0.0, 1.0) and not (isinstance(value, int) and value > 1):
            raise ConfigError(
                f"trainer.{key}: {value} must be a whole number of episodes, 0 for none; set --data.eval_episodes 10 "
                "instead."
            )
    if settings.get("accumulate_grad_batches") not in (None, 1):
        raise ConfigError(
            "trainer.accumulate_grad_batches: an update uses one batch; set --data.batch_size 128 for a larger one."
        )
    strategy = settings.get("strategy")
    if strategy not in (None, "auto", "single_device", "ddp"):
        raise ConfigError(
            f"trainer.strategy: {_name(strategy)} is not possible: lit_dqn trains in one process, or in several by "
            "ddp; set --trainer.strategy auto."
        )
    devices, nodes = settings.get("devices"), settings.get("num_nodes", 1)
    if strategy != "ddp" and (devices not in (None, 1, "1", [0], "auto") or nodes not in (None, 1)):
        raise ConfigError(
            f"trainer.devices: {devices} on {nodes} nodes is not possible in one process; set --trainer.devices 1 "
            "--trainer.num_nodes 1, for several processes also --trainer.strategy ddp, and for several seeds start a "
            "study."
        )
    processes(settings)
    profiler = settings.get("profiler")
    if profiler is not None and not _is_profiler(profiler):
        raise ConfigError(
            f"trainer.profiler: there is no profiler {profiler}; give one of {', '.join(PROFILERS)}, such as "
            "--trainer.profiler simple, or the class path of your own."
        )
    precision = settings.get("precision")
    if precision is not None and str(precision) not in PRECISIONS:
        raise ConfigError(
            f"trainer.precision: {precision} is not possible; give one of {', '.join(PRECISIONS)}, for instance "
            "--trainer.precision bf16-mixed."
        )
    for key, unit in LIMITS.items():
        value = settings.get(key)
        if value == 0:
            raise ConfigError(f"trainer.{key}: 0 {unit} would learn nothing; set --trainer.{key} 100, or leave it out.")
        if _is_whole(value) and value < -1:
            raise ConfigError(f"trainer.{key}: {value} must be above 0; set --trainer.{key} -1 for no limit.")
    max_time = settings.get("max_time")
    if isinstance(max_time, int) or (isinstance(max_time, str) and not DURATION.fullmatch(max_time)):
        raise ConfigError(
            f"trainer.max_time: {max_time} is not a time as days:hours:minutes:seconds; set "
            "--trainer.max_time 00:08:00:00 for eight hours."
        )
    if settings.get("enable_checkpointing") is False:
        raise ConfigError(
            "trainer.enable_checkpointing: false is not possible, a run keeps its last state; set "
            "--checkpoints.every_n_epochs 1000 to save it seldom."
        )
    for key, least in AT_LEAST.items():
        value = settings.get(key)
        if _is_whole(value) and value < least:
            raise ConfigError(f"trainer.{key}: {value} must be at least {least}; set --trainer.{key} {max(least, 1)}.")


def check_episodes(settings: Mapping[str, Any], verb: str) -> None:
    """Refuse a verb that plays episodes, and is told to play none.

    Args:
        settings: as for `check_trainer`.
        verb: such as `validate`.

    Raises:
        ConfigError: names the option and the remedy.

    """
    key = EPISODES.get(verb, "")
    if settings.get(key) == 0:
        raise ConfigError(
            f"trainer.{key}: {settings[key]} leaves {verb} no episode to play; set --trainer.{key} 1.0 for all of "
            "data.eval_episodes."
        )


def processes(settings: Mapping[str, Any]) -> int:
    """The number of processes of a run.

    Args:
        settings: as for `check_trainer`.

    Raises:
        ConfigError: if the settings are not numbers.

    """
    if settings.get("strategy") != "ddp":
        return 1
    devices, nodes = str(settings.get("devices")), str(settings.get("num_nodes", 1))
    if not (devices.isdecimal() and nodes.isdecimal() and int(devices) > 0 and int(nodes) > 0):
        raise ConfigError(
            f"trainer.devices: {devices} on {nodes} nodes does not say how many processes share the run; set "
            "--trainer.devices 1 --trainer.num_nodes 1, or larger numbers."
        )
    return int(devices) * int(nodes)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_profiler(value: Any) -> bool:
    if _is_whole(value) or isinstance(value, bool):
        return False
    return not isinstance(value, str) or value in PROFILERS or "." in value or value.endswith("Profiler")


def _name(value: Any) -> str:
    """The name of a class in settings."""
    return str(value.get("class_path", value) if isinstance(value, Mapping) else getattr(value, "class_path", value))
