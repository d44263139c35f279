"""Whose code a checkpoint may run: one of a stranger may name any module, and naming it is enough."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

DOTTED_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
ENV_OF_A_MODULE = re.compile(r"[A-Za-z_][\w.]*:\S+")
"""Gymnasium's `module:env_id`."""

TRUSTED_PACKAGES = {"lit_dqn", "torch", "lightning", "gymnasium"}


def packages_of(settings: Any) -> dict[str, str]:
    """The packages on this machine that settings name, each with one of the names."""
    if isinstance(settings, str):
        if DOTTED_NAME.fullmatch(settings) or ENV_OF_A_MODULE.fullmatch(settings):
            package = re.split("[.:]", settings)[0]
            return {package: settings} if importlib.util.find_spec(package) is not None else {}
        # The command line takes a string that is YAML for what it says.
        try:
            parsed = yaml.safe_load(settings)
        except yaml.YAMLError:
            return {}
        return {} if isinstance(parsed, str) else packages_of(parsed)
    if isinstance(settings, Mapping):
        settings = list(settings.values())
    parts = settings if isinstance(settings, Sequence) else ()
    return {package: name for part in parts for package, name in packages_of(part).items()}
