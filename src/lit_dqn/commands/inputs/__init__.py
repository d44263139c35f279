"""The first look at a command line: certain errors are reported at once, before torch and Lightning are imported."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from lit_dqn.commands.inputs.classes import Argument, Class, Classes, Hint
from lit_dqn.commands.inputs.faults import REMEDIES, Faults
from lit_dqn.commands.inputs.files import (
    EXTENDS,
    config_name,
    dump_yaml,
    find_config,
    load_yaml,
    own_configs,
    read_config,
    with_bases,
)
from lit_dqn.commands.inputs.keys import all_keys
from lit_dqn.commands.inputs.pages import say_error
from lit_dqn.commands.inputs.sources import SECTIONS, Sources
from lit_dqn.commands.inputs.words import OTHER_VERBS, PROGRAM, VERBS, Setting, Word, asks_for_help, read_words, word_of
from lit_dqn.commands.trainer_settings import check_trainer
from lit_dqn.errors import ConfigError
from lit_dqn.training.settings import LARGEST_SEED, check_settings

__all__ = [
    "EXTENDS",
    "OTHERS",
    "OTHER_VERBS",
    "PROGRAM",
    "REMEDIES",
    "SECTIONS",
    "VERBS",
    "Argument",
    "Class",
    "Classes",
    "Hint",
    "Sources",
    "all_keys",
    "config_name",
    "dump_yaml",
    "find_config",
    "first_look",
    "load_yaml",
    "look_through",
    "own_configs",
    "read_config",
    "read_words",
    "say_error",
    "word_of",
]

_BOOL, _TEXT = Hint(frozenset({"bool", "null"})), Hint(frozenset({"str", "null"}))

OTHERS = {
    "seed_everything": Argument(Hint(frozenset({"int", "bool"}))),
    "ckpt_path": Argument(_TEXT),
    "output_dir": Argument(_TEXT),
    "weights_only": Argument(_BOOL),
    "return_predictions": Argument(_BOOL),
    "verbose": Argument(_BOOL),
    "plan": Argument(_BOOL),
    "replay_journal": Argument(_TEXT),
    "print_config": Argument(),
}
"""Keys outside of the sections."""


def first_look(words: Sequence[str]) -> list[str]:
    """The command line in the parser's form: the verb first, files by their paths, each setting as one word.

    Raises:
        ConfigError: if it is invalid.

    """
    if asks_for_help(words):
        return list(words)
    verb, settings = read_words(words)
    settings = [found for setting in settings for found in _with_files(setting)]
    sources = Sources()
    faults = look_through(settings, sources)
    data = sources.section("data")
    if data is not None:
        _check_together(faults, data)
    return [verb, *(setting.word for setting in settings)]


def look_through(settings: Sequence[Setting], classes: Classes) -> Faults:
    """Check each setting, including those of files, in the order in which they apply.

    Returns:
        The checked settings.

    Raises:
        ConfigError: names the first invalid one.

    """
    faults = Faults(classes, SECTIONS, OTHERS)
    for key, value in settings:
        if value is None:
            continue
        if key != "config":
            faults.check(key, Word(value))
            continue
        if "://" in value:
            faults.whole = False
            continue
        for name, part in (load_yaml(value) if _is_yaml(value) else read_config(value)).items():
            if name == EXTENDS and not _is_yaml(value):
                continue  # `with_bases` has already inserted that file
            if not isinstance(name, str):
                raise ConfigError(f"config: {value} has the key {name}, which is not a name.")
            faults.check(name, part)
    return faults


def _check_together(faults: Faults, data: Class) -> None:
    """Check plain values, each and in combination."""
    seed = faults.others.get("seed_everything")
    if isinstance(seed, int) and not 0 <= seed <= LARGEST_SEED:
        raise ConfigError(f"seed_everything: {seed} must lie between 0 and {LARGEST_SEED}; set --seed_everything 1.")
    check_trainer(faults.given["trainer"])
    if not faults.whole:
        return
    given = faults.given["data"]
    if not given.get("env_id"):
        raise ConfigError(
            "data.env_id: no environment is given; take a config, such as --config cartpole, or set "
            "--data.env_id CartPole-v1."
        )
    if faults.others.get("ckpt_path") is None:  # a checkpoint's settings would count, too
        settings = {key: argument.default for key, argument in data.arguments.items()} | given
        # Other properties of samplers and schedules are known only to their classes.
        sampler = SimpleNamespace(random=True, is_rollout=_class_name(given.get("sampler")) == "Rollout")
        known = {key: value for key, value in settings.items() if isinstance(value, int | float)}
        of_classes = {"sampler": sampler, "n_step": 1, "gamma": 1.0, "place": None}
        check_settings(settings | of_classes | known | {"seed": settings["seed"] or 0})


def _class_name(described: Any) -> str:
    """The class name of a class path, or of a mapping with one; empty if it is neither."""
    path = described.get("class_path") if isinstance(described, dict) else described
    return path.rpartition(".")[2] if isinstance(path, str) else ""


def _with_files(setting: Setting) -> list[Setting]:
    """A setting; a config file is preceded by those that it extends."""
    key, value = setting
    if key != "config" or not value or _is_yaml(value):
        return [setting]
    return [Setting(key, file) for file in with_bases(find_config(value))]


def _is_yaml(value: str) -> bool:
    """Whether a value is the text of a config, not the name of one."""
    return value.lstrip().startswith("{") or "\n" in value
