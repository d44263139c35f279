"""The description of a study in its file: agents on tasks, a grid of settings, seeds."""

import itertools
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_dqn.commands.inputs import find_config, read_config, word_of
from lit_dqn.errors import ConfigError
from lit_dqn.training.settings import LARGEST_SEED

EXAMPLE = "DQN: [cartpole]"
CHECKPOINTS = ("last", "best")
SEED = "seed_everything"
OF_THE_STUDY = (SEED, "data.seed", "data.env_id", "ckpt_path", "trainer.logger")
"""Settings that cannot be in a grid: the study sets them for each run."""


@dataclass(frozen=True)
class Cell:
    """An agent on a task, which runs once per seed.

    Args:
        agent: its name, with its values from the grid.
        task: its name; None if the study has one task, which is then named after its env.
        files: config files; later ones override earlier ones.
        settings: values by dotted key, which override all files.

    """

    agent: str
    task: str | None
    files: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def words(self) -> list[str]:
        """The settings as words of a command line."""
        files = [f"--config={file}" for file in self.files]
        return [*files, *(word_of(key, value) for key, value in self.settings.items())]


@dataclass(frozen=True)
class Study:
    """Agents x tasks x seeds, and how they are tested.

    Args:
        folder: of the study.
        cells: agents on tasks.
        seeds: of the runs of each cell.
        scales: task -> the returns that score 0 and 1.
        test_episodes: of each trained agent.
        checkpoint: the weights that are tested, `last` or `best`.
        at_once: number of runs at once.
        threads: torch threads per run.

    """

    folder: Path
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    scales: Mapping[str, tuple[float, float]]
    test_episodes: int
    checkpoint: str
    at_once: int
    threads: int


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        agent: its name.
        task: its name.
        seed: of everything in the run.
        folder: of the run.
        config: for `python -m lit_dqn fit`, as YAML.
        max_env_steps: its limit; None if something else ends it.
        replay_bytes: memory of its replay.

    """

    agent: str
    task: str
    seed: int
    folder: Path
    config: str
    max_env_steps: int | None
    replay_bytes: int

    def __str__(self) -> str:
        return f"{self.agent}, {self.task}, seed {self.seed}"


def as_argument(value: Any) -> str:
    """A value of a file in the form of the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def path_part(name: str) -> str:
    """A name as a component of a path."""
    return re.sub(r"[^\w.=+-]+", "_", name).strip("_").lstrip(".")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_study(file: Path, at_once: int | None = None, threads: int | None = None) -> Study:
    """Read a study from a YAML file.

    Args:
        file: with the keys `agents` and `seeds`, and optionally `tasks`, `overrides` (the grid), `folder` and the other
            fields of `Study`.
        at_once: overrides the file; by default the number of cores.
        threads: overrides the file; by default each run has its share of the cores.

    Raises:
        ConfigError: names the key, its value and valid values.

    """
    if not file.is_file():
        raise ConfigError(f"study: there is no file {file}; give a YAML file with agents and seeds.")
    said = read_config(str(file))
    known = ("agents", "tasks", "overrides", "seeds", "scales", "test_episodes", "checkpoint", "at_once", "threads")
    for key in said:
        if key not in (*known, "folder"):
            raise ConfigError(f"study: {file} has the key {key}; it may have {', '.join(known)}, folder.")
    agents = files_of(said, "agents", file)
    if not agents:
        raise ConfigError(f"agents: {file} names none; give each a name and its config files, such as {EXAMPLE}.")
    tasks: dict[str | None, tuple[str, ...]] = dict(files_of(said, "tasks", file).items()) or {None: ()}
    cells = tuple(
        Cell(agent + name, task, files + of_agent, settings)
        for task, files in tasks.items()
        for agent, of_agent in agents.items()
        for name, settings in _grid(said.get("overrides") or {})
    )
    for cell in cells:
        if not cell.files:
            raise ConfigError(f"agents: {cell.agent} has no config file; give it one, such as {EXAMPLE}.")
    _check_distinct("agents", {cell.agent for cell in cells})
    _check_distinct("tasks", {cell.task for cell in cells if cell.task is not None})
    at_once = at_once or whole_number(said, "at_once", cores())
    return Study(
        folder=Path(text_of(said, "folder", f"studies/{file.stem}")).expanduser(),
        cells=cells,
        seeds=seeds_of(said),
        scales=read_scales(said.get("scales") or {}),
        test_episodes=whole_number(said, "test_episodes", 100),
        checkpoint=one_of(said, "checkpoint", CHECKPOINTS),
        at_once=at_once,
        threads=threads or whole_number(said, "threads", max(cores() // at_once, 1)),
    )


def read_scales(said: Any) -> dict[str, tuple[float, float]]:
    """Task -> the returns that score 0 and 1.

    Raises:
        ConfigError: if they are not valid.

    """
    if not isinstance(said, Mapping):
        raise ConfigError(f"scales: {said} is not a mapping; give two returns per task, such as CartPole-v1: [0, 500].")
    scales = {}
    for task, ends in said.items():
        numbers = isinstance(ends, list | tuple) and all(is_number(end) for end in ends)
        if not (numbers and len(ends) == 2 and ends[0] < ends[1]):
            raise ConfigError(
                f"scales: {task} has {ends}; give the return that scores 0 and the higher one that scores 1, such as "
                "[0, 500]."
            )
        scales[str(task)] = (float(ends[0]), float(ends[1]))
    return scales


def files_of(said: Mapping[str, Any], key: str, file: Path) -> dict[str, tuple[str, ...]]:
    """The config files of each agent or task, by name."""
    named = said.get(key) or {}
    if not isinstance(named, Mapping):
        raise ConfigError(f"{key}: {named} is not a mapping; give each a name and its config files, such as {EXAMPLE}.")
    found = {}
    for name, value in named.items():
        files = [value] if isinstance(value, str) else value or []
        if not (isinstance(files, list) and all(isinstance(one, str) and one for one in files)):
            raise ConfigError(f"{key}: {name} has {value}; give a list of config files, such as {EXAMPLE}.")
        if not path_part(str(name)):
            raise ConfigError(f"{key}: {name!r} is not a name; give one with letters or digits.")
        found[str(name)] = tuple(found_config(one, file, f"{key}: {name}") for one in files)
    return found


def found_config(name: str, study: Path, whose: str) -> str:
    """A config file in the folder of the study, or one of lit_dqn."""
    beside = study.parent / name
    if beside.is_file():
        return str(beside)
    try:
        return find_config(name)
    except ConfigError as error:
        raise ConfigError(f"{whose}: {str(error).removeprefix('config: ')}") from error


def _grid(said: Any) -> list[tuple[str, dict[str, Any]]]:
    """All combinations of values, each with its suffix for the name of an agent."""
    if not isinstance(said, Mapping):
        raise ConfigError(f"overrides: {said} is not a mapping; give keys with values, such as data.n_step: [1, 3].")
    for key in said:
        if any(key == name or str(key).startswith(f"{name}.") for name in OF_THE_STUDY):
            remedy = "envs are tasks: give each a config under tasks" if key == "data.env_id" else "leave it out"
            raise ConfigError(
                f"overrides: {key} cannot be in a grid, because the study sets it for each run; {remedy}."
            )
    values = {str(key): value if isinstance(value, list) else [value] for key, value in said.items()}
    for key, choices in values.items():
        if not choices:
            raise ConfigError(f"overrides: {key} has no value; give one, or several in a list.")
    short = [key.rpartition(".")[2] for key in values]
    names = {key: last if short.count(last) == 1 else key for key, last in zip(values, short, strict=True)}
    grid = []
    for chosen in itertools.product(*values.values()):
        settings = dict(zip(values, chosen, strict=True))
        varied = [f"{names[key]}={as_argument(value)}" for key, value in settings.items() if len(values[key]) > 1]
        grid.append(("".join(f", {part}" for part in varied), settings))
    return grid


def _check_distinct(key: str, names: set[str]) -> None:
    folders: dict[str, str] = {}
    for name in sorted(names):
        other = folders.setdefault(path_part(name).lower(), name)
        if other != name:
            raise ConfigError(f"{key}: {other!r} and {name!r} would have one folder; give one of them another name.")


def seeds_of(said: Mapping[str, Any]) -> tuple[int, ...]:
    """Different seeds, at least one."""
    seeds = said.get("seeds")
    if not (isinstance(seeds, list) and seeds and all(_is_whole(seed) and seed <= LARGEST_SEED for seed in seeds)):
        raise ConfigError(f"seeds: {seeds} is not a list of seeds; give one, such as [0, 1, 2, 3, 4].")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds: {seeds} has a seed twice, which would make the same run twice; give each once.")
    return tuple(seeds)


def whole_number(said: Mapping[str, Any], key: str, default: int) -> int:
    """Check that a value is an integer, at least 1."""
    value = said.get(key, default)
    if not (_is_whole(value) and value >= 1):
        raise ConfigError(f"{key}: {value} must be a whole number, at least 1.")
    return int(value)


def text_of(said: Mapping[str, Any], key: str, default: str) -> str:
    """Check that a value is a text, and not empty."""
    value = said.get(key, default)
    if not (isinstance(value, str) and value):
        raise ConfigError(f"{key}: {value} must be a text, such as {default}.")
    return value


def one_of(said: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str:
    """Check that a value is one of the choices; the default is the first."""
    value = said.get(key, choices[0])
    if value not in choices:
        raise ConfigError(f"{key}: {value} must be one of {', '.join(choices)}.")
    return str(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
