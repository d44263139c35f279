"""The remedies that sentences name: read from the sources, and from what is said."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lit_dqn

SOURCE = Path(lit_dqn.__file__).parent
KEY = re.compile(r"(?<![\w-])--([a-z][\w.*+]*)")
SETTING = re.compile(r"--[a-z][\w.+]*[ =](?:'[^']*'|[^\s;,?']+)")
HOLE = "*"


def messages() -> Iterator[tuple[str, str]]:
    """File and text of each string in the sources that names a key to set, with `*` for what is filled in."""
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in docs | parts:
                continue
            text = _text(node)
            if KEY.search(text) and (" " in text):
                yield str(file.relative_to(SOURCE)), text


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value.replace("%s", HOLE) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else HOLE for part in node.values)
    return ""


def says(message: str, sentence: str) -> bool:
    """Whether a sentence was made from a message of the sources."""
    return re.search(".*".join(map(re.escape, message.split(HOLE))), sentence) is not None


def alternatives(sentence: str) -> list[list[str]]:
    """What a sentence tells to type: each way that it names, as words of a command line that belong together."""
    ways = []
    for part in re.split(r"\bor\b", sentence):
        found = [re.split(r"[ =]", setting, maxsplit=1) for setting in SETTING.findall(part)]
        words = [
            word for key, value in found for word in (key, value.strip("'") if "'" in value else value.rstrip("."))
        ]
        if words and "where there is a GPU" not in part:
            ways.append(words)
    return ways
