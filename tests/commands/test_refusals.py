"""Wrong command lines that only those can refuse who know the class, the env or the machine: in one sentence, too."""

import shlex
import sys
from pathlib import Path

import pytest
import yaml

from lit_dqn.commands.cli import main

HERE = Path(__file__).parents[1]
CONFIG = ["--config", str(HERE.parent / "configs/cartpole.yaml")]
TABLE = yaml.safe_load((HERE / "data/bad_inputs.yaml").read_text())
VERBS = ("fit", "validate", "test", "predict", "export")


def refusal(words: list[str], monkeypatch, capsys) -> str:
    """The last line of what a command line says that ends with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["lit_dqn", *words])
    with pytest.raises(SystemExit) as end:
        main()
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("INFO", "Seed", "[rank"))]
    assert end.value.code == 2
    assert len(lines) <= 3, lines
    return lines[-1]


@pytest.mark.parametrize(("line", "sentence"), TABLE["later"])
def test_one_sentence_and_no_folder(tmp_path, monkeypatch, capsys, line, sentence):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line)
    verb = words.pop(0) if words[0] in VERBS else "fit"
    said = refusal([verb, *CONFIG, *words], monkeypatch, capsys)
    assert said.startswith("error: ")
    assert sentence in said
    assert list(tmp_path.iterdir()) == []
