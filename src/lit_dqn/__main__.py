# PYTHON_ARGCOMPLETE_OK marks a module that completes its own arguments, for argcomplete
"""`python -m lit_dqn`: a first look at the command line, then only the imports that the command needs."""

import atexit
import os
import sys
import threading
from importlib import import_module
from importlib.metadata import version

from lit_dqn.commands.inputs import OTHER_VERBS, first_look, say_error
from lit_dqn.errors import ConfigError


def main() -> None:
    """Run the command line; a user error ends with one sentence and exit code 2."""
    if "_ARGCOMPLETE" in os.environ:
        import_module("lit_dqn.commands.completion").complete()
    if sys.argv[1:] in (["--version"], ["-V"], ["version"]):
        print(f"lit_dqn {version('lit-dqn')}")
        return
    if sys.argv[1:] in (["--help"], ["-h"], ["help"]):
        print(import_module(OTHER_VERBS["list"]).overview())
        return
    if sys.argv[1:2] and sys.argv[1] in OTHER_VERBS:
        sys.exit(import_module(OTHER_VERBS[sys.argv[1]]).main(sys.argv[1], sys.argv[2:]))
    try:
        first_look(sys.argv[1:])
    except ConfigError as error:
        say_error(error)
        sys.exit(2)
    from lit_dqn.commands import cli  # torch and Lightning take seconds to import

    cli.main()


def run() -> None:
    """Run the command line and end the process at once, with the exit code of `main`.

    The interpreter's own end would clear torch's modules object by object, which takes longer than saving a small run.
    """
    code = 0
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        code = end.code or 0
    # The interpreter's own first steps, in its order.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
