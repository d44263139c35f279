"""The runs of trials, built as `fit` would build them, each with its own complete config on the disk."""

from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException

from lit_dqn.commands.inputs import load_yaml
from lit_dqn.commands.studies.changes import differences
from lit_dqn.commands.studies.description import SEED, Job, as_argument
from lit_dqn.commands.studies.jobs import built, jobs_of_cell
from lit_dqn.commands.tuning.description import Search
from lit_dqn.commands.tuning.rows import Trial
from lit_dqn.commands.tuning.samples import cell_of, in_space, samples
from lit_dqn.errors import ConfigError, TrainingError, one_line
from lit_dqn.saving import durable
from lit_dqn.saving.layout import CONFIG, RUNS


def base_of(search: Search) -> Job:
    """A run of the base, without any setting of the space.

    Raises:
        ConfigError: if it cannot run.

    """
    with in_space(""):
        return next(jobs_of_cell(cell_of(search, "base", {}), search.seeds[:1], search.folder / RUNS))


def check_rates(search: Search, base: Job) -> None:
    """See that a searched learning rate has an effect.

    Raises:
        ConfigError: if a schedule of the base sets the rate in its place.

    """
    scheduled = load_yaml(base.config)["model"]["init_args"].get("learning_rate") is not None
    if scheduled and not any(key.startswith("model.learning_rate") for key in search.space):
        for key in search.space:
            if key.startswith("model.optimizer.") and key.endswith(".lr"):
                raise ConfigError(
                    f"space: {key} changes nothing, because model.learning_rate of the configs sets the rate; search "
                    "model.learning_rate, or set it to null in the overrides."
                )


def build_samples(search: Search) -> None:
    """Build each bound and each choice of the space, one at a time on the base, without writing anything.

    Raises:
        ConfigError: if one of them cannot run.

    """
    for key, words in samples(search):
        if key:
            with in_space(key):
                _built(words)


def check_base(search: Search, settings: Mapping[str, Any]) -> None:
    """See that the config files are still those with which this process started.

    Args:
        search: the search.
        settings: from `settings_of`, when it started.

    Raises:
        TrainingError: if not, because later trials would differ from earlier ones by more than their settings.

    """
    try:
        now = settings_of(search, base_of(search))
    except ConfigError as error:
        raise TrainingError(f"tune: a config file changed while the search was running: {error}") from error
    for key, before, after in differences(settings, now):
        raise TrainingError(
            f"tune: a config file changed while the search was running: {key.removeprefix('base.')} was {before}, is "
            f"{after} now; restore it, and the same command resumes the search."
        )


def _built(words: list[str]) -> None:
    try:
        built(words)
    except (TrainingError, MisconfigurationException) as error:
        raise ConfigError(one_line(error)) from error


def jobs_of_trial(search: Search, trial: Trial) -> list[Job]:
    """A run per seed, whose config is on the disk; a run that has begun keeps its own.

    Raises:
        ConfigError: if the chosen values do not fit together, or cannot be written.

    """
    cell = cell_of(search, trial.name, trial.chosen)
    try:
        jobs = list(jobs_of_cell(cell, search.seeds, search.folder / RUNS))
        for job in jobs:
            if not (job.folder / CONFIG).exists():
                durable.make_folder(job.folder)
                durable.replace_text(job.folder / CONFIG, job.config)
    except (TrainingError, MisconfigurationException) as error:
        raise ConfigError(one_line(error)) from error
    except OSError as error:
        raise ConfigError(f"folder: {search.folder} cannot be written to ({error.strerror}); give another.") from error
    return jobs


def settings_of(search: Search, base: Job) -> Mapping[str, Any]:
    """Everything that defines a trial and its score, as plain values, independent of the machine."""
    config = load_yaml(base.config)
    del config[SEED], config["trainer"]["logger"]
    space = {key: {name: as_argument(value) for name, value in vars(of).items()} for key, of in search.space.items()}
    return {
        "base": config,
        "space": space,
        "seeds": list(search.seeds),
        "checkpoint": search.checkpoint,
        "test_episodes": search.test_episodes,
    }
