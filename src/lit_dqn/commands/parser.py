"""The parser of the command line, with readable errors."""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from lit_dqn.commands.help import HelpFormatter
from lit_dqn.commands.imported_classes import ImportedClasses
from lit_dqn.commands.inputs import EXTENDS, PROGRAM, look_through, read_words
from lit_dqn.commands.run_name import name_run
from lit_dqn.commands.yaml_mode import MODE
from lit_dqn.errors import ConfigError
from lit_dqn.exports import EXPORTS
from lit_dqn.saving.specification import specification

# Settings may name these classes without a module once they have been imported.
for _module in {*EXPORTS.values()} - {"api"}:
    import_module(f"lit_dqn.{_module}")

FRAME = re.compile(r"Does not validate|Subtypes|Errors|Given value|Problem with given class_path")
OF_OBJECTIVE = {"TDLearning": "maze_td", "ActorCritic": "cartpole_actor_critic"}
"""Configs with these agents. A key cannot change the agent of a config that sets another one."""


def _other_class(found: re.Match[str]) -> str:
    wanted, given = found.groups()
    config = OF_OBJECTIVE.get(wanted)
    remedy = f"take a config of such an agent instead: --config {config}" if config else "set that key again, too"
    return f"{given} is given where a {wanted} belongs; {remedy}."


def _several_classes(found: re.Match[str]) -> str:
    name, paths = found[1], [path.strip(" .") for path in found[2].split(",")]
    own = next((path for path in paths if path.startswith("lit_dqn.")), paths[0])
    return f"{name} is the name of several classes, {', '.join(paths)}; give the class path of one: {own}."


def _missing_package(found: re.Match[str]) -> str:
    needed = found["needed"]
    return f"{found['path']} needs a package that is not installed; pip install {shlex.quote(needed)}."


SENTENCES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = [
    (re.compile(r"Subclasses are disabled for (\w+), thus '([\w.]+)' is not accepted"), _other_class),
    (re.compile(r"Multiple subclasses with name (\w+)\..*ambiguity: ((?:[\w.]+, )*[\w.]+)"), _several_classes),
    (re.compile(r"class_path '(?P<path>[\w.]+)'.*Requirement '(?P<needed>[^']+)' not met"), _missing_package),
]
"""Frequent messages of the parser, and functions that restate them with a remedy."""

LAYER = re.compile(r'Parser key "([\w.+]+)":')


class Unparsed(ConfigError):
    """jsonargparse's message, which is for programmers."""


def _is_of_the_trainer(group: Any) -> bool:
    return any(action.dest.startswith("trainer.") for action in group._group_actions)


class Parser(LightningArgumentParser):
    """Reports errors in one sentence, without the usage text of a hundred keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A misspelt key must not be read as an abbreviation of another one.
        super().__init__(
            *args, **{"prog": PROGRAM, **kwargs, "parser_mode": MODE}, allow_abbrev=False, formatter_class=HelpFormatter
        )

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """As argparse's, with the keys of lit_dqn before those of Lightning's Trainer."""
        groups = self._action_groups
        self._action_groups = sorted(groups, key=_is_of_the_trainer)
        try:
            return super().format_help(*args, **kwargs)
        finally:
            self._action_groups = groups

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **settings: Any) -> Namespace:  # type: ignore[override]
        """As jsonargparse's; `null` for a setting of a part reaches its class."""
        # jsonargparse has a parser for each class, to which it passes a value as text, and null as Python writes it.
        if "defaults" in settings and args is not None and len(args) == 1 and args[0].endswith("=None"):
            args = [f"{args[0].removesuffix('None')}null"]
        parsed: Namespace = super().parse_args(args, *more, **settings)
        return parsed

    def get_defaults(self, *args: Any, **kwargs: Any) -> Namespace:
        """All defaults; for the agent only its class."""
        defaults = super().get_defaults(*args, **kwargs)
        # Otherwise another class would inherit the default arguments of LitDQN with the same names.
        if isinstance(defaults.get("model"), Namespace):
            defaults.model.pop("init_args", None)
        return defaults

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """As jsonargparse's, with defaults that can be written to a file and read again."""
        keys: list[str] = super().add_class_arguments(*args, **kwargs)
        for action in self._actions:
            if isinstance(action.default, partial):  # jsonargparse would write its repr
                self.set_defaults({action.dest: specification(action.default)})
        return keys

    def dump(self, cfg: Namespace, *args: Any, **kwargs: Any) -> str:
        """As jsonargparse's; the printed config includes the run's name, like the saved one."""
        if "trainer" in cfg:
            cfg = cfg.clone()
            name_run(cfg)
            cfg.pop(EXTENDS, None)  # the contents of that file are included
        text: str = super().dump(cfg, *args, **kwargs)
        return text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Pass the message to `explained`.

        Raises:
            Unparsed: always.

        """
        raise Unparsed(message) from ex


@contextmanager
def explained(words: Sequence[str]) -> Iterator[None]:
    """Restate the parser's errors.

    Args:
        words: of the command line that is parsed in this context.

    Raises:
        ConfigError: names the key, the value and valid values.

    """
    try:
        yield
    except Unparsed as error:
        look_through(read_words(words)[1], ImportedClasses())
        raise ConfigError(sentence_of(str(error))) from error


def sentence_of(message: str) -> str:
    """The error of jsonargparse about a value, in one line: the full key, and the innermost reason."""
    keys = LAYER.findall(message)
    lines = [line.strip(" -") for line in LAYER.sub("", message).splitlines()]
    lines = [line for line in lines if line and not FRAME.match(line)]
    # A specific reason is more informative than a list of expected types.
    said = [line for line in lines if not line.startswith("Expected a")] or lines[:1] or [message]
    reason = re.sub(r"<(?:class|enum) '(?:\w+\.)*(\w+)'>", r"\1", " ".join(dict.fromkeys(said)))
    for pattern, sentence in SENTENCES:
        found = pattern.search(" ".join(message.split()))
        if found is not None:
            reason = sentence(found)
    return f"{'.'.join(keys)}: {reason}" if keys else reason


def first_said(error: Exception) -> Exception:
    """The message of a part itself, which jsonargparse hides in a list of everything that it tried."""
    links: list[Exception] = [error]
    while isinstance(link := links[-1].__cause__ or links[-1].__context__, Exception):
        links.append(link)
    return next((link for link in links if isinstance(link, ConfigError)), error)
