"""What `--help` prints."""

import re

import pytest

from helpers import run
from lit_dqn.__main__ import main
from lit_dqn.commands.help import own_first


@pytest.fixture
def printed(monkeypatch, capsys):
    def help_of(*arguments: str) -> str:
        monkeypatch.setenv("COLUMNS", "80")
        assert run(monkeypatch, *arguments) == 0
        return capsys.readouterr().out

    return help_of


def test_help_shows_the_keys_of_lit_dqn_before_those_of_the_trainer(printed):
    text = printed("fit", "--help")
    assert text.startswith("usage: python -m lit_dqn fit --config FILE [--KEY VALUE ...]\n")
    places = [text.index(f"\n  {key}") for key in ("--model ", "--data.env_id ", "--stop.max_episodes ", "--trainer ")]
    assert places == sorted(places)
    callbacks = " ".join(text[text.index("--trainer.callbacks CALLBACKS") :].split())
    known = re.search(r"known subclasses: ([^)]*)\)", callbacks)[1]
    assert known.startswith("lit_dqn.")
    assert "lightning.pytorch.callbacks.BatchSizeFinder" not in known
    # No word is broken: what is longer than a line has a line of its own.
    for line in text.splitlines():
        assert len(line) <= 80 or " " not in line.strip() or line.startswith("  data."), line


def test_the_networks_that_are_offered_are_lit_dqns_own(printed):
    _, text = " ".join(printed("fit", "--model.help", "LitDQN").split()).split("Help for")
    network = text[text.index("--model.network NETWORK") : text.index("--model.objective.help")]
    assert re.search(r"known subclasses: (lit_dqn\.\w+, )+and \d+ more of .*torch", network)
    assert {"lit_dqn.MLP", "lit_dqn.CNN", "lit_dqn.NatureCNN"} <= set(re.findall(r"lit_dqn\.\w+", network))
    assert "torch.nn" not in network
    assert "lit_dqn.LitDQN" not in network


def test_where_lit_dqn_has_no_class_the_first_of_others_are_named():
    few = [f"torch.optim.O{number}" for number in range(12)]
    assert own_first(few[:2]) == "known subclasses: torch.optim.O0, torch.optim.O1"
    assert own_first(few).endswith("torch.optim.O9, and 2 more of torch by their class paths")


def test_the_module_goes_through_its_first_look_to_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lit-dqn", "fit", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m lit_dqn fit")
