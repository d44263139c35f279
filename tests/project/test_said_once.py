"""What is known in one place: the keys of a checkpoint, the layout of a run's folder, how files are written."""

import ast
from pathlib import Path

import pytest

import lit_dqn
from lit_dqn.saving import contents, layout

SOURCE = Path(lit_dqn.__file__).parent

KEYS = {
    contents.AGENT_SETTINGS,
    contents.DATA_SETTINGS,
    contents.OPTIMIZERS,
    contents.LOOPS_STATE,
    contents.RANDOM_STATE,
    contents.MANIFEST_CRC32,
    contents.DATA_STATE,
}
"""Those that are no words of anything else."""

NAMES = {
    layout.LAST,
    layout.BEST,
    layout.CONFIG,
    layout.EPISODES,
    layout.RESULTS,
    layout.METRICS,
    layout.LOCK,
    layout.PREDICTIONS,
    layout.REPLAY_SUFFIX,
}

WRITING = {"link", "mkdir", "rename", "replace", "rmdir", "symlink_to", "unlink", "write_bytes", "write_text"}
"""Functions of `os` and methods of a Path; texts and dataclasses have a `replace`, too, of other arguments."""


def texts_in(code: str):
    """(line, text) of every literal that is no docstring."""
    tree = ast.parse(code)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def writes_in(code: str):
    """(line, name) of every call that changes files."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            of_os = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "os"
            modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if name == "open" and (of_os or any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)):
                yield node.lineno, name
            is_of_a_path = name != "replace" or (len(node.args) == 1 and not node.keywords)
            if name in WRITING and (of_os or is_of_a_path):
                yield node.lineno, name


def found(look, but: set[str]) -> list[str]:
    """`file:line what` wherever `look` finds anything outside of some files."""
    return [
        f"{file.relative_to(SOURCE)}:{line} {what}"
        for file in sorted(SOURCE.rglob("*.py"))
        if file.relative_to(SOURCE).as_posix() not in but
        for line, what in look(file.read_text())
    ]


def test_the_keys_of_a_checkpoint_are_known_to_it_alone():
    # That one key is the name of a class, which its exports say.
    but = {"saving/contents.py", "saving/schema.py", "exports.py", "__init__.py"}
    assert found(lambda code: [(n, text) for n, text in texts_in(code) if text in KEYS], but) == []


def test_the_layout_of_a_run_is_said_once():
    assert found(lambda code: [(n, text) for n, text in texts_in(code) if text in NAMES], {"saving/layout.py"}) == []


def test_files_are_written_by_durable_alone():
    # A lock is a file of its own kind: it is opened, held, and never replaced. `errors.py` writes into torchrun's file.
    assert found(writes_in, {"saving/durable.py", "saving/lock.py", "errors.py"}) == []


@pytest.mark.parametrize(
    "code",
    [
        "os.replace(a, b)",
        "Path(a).write_text(b)",
        "path.mkdir()",
        "open(path, 'w')",
        "path.open('ab')",
        "path.replace(other)",
        "os.open(path, flags)",
    ],
)
def test_a_write_is_seen(code):
    assert list(writes_in(code))


@pytest.mark.parametrize(
    "code",
    ["text.replace('a', 'b')", "replace(config, a=1)", "path.open()", "path.read_text()", "Sidecar.open(folder, 3)"],
)
def test_what_changes_nothing_is_let_through(code):
    assert not list(writes_in(code))


def test_a_literal_is_seen_and_a_docstring_is_none():
    assert list(texts_in('"""loops"""\ncheckpoint["loops"]')) == [(2, "loops")]
