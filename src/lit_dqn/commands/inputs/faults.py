"""The first error in settings, as one sentence: the key, the value, valid values, and a guess of what was meant."""

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lit_dqn.commands.inputs.classes import NO_DEFAULT, Argument, Class, Classes, Hint
from lit_dqn.commands.inputs.words import Word, read
from lit_dqn.errors import ConfigError

REMEDIES = {
    "num_workers": "the envs are played in the training process, so there are no workers; "
    "for more envs side by side set --data.num_envs 8",
    "observation_shape": "it comes from the env; leave it out",
    "num_actions": "it comes from the env; leave it out",
}
"""Remedies for keys that users know from other programs."""

TOO_LARGE = 2**63
"""Larger than any counter."""

SPEC = ("class_path", "init_args", "dict_kwargs")

_SCALARS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "null": "null",
    "mapping": "keys with values, such as {key: value}",
}


class Faults:
    """Checks settings one by one, in the order in which they were given.

    Args:
        classes: the source of classes and their arguments.
        others: keys outside of the sections, and the values that they take.

    """

    def __init__(self, classes: Classes, sections: Iterable[str], others: Mapping[str, Argument]) -> None:
        self._classes = classes
        self._sections = list(sections)
        self._arguments = others
        self._chosen: dict[str, Class | None] = {}
        self.given: dict[str, dict[str, Any]] = {section: {} for section in self._sections}
        """The plain values of each section, by key."""
        self.others: dict[str, Any] = {}
        """The values of the other keys."""
        self.whole = True
        """Whether all settings are known, because no file was left unread."""

    def check(self, key: str, value: Any) -> None:
        """Check one setting.

        Args:
            key: dotted.
            value: from a file; or a `Word`, which is read as YAML unless the argument takes a text.

        Raises:
            ConfigError: if it is invalid.

        """
        section, *rest = key.removesuffix("+").split(".")
        if section in self._arguments and not rest:
            self._check_value(key, self._arguments[section].hint, value, self._arguments[section].default)
            self.others[section] = read(value)
            return
        if section not in self._sections:
            raise ConfigError(self._no_section(key, section, rest, value))
        owner = self._classes.section(section)
        if section == "model":
            hint = Hint(kinds=("LitAgent",))
            self._chosen.setdefault("model", owner)
            self._check_path("model", hint, rest, value, NO_DEFAULT)
        elif owner is not None:
            if not rest:
                value = read(value)
                if isinstance(value, str) and Path(value).is_file():
                    self.whole = False  # a separate file, which the parser reads
                    return
                if not isinstance(value, Mapping):
                    raise ConfigError(
                        f"{key}: {_shown(value)} is not a section; give keys below it, such as --{section}."
                        f"{next(iter(owner.arguments), 'key')}."
                    )
                for name, part in value.items():
                    self._check_argument(section, owner, [str(name)], part)
            else:
                self._check_argument(section, owner, rest, value)

    # --- keys ---

    def _no_section(self, key: str, section: str, rest: list[str], value: Any) -> str:
        names = [*self._sections, *self._arguments]
        if not rest:
            # The user may have forgotten the section.
            homes = [name for name in self._sections if section in self._arguments_of(name)]
            if homes:
                return f"{key}: there is no such key; did you mean --{homes[0]}.{section}?"
        near = difflib.get_close_matches(section, names, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"the sections are {', '.join(self._sections)}."
        return f"{key}: there is no such key; {hint}"

    def _arguments_of(self, section: str) -> Mapping[str, Argument]:
        owner = self._classes.section(section)
        return {} if owner is None else owner.arguments

    def _check_argument(self, prefix: str, owner: Class, path: list[str], value: Any) -> None:
        name, *rest = path
        name = name.removesuffix("+")
        argument = owner.arguments.get(name)
        key = f"{prefix}.{name}"
        if argument is None or name in REMEDIES:
            if not owner.takes_more or name in REMEDIES:
                raise ConfigError(self._no_argument(key, name, owner))
            return
        self._check_path(key, argument.hint, rest, value, argument.default)
        if prefix in self.given and not rest:
            self.given[prefix][name] = read(value) if "str" not in argument.hint.scalars else value

    def _no_argument(self, key: str, name: str, owner: Class) -> str:
        if name in REMEDIES:
            return f"{key}: {REMEDIES[name]}."
        known = [argument for argument in owner.arguments if argument not in REMEDIES]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        if near:
            return f"{key}: there is no such key; did you mean {near[0]}?"
        homes = [section for section in self._sections if name in self._arguments_of(section)]
        if homes and key == f"{homes[0]}.{name}":
            return f"{key}: {owner.name} has no such key; leave it out."
        if homes:
            return f"{key}: there is no such key; did you mean --{homes[0]}.{name}?"
        if len(known) <= 6:
            takes = f"takes {', '.join(known)}" if known else "takes no settings"
            return f"{key}: there is no such key; {owner.name} {takes}."
        return f"{key}: there is no such key; `python -m lit_dqn fit --help` lists all keys."

    # --- values ---

    def _check_path(self, key: str, hint: Hint, path: list[str], value: Any, default: Any) -> None:
        """Check a value at a path below an argument, or of the argument itself."""
        path = [part for part in path if part not in ("init_args", "dict_kwargs")]
        if path == ["class_path"]:
            path = []
        if not path:
            self._check_value(key, hint, value, default)
            return
        if not hint.kinds:
            if not hint.anything and "mapping" not in hint.scalars:
                raise ConfigError(f"{key}.{'.'.join(path)}: there is no such key; {key} is {_expected(hint)}.")
            return
        chosen = self._chosen.get(key, default if isinstance(default, Class) else None)
        if chosen is not None:
            self._check_argument(key, chosen, path, value)

    def _check_value(self, key: str, hint: Hint, value: Any, default: Any) -> None:
        if _is_whole(whole := read(value)) and abs(whole) >= TOO_LARGE and "str" not in hint.scalars:
            raise ConfigError(f"{key}: {_shown(value)} is too large a number.")
        if hint.kinds and isinstance(value, str):
            value = read(value)
        if hint.kinds and isinstance(value, Mapping):
            self._check_object(key, hint, value, default)
        elif hint.kinds and isinstance(value, str) and not self._fits(hint, value):
            if Path(value).is_file():
                return  # a config file for this argument, which the parser reads
            self._chosen[key] = self._class(key, hint, value)
        elif hint.items is not None and isinstance(listed := read(value), list | tuple):
            for number, item in enumerate(listed):
                self._check_value(f"{key}[{number}]", hint.items, item, NO_DEFAULT)
        elif not self._fits(hint, value):
            raise ConfigError(self._wrong(key, hint, value, default))

    def _check_object(self, key: str, hint: Hint, value: Mapping[str, Any], default: Any) -> None:
        if "class_path" in value:
            if not isinstance(value["class_path"], str):
                raise ConfigError(f"{key}.class_path: {_shown(value['class_path'])} is not a name of a class.")
            chosen = self._chosen[key] = self._class(key, hint, value["class_path"])
            stray = [str(name) for name in value if name not in SPEC]
            if stray:
                raise ConfigError(
                    f"{key}.{stray[0]}: there is no such key; what {value['class_path']} takes stands under init_args."
                )
            settings = value.get("init_args") or {}
            if not isinstance(settings, Mapping):
                raise ConfigError(f"{key}.init_args: {_shown(settings)} must be {_SCALARS['mapping']}.")
        else:
            chosen = self._chosen.get(key, default if isinstance(default, Class) else None)
            settings = value.get("init_args", value)
        if chosen is not None and isinstance(settings, Mapping):
            for name, part in settings.items():
                self._check_argument(key, chosen, [str(name)], part)

    def _class(self, key: str, hint: Hint, name: str) -> Class | None:
        kind = hint.kinds[0]
        choices = [choice for kind in hint.kinds for choice in self._classes.choices(kind)]
        try:
            found = self._classes.named(name, kind)
        except ConfigError as error:
            raise ConfigError(self._no_class(key, hint, name, choices, str(error))) from error
        if found is None and "." not in name and kind in self._own_kinds(choices):
            raise ConfigError(self._no_class(key, hint, name, choices, ""))
        if found is not None and not found.line & set(hint.kinds):
            raise ConfigError(self._no_class(key, hint, name, choices, f"{name} is not a valid {_kind(kind)}"))
        if found is not None and found.abstract:
            raise ConfigError(self._no_class(key, hint, name, choices, f"{name} is what {_kind(kind)} classes share"))
        return found

    def _own_kinds(self, choices: list[str]) -> set[str]:
        """Kinds whose base belongs to lit_dqn, so that a bare name must be one of its own classes."""
        own = [self._classes.named(choice, "") for choice in choices]
        return {name for cls in own if cls is not None for name in cls.line} - {"Module"}

    def _no_class(self, key: str, hint: Hint, name: str, choices: list[str], reason: str) -> str:
        kind = _kind(hint.kinds[0])
        reason = reason or f"there is no {kind} {_shown(name)}"
        scalars = [_SCALARS[scalar] for scalar in _SCALARS if scalar in hint.scalars and scalar != "null"]
        short = {choice.rpartition(".")[2]: choice for choice in choices}
        near = [short[match] for match in difflib.get_close_matches(name.rpartition(".")[2], short, n=1, cutoff=0.6)]
        which = f"one of {', '.join(choices)}, or the class path of your own" if choices else "the path of a class"
        words = " or ".join([*scalars, which])
        return f"{key}: {reason}; give {words}{f'; did you mean {near[0]}?' if near else '.'}"

    def _fits(self, hint: Hint, value: Any) -> bool:
        if hint.anything:
            return True
        known = read(value) if isinstance(value, str) and hint.scalars - {"str"} | set(hint.choices) else value
        if isinstance(value, str) and ("str" in hint.scalars or value in hint.choices):
            return True
        if isinstance(value, Path) and "str" in hint.scalars:
            return True
        return (
            (known is None and "null" in hint.scalars)
            or (isinstance(known, bool) and "bool" in hint.scalars)
            or (_is_whole(known) and "int" in hint.scalars)
            or (_is_number(known) and "float" in hint.scalars)
            or (isinstance(known, Mapping) and "mapping" in hint.scalars)
            or any(known == choice and type(known) is type(choice) for choice in hint.choices)
        )

    def _fits_without_quotes(self, hint: Hint, value: str) -> bool:
        known = read(Word(value))
        return self._fits(hint, known) or (hint.items is not None and isinstance(known, list))

    def _wrong(self, key: str, hint: Hint, value: Any, default: Any) -> str:
        if isinstance(value, str) and not isinstance(value, Word) and self._fits_without_quotes(hint, value):
            return f"{key}: {_shown(value)} is in quotes, and so a text; leave the quotes out."
        near: list[str] = []
        if hint.choices and isinstance(value, str):
            near = difflib.get_close_matches(value, map(str, hint.choices), n=1, cutoff=0.5)
        default = list(default) if isinstance(default, tuple) else default
        plain = isinstance(default, int | float | list) and not isinstance(default, bool) and default != []
        example = f", such as {default}" if plain and not hint.choices else ""
        more = f"; did you mean {near[0]}?" if near else "."
        return f"{key}: {_shown(value)} must be {_expected(hint)}{example}{more}"


def _expected(hint: Hint) -> str:
    words = [word for scalar, word in _SCALARS.items() if scalar in hint.scalars and scalar != "null"]
    if "float" in hint.scalars and "int" in hint.scalars:
        words.remove(_SCALARS["int"])
    if hint.choices:
        words.append(f"one of {', '.join(map(str, hint.choices))}")
    if hint.items is not None:
        same = hint.items.anything or set(hint.items.kinds) <= set(hint.kinds) != set()
        words.append("a list, [...]" if same else f"a list, [...], each {_expected(hint.items)}")
    words += [f"{'an' if _kind(kind)[0] in 'aeiou' else 'a'} {_kind(kind)}" for kind in dict.fromkeys(hint.kinds)]
    if "null" in hint.scalars:
        words.append("null")
    return " or ".join(words) or "something else"


def _kind(name: str) -> str:
    """The name of a kind of class in messages."""
    return {"Module": "network", "LitAgent": "agent", "Env": "wrapper"}.get(name, name.lower())


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (isinstance(value, float) and not math.isnan(value)) or _is_whole(value)


def _shown(value: Any) -> str:
    """A value as the user wrote it, shortened."""
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    text = " ".join(text.split())
    return (text if len(text) <= 60 else f"{text[:57]}...") or "''"
