"""All dotted keys that a config may have, with the values that they take; those of classes only on request."""

from collections.abc import Iterator, Mapping, Sequence

from lit_dqn.commands.inputs.classes import Argument, Hint
from lit_dqn.commands.inputs.sources import SECTIONS, Sources

FROM_THE_ENV = ("observation_shape", "num_actions", "num_outputs")
"""Arguments that users do not set."""


def all_keys(typed: Sequence[str], others: Mapping[str, Argument]) -> Iterator[tuple[str, Argument]]:
    """All keys, without duplicates.

    Args:
        typed: words of a command line. The keys of a class, such as a network, are included if one of them begins with
            `--model.network.`.
        others: keys outside of the sections.

    """
    sources = Sources()
    yield from others.items()
    for section in SECTIONS:
        if section == "model":
            yield from _with_keys_below("model", Argument(Hint(kinds=("LitAgent",))), ["--model.", *typed], sources)
        elif (owner := sources.section(section)) is not None:
            for name, argument in owner.arguments.items():
                yield from _with_keys_below(f"{section}.{name}", argument, typed, sources)


def _with_keys_below(
    key: str, argument: Argument, typed: Sequence[str], sources: Sources
) -> Iterator[tuple[str, Argument]]:
    yield key, argument
    if not any(word.startswith(f"--{key}.") for word in typed):
        return
    below: dict[str, Argument] = {}
    for kind in argument.hint.kinds:
        for choice in sources.choices(kind):
            found = sources.named(choice, kind)
            for name, own in (found.arguments if found is not None else {}).items():
                other = below.get(name, own)
                below[name] = Argument(own.hint | other.hint, own.default)
    for name, own in below.items():
        if name not in FROM_THE_ENV:
            yield from _with_keys_below(f"{key}.{name}", own, typed, sources)
