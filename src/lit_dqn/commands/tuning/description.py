"""The description of a search in its file: base configs, a space, seeds, the number of trials."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_dqn.commands.inputs import read_config
from lit_dqn.commands.studies.description import (
    CHECKPOINTS,
    OF_THE_STUDY,
    cores,
    found_config,
    is_number,
    one_of,
    seeds_of,
    text_of,
    whole_number,
)
from lit_dqn.commands.tuning.space import Dimension, read_space
from lit_dqn.errors import ConfigError
from lit_dqn.saving.layout import TRIALS

KEYS = (
    *("configs", "overrides", "space", "seeds", "trials", "target", "checkpoint", "test_episodes"),
    *("prune", "storage", "name", "at_once", "threads", "folder"),
)

SEEDS = (100, 101)
"""Default seeds of each trial: reports use small ones."""


@dataclass(frozen=True)
class Pruning:
    """When trials end early: after an evaluation below the median of earlier trials' evaluations with the same number.

    Args:
        after_trials: number of first trials that always run to the end.
        after_evaluations: number of first evaluations of a trial that prune nothing.

    """

    after_trials: int = 5
    after_evaluations: int = 1


@dataclass(frozen=True)
class Search:
    """A space, and how its settings are scored.

    Args:
        name: in the storage.
        folder: of the search.
        files: the base configs; later ones override earlier ones.
        overrides: values by dotted key, which override them in each trial.
        space: dotted key -> its possible values.
        seeds: of the runs of each trial.
        trials: number of trials.
        target: the mean return at which the search ends early; None: all trials run.
        checkpoint: the weights of a run that are tested, `last` or `best`.
        test_episodes: of each run.
        prune: when trials end early; None: never.
        storage: URL of a database, in Optuna's form.
        at_once: number of runs at once.
        threads: torch threads per run.

    """

    name: str
    folder: Path
    files: tuple[str, ...]
    overrides: Mapping[str, Any]
    space: Mapping[str, Dimension]
    seeds: tuple[int, ...]
    trials: int
    target: float | None
    checkpoint: str
    test_episodes: int
    prune: Pruning | None
    storage: str
    at_once: int
    threads: int


def read_search(
    file: Path, at_once: int | None = None, trials: int | None = None, storage: str | None = None
) -> Search:
    """Read a search from a YAML file.

    Args:
        file: with the keys `configs`, `space` and `trials`, and optionally the other fields of `Search`.
        at_once: overrides the file; by default the number of cores.
        trials: overrides the file.
        storage: overrides the file; by default a database in the folder.

    Raises:
        ConfigError: names the key, its value and valid values.

    """
    if not file.is_file():
        raise ConfigError(f"tune: there is no file {file}; give a YAML file with configs, space and trials.")
    said = read_config(str(file))
    for key in said:
        if key not in KEYS:
            raise ConfigError(f"tune: {file} has the key {key}; it may have {', '.join(KEYS)}.")
    folder = Path(text_of(said, "folder", f"tuning/{file.stem}")).expanduser()
    at_once = at_once or whole_number(said, "at_once", cores())
    target = said.get("target")
    if target is not None and not is_number(target):
        raise ConfigError(f"target: {target} must be a return, a number, or null for all trials.")
    return Search(
        name=text_of(said, "name", file.stem),
        folder=folder,
        files=_files(said, file),
        overrides=_overrides(said.get("overrides") or {}),
        space=read_space(said.get("space")),
        seeds=seeds_of({"seeds": list(SEEDS), **said}),
        trials=trials or whole_number(said, "trials", 50),
        target=None if target is None else float(target),
        checkpoint=one_of(said, "checkpoint", CHECKPOINTS),
        test_episodes=whole_number(said, "test_episodes", 100),
        prune=_pruning(said.get("prune", {})),
        storage=_url(storage or text_of(said, "storage", f"sqlite:///{folder / TRIALS}")),
        at_once=at_once,
        threads=whole_number(said, "threads", max(cores() // at_once, 1)),
    )


def _files(said: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    files = said.get("configs")
    files = [files] if isinstance(files, str) else files
    if not (isinstance(files, list) and files and all(isinstance(one, str) and one for one in files)):
        raise ConfigError(f"configs: {files} is not a list of config files; give one, such as [cartpole].")
    return tuple(found_config(one, file, "configs") for one in files)


def _overrides(said: Any) -> dict[str, Any]:
    if not isinstance(said, Mapping):
        raise ConfigError(
            f"overrides: {said} is not a mapping; give keys and values, such as stop.max_env_steps: 20000."
        )
    for key in said:
        if any(key == name or str(key).startswith(f"{name}.") for name in OF_THE_STUDY):
            remedy = "give it in one of the configs" if key == "data.env_id" else "leave it out"
            raise ConfigError(f"overrides: {key} is set by the search; {remedy}.")
    return {str(key): value for key, value in said.items()}


def _pruning(said: Any) -> Pruning | None:
    if said is False or said is None:
        return None
    known = ("after_trials", "after_evaluations")
    if not isinstance(said, Mapping) or not said.keys() <= set(known):
        raise ConfigError(f"prune: {said} is none of false and a mapping with {' and '.join(known)}; give one.")
    return Pruning(*(whole_number(said, key, getattr(Pruning, key)) for key in known))


def _url(said: str) -> str:
    url = os.path.expandvars(said)
    if "://" not in url:
        raise ConfigError(
            f"storage: {said} is not a URL of a database; give one, such as postgresql+psycopg://host/name."
        )
    return url


def without_password(text: str) -> str:
    """A URL, or a text with one, without its password."""
    return re.sub(r"(://[^:/@\s]+):[^@\s]+@", r"\1:***@", text)
