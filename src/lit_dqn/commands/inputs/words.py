"""Splitting a command line into words: a verb, then settings as `--key value`."""

import difflib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lit_dqn.commands.inputs.files import WHOLE, load_yaml, own_configs
from lit_dqn.errors import ConfigError

PROGRAM = "python -m lit_dqn"

VERBS = ("fit", "validate", "test", "predict", "export")
"""Verbs for a single run, which a config describes."""

OTHER_VERBS = {
    "study": "lit_dqn.commands.studies.verbs",
    "tune": "lit_dqn.commands.tuning.verbs",
    "report": "lit_dqn.commands.studies.verbs",
    "push": "lit_dqn.commands.sharing.verbs",
    "pull": "lit_dqn.commands.sharing.verbs",
    "list": "lit_dqn.commands.listing",
}
"""Verbs for many runs, or for none, and the modules with their `main(verb, words)`; their words are not settings."""

_ALL = (*VERBS, *OTHER_VERBS)

FLAGS = ("plan", "print_config")
"""Keys that need no value."""

OPTION = re.compile(r"--[A-Za-z_]")


class Setting(NamedTuple):
    """`--key value`."""

    key: str  # dotted
    value: str | None  # None for a flag

    @property
    def word(self) -> str:
        """The setting as one word, so that its value, such as -1e-3, cannot be read as another option."""
        return f"--{self.key}" if self.value is None else f"--{self.key}={self.value}"


class Word(str):
    """The value of a setting on the command line."""


def read(value: Any) -> Any:
    """The value of a word, which is YAML. A text of a file is one, unless it is a number, true, false or null."""
    if not isinstance(value, str):
        return value
    try:
        known = load_yaml(str(value))
    except yaml.YAMLError:
        return value
    is_number = isinstance(known, int | float) and not isinstance(known, bool)
    return known if isinstance(value, Word) or is_number or value in ("true", "false", "null") else value


ANY_VALUES = "data.env_kwargs."
"""With this begin the keys that take any value, so that a word says by its form whether it is a text."""


def word_of(key: str, value: Any) -> str:
    """A setting of Python or of a file as one word; below `env_kwargs`, a text is in quotes and so stays a text.

    Args:
        key: dotted.
        value: a text, or anything that JSON can express.

    """
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    elif key.startswith(ANY_VALUES):
        value = yaml.safe_dump(value, default_style='"', width=math.inf).rstrip("\n")
    return f"--{key}={value}"


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return any(word == "-h" or re.match(r"--([\w.]+\.)?help(=|$)", word) for word in words)


def read_words(words: Sequence[str]) -> tuple[str, list[Setting]]:
    """The verb and the settings of a command line.

    Raises:
        ConfigError: if the verb is missing, or a word belongs to no key.

    """
    verb = _verb(words)
    settings, rest = [], list(words[1:])
    while rest:
        word = rest.pop(0)
        if not OPTION.match(word):
            raise ConfigError(_stray(word, verb))
        key, equals, value = word[2:].partition("=")
        if not equals and not (key in FLAGS or (rest and not OPTION.match(rest[0]))):
            raise ConfigError(f"{key}: no value follows; write --{key}=VALUE.")
        if equals:
            settings.append(Setting(key, _whole(value)))
        elif key in FLAGS:
            settings.append(Setting(key, None))
        else:
            settings.append(Setting(key, _whole(rest.pop(0))))
    return verb, settings


def _whole(value: str) -> str:
    """1e6 as 1000000; anything else unchanged."""
    if WHOLE.fullmatch(value) and float(value).is_integer():
        return str(int(float(value)))
    return value


def _verb(words: Sequence[str]) -> str:
    example = "python -m lit_dqn fit --config cartpole"
    if not words:
        raise ConfigError(f"a verb is missing; give one of {', '.join(_ALL)}, such as: {example}")
    first = words[0]
    if first in VERBS:
        return first
    later = next((word for word in words if word in VERBS), None)
    if first.startswith("-") and later is not None:
        others = [word for word in words if word != later]
        raise ConfigError(f"{later}: the verb comes first; write: python -m lit_dqn {' '.join([later, *others])}")
    if first.startswith("-"):
        raise ConfigError(f"{first}: a verb comes first, one of {', '.join(_ALL)}, such as: {example}")
    near = difflib.get_close_matches(first.lower(), [*_ALL, "train", "evaluate", "eval", "play", "resume"], n=1)
    meant = {"train": "fit", "resume": "fit", "evaluate": "test", "eval": "test", "play": "predict"}
    hint = f"; did you mean {meant.get(near[0], near[0])}?" if near else f", such as: {example}"
    raise ConfigError(f"{first}: there is no such verb; give one of {', '.join(_ALL)}{hint}")


def _stray(word: str, verb: str) -> str:
    if word in VERBS:
        return f"{word}: one verb at a time, and {verb} is there already; leave one of them out."
    if re.match(r"[-\u2010-\u2015]+[A-Za-z]", word):
        return f"{word}: a key begins with two hyphens; write --{re.sub(r'^[^A-Za-z]+', '', word)}"
    if re.match(r"[\w.]+=", word):
        return f"{word}: a key begins with two hyphens; write --{word}"
    if (
        word.endswith((".yaml", ".yml"))
        or word in own_configs()
        or (Path(word).is_file() and not word.endswith(".ckpt"))
    ):
        return f"{word}: a config is given by --config; write: python -m lit_dqn {verb} --config {word}"
    if word.endswith(".ckpt"):
        return f"{word}: a checkpoint is given by --ckpt_path; write --ckpt_path {word}"
    return f"{word}: this word belongs to no key; write settings as --key value, and put a value with spaces in quotes."
