"""The journal of asynchronous play: the order in which chunks arrived, as a CSV file of whole numbers."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lit_dqn.errors import ConfigError

LARGEST = 2**62

LONGEST_LINE = 200
"""Characters; seven numbers below `LARGEST` are shorter."""


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
    """All of `arrivals_of`."""
    return list(arrivals_of(path))


def arrivals_of(path: Path) -> Iterator[Arrival]:
    """The arrivals of a journal in their order, without an incomplete last line, which a killed run may leave.

    Raises:
        ConfigError: at the first line that cannot be read or is not one of a journal.

    """
    before: Arrival | None = None
    weights: dict[int, int] = {}  # of each player's last chunk
    lines = _lines(path)
    if next(lines, "") != HEADER:
        raise _unusable(path, f"does not begin with the line {HEADER}")
    for number, line in enumerate(lines):
        where = f"says in line {number + 2}"
        arrival = _arrival(line)
        if arrival is None:
            raise _unusable(path, f"{where} other than {len(Arrival._fields)} numbers")
        if arrival.number != number:
            raise _unusable(path, f"{where} that arrival {arrival.number} follows {number - 1}: some are missing")
        earliest = 1 if before is None else before.training_step
        if not earliest <= arrival.training_step or not 1 <= arrival.weights <= arrival.training_step:
            raise _unusable(path, f"{where} what comes before what it follows from")
        if arrival.weights < weights.get(arrival.env, 1) or arrival.steps < 1 or arrival.envs < 1:
            raise _unusable(path, f"{where} what no player plays")
        weights[arrival.env] = arrival.weights
        before = arrival
        yield arrival


def check_journal(arrivals: Iterable[Arrival], num_envs: int, first_env: int, envs: int, steps: int) -> None:
    """Refuse the journal of other players.

    Args:
        arrivals: of the journal.
        num_envs: of all players.
        first_env: the number of the first of them over the whole run.
        envs: of each player.
        steps: of each env in a chunk.

    Raises:
        ConfigError: if these players have not played one of the chunks.

    """
    for arrival in arrivals:
        env = arrival.env - first_env
        if arrival.envs != envs or env % envs or not 0 <= env < num_envs:
            raise ConfigError(
                f"replay_journal: it tells of env {arrival.env} in a player with {arrival.envs}, and this run has "
                f"{num_envs} envs with {envs} in each; give the run's own config.yaml."
            )
        if arrival.steps != steps:
            raise ConfigError(
                f"replay_journal: it tells of chunks of {arrival.steps} steps of each env, and this run has chunks of "
                f"{steps}; give the run's own config.yaml."
            )


def _lines(path: Path) -> Iterator[str]:
    """Complete lines; of one that is too long only the beginning, so that no file fills the memory."""
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may have no end
            raise _unusable(path, "is not a file")
        with path.open(encoding="ascii", errors="replace") as file:
            while line := file.readline(LONGEST_LINE):
                if line.endswith("\n") or len(line) == LONGEST_LINE:
                    yield line.removesuffix("\n")
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error


def _arrival(line: str) -> Arrival | None:
    words = line.split(",")
    if len(words) != len(Arrival._fields) or not all(word.isdecimal() and int(word) < LARGEST for word in words):
        return None
    return Arrival(*map(int, words))


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"replay_journal: {path} {why}; give the journal.csv of the run as it was written.")
