"""What there is, each with one line, in a moment."""

import re
import subprocess
import sys

import pytest

from helpers import CONFIGS
from lit_dqn.commands.cli import CLI
from lit_dqn.commands.inputs import OTHER_VERBS, VERBS
from lit_dqn.commands.listing import KINDS, WHERE, WORDS, first_sentence, listed, main, overview
from lit_dqn.exports import PARTS


@pytest.mark.parametrize("kind", WHERE)
def test_everything_of_a_kind_has_its_own_line(kind):
    lines = dict(listed(kind))
    assert lines
    for name, line in lines.items():
        assert line, name
        assert "python -m" not in line, (name, line)
        assert not line.endswith("."), (name, line)


def test_every_config_and_every_part_is_there_once():
    assert len(dict(listed("configs"))) == len(list(CONFIGS.rglob("*.yaml")))
    named = [name.removeprefix("lit_dqn.") for kind in KINDS for name, _ in listed(kind)]
    assert len(named) == len(set(named))
    assert set(named) - set(PARTS) == {"LitActorCritic", "LitDQN", "LitTD"}
    kinds = {"MLP": "networks", "QuantileHead": "heads", "QLearning": "objectives", "Linear": "schedules"}
    assert all(name in re.sub(r"lit_dqn\.", "", " ".join(dict(listed(kind)))).split() for name, kind in kinds.items())
    maze = dict(listed("envs"))["lit_dqn/Maze-v0"]
    assert maze.startswith("A grid world; world maze, size (6, 9)")


def test_a_sentence_ends_where_the_next_begins():
    assert first_sentence("DQN of Mnih et al. (2015), eq. 4. It differs.") == "DQN of Mnih et al. (2015), eq. 4"
    assert first_sentence("ALE/Pong-v5 takes 0.25.") == "ALE/Pong-v5 takes 0.25"
    assert first_sentence("no end") == "no end"


def test_kinds_are_chosen_and_a_wrong_one_is_named(capsys):
    assert main("list", ["schedules", "heads"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("schedules (wherever a key takes a schedule")
    assert "\n\nheads (the key model.network.head)\n  CategoricalHead       The distribution of the return" in said
    assert "policies" not in said
    with pytest.raises(SystemExit) as ended:
        main("list", ["nets"])
    assert ended.value.code == 2
    assert "nets: there is no such kind; give one of configs, agents, networks" in capsys.readouterr().err


def test_the_overview_has_every_verb():
    assert WORDS.keys() == {*VERBS, *OTHER_VERBS}
    assert {verb for verb in CLI.subcommands()} == set(VERBS)
    assert all(f"\n  {verb} " in overview() for verb in WORDS)


def test_neither_the_list_nor_the_overview_imports_torch():
    code = (
        "import sys; from lit_dqn.__main__ import main; sys.argv[1:] = {words}; {call}; print('torch' in sys.modules)"
    )
    for words, call in ((["--help"], "main()"), (["list"], "import lit_dqn.commands.listing as m; m.main('list', [])")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(words=words, call=call)], capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "False", done
