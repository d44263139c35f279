"""`python -m lit_dqn list`: everything that configs can name, one line each; read from the sources, which is fast."""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import gymnasium

from lit_dqn.commands.inputs import OTHER_VERBS, PROGRAM, VERBS, Sources, own_configs
from lit_dqn.exports import EXPORTS

KINDS = {
    "agents": "LitAgent",
    "networks": "Module",
    "heads": "Head",
    "objectives": "Objective",
    "samplers": "Sampler",
    "policies": "Policy",
    "demonstrations": "Demonstrations",
    "schedules": "Schedule",
    "wrappers": "Wrapper",
}
"""The kinds of parts in the list, and their base classes."""

WHERE = {
    "configs": "by these names, or a file of yours; an overlay stands after another config",
    "agents": "the key model",
    "networks": "the key model.network",
    "heads": "the key model.network.head",
    "objectives": "the key model.objective",
    "samplers": "the key data.sampler",
    "policies": "the keys data.policy and data.eval_policy",
    "demonstrations": "the key data.prefill",
    "schedules": "wherever a key takes a schedule, such as model.learning_rate",
    "wrappers": "the key data.wrappers, as any wrapper of Gymnasium",
    "envs": "the key data.env_id, as any env of Gymnasium",
}

WORDS = {
    "fit": "train an agent, or resume a run",
    "validate": "play the evaluation episodes of training",
    "test": "play other episodes, and keep the result",
    "predict": "play episodes, and write what was seen and done, with pictures",
    "export": "write an agent as safetensors and ONNX",
    "study": "train and test agents on tasks over seeds, and compare them",
    "tune": "search for good settings, by trials of several seeds",
    "report": "compare runs that are there",
    "push": "put an agent onto a Hugging Face hub",
    "pull": "fetch one from there, and check it",
    "list": "what configs can name",
}
"""What each verb does."""


def main(verb: str, words: Sequence[str]) -> int:
    """Print all names, or those of some kinds; returns 0.

    Args:
        verb: `list`.
        words: kinds.

    """
    parser = parser_of(verb)
    kinds = parser.parse_args(words).kinds
    if unknown := set(kinds) - WHERE.keys():
        parser.error(f"{min(unknown)}: there is no such kind; give one of {', '.join(WHERE)}")
    for number, kind in enumerate(kinds or WHERE):
        lines = dict(listed(kind))
        print(f"{chr(10) if number else ''}{kind} ({WHERE[kind]})")
        width = max(map(len, lines))
        for name, line in lines.items():
            print(f"  {name:<{width}}  {line}".rstrip())
    return 0


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of the words after `list`."""
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} {verb}", description="What configs can name.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(WHERE)} (default: all)")
    return parser


def overview() -> str:
    """The verbs, one line each."""
    width = max(map(len, WORDS))
    lines = [f"  {verb:<{width}}  {WORDS[verb]}" for verb in (*VERBS, *OTHER_VERBS)]
    return "\n".join(
        [
            f"usage: {PROGRAM} VERB ...",
            "",
            *lines,
            "",
            f"-h after a verb says what it takes, {PROGRAM} list what configs can name.",
        ]
    )


def listed(kind: str) -> Iterator[tuple[str, str]]:
    """The names of a kind, each with its line."""
    if kind == "configs":
        yield from _configs()
    elif kind == "envs":
        yield from _envs()
    else:
        sources, base = Sources(), KINDS[kind]
        names = sources.choices(base) if base != "Head" else [name for name in EXPORTS if name.endswith("Head")]
        for name in sorted(names):
            yield name, first_sentence(sources.summary(f"lit_dqn.{EXPORTS[_short(name)]}", _short(name)))


def _configs() -> Iterator[tuple[str, str]]:
    for name, file in own_configs().items():
        yield name, comment_of(file)


def comment_of(file: Path) -> str:
    """The first sentence of the comment at the beginning of a config."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):  # the command after it is indented
            break
        lines.append(line.removeprefix("# "))
    return first_sentence(" ".join(lines))


def first_sentence(text: str) -> str:
    """The text up to the first full stop that ends a sentence, not after "et al." or in a version."""
    found = re.match(r".*?(?<!al)\.(?=\s+[A-Z`]|\s*$)", " ".join(text.split()))
    return (found[0] if found else " ".join(text.split())).rstrip(".")


def _envs() -> Iterator[tuple[str, str]]:
    sources = Sources()
    for env_id, spec in sorted(gymnasium.registry.items()):
        module, _, name = str(spec.entry_point).partition(":")
        if module.startswith("lit_dqn."):
            settings = ", ".join(f"{key} {value}" for key, value in spec.kwargs.items())
            yield env_id, first_sentence(sources.summary(module, name)) + (f"; {settings}" if settings else "")


def _short(name: str) -> str:
    return name.rpartition(".")[2]
