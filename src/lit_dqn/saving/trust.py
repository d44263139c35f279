"""What the settings of a checkpoint may name: parts of lit_dqn, torch and Gymnasium, and classes that a config, the
command line or the calling code names.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import nn

from lit_dqn.exports import PARTS, public_path

DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
ENV_OF_A_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[\w./-]+", re.ASCII)
"""Gymnasium's `module:env_id`."""

WRAPPERS = (
    "AtariPreprocessing",
    "ClipReward",
    "DelayObservation",
    "DiscretizeAction",
    "DiscretizeObservation",
    "DtypeObservation",
    "FilterObservation",
    "FlattenObservation",
    "FrameStackObservation",
    "GrayscaleObservation",
    "MaxAndSkipObservation",
    "NormalizeObservation",
    "NormalizeReward",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "RepeatAction",
    "RescaleObservation",
    "ReshapeObservation",
    "ResizeObservation",
    "StickyAction",
    "TimeAwareObservation",
    "TimeLimit",
)
"""Gymnasium's wrappers that take no function and write no file."""


class Trust(NamedTuple):
    """What the settings of a checkpoint may name."""

    classes: Mapping[str, type]  # by class path
    packages: frozenset[str] = frozenset()  # packages that an env id may import, as `package.module:env_id`

    @classmethod
    def registered(cls, named: Iterable[type] = ()) -> "Trust":
        """The parts of lit_dqn, torch's modules and optimisers, Gymnasium's wrappers, and the classes in `named`.

        Args:
            named: the caller's own classes.

        """
        return cls({**_registered(), **{path_of(part): part for part in named}})

    @classmethod
    def of(cls, settings: Any) -> "Trust":
        """The registered classes, and those in settings that do not come from the checkpoint.

        Args:
            settings: plain values of a parsed config, whose classes have therefore been imported.

        """
        texts = list(_texts(settings))
        named = [part for part in map(imported, texts) if isinstance(part, type)]
        modules = [found[1] for found in map(ENV_OF_A_MODULE.fullmatch, texts) if found]
        known = _registered()
        modules += [part.__module__ for part in named if path_of(part) not in known]
        return cls({**known, **{path_of(part): part for part in named}}, frozenset(m.split(".")[0] for m in modules))

    def find(self, path: str) -> type | None:
        """The class of a path, which must be the place of its definition or, for lit_dqn's classes, its public name."""
        found = self.classes.get(public_path(path))
        if found is None and path.startswith("__main__."):
            # A class from a script or notebook has another module name when it is imported.
            name = path.removeprefix("__main__.")
            own = [part for part in self.classes.values() if part.__qualname__ == name]
            registered = _registered()
            found = next((part for part in own if path_of(part) not in registered), None)
        return found


def _registered() -> dict[str, type]:
    own = [getattr(import_module(f"lit_dqn.{module}"), name) for name, module in PARTS.items()]
    modules = [part for part in vars(nn).values() if _is_part(part, "torch.nn.modules", nn.Module)]
    optimizers = [part for part in vars(torch.optim).values() if _is_part(part, "torch.optim", torch.optim.Optimizer)]
    wrappers = [getattr(gymnasium.wrappers, name) for name in WRAPPERS]
    return {path_of(part): part for part in (*own, *modules, *optimizers, *wrappers)}


def _is_part(part: Any, module: str, base: type) -> bool:
    return (
        isinstance(part, type)
        and issubclass(part, base)
        and f"{part.__module__}.".startswith(f"{module}.")
        and not part.__name__.startswith("_")
    )


def path_of(part: type) -> str:
    """The public name of a class of lit_dqn; for any other class the place of its definition."""
    return public_path(f"{part.__module__}.{part.__qualname__}")


def _texts(settings: Any) -> Iterator[str]:
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, type):
        yield path_of(settings)
    elif isinstance(settings, Mapping):
        for value in settings.values():
            yield from _texts(value)
    elif isinstance(settings, Sequence):
        for value in settings:
            yield from _texts(value)


def imported(text: str) -> Any:
    """The object of a dotted name in the modules that have already been imported."""
    if DOTTED_NAME.fullmatch(text) is None:
        return None
    names = text.split(".")
    for count in range(len(names) - 1, 0, -1):
        if (found := sys.modules.get(".".join(names[:count]))) is not None:
            for name in names[count:]:
                found = getattr(found, name, None)
            return found
    return None
