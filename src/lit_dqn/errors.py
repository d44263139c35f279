"""Errors, and signals that end a run early."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []))
"""The signals that a terminal, `timeout` or a scheduler sends to all processes of a run to end it. Windows has no
SIGUSR1."""


class ConfigError(ValueError):
    """The user's request cannot be carried out; the message is one sentence with the key, the value and the remedy."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message is one sentence that says where it stopped and what to try."""


def one_line(error: Exception) -> str:
    """The message of an error, without its line breaks."""
    return " ".join(str(error).split())


def as_given(value: object) -> str:
    """What a script passed, for a message: a value as it is typed, or else of which kind it is."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"


def tell_torchrun(sentence: str) -> None:
    """Let torchrun repeat why this process ends, in the last lines that it writes; without torchrun do nothing."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if file is not None:
        said = {"message": sentence, "extraInfo": {"timestamp": str(int(time.time()))}}
        with contextlib.suppress(OSError):
            Path(file).write_text(json.dumps({"message": said}))


class Interrupted(Exception):
    """A signal ended the run after its state was saved.

    Args:
        signal_number: the signal; a shell expects the exit code 128 + this.

    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
