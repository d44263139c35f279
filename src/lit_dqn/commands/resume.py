"""Resuming a run: from which checkpoint, with which settings, and in which folder."""

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lit_dqn.commands.inputs import dump_yaml
from lit_dqn.errors import ConfigError, one_line
from lit_dqn.saving import durable
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.contents import INSTANTIATOR_KEY
from lit_dqn.saving.layout import CONFIG, METRICS, run_of_checkpoint
from lit_dqn.saving.loops import check_groups_of_optimizer, keep_settings_of_optimizer
from lit_dqn.saving.optimizer_state import check_optimizer
from lit_dqn.saving.settings import Refused, checked_arguments
from lit_dqn.saving.specification import as_typed, with_defaults
from lit_dqn.saving.trust import Trust, imported
from lit_dqn.saving.weights import check_weights
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule

log = logging.getLogger("lit_dqn")

FROM_THE_DATA = ("observation_shape", "num_actions")
"""Hyperparameters of the agent that are not settings."""

CALLBACKS = ("StoppingRules", "TrainingStatistics", "Checkpoints")
"""Callbacks of the command line whose state determines how a run continues."""


def settings_of(checkpoint: Checkpoint, agent: type[LitAgent], trust: Trust) -> dict[str, Any]:
    """The settings of a checkpoint, in the form of a config file of `fit`.

    Args:
        checkpoint: the loaded checkpoint.
        agent: of the checkpoint.
        trust: the classes that they may name.

    Raises:
        ConfigError: if they name other classes.

    """
    said = {"source": "ckpt_path: the checkpoint", "remedy": "name it in the config: give the run's --config"}
    saved_agent, saved_data = checkpoint.settings
    model = {key: value for key, value in saved_agent.items() if key not in FROM_THE_DATA}
    settings = {
        "data": checked_arguments(ReplayDataModule, saved_data, trust, **said),
        "model": checked_arguments(agent, model, trust, **said),
    }
    return settings if checkpoint.seed is None else {"seed_everything": checkpoint.seed, **settings}


def check_can_be_read(model: LitAgent, data: ReplayDataModule) -> None:
    """Refuse settings that the checkpoints of a run would hold, and that are not read from a checkpoint.

    Raises:
        ConfigError: names the first one.

    """
    agent = {key: value for key, value in model.hparams.items() if key not in (*FROM_THE_DATA, INSTANTIATOR_KEY)}
    trust = Trust.of({"data": dict(data.hparams), "model": agent})
    for section, made, settings in (("data", type(data), dict(data.hparams)), ("model", type(model), agent)):
        try:
            checked_arguments(made, settings, trust, source=section, remedy="")
        except Refused as refused:
            raise ConfigError(
                f"{section}.{refused.where}: it {refused.why}, so that no checkpoint of the run could be read; give "
                "names as keys, and no texts that are mappings or lists in YAML."
            ) from refused


def with_settings_of(checkpoint: Checkpoint, words: Sequence[str], config: Namespace, file: Path) -> list[str]:
    """A command line with the settings of a checkpoint as its first config file, which all others override.

    Args:
        checkpoint: the loaded checkpoint.
        words: the command line, `fit --config ...`.
        config: the parsed command line.
        file: to which the settings are written.

    Raises:
        ConfigError: if the checkpoint names classes that are not trusted.

    """
    given = config[config.subcommand]
    agent = given.model.class_path
    settings = settings_of(
        checkpoint, imported(agent), Trust.of({"data": given.data.as_dict(), "model": given.model.as_dict()})
    )
    settings["model"] = {"class_path": agent, "init_args": settings["model"]}
    durable.replace_text(file, dump_yaml(settings))
    place = words.index(config.subcommand) + 1
    return [*words[:place], "--config", str(file), *words[place:]]


def resume_in_its_folder(checkpoint: Checkpoint, logger: Namespace) -> None:
    """Let a run resume in its own folder and curves, without the steps after the checkpoint."""
    run = run_of_checkpoint(checkpoint.path)
    assert run is not None  # `last` only looks in runs
    logger.init_args.version = run.name
    if logger.class_path.endswith("TensorBoardLogger"):
        logger.dict_kwargs = {**(logger.get("dict_kwargs") or {}), "purge_step": checkpoint.env_step + 1}
        logger.init_args.default_hp_metric = False  # its initial point has already been logged
    else:
        _set_aside(run / METRICS, checkpoint.env_step)


def _set_aside(metrics: Path, env_step: int) -> None:
    """Keep the points of a CSVLogger, which deletes its file when it resumes in the same folder."""
    aside = metrics.with_name(f"metrics_to_env_step_{env_step}.csv")
    # A run that was killed again before its next checkpoint has already moved them.
    if metrics.is_file() and not aside.exists():
        with metrics.open(newline="") as file:
            content = file.read()
        # A killed process may have left its last line half written, or the file empty.
        reader = csv.DictReader(io.StringIO(content[: content.rfind("\n") + 1], newline=""))
        if reader.fieldnames is None:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, reader.fieldnames)
        writer.writeheader()
        writer.writerows(point for point in reader if int(point["step"]) <= env_step)
        durable.replace_text(aside, text.getvalue())


