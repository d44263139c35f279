"""The logger of a run, and the name of its folder."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from lit_dqn.commands.inputs import EXTENDS
from lit_dqn.envs import env_name
from lit_dqn.errors import ConfigError
from lit_dqn.saving.layout import CHECKPOINTS, version_folder


def give_folder(config: Namespace) -> None:
    """Make sure that a run has a folder, whatever its loggers: if none of them has one, a CSVLogger is added.

    Args:
        config: of the Trainer, whose loggers may change.

    """
    if config.logger is None or config.logger is True:
        config.logger = _logger("TensorBoardLogger", None)  # Lightning's default, in a folder that `name_run` names
        return
    loggers = [logger for logger in as_list(config.logger) if logger is not False]
    if not any(has_folder(logger) for logger in loggers):
        names = [logger.get("init_args", {}).get("name") for logger in loggers if isinstance(logger, Namespace)]
        config.logger = [*loggers, _logger("CSVLogger", next(filter(None, names), None))]


def _logger(name: str, run_name: str | None) -> Namespace:
    arguments = Namespace(save_dir="lightning_logs", name=run_name, version=None)
    return Namespace(class_path=f"lightning.pytorch.loggers.{name}", init_args=arguments)


def run_logger(config: Any) -> Namespace:
    """The logger whose folder is the run's, after `give_folder`: the first with a folder per version."""
    logger: Namespace = next(filter(has_folder, as_list(config)))
    return logger


def has_folder(logger: Any) -> bool:
    """Whether a logger has a folder for each version of a run."""
    return str(getattr(logger, "class_path", "")).endswith(("TensorBoardLogger", "CSVLogger"))


def expand_folders(config: Any) -> None:
    """Expand `~` and `$VARIABLE` in the folders of all loggers, because not all loggers do it.

    Raises:
        ConfigError: if a variable does not exist.

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
    """The folder that holds the versions of a run, after `expand_folders`.

    Raises:
        ConfigError: if the logger writes below the folder of a version, where the run would not be found again.

    """
    sub_dir = logger.init_args.get("sub_dir")
    if sub_dir:
        raise ConfigError(
            f"trainer.logger.init_args.sub_dir: {sub_dir} would put the run where no later command finds it; set "
            "--trainer.logger.init_args.sub_dir null."
        )
    return Path(logger.init_args.save_dir) / (logger.init_args.get("name") or "")


def version_of_run(config: Namespace, runs: Path) -> str | None:
    """The folder of the version that `last` and `best` mean: the logger's, or that of a run's own config file.

    Args:
        config: of a verb, after `name_run` and `expand_folders`.
        runs: the folder that holds the versions of the run.

    Returns:
        The name of the folder; None if they mean any version.

    """
    version = run_logger(config.trainer.logger).init_args.get("version")
    if version is not None:
        return version_folder(runs, version).name
    for path in reversed(config.get("config") or []):
        folder = Path(path or "").resolve().parent
        if folder.parent == runs.resolve() and (folder / CHECKPOINTS).is_dir():
            return folder.name
    return None


def name_run(config: Namespace) -> None:
    """Give a run a folder that holds no run of another env.

    A run is named after the last config file that describes a whole run, unless a file or the command line sets
    `trainer.logger.init_args.name`. A file's name belongs to the env of that file: for another env (set on the command
    line, or because the file is an overlay), the env's name is appended. A run without a file is named after its env.

    Args:
        config: of a verb; the name of its logger is set.

    """
    give_folder(config.trainer)
    logger, env_id = run_logger(config.trainer.logger), config.data.get("env_id")
    if env_id is None or "name" not in logger.init_args:
        return
    name = logger.init_args.name
    paths = [path for path in config.get("config") or [] if path is not None]  # None: a config that was passed as text
    if name is None:
        of_env = _file_of_env(paths)
        name = env_name(env_id) if of_env is None else of_env[0]
        named_for = [] if of_env is None else [of_env[1]]
    else:
        files = [_contents(path) for path in paths]
        named_for = [_part(file, "data").get("env_id") for file in files if name in _names_of_loggers(file)]
    logger.init_args.name = f"{name}-{env_name(env_id)}" if named_for and env_id not in named_for else name


def _file_of_env(files: Iterable[os.PathLike[str]]) -> tuple[str, Any] | None:
    """The name of the last file that describes a whole run, alone or with the files that it extends, and its env."""
    named, env_id = None, None
    for file in files:
        contents = _contents(file)
        own = _part(contents, "data").get("env_id")
        env_id = own or env_id
        if own is not None or EXTENDS in contents:
            named = Path(file).stem, env_id
    return named


def _contents(file: os.PathLike[str]) -> Mapping[str, Any]:
    try:
        contents = yaml.safe_load(Path(file).read_text())
    except (OSError, ValueError, yaml.YAMLError):  # for example a web address, which the parser has read
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
