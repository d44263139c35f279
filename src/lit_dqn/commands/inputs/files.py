"""Config files: finding and reading them, before anything else is imported."""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from lit_dqn.errors import ConfigError
from lit_dqn.saving.layout import CONFIG

_HERE = Path(__file__).parents[2]
CONFIGS = next((folder for folder in (_HERE / "configs", _HERE.parents[1] / "configs") if folder.is_dir()), None)
"""The configs that come with lit_dqn: inside the package of a wheel, at the top of a clone."""

WHOLE = re.compile(r"[-+]?\d+(\.\d*)?[eE]\+?\d{1,2}")
"""1e6 and 2.5e5, which YAML reads as floats."""


def own_configs() -> dict[str, Path]:
    """The configs that come with lit_dqn: their files, by their names for `--config`."""
    if CONFIGS is None:
        return {}
    return {file.relative_to(CONFIGS).with_suffix("").as_posix(): file for file in sorted(CONFIGS.rglob("*.yaml"))}


def config_name(file: str) -> str:
    """The shortest value of `--config` for a file: a config of lit_dqn by its name."""
    return next((name for name, own in own_configs().items() if own == Path(file)), file)


def find_config(name: str) -> str:
    """The file of `--config NAME`: a path, or a config of lit_dqn, such as `cartpole` or `atari/pong`.

    Raises:
        ConfigError: if there is neither.

    """
    path = Path(name)
    if path.is_file() or "://" in name:
        return name
    names = own_configs()
    short = re.sub(r"\.ya?ml$", "", path.as_posix()).removeprefix("./").removeprefix("configs/")
    if short in names:
        return str(names[short])
    if path.is_dir():
        inside = next((file for file in (path / CONFIG, *sorted(path.glob("*.yaml"))) if file.is_file()), None)
        hint = f"give a file of it: --config {inside}." if inside else "give a YAML file."
        raise ConfigError(f"config: {name} is a folder; {hint}")
    if path.exists():
        raise ConfigError(
            f"config: {name} is a pipe or a device, and a config is read more than once; write it to a file, and give "
            "that file."
        )
    near = [n for n in names if n.endswith(f"/{short}")] or difflib.get_close_matches(short, names, n=1, cutoff=0.5)
    hint = f"did you mean --config {near[0]}?" if near else f"it has {', '.join(sorted(names))}."
    raise ConfigError(f"config: there is no file {name}, and lit_dqn has no config of that name; {hint}")


def read_config(name: str) -> dict[str, Any]:
    """The keys and values of a config file.

    Args:
        name: of the file, from `find_config`.

    Raises:
        ConfigError: if it cannot be read, is not YAML in UTF-8, or has anything but keys with values.

    """
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise ConfigError(f"config: {name} cannot be read: {error.strerror or error}.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        hint = (
            "a checkpoint is given by --ckpt_path"
            if name.endswith(".ckpt")
            else "save it as YAML in the encoding UTF-8"
        )
        raise ConfigError(f"config: {name}, line {line} is not text in UTF-8; {hint}.") from error
    try:
        settings = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"config: {name}, {_where_and_what(error, text)}; fix the file.") from error
    except RecursionError as error:
        raise ConfigError(f"config: {name} is nested too deeply; a config has some five levels.") from error
    if settings is None:
        raise ConfigError(f"config: {name} is empty; it needs at least a section `data:` with an env_id.")
    if not isinstance(settings, dict):
        kind = (
            "a list"
            if isinstance(settings, list)
            else f"the text {settings[:40]!r}"
            if isinstance(settings, str)
            else f"{settings}"
        )
        raise ConfigError(
            f"config: {name} holds {kind}, not keys with values; begin it with a section such as `data:`."
        )
    return settings


EXTENDS = "extends"
"""The key with which a config file names the one that it extends."""


def with_bases(name: str) -> list[str]:
    """A config file and those that it extends, the base first; each is changed by the next.

    Args:
        name: of the file, from `find_config`.

    Raises:
        ConfigError: if one of them cannot be read, or they extend each other in a cycle.

    """
    chain = [name]
    while (base := _base_of(chain[0])) is not None:
        if any(Path(base).samefile(file) for file in chain):
            circle = " -> ".join([*reversed(chain), base])
            raise ConfigError(f"extends: {circle} is a circle; take extends out of {chain[0]}.")
        chain.insert(0, base)
    return chain


def _base_of(name: str) -> str | None:
    """The file that a config file names in `extends`: in the same folder, or a config of lit_dqn."""
    if "://" in name:
        return None  # the parser reads it
    settings = read_config(name)
    if EXTENDS not in settings:
        return None
    base = settings[EXTENDS]
    if not isinstance(base, str) or not base:
        raise ConfigError(f"extends: {base} in {name} is not a config; name one, such as extends: cartpole.")
    beside = Path(name).parent / base
    if beside.is_file():
        return str(beside)
    try:
        return find_config(base)
    except ConfigError as error:
        raise ConfigError(f"extends: {name} stands on {base}; {str(error).removeprefix('config: ')}") from error


def _where_and_what(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is not None:
        return f"line {mark.line + 1}: {error.problem or error.context}"  # type: ignore[attr-defined]
    position = getattr(error, "position", 0)
    return f"line {text[:position].count(chr(10)) + 1}: {getattr(error, 'reason', 'no YAML')}"


_INT, _FLOAT, _TIMESTAMP = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))

_WHOLE_NUMBER = re.compile(r"[-+]?\d[\d_]*$|0x[0-9a-fA-F]+$")
_NUMBER = re.compile(
    r"[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, but 5e-4 and 1e6 are numbers, 2020-01-01 and 1:00:00 are texts, and duplicate keys are
    refused.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is there twice, first in line {seen[key.value]}", key.start_mark
                )
            seen[key.value] = key.start_mark.line + 1
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float | int:
    value = float(loader.construct_yaml_float(node))
    return int(value) if WHOLE.fullmatch(node.value) and value.is_integer() else value


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INT, _FLOAT, _TIMESTAMP)]
    for letter, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, _WHOLE_NUMBER, list("-+0123456789"))
_Loader.add_implicit_resolver(_FLOAT, _NUMBER, list("-+0123456789."))
_Loader.add_constructor(_FLOAT, _number)


def load_yaml(text: str) -> Any:
    """The value of a text, as in configs: integers may be written as 1e6.

    Raises:
        yaml.YAMLError: if it is not YAML, or has a duplicate key.

    """
    return yaml.load(text, Loader=_Loader)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, but texts that `load_yaml` would read as numbers are quoted, too."""


_Dumper.add_implicit_resolver(_INT, _WHOLE_NUMBER, list("-+0123456789"))
_Dumper.add_implicit_resolver(_FLOAT, _NUMBER, list("-+0123456789."))


def dump_yaml(value: Any) -> str:
    """A value as a text from which `load_yaml` reads the same value."""
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
    return text
