"""What a sentence tells to set is accepted as it is written."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from lit_dqn.commands.inputs import first_look
from lit_dqn.errors import ConfigError

HERE = Path(__file__).parents[1]
BASE = ["fit", "--config", str(HERE.parent / "configs/cartpole.yaml")]
TABLE = yaml.safe_load((HERE / "data/bad_inputs.yaml").read_text())
REMEDY = re.compile(r"(?:set|write|such as|did you mean|or) (--[\w.]+[ =][^\s;,]+)")


def remedies(sentence: str) -> list[list[str]]:
    """The settings that a sentence tells to set."""
    return [[word.rstrip(".?") for word in shlex.split(found)] for found in REMEDY.findall(sentence)]


def remedies_at_first_look() -> list[tuple[str, list[str]]]:
    found = []
    for line, _ in TABLE["first"]:
        with pytest.raises(ConfigError) as error:
            first_look([*BASE, *shlex.split(line)])
        found += [(line, words) for words in remedies(str(error.value)) if "VALUE" not in words[0]]
    return found


def test_what_the_first_look_tells_to_set_it_accepts():
    found = remedies_at_first_look()
    assert len(found) > 20
    for line, words in found:
        try:
            first_look([*BASE, *words])
        except ConfigError as error:
            raise AssertionError(f"{line}: the remedy {words} is refused: {error}") from error
