"""A command that is done ends at once, with its exit code and all that was registered for its end."""

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, os, sys, threading, time
from lit_dqn import __main__

class Kept:
    def __del__(self, write=os.write):
        write(1, b"taken apart")

kept = Kept()

def main():
    atexit.register(print, "registered")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    {ends}

__main__.main = main
__main__.run()
"""


@pytest.mark.parametrize(
    ("ends", "code", "takes_apart"),
    [
        ("return", 0, False),
        ("sys.exit()", 0, False),
        ("sys.exit(143)", 143, False),
        ("sys.exit('a sentence')", 1, True),
        ("1 / 0", 1, True),
        ("raise KeyboardInterrupt", -2, True),
    ],
)
def test_a_command_ends_with_its_code_and_is_not_taken_apart(ends, code, takes_apart):
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(ends=ends)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout.split("\n")[:2] == ["thread", "registered"]
    assert ("taken apart" in done.stdout) == takes_apart
    assert ("ZeroDivisionError" in done.stderr) == (ends == "1 / 0")
