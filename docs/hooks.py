"""For `make docs`: the pages are also read in the repository, where links lead to sources beside them."""

import html
import re

from latex2mathml.converter import convert

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:src|notebooks|configs|tests|benchmarks|README|CONTRIBUTING)[^)]*\)")
"""A link to a file that is no page."""

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
"""An equation in TeX, in a line or as a block."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Keep the words of such links."""
    return OUTSIDE.sub(r"\1", markdown)


def on_page_content(content: str, **_: object) -> str:
    """Equations as MathML, which browsers show without a script from elsewhere."""
    return EQUATION.sub(mathml, content)


def mathml(equation: re.Match[str]) -> str:
    """One of them, in its element; a command that it does not know fails the build."""
    element, kind, tex = equation.groups()
    shown = convert(html.unescape(tex), display="block" if kind == "[" else "inline")
    if "\\" in shown:
        raise ValueError(f"an equation has a command that MathML does not know: {tex}")
    return f'<{element} class="arithmatex">{shown}</{element}>'
