"""How jsonargparse reads and writes YAML here: what is a text in a file is a text for the classes, and in the file that
a run keeps. Only a word of the command line is read as YAML.
"""

from typing import Any

import yaml
from jsonargparse import get_loader, set_dumper, set_loader

from lit_dqn.commands.inputs import dump_yaml, load_yaml
from lit_dqn.saving.texts import Text

MODE = "lit_dqn"
"""The name of our YAML reader and writer in jsonargparse."""


def _load(text: str) -> Any:
    value = _read(text)
    return Text(value) if isinstance(value, str) and value != text else _marked(value)


def _read(text: str) -> Any:
    value = load_yaml(text)
    # As in jsonargparse, for texts that look like keys without values, such as `name:` and {a, b}.
    if isinstance(value, dict) and value and all(part is None for part in value.values()):
        return get_loader("yaml")(text)
    return value


def _marked(value: Any) -> Any:
    """A value with a `Text` for each text that would be read as something else, if it were a word."""
    if isinstance(value, str):
        return value if _is_read_as_itself(value) else Text(value)
    if isinstance(value, list):
        return [_marked(part) for part in value]
    if isinstance(value, dict):
        return {key: _marked(part) for key, part in value.items()}
    return value


def _is_read_as_itself(text: str) -> bool:
    try:
        return bool(_read(text) == text)
    except yaml.YAMLError:
        return False


set_loader(MODE, _load, exceptions=(yaml.YAMLError,))
set_dumper(MODE, dump_yaml)
