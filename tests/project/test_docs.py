"""The sources of the pages: links lead somewhere, lines of prose are short, every public name is in the reference."""

import re
from pathlib import Path

import pytest
import yaml

from lit_dqn.exports import EXPORTS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LONGEST = 120


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def without_code(text: str) -> str:
    """A page without its blocks of code, line by line."""
    return re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL)


def long_lines(text: str) -> list[int]:
    """The numbers of lines of prose that are too long; tables and links of their own cannot be broken."""
    return [
        number
        for number, line in enumerate(without_code(text).splitlines(), 1)
        if len(line) > LONGEST and not line.startswith("|") and not re.fullmatch(r"\s*\S+", line)
    ]


def dead_links(page: Path) -> list[str]:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", without_code(page.read_text()))
    return [link for link in links if "://" not in link and not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_line_of_prose_is_too_long(page):
    assert long_lines(page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_to_a_file_leads_somewhere(page):
    assert dead_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_path_that_a_page_names_exists(page):
    """`src/lit_dqn/...`, `configs/...` and their like in backticks, where they name a file or a folder."""
    named = re.findall(r"`((?:src|configs|tests|benchmarks|docs|notebooks)/[\w./-]+)`", without_code(page.read_text()))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_a_page_with_a_long_line_or_a_dead_link_would_be_noticed(tmp_path):
    long, table, code = "word " * 30, "| cell " * 30, f"```\n{'code ' * 30}\n```"
    assert long_lines(f"{table}\n{code}\n{long}\n") == [5]
    page = tmp_path / "page.md"
    page.write_text("[a](page.md#part) [b](nowhere.md) [c](https://example.org/x.md) ```[d](no.md)```")
    assert dead_links(page) == ["nowhere.md"]


def test_every_page_is_in_the_navigation():
    nav = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(nav) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))


def test_every_public_name_is_in_the_reference():
    pages = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    assert sorted(re.findall(r"^::: lit_dqn\.(\w+)$", pages, re.MULTILINE)) == sorted([*EXPORTS, "callbacks", "plots"])


def test_the_release_is_the_same_everywhere():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert (ROOT / "CHANGELOG.md").read_text().split("## ")[1].split()[0] == version
