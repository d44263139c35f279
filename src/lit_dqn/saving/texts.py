"""Texts that stay texts: jsonargparse reads a text in an argument of any type as YAML whenever it meets one, also if it
was quoted in a file.
"""

from typing import Any, TypeVar

import yaml
from jsonargparse import add_instantiator
from jsonargparse.typing import register_type

Made = TypeVar("Made")


class Text(str):
    """A text that jsonargparse leaves alone, because its type is not `str`; classes get it as a `str`."""


def _plain(value: Any) -> Any:
    """A value without `Text`, also in its lists and mappings."""
    if isinstance(value, Text):
        return str(value)
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    if type(value) is dict:
        return {key: _plain(part) for key, part in value.items()}
    return value


def _made(class_type: type[Made], *args: Any, **kwargs: Any) -> Made:
    return class_type(*args, **_plain(kwargs))


register_type(Text, serializer=Text)
add_instantiator(_made, object)
yaml.SafeDumper.add_representer(Text, yaml.SafeDumper.represent_str)
