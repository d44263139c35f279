"""The files in the folders of runs, studies and searches.

lightning_logs/cartpole/version_0/     a run, one of all versions of its name
config.yaml  run.lock  episodes.csv  metrics.csv  results.json  journal.csv
checkpoints/
env_step_104.ckpt  last.ckpt  best.ckpt      last and best are second names of numbered ones
env_step_104.replay/                         the replay of a checkpoint
predictions/env_step_104/  export/env_step_104/  what was made of a checkpoint
pictures/episode_env_step_104.gif            of a run with a CSVLogger; other loggers keep theirs themselves

studies/cartpole/                            a study
study.json  study.lock                       which runs it has
runs/DQN/CartPole-v1/seed_0/                 one of them: config.yaml, log.txt, and version_0/ as above
report.md  report.json  runs.csv  figures/   what they say together

tuning/acrobot/                              a search
trials.db                                    what was tried, unless another storage has it
place                                        the name of this folder in the storage
runs/trial_7/Acrobot-v1/seed_100/            a run of a trial, as one of a study
runs/trial_7/trial.lock                      held by the process that runs the trial
winner.yaml  report.md  runs.csv  figures/   what came out
"""

import re
from collections.abc import Iterator
from pathlib import Path

CHECKPOINTS, PREDICTIONS, EXPORT, PICTURES = "checkpoints", "predictions", "export", "pictures"

CONFIG, EPISODES, RESULTS, LOCK = "config.yaml", "episodes.csv", "results.json", "run.lock"

JOURNAL = "journal.csv"
"""Of asynchronous play."""

STUDY, STUDY_LOCK, RUNS, OUTPUT = "study.json", "study.lock", "runs", "log.txt"

REPORT, SCORES, LINES, FIGURES = "report.md", "report.json", "runs.csv", "figures"

TRIALS, TRIAL_LOCK, PLACE, WINNER = "trials.db", "trial.lock", "place", "winner.yaml"
"""Files of a search."""

METRICS = "metrics.csv"
"""The file of Lightning's CSVLogger."""

CKPT_SUFFIX, REPLAY_SUFFIX = ".ckpt", ".replay"

LAST, BEST = f"last{CKPT_SUFFIX}", f"best{CKPT_SUFFIX}"

VERSION = re.compile(r"version_(\d+)")

NUMBERED = re.compile(rf"env_step_(\d+){re.escape(CKPT_SUFFIX)}")

OF_AN_ENV_STEP = re.compile(r"env_step_(\d+)\.")
"""A checkpoint, its replay, or the remains of an unfinished one."""


def version_folder(runs: Path, version: int | str) -> Path:
    """The folder of a version, by its number or name, as Lightning's loggers name it."""
    return runs / (version if isinstance(version, str) else f"version_{version}")


def checkpoints_of_versions(runs: Path) -> Iterator[Path]:
    """The `checkpoints/` of all versions of a run."""
    return runs.glob(f"*/{CHECKPOINTS}")


def name_at(env_step: int) -> str:
    """The name, without a suffix, of things made at an env step."""
    return f"env_step_{env_step}"


def env_step_of(checkpoint: Path) -> int:
    """The env step in the name of a numbered checkpoint."""
    number = NUMBERED.fullmatch(checkpoint.name)
    assert number is not None
    return int(number[1])


def run_of_checkpoint(checkpoint: Path) -> Path | None:
    """The folder of a checkpoint's run; None if it is not in one."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else None


def output_folder(checkpoint: Path, env_step: int, parent: str) -> Path:
    """The folder for a verb's results about a checkpoint: `<run>/<parent>/env_step_<n>`.

    For a checkpoint outside of a run, `<parent>/<its name>` beside it.
    """
    run = run_of_checkpoint(checkpoint)
    if run is None:
        return checkpoint.parent / parent / checkpoint.stem
    return run / parent / name_at(env_step)
