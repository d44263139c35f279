"""Shell completion of verbs, keys and values. It is read from the sources, without torch."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from lit_dqn.commands.inputs import OTHER_VERBS, OTHERS, PROGRAM, VERBS, Argument, Sources, all_keys, own_configs
from lit_dqn.commands.inputs.words import FLAGS
from lit_dqn.commands.listing import WHERE

YAML_FILES = ("yaml", "yml")

ONLY_OF = {
    "plan": ("fit",),
    "replay_journal": ("fit",),
    "verbose": ("validate", "test"),
    "return_predictions": ("predict",),
    "output_dir": ("export",),
}
"""Keys that only some verbs have."""

Completer = Callable[..., Sequence[str]]


def complete() -> None:
    """Answer a shell, which passes the typed words in the environment, and exit."""
    try:
        import argcomplete
        from argcomplete.completers import FilesCompleter
    except ImportError:  # the shell found argcomplete in another installation
        os._exit(1)
    typed = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", sys.maxsize))]
    parser = parser_of_all(typed.split(), FilesCompleter(YAML_FILES), FilesCompleter())
    argcomplete.autocomplete(parser, default_completer=FilesCompleter())


def parser_of_all(typed: Sequence[str], yaml_files: Completer, files: Completer) -> argparse.ArgumentParser:
    """A parser of all verbs that is used only for completion.

    Args:
        typed: the words so far. The keys of a class, such as a network, are included once one of them begins with
            `--model.network.`.
        yaml_files: a completer of argcomplete.
        files: the same, for files of any kind.

    """
    parser = argparse.ArgumentParser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    verbs, keys = parser.add_subparsers(), list(all_keys(typed, OTHERS))
    for verb in VERBS:
        of_verb = verbs.add_parser(verb, allow_abbrev=False)
        _offer(of_verb, "config", lambda **asked: [*own_configs(), *yaml_files(**asked)])
        _offer(of_verb, "ckpt_path", lambda **asked: ["last", "best", *files(**asked)])
        for key, argument in keys:
            if key in FLAGS and verb in ONLY_OF.get(key, VERBS):
                of_verb.add_argument(f"--{key}", action="store_true")
            elif key != "ckpt_path" and verb in ONLY_OF.get(key, VERBS):
                _offer(of_verb, key, _values(key, argument))
    for verb, module in OTHER_VERBS.items():
        words = import_module(module).parser_of(verb)
        for action in words._actions:
            if action.dest == verb:
                action.completer = yaml_files
            elif action.dest == "kinds":
                action.completer = lambda **_: list(WHERE)
        verbs.add_parser(verb, parents=[words], add_help=False, allow_abbrev=False)
    return parser


def _offer(parser: argparse.ArgumentParser, key: str, completer: Completer) -> None:
    parser.add_argument(f"--{key}", action="append").completer = completer  # type: ignore[attr-defined]


def _values(key: str, argument: Argument) -> Completer:
    """The possible values of a key."""

    def values(**asked: object) -> Sequence[str]:
        if key == "data.env_id":
            import gymnasium

            return list(gymnasium.registry)
        hint = argument.hint
        words = list(map(str, hint.choices))
        words += [choice for kind in hint.kinds for choice in Sources().choices(kind)]
        words += ["true", "false"] if "bool" in hint.scalars else []
        words += ["null"] if "null" in hint.scalars else []
        plain = isinstance(argument.default, int | float | str) and not isinstance(argument.default, bool)
        return list(dict.fromkeys([*words, str(argument.default)] if plain else words))

    return values