def check_env(checkpoint: Checkpoint, env_id: str, verb: str) -> None:
    """Refuse a checkpoint of another env, before anything is built for it.

    Args:
        checkpoint: the loaded checkpoint.
        env_id: of the config.
        verb: the verb, for the message.

    Raises:
        ConfigError: names both envs.

    """
    path, then = checkpoint.path, checkpoint.settings.data.get("env_id")
    if not isinstance(then, str) or _id_of(then) == _id_of(env_id):
        return
    run = run_of_checkpoint(path)
    remedy = f"set --data.env_id {then}"
    if run is not None and (run / CONFIG).is_file():
        remedy = f"give its run's own --config {run / CONFIG}"
    if ":" in then:
        remedy = f"if you trust {then.split(':')[0]}, which it imports, {remedy}"
    if verb == "fit":
        remedy += f", or start a new run from its weights with --model.init_from {path}"
    elif verb != "export":
        remedy += f", or, for its weights in {env_id}, --model.init_from {path} instead of --ckpt_path"
    raise ConfigError(f"env_id: the checkpoint {path} was trained on {then}, but this config plays {env_id}; {remedy}.")


def _id_of(env_id: str) -> str:
    return env_id.split(":")[-1]  # the module only registers the env


def warn_of_other_env(checkpoint: Checkpoint, data: ReplayDataModule) -> None:
    """Warn if the env differs from the one of training: returns then do not measure what the agent has learned.

    It may be intended, for example Atari without sticky actions, so it is not an error.
    """
    saved = {"action_mask": False, **checkpoint.settings.data}  # earlier releases had no masks
    keys = ("env_kwargs", "wrappers", "action_mask")
    # Both None and an empty list mean no wrappers.
    then, now = (
        {key: of[key] if of[key] is False else of[key] or None for key in keys if key in of}
        for of in (saved, data.hparams)
    )
    for key, before, after in _differences(then, now):
        words = ["not set" if value is None else as_typed(value) for value in (after, before)]
        log.warning("data.%s: %s now, but %s when the agent was trained; this is another task", key, *words)


def check_can_resume(checkpoint: Checkpoint, model: LitAgent, data: ReplayDataModule | None) -> None:
    """Refuse settings with which a checkpoint cannot be resumed; log the checkpoint, and the other differences.

    Args:
        checkpoint: the loaded checkpoint.
        model: the agent with the present settings.
        data: with the present settings; None unless the run will be trained.

    Raises:
        ConfigError: if it has another network, or cannot be resumed with these settings of the data.

    """
    path, (saved_model, saved_data) = checkpoint.path, checkpoint.settings
    networks = [with_defaults(settings.get("network")) for settings in (saved_model, model.hparams)]
    if data is not None and networks[0] != networks[1]:
        raise ConfigError(
            f"network: the checkpoint was made with {saved_model.get('network')}, not {model.hparams.get('network')}, "
            f"and cannot be resumed with another; set --model.network {as_typed(saved_model.get('network'))}."
        )
    weights = checkpoint.weights()
    if any(name.startswith("target.") for name in weights) is (model.target_update_period is None):
        without, then = model.target_update_period is None, saved_model.get("target_update_period")
        raise ConfigError(
            f"target_update_period: the checkpoint {path} has {'a' if without else 'no'} target network, and cannot be "
            f"resumed with{'out' if without else ''} one; set --model.target_update_period {as_typed(then)}."
        )
    check_weights(model, weights, "ckpt_path", path)
    taken = f"{path}, env step {checkpoint.env_step:,}"
    if data is None:
        log.info("agent: %s", taken)
        return
    for name in CALLBACKS:
        if not checkpoint.has_callback(name):
            raise ConfigError(
                f"ckpt_path: {path} holds no state of {name}, so the run would be another from here on; take "
                f"another one, or start a new run from its weights with --model.init_from {path}."
            )
    parameters = list(model.online.parameters())
    try:
        check_groups_of_optimizer(checkpoint, model.make_optimizer, parameters)
        check_optimizer(checkpoint.optimizer_states[0], parameters, model.make_optimizer)
        keep_settings_of_optimizer(checkpoint, model.make_optimizer, parameters)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"ckpt_path: {path} cannot be resumed with this optimizer ({one_line(error)}); set "
            f"--model.optimizer {as_typed(saved_model.get('optimizer'))}, or take another one."
        ) from error
    data.check_can_resume(checkpoint)
    log.info("resume: %s", taken)
    then = {"model": saved_model, "data": saved_data | {"seed": checkpoint.seed}}
    now = {"model": dict(model.hparams), "data": dict(data.hparams) | {"seed": data.seed}}
    known = {f"model.{key}" for key in saved_model} | {f"data.{key}" for key in saved_data} | {"data.seed"}
    for key, before, after in _differences(then, now):
        # A setting that an earlier release did not have counts as unchanged.
        if ".".join(key.split(".")[:2]) in known:
            log.info("resume: %s is %s now; it was %s in the checkpoint", key, after, before)


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of all differences."""
    before, after = dict(_flat(with_defaults(then))), dict(_flat(with_defaults(now)))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
