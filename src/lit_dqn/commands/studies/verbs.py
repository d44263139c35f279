"""`python -m lit_dqn study STUDY.yaml` and `python -m lit_dqn report RUN...`."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lit_dqn.commands.inputs import PROGRAM, say_error
from lit_dqn.commands.studies.description import read_scales, read_study
from lit_dqn.commands.studies.records import Record, is_tested, result_of, settings_of, versions_of
from lit_dqn.errors import ConfigError, Interrupted, TrainingError, one_line
from lit_dqn.saving import durable
from lit_dqn.saving.layout import CONFIG, REPORT, STUDY, STUDY_LOCK
from lit_dqn.saving.lock import Lock


class Words(argparse.ArgumentParser):
    """Reports errors in one sentence."""

    def error(self, message: str) -> NoReturn:
        usage = self.format_usage().removeprefix("usage: ")
        raise ConfigError(f"{self.prog.removeprefix(PROGRAM).strip()}: {message}; write: {usage}")


def main(verb: str, words: Sequence[str]) -> int:
    """Run the verb.

    Args:
        verb: `study` or `report`.
        words: the words after it.

    Returns:
        The exit code: 0, 2 after an error in one sentence, 128 + n after signal n.

    """
    try:
        {"study": study, "report": report}[verb](words)
    except (ConfigError, TrainingError) as error:
        say_error(error)
        return 2
    except Interrupted as interruption:
        print("stopped; the same command resumes from here.", file=sys.stderr)
        return 128 + interruption.signal_number
    return 0


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of the words after `study` or `report`."""
    if verb == "study":
        parser = Words(
            prog=f"{PROGRAM} study",
            description="Train and test agents on tasks over seeds, several at once, and compare them. The same "
            "command resumes a study that was killed.",
        )
        parser.add_argument("study", metavar="STUDY.yaml", type=Path, help="agents, tasks, overrides, seeds")
        parser.add_argument("--at_once", type=positive, help="runs at once; overrides the file")
        parser.add_argument("--threads", type=positive, help="torch threads per run; overrides the file")
        return parser
    parser = Words(prog=f"{PROGRAM} report", description="Compare runs that have been trained and tested.")
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[AGENT=]RUN",
        help="a study's folder; or a run's, or one that holds the versions of a run. Runs of one agent have its name, "
        "or lie in one folder",
    )
    parser.add_argument("--output", type=Path, help="a folder (default: the study's own, or ./report)")
    parser.add_argument("--scales", help='the returns that score 0 and 1, such as "{CartPole-v1: [0, 500]}"')
    return parser


def study(words: Sequence[str]) -> None:
    """Run the missing runs of a study, then write its report.

    Raises:
        ConfigError: if the study, or a config of its grid, is invalid.
        TrainingError: if runs have failed; all others have finished.
        Interrupted: after a signal.

    """
    options = parser_of("study").parse_args(words)
    described = read_study(options.study, options.at_once, options.threads)
    from lit_dqn.commands.studies.crew import run_all  # torch and Lightning take seconds to import
    from lit_dqn.commands.studies.jobs import jobs_of, write_jobs
    from lit_dqn.commands.studies.view import StudyView

    check_folder(described.folder)
    jobs = jobs_of(described)
    lock = _locked(described.folder)
    try:
        write_jobs(described, jobs)
        done = [job for job in jobs if is_tested(job.folder, described.test_episodes)]
        rest = [job for job in jobs if job not in done]
        with StudyView(jobs, done, described.test_episodes, described.at_once) as view:
            how = described.test_episodes, described.checkpoint, described.at_once, described.threads
            failed = run_all(rest, *how, view)
        if len(failed) < len(jobs):
            _report_study(described.folder, None, shlex.join(["python", "-m", "lit_dqn", "study", str(options.study)]))
    finally:
        lock.release()
    if failed:
        job, said = next(iter(failed.items()))
        raise TrainingError(f"{len(failed)} of {len(jobs)} runs failed, the first of them {job}: {said}")


def report(words: Sequence[str]) -> None:
    """Write the report of an existing study, or of runs.

    Raises:
        ConfigError: if there are no results, or the report cannot be written.

    """
    options = parser_of("report").parse_args(words)
    repeat = shlex.join(["python", "-m", "lit_dqn", "report", *words])
    scales = _scales(options.scales)
    if len(options.runs) == 1 and (Path(options.runs[0]) / STUDY).is_file():
        _report_study(Path(options.runs[0]), options.output, repeat, scales)
        return
    records = [record for named in options.runs for record in _records_of(named)]
    _write(options.output or Path("report"), "Report", records, scales, [], repeat)


