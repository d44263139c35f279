"""Reading the files of runs. Nothing that is read here runs code: YAML of plain values, JSON and CSV."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_dqn.commands.inputs import read_config
from lit_dqn.errors import ConfigError
from lit_dqn.saving.layout import CONFIG, EPISODES, RESULTS, VERSION

TAIL_BYTES = 8_192
"""Bytes from the end of a file of episodes, enough for the last hundred."""

RECENT = 100
"""Number of episodes in a mean return."""


@dataclass(frozen=True)
class Record:
    """A run that has been trained and tested.

    Args:
        agent: its name.
        task: its name.
        seed: of everything in the run.
        folder: of the run.
        settings: its `config.yaml`.
        result: the entry of `results.json`.
        env_step: at the end of each training episode.
        returns: of each training episode.
        seconds: of training until then.

    """

    agent: str
    task: str
    seed: int
    folder: Path
    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    env_step: NDArray[np.float64]
    returns: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def score(self) -> float:
        """The mean return of the test episodes."""
        return float(self.result["return"]["mean"])

    @property
    def env_steps_per_second(self) -> float:
        """Seconds of training, with its evaluations."""
        return float(self.env_step[-1] / max(self.seconds[-1], 1e-9))


class Progress(NamedTuple):
    """The progress of a run."""

    env_step: int = 0
    episodes: int = 0
    mean_return: float | None = None  # of the last hundred episodes


def versions_of(folder: Path) -> list[Path]:
    """The versions of a run, the newest last."""
    found = [(VERSION.fullmatch(path.name), path) for path in folder.glob("version_*") if path.is_dir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match is not None)]


def is_tested(folder: Path, test_episodes: int) -> bool:
    """Whether a run of a study has a result."""
    return any(result_of(version, test_episodes) is not None for version in versions_of(folder))


def result_of(version: Path, test_episodes: int | None = None) -> Mapping[str, Any] | None:
    """An entry of `results.json`: the first with this number of episodes, which is the study's; without a number the
    last.

    Raises:
        ConfigError: if the file has other contents.

    """
    path = version / RESULTS
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text())
        if test_episodes is None:
            return _checked(entries[-1])
        return next((_checked(e) for e in entries if e["protocol"]["episodes"] == test_episodes), None)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"report: {path} holds no results of test ({error}); test the run again.") from error


def _checked(entry: Any) -> Mapping[str, Any]:
    float(entry["return"]["mean"]), int(entry["env_step"]), dict(entry["protocol"])
    return dict(entry)


def progress_of(folder: Path) -> Progress:
    """The progress of the newest version of a run, from the end of its file of episodes."""
    versions = versions_of(folder)
    if not versions:
        return Progress()
    try:
        with (versions[-1] / EPISODES).open("rb") as file:
            heads = file.readline().decode().strip().split(",")
            size = file.seek(0, io.SEEK_END)
            file.seek(max(size - TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").split("\n")[1:-1]  # the first and the last may be incomplete
        rows = [dict(zip(heads, line, strict=True)) for line in csv.reader(lines)][-RECENT:]
        if not rows:
            return Progress()
        last, returns = rows[-1], [float(row["return"]) for row in rows]
        return Progress(int(last["env_step"]), int(last["episode"]), sum(returns) / len(returns))
    except (OSError, ValueError, KeyError):  # it is being rewritten
        return Progress()


def settings_of(version: Path) -> dict[str, Any]:
    """A run's `config.yaml` as plain values.

    Raises:
        ConfigError: if it cannot be read, or is not the config of a run.

    """
    settings = read_config(str(version / CONFIG))
    data = settings.get("data")
    if not (isinstance(data, dict) and isinstance(data.get("env_id"), str)):
        raise ConfigError(f"report: {version / CONFIG} has no data.env_id; give the folder of a run.")
    return settings
