"""The output of `--help`: lit_dqn's own classes before the hundreds of others, with line breaks at words."""

import re
import textwrap
from argparse import Action

from jsonargparse import DefaultHelpFormatter

from lit_dqn.exports import EXPORTS

KNOWN = re.compile(r"known subclasses: ([\w.]+(?:, [\w.]+)*)")
OTHERS = 10
"""The number of classes of other packages that are named if there are more."""


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's formatter would name every module of torch for a network."""

    def _get_help_string(self, action: Action) -> str:
        return KNOWN.sub(lambda found: own_first(found[1].split(", ")), super()._get_help_string(action))

    def start_section(self, heading: str | None) -> None:
        """As argparse's, with the heading broken at words."""
        super().start_section(heading and "\n".join(self._split_lines(heading, self._width - 1)))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent("\n".join(self._split_lines(text, width - len(indent))), indent)


def own_first(paths: list[str]) -> str:
    """A text with the possible classes of a setting."""
    own = [path for path in paths if path.startswith("lit_dqn.")]
    own = [path for path in own if path.removeprefix("lit_dqn.") in EXPORTS] or own  # not their building blocks
    others = [path for path in paths if not path.startswith("lit_dqn.")]
    if others:  # agents and heads are torch modules, too, but not networks
        own = [path for path in own if not (path.startswith("lit_dqn.Lit") or path.endswith("Head"))]
    named = [] if own else others[:OTHERS]
    rest = len(others) - len(named)
    packages = ", ".join(sorted({path.partition(".")[0] for path in others}))
    words = ", ".join([*own, *named])
    return f"known subclasses: {words}" + (f", and {rest:,} more of {packages} by their class paths" if rest else "")