def positive(text: str) -> int:
    """An integer, at least 1, of a command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, at least 1")
    return int(text)


def _scales(text: str | None) -> dict[str, tuple[float, float]]:
    import yaml

    try:
        return {} if text is None else read_scales(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"scales: {text} is not YAML ({one_line(error)}); give {{Task: [0, 500]}}.") from error


def check_folder(folder: Path) -> None:
    """See that the folder of a study or a search can be written to, before its runs are built.

    Raises:
        ConfigError: if not.

    """
    try:
        durable.check_can_be_made(folder)
    except OSError as error:
        raise ConfigError(f"folder: {folder} cannot be written to ({error.strerror}); give another.") from error


def _locked(folder: Path) -> Lock:
    try:
        durable.make_folder(folder)
    except OSError as error:
        raise ConfigError(f"folder: {folder} cannot be made ({error.strerror}); give another.") from error
    lock = Lock(folder / STUDY_LOCK)
    lock.acquire(f"the study {folder} is being run by {{holder}}; wait for its end, or end it.")
    return lock


# --- reading ---


def _report_study(
    folder: Path, output: Path | None, repeat: str, scales: dict[str, tuple[float, float]] | None = None
) -> None:
    """Compare a study's tested runs, and name the others."""
    try:
        said = json.loads((folder / STUDY).read_text())
        runs = [(str(r["agent"]), str(r["task"]), int(r["seed"]), folder / str(r["folder"])) for r in said["runs"]]
        test_episodes = int(said["test_episodes"])
        scales = scales or read_scales(said["scales"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"report: {folder / STUDY} is not a study ({one_line(error)}); run the study again."
        ) from error
    records, missing = [], []
    for agent, task, seed, run in runs:
        tested = [
            (version, result)
            for version in versions_of(run)
            if (result := result_of(version, test_episodes)) is not None
        ]
        if tested:
            records.append(_record(agent, task, seed, *tested[0]))
        else:
            missing.append(f"{agent}, {task}, seed {seed}: not done yet")
    _write(output or folder, folder.resolve().name, records, scales, missing, repeat)


def _records_of(named: str) -> list[Record]:
    """The runs that a word of the command line selects."""
    name, equals, path = named.partition("=")
    folder = Path(path if equals and not Path(named).is_dir() else named)
    if not folder.is_dir():
        raise ConfigError(f"report: there is no folder {folder}; give that of a run, such as lightning_logs/cartpole.")
    versions = versions_of(folder) or [folder]
    if not (versions[0] / CONFIG).is_file():
        raise ConfigError(f"report: {folder} is not a run, and has no version of one; give the folder of a run.")
    agent = name if equals and not Path(named).is_dir() else versions[0].resolve().parent.name
    records = []
    for version in versions:
        settings, result = settings_of(version), result_of(version)
        if result is None:
            raise ConfigError(
                f"report: {version} has not been tested; do so first: {PROGRAM} test with its config.yaml and the "
                "checkpoint last."
            )
        seed = settings.get("seed_everything")
        records.append(_record(agent, settings["data"]["env_id"], int(seed or 0), version, result))
    return records


def _record(agent: str, task: str, seed: int, version: Path, result: Any) -> Record:
    from lit_dqn.plots.episodes import read_episodes

    try:
        log = read_episodes(version, ("env_step", "return", "seconds"))
    except ValueError as error:
        raise ConfigError(f"report: {one_line(error)}.") from error
    return Record(
        agent, task, seed, version, settings_of(version), result, log["env_step"], log["return"], log["seconds"]
    )


def _write(
    folder: Path,
    title: str,
    records: list[Record],
    scales: dict[str, tuple[float, float]],
    missing: list[str],
    repeat: str,
) -> None:
    from lit_dqn.commands.studies.comparison import Comparison
    from lit_dqn.commands.studies.report import write_report

    if not records:
        raise ConfigError(f"report: no run of {title} has been tested yet; let one come to its end.")
    seen: set[tuple[str, str, int]] = set()
    for record in records:
        if (key := (record.agent, record.task, record.seed)) in seen:
            raise ConfigError(
                f"report: {record.folder} is seed {record.seed} of {record.agent} on {record.task} once more; give "
                "each seed once, or the runs of another agent its name, such as NAME=RUN."
            )
        seen.add(key)
    try:
        write_report(folder, title, Comparison(records, scales), missing, repeat)
    except OSError as error:
        raise ConfigError(f"output: {folder} cannot be written to ({error.strerror}); give another.") from error
    print(folder / REPORT)
