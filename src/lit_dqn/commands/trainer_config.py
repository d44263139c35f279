"""What the command line says of the Trainer and its loggers, and what of that a run keeps."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import yaml
from jsonargparse import Namespace
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from lit_dqn.callbacks.run_folder import folder_of_output, make_new_folder, run_folder
from lit_dqn.commands.export import export_agent
from lit_dqn.commands.resume import settings_of
from lit_dqn.envs import env_name
from lit_dqn.errors import ConfigError
from lit_dqn.saving import durable
from lit_dqn.saving.read import read_checkpoint
from lit_dqn.saving.specification import specification
from lit_dqn.saving.trust import Trust
from lit_dqn.training.agent import LitAgent
from lit_dqn.training.data import ReplayDataModule

OBSERVATIONS = 64
"""How many an export is checked on."""

SMALL_CAPACITY = 1_000
"""Timesteps of the replay that they are drawn from: that of training may not fit on the machine that exports."""


class Trainer(lightning.Trainer):
    """Lightning's Trainer with one verb more."""

    def export(
        self,
        model: LitAgent,
        datamodule: ReplayDataModule,
        ckpt_path: str | None = None,
        output_dir: str | None = None,
    ) -> None:
        """Write the agent of a checkpoint as model.safetensors with its config.yaml, and as model.onnx.

        Args:
            model: the agent.
            datamodule: plays some steps at random, so that what is written can be checked on real observations.
            ckpt_path: `last`, `best`, a run folder, or a file.
            output_dir: where the files go, over those of an earlier export there. By default a new folder in the
                run's, `export/env_step_<n>`, and `env_step_<n>_2` if that is there.

        Raises:
            ConfigError: without a checkpoint, or if the folder cannot be made.
            TrainingError: if what was written does not give the values of the agent.

        """
        if ckpt_path is None:
            raise ConfigError("ckpt_path: export needs an agent; give --ckpt_path best, or a file.")
        checkpoint = read_checkpoint(ckpt_path)
        model.load_state_dict(checkpoint["state_dict"])
        datamodule.capacity = min(datamodule.capacity, SMALL_CAPACITY)
        datamodule.setup("fit")
        collector = datamodule.collector
        assert collector is not None
        try:
            collector.warm_up(model, OBSERVATIONS, starts=1)
        finally:
            datamodule.teardown("fit")
        starts = np.array(collector.replay.starts[-OBSERVATIONS:])
        batch = collector.replay.sample(np.resize(starts, max(len(starts), 2)))
        trust = Trust.of({"model": dict(model.hparams), "data": dict(datamodule.hparams)})
        settings = settings_of(checkpoint, type(model), trust)
        settings["model"] = {**specification(type(model)), "init_args": settings["model"]}
        if output_dir is None:
            folder = make_new_folder(folder_of_output(Path(ckpt_path), checkpoint["env_step"], "export"), "output_dir")
        else:
            folder = Path(output_dir)
        export_agent(model.online, batch.observation, settings, folder, output_name=model.output_name)


class SaveRunConfig(SaveConfigCallback):
    """Keeps what the run is, not how it was called, so that each verb takes the file and a new run begins anew.

    A run that is resumed keeps its new settings in place of the old ones, and at every moment one of the two.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, as_given: Namespace, **kwargs: Any) -> None:
        for key in ("config", "ckpt_path", "weights_only"):
            as_given.pop(key, None)
        for logger in as_list(as_given.trainer.logger):
            if _has_folder(logger) and "version" in logger.init_args:
                logger.init_args.version = None
        super().__init__(parser, as_given, save_to_log_dir=False, **kwargs)

    def save_config(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Write the file."""
        folder = run_folder(trainer)
        assert folder is not None
        durable.make_folder(folder)
        text = self.parser.dump(self.config, skip_none=False)
        durable.replace_file(folder / self.config_filename, [memoryview(text.encode())])


def check_accelerator(name: Any) -> None:
    """Refuse a device that this machine does not have.

    Args:
        name: as Lightning's `accelerator`; an object has been asked already.

    Raises:
        ConfigError: naming those that it has.

    """
    there = [key for key, known in AcceleratorRegistry.items() if known["accelerator"].is_available()]
    there += ["gpu"] if {"cuda", "mps"} & set(there) else []
    if isinstance(name, str) and name not in ("auto", *there):
        raise ConfigError(
            f"trainer.accelerator: {name} is not to be had here, where there is {', '.join(there)}; set "
            "--trainer.accelerator auto."
        )


def check_alone() -> None:
    """Refuse to be one of several processes that would each make the same run, in the same folder."""
    launchers = [("WORLD_SIZE", "RANK", "without torchrun")]
    if os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):  # there a shell has the tasks, and not we
        launchers.append(("SLURM_NTASKS", "SLURM_PROCID", "by srun --ntasks=1"))
    for size, rank, remedy in launchers:
        if os.environ.get(size, "1") != "1":
            raise ConfigError(
                f"{size}: {os.environ[size]} processes were started together (this one has {rank} "
                f"{os.environ.get(rank, '0')}), and each would make the same run, for lit_dqn trains on one device; "
                f"start it {remedy}."
            )


