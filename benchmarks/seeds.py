"""The use of seeds: settings that were chosen on a seed prove nothing on it."""

from collections.abc import Iterable

SEARCH, REPORT = range(100, 110), range(10)
"""Seeds for choosing settings, and seeds for reports."""


def are_for_a_report(seeds: Iterable[int]) -> bool:
    """Whether seeds are those of a report; False: of a search.

    Raises:
        ValueError: if they are neither, or both.

    """
    seeds = set(seeds)
    if seeds and seeds <= set(REPORT):
        return True
    if seeds and seeds <= set(SEARCH):
        return False
    raise ValueError(
        f"seeds {sorted(seeds)}: a report takes {REPORT[0]} to {REPORT[-1]}, a search {SEARCH[0]} to {SEARCH[-1]}, "
        "and neither takes the other's."
    )
