"""`python -m lit_dqn tune SEARCH.yaml`."""

import argparse
import shlex
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from lit_dqn.commands.inputs import PROGRAM, first_look, say_error
from lit_dqn.commands.studies.description import Job
from lit_dqn.commands.studies.verbs import Words, check_folder, positive
from lit_dqn.commands.tuning.description import read_search
from lit_dqn.commands.tuning.rows import Trial, best_of
from lit_dqn.commands.tuning.samples import in_space, samples
from lit_dqn.errors import ConfigError, Interrupted, TrainingError
from lit_dqn.saving import durable
from lit_dqn.saving.layout import CONFIG, PLACE, REPORT, RUNS, STUDY_LOCK, WINNER
from lit_dqn.saving.lock import Lock


def main(verb: str, words: Sequence[str]) -> int:
    """Run the search.

    Args:
        verb: `tune`.
        words: the words after it.

    Returns:
        The exit code: 0, 2 after an error in one sentence, 128 + n after signal n.

    """
    try:
        tune(words)
    except (ConfigError, TrainingError) as error:
        say_error(error)
        return 2
    except Interrupted as interruption:
        print("stopped; the same command resumes from here.", file=sys.stderr)
        return 128 + interruption.signal_number
    return 0


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of the words after `tune`."""
    parser = Words(
        prog=f"{PROGRAM} {verb}",
        description="Search for good settings: trials of several seeds each, of which hopeless ones are ended early. "
        "The same command resumes a search that was killed; several processes may share one storage.",
    )
    parser.add_argument(verb, metavar="SEARCH.yaml", type=Path, help="configs, space, seeds, trials")
    parser.add_argument("--trials", type=positive, help="number of trials; overrides the file")
    parser.add_argument("--at_once", type=positive, help="runs at once; overrides the file")
    parser.add_argument("--storage", help="URL of a database in Optuna's form; overrides the file")
    return parser


def tune(words: Sequence[str]) -> None:
    """Run the missing trials of a search, then write its winner and its report.

    Raises:
        ConfigError: if the search, or settings of its space, are invalid.
        TrainingError: if no trial finished.
        Interrupted: after a signal.

    """
    options = parser_of("tune").parse_args(words)
    search = read_search(options.tune, options.at_once, options.trials, options.storage)
    for key, words_of_run in samples(search):  # first the quick checks
        with in_space(key):
            first_look(words_of_run)
    from lit_dqn.commands.tuning.trials import Trials  # without Optuna this raises an error

    # isort: split
    from lit_dqn.commands.studies.crew import run_all  # torch and Lightning take seconds to import
    from lit_dqn.commands.studies.jobs import check_memory
    from lit_dqn.commands.tuning.report import write_report
    from lit_dqn.commands.tuning.trial_jobs import (
        base_of,
        build_samples,
        check_base,
        check_rates,
        jobs_of_trial,
        settings_of,
    )
    from lit_dqn.commands.tuning.tuner import Tuner
    from lit_dqn.commands.tuning.view import TuneView

    check_folder(search.folder)
    base = base_of(search)
    check_rates(search, base)
    check_memory([base] * search.at_once, search.at_once)
    build_samples(search)
    settings = settings_of(search, base)
    trials = Trials(search, settings, _place(search.folder))
    check_runs(search.folder, trials.any_of_this_place())

    def jobs_of(trial: Trial) -> list[Job]:
        check_base(search, settings)
        return jobs_of_trial(search, trial)

    with trials.connected(), TuneView(trials.rows, search.trials) as view:
        tuner = Tuner(search, trials, jobs_of, view)
        run_all(tuner, search.test_episodes, search.checkpoint, search.at_once, search.threads, tuner)
    rows = trials.rows()
    if not best_of(rows):
        why = next((f"; the first that failed: {row.reason}" for row in rows if row.reason), "")
        raise TrainingError(f"tune: none of {len(rows)} trials came to its end{why}")
    repeat = shlex.join(["python", "-m", "lit_dqn", "tune", *words])
    try:
        write_report(search, rows, trials.importances(), repeat)
    except OSError as error:
        raise ConfigError(f"folder: {search.folder} cannot be written to ({error.strerror}); give another.") from error
    print(search.folder / WINNER)
    print(search.folder / REPORT)


def check_runs(folder: Path, has_trials: bool) -> None:
    """Refuse the runs of another search, which would be taken for those of trials with the same numbers.

    Args:
        folder: of the search.
        has_trials: whether its storage has a trial of this folder; a trial is there before its runs.

    Raises:
        ConfigError: if there are runs, and no trial.

    """
    if not has_trials and any((folder / RUNS).glob(f"*/*/*/{CONFIG}")):
        raise ConfigError(
            f"folder: {folder} has runs of another search, named or stored differently; give another, or delete "
            f"{folder / RUNS}."
        )


def _place(folder: Path) -> str:
    """The permanent name of a folder in a storage, the same for all processes."""
    try:
        durable.make_folder(folder)
        lock = Lock(folder / STUDY_LOCK)
        lock.wait()
        try:
            if not (folder / PLACE).exists():
                durable.replace_text(folder / PLACE, f"{uuid.uuid4()}\n")
            return (folder / PLACE).read_text().strip()
        finally:
            lock.release()
    except OSError as error:
        raise ConfigError(f"folder: {folder} cannot be written to ({error.strerror}); give another.") from error
