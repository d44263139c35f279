"""Each bound and each choice of the space as a command line: a refused one ends a search before it begins."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from lit_dqn.commands.studies.description import SEED, Cell
from lit_dqn.commands.tuning.description import Search
from lit_dqn.errors import ConfigError

LOGGER = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"flush_logs_every_n_steps": 1}}
"""The logger of each run: its evaluations are read during training."""


def cell_of(search: Search, agent: str, chosen: Mapping[str, Any]) -> Cell:
    """The base of a search with settings of its space."""
    own = {"trainer.logger": LOGGER, "episode_view.every_n_evaluations": None}  # nobody watches trials
    return Cell(agent, None, search.files, {**own, **search.overrides, **chosen})


def samples(search: Search) -> Iterator[tuple[str, list[str]]]:
    """A text about the choice, and the command line of its run; first that of the base alone."""
    yield "", ["fit", *cell_of(search, "base", {}).words, f"--{SEED}={search.seeds[0]}"]
    for key, dimension in search.space.items():
        for value in dimension.samples:
            yield key, ["fit", *cell_of(search, "base", {key: value}).words, f"--{SEED}={search.seeds[0]}"]


@contextlib.contextmanager
def in_space(key: str) -> Iterator[None]:
    """Attribute errors in a value to the space, and errors in the base to `configs`."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{'space' if key else 'configs'}: {error}") from error
