"""The runs of a study: each is checked before the first one starts, and has its own complete config on the disk."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lit_dqn.commands.inputs import first_look, load_yaml
from lit_dqn.commands.prepared import Prepared
from lit_dqn.commands.run_config import forget_the_call
from lit_dqn.commands.run_name import run_logger
from lit_dqn.commands.studies.changes import changes
from lit_dqn.commands.studies.description import SEED, Cell, Job, Study, path_part
from lit_dqn.errors import ConfigError, TrainingError, one_line
from lit_dqn.replay.memory import RESERVE, available_bytes
from lit_dqn.saving import durable
from lit_dqn.saving.layout import CONFIG, RUNS, STUDY

LOGGER = "trainer.logger.init_args"


def jobs_of(study: Study) -> list[Job]:
    """All runs of a study, in the order in which they start: first every agent on every task with one seed, then the
    next seed.

    Each agent on each task is built once, as `fit` would build it, without writing anything.

    Raises:
        ConfigError: if one of them cannot run, or the replays of simultaneous runs do not fit into memory.

    """
    runs = study.folder / RUNS
    for cell in study.cells:  # first the quick checks
        with named(cell):
            first_look(words_of(cell, study.seeds[0], runs))
    by_cell = []
    for cell in study.cells:
        with named(cell):
            by_cell.append(list(jobs_of_cell(cell, study.seeds, runs)))
    tasks = list(dict.fromkeys(jobs[0].task for jobs in by_cell))
    if study.cells[0].task is None and len(tasks) > 1:
        raise ConfigError(f"agents: they play {' and '.join(tasks)}; give each env a config under tasks.")
    if unknown := study.scales.keys() - set(tasks):
        raise ConfigError(f"scales: there is no task {min(unknown)}; the study has {', '.join(tasks)}.")
    jobs = [job for of_a_seed in zip(*by_cell, strict=True) for job in of_a_seed]
    check_memory(jobs, study.at_once)
    return jobs


def write_jobs(study: Study, jobs: list[Job]) -> None:
    """Write the description of the study and the config of each run; existing ones must be the same.

    Raises:
        ConfigError: if a run has begun with other settings, or its file cannot be written.

    """
    runs = [
        {"agent": job.agent, "task": job.task, "seed": job.seed, "folder": job.folder.relative_to(study.folder)}
        for job in jobs
    ]
    said = {key: value for key, value in asdict(study).items() if key in ("scales", "test_episodes", "checkpoint")}
    then = _kept(study.folder / STUDY)
    for key in ("test_episodes", "checkpoint"):
        if then.get(key, said[key]) != said[key]:
            raise ConfigError(f"{key}: the runs in {study.folder} are tested with {then[key]}; {_ANOTHER}.")
    for job in jobs:
        _check_same(job)
    try:
        for job in jobs:
            if not (job.folder / CONFIG).exists():
                durable.make_folder(job.folder)
                durable.replace_text(job.folder / CONFIG, job.config)
        durable.replace_text(study.folder / STUDY, json.dumps({**said, "runs": runs}, indent=1, default=str) + "\n")
    except OSError as error:
        raise ConfigError(f"folder: {study.folder} cannot be written to ({error.strerror}); give another.") from error


_ANOTHER = "give the study that or another folder"


def words_of(cell: Cell, seed: int, runs: Path) -> list[str]:
    """A run of a cell as a command line."""
    return [
        *("fit", *cell.words),
        *(f"--{SEED}={seed}", f"--{LOGGER}.save_dir={runs}", f"--{LOGGER}.name={path_part(cell.agent)}"),
    ]


@contextlib.contextmanager
def named(cell: Cell) -> Iterator[None]:
    """Add the name of a cell to errors."""
    try:
        yield
    except (ConfigError, TrainingError, MisconfigurationException) as error:
        on = "" if cell.task is None else f" on {cell.task}"
        raise ConfigError(f"{cell.agent}{on}: {one_line(error)}") from error


def built(words: list[str]) -> Prepared:
    """A run as `fit` would build it.

    Raises:
        ConfigError: if it cannot run, or would start more processes than the one that the study starts.

    """
    prepared = Prepared(words)
    if prepared.processes > 1:
        raise ConfigError(
            f"trainer.strategy: ddp shares a run by {prepared.processes} processes, and here each run has one; set "
            "trainer.strategy: auto and trainer.devices: 1, or start it by fit."
        )
    return prepared


def jobs_of_cell(cell: Cell, seeds: tuple[int, ...], runs: Path) -> Iterator[Job]:
    """The runs of an agent on a task, one per seed."""
    prepared = built(words_of(cell, seeds[0], runs))
    data, config = prepared.datamodule, prepared.save_config_kwargs["as_given"]
    if config.data.get("seed") is not None:
        raise ConfigError(f"data.seed: {config.data.seed} would be that of all runs; leave it to the study.")
    forget_the_call(config)
    task = cell.task or data.env_id
    logger, of_task = run_logger(config.trainer.logger), f"{path_part(cell.agent)}/{path_part(task)}"
    logger.init_args.name = f"{of_task}/seed_{seeds[0]}"
    first = prepared._parser("fit").dump(config, skip_none=False)
    replay_bytes = round(data.replay_bytes(data.capacity))
    for seed in seeds:
        text = re.sub(rf"(?m)^{SEED}: .*$", f"{SEED}: {seed}", first)
        text = text.replace(logger.init_args.name, f"{of_task}/seed_{seed}")
        folder = runs / of_task / f"seed_{seed}"
        yield Job(cell.agent, task, seed, folder, text, config.stop.max_env_steps, replay_bytes)


def check_memory(jobs: list[Job], at_once: int) -> None:
    """Check that the largest replays fit into memory together.

    Raises:
        ConfigError: if fewer than `at_once` of them do.

    """
    largest = sorted((job.replay_bytes + RESERVE for job in jobs), reverse=True)[:at_once]
    available = available_bytes()
    fitting = sum(sum(largest[: number + 1]) <= available for number in range(len(largest)))
    if fitting < len(largest):
        remedy = f"set at_once: {fitting}" if fitting else "make data.capacity smaller"
        raise ConfigError(
            f"at_once: {len(largest)} runs take {sum(largest) / 2**30:,.2f} GiB together, but only "
            f"{available / 2**30:,.2f} GiB are free; {remedy}."
        )


def _kept(path: Path) -> Mapping[str, Any]:
    """The description of the study when it last ran."""
    try:
        said = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"folder: {path} cannot be read ({one_line(error)}); give the study another.") from error
    return said if isinstance(said, dict) else {}


def _check_same(job: Job) -> None:
    """Check that the settings of a run that may have begun have not changed.

    Raises:
        ConfigError: names the first setting that differs.

    """
    path = job.folder / CONFIG
    if not path.exists():
        return
    try:
        then, now = load_yaml(path.read_text()), load_yaml(job.config)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"folder: {path} cannot be read ({one_line(error)}); give the study another.") from error
    for key, before, after in changes(then, now):
        raise ConfigError(f"{key}: {job} was begun with {before}, and would resume with {after}; {_ANOTHER}.")
