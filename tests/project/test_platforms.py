"""Windows lacks some modules and names of POSIX: nothing imports or uses them where it would be asked to."""

import ast
from pathlib import Path

import pytest

import lit_dqn

SOURCE = Path(lit_dqn.__file__).parent
POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix"}
POSIX_NAMES = {"O_DIRECTORY", "O_NOFOLLOW", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "fork", "geteuid", "getuid"}


def missing_on_windows(source: str) -> list[str]:
    """What a module asks for at once that Windows has not; a name behind `hasattr` or a condition counts as guarded."""
    tree = ast.parse(source)
    found = [name.name for node in tree.body if isinstance(node, ast.Import) for name in node.names]
    found += [str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)]
    missing = [name for name in found if name.split(".")[0] in POSIX_MODULES or name.endswith("forkserver")]
    guarded = {id(part) for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp) for part in ast.walk(node)}
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in POSIX_NAMES]
    return missing + [node.attr for node in used if id(node) not in guarded]


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_nothing_is_imported_or_named_that_windows_lacks(file):
    assert missing_on_windows(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source", ["import fcntl", "from multiprocessing import forkserver\nimport resource", "os.fork()"]
)
def test_the_test_sees_what_is_missing(source):
    assert missing_on_windows(source)