def check_metrics(error: Exception, trainer: lightning.Trainer) -> None:
    """Say of a failure of EarlyStopping which metrics it could have watched.

    Args:
        error: that ended the run.
        trainer: of the run.

    Raises:
        ConfigError: if EarlyStopping was to watch a metric that there is not.

    """
    if str(error).startswith("Early stopping conditioned on metric"):
        there, unknown = sorted(trainer.callback_metrics), re.search(r"`(.+?)`", str(error))
        raise ConfigError(
            f"trainer.callbacks: EarlyStopping watches {unknown and unknown[1]}, and there is no such metric; give its "
            f"monitor one of {', '.join(there)}."
        ) from error


def give_folder(config: Namespace) -> None:
    """See that a run has a folder, whatever it logs to: without a logger that has one, a CSVLogger stands beside.

    Args:
        config: the Trainer's, whose loggers may be changed.

    """
    if config.logger is None or config.logger is True:
        config.logger = _logger(
            "TensorBoardLogger", None
        )  # what Lightning means by it, in a folder that `name_run` names
        return
    loggers = [logger for logger in as_list(config.logger) if logger is not False]
    if not any(_has_folder(logger) for logger in loggers):
        names = [logger.get("init_args", {}).get("name") for logger in loggers if isinstance(logger, Namespace)]
        config.logger = [*loggers, _logger("CSVLogger", next(filter(None, names), None))]


def _logger(name: str, run_name: str | None) -> Namespace:
    arguments = Namespace(save_dir="lightning_logs", name=run_name, version=None)
    return Namespace(class_path=f"lightning.pytorch.loggers.{name}", init_args=arguments)


def run_logger(config: Any) -> Namespace:
    """The logger whose folder is the run's, after `give_folder`: the first that has a folder for each version."""
    return next(filter(_has_folder, as_list(config)))


def _has_folder(logger: Any) -> bool:
    return str(getattr(logger, "class_path", "")).endswith(("TensorBoardLogger", "CSVLogger"))


def expand_folders(config: Any) -> None:
    """Put what they mean in place of `~` and `$VARIABLE` in the folders of all loggers, of which not all do it alike.

    Raises:
        ConfigError: if there is no such variable.

    """
    for logger in as_list(config):
        arguments = logger.get("init_args", {}) if isinstance(logger, Namespace) else {}
        for key in ("save_dir", "name"):
            if isinstance(arguments.get(key), str | Path):
                arguments[key] = _expanded(str(arguments[key]), key)


def _expanded(path: str, key: str) -> str:
    expanded = os.path.expanduser(os.path.expandvars(path))
    unknown = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unknown is not None:
        raise ConfigError(f"trainer.logger.init_args.{key}: {path} names {unknown[0]}, which is not set; set it.")
    return expanded


def folder_of_runs(logger: Namespace) -> Path:
    """The folder that holds the versions of a run, after `expand_folders`."""
    return Path(logger.init_args.save_dir) / (logger.init_args.get("name") or "")


def name_run(config: Namespace) -> None:
    """Let a run have a folder, and that folder hold no run of another env.

    The name that a config file gives is meant for the env of that file. For another env, as where the command line
    changes it, or where the file is an overlay for any, the env's name is added; a run without a name has that alone.

    Args:
        config: of a verb; its logger is named anew.

    """
    give_folder(config.trainer)
    logger, env_id = run_logger(config.trainer.logger), config.data.get("env_id")
    if env_id is None or "name" not in logger.init_args:
        return
    name = logger.init_args.name
    if name is None:
        logger.init_args.name = env_name(env_id)
        return
    files = [_contents(file) for file in config.get("config") or []]
    named_for = [_part(file, "data").get("env_id") for file in files if name in _names_of_loggers(file)]
    if named_for and env_id not in named_for:
        logger.init_args.name = f"{name}-{env_name(env_id)}"


def _contents(file: os.PathLike[str]) -> Mapping[str, Any]:
    try:
        contents = yaml.safe_load(Path(file).read_text())
    except (OSError, ValueError, yaml.YAMLError):  # such as a pipe, which has been read by now
        return {}
    return contents if isinstance(contents, Mapping) else {}


def _names_of_loggers(file: Mapping[str, Any]) -> list[str | None]:
    loggers = [logger for logger in as_list(_part(file, "trainer").get("logger")) if isinstance(logger, Mapping)]
    return [(_part(logger, "init_args") or logger).get("name") for logger in loggers]


def _part(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = settings.get(key)
    return part if isinstance(part, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """A list of none, one or several."""
    if value is None:
        return []
    return [*value] if isinstance(value, list | tuple) else [value]
