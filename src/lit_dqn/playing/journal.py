"""The journal of asynchronous play: the order in which chunks arrived, as a CSV file of whole numbers."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lit_dqn.errors import ConfigError

LARGEST = 2**62


class Arrival(NamedTuple):
    """One chunk of one player, when the learner took it."""

    number: int  # counted from 0 over the run
    training_step: int  # the chunk was taken before its updates; counted from 1
    env: int  # the number of the player's first env over the whole run
    envs: int  # the number of the player's envs
    steps: int  # of each env
    weights: int  # the chunk was ordered before the updates of this training step, with the weights of that moment
    env_step: int  # of the run when the chunk was ordered; the policy's schedules use it


HEADER = ",".join(Arrival._fields)


def lines_of(arrivals: Iterable[Arrival]) -> str:
    """The lines of the file for some arrivals."""
    return "".join(",".join(map(str, arrival)) + "\n" for arrival in arrivals)


def read_journal(path: Path) -> list[Arrival]:
    """The arrivals of a journal in their order, without an incomplete last line, which a killed run may leave.

    Raises:
        ConfigError: if the file cannot be read or is not a journal.

    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds more than numbers"
        raise _unusable(path, f"cannot be read ({reason})") from error
    header, *rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines())) or [[]]
    if ",".join(header) != HEADER:
        raise _unusable(path, f"does not begin with the line {HEADER}")
    arrivals: list[Arrival] = []
    weights: dict[int, int] = {}  # of each player's last chunk
    for number, row in enumerate(rows):
        where = f"says in line {number + 2}"
        if len(row) != len(Arrival._fields) or not all(word.isdecimal() and int(word) < LARGEST for word in row):
            raise _unusable(path, f"{where} other than {len(Arrival._fields)} numbers")
        arrival = Arrival(*map(int, row))
        if arrival.number != number:
            raise _unusable(path, f"{where} that arrival {arrival.number} follows {number - 1}: some are missing")
        before = arrivals[-1].training_step if arrivals else 1
        if not before <= arrival.training_step or not 1 <= arrival.weights <= arrival.training_step:
            raise _unusable(path, f"{where} what comes before what it follows from")
        if arrival.weights < weights.get(arrival.env, 1) or arrival.steps < 1 or arrival.envs < 1:
            raise _unusable(path, f"{where} what no player plays")
        weights[arrival.env] = arrival.weights
        arrivals.append(arrival)
    return arrivals


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"replay_journal: {path} {why}; give the journal.csv of the run as it was written.")
