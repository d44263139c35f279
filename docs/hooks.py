"""For `make docs`: the pages are also read in the repository, where links lead to sources beside them."""

import re

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:src|notebooks|configs|tests|benchmarks|README|CONTRIBUTING)[^)]*\)")
"""A link to a file that is no page."""


def on_page_markdown(markdown: str, **_: object) -> str:
    """Keep the words of such links."""
    return OUTSIDE.sub(r"\1", markdown)
