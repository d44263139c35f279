"""A checkpoint that a stranger has made runs no code, whichever way it is read."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers import run, tiny
from lit_dqn import ConfigError, LitDQN, load_agent

PAYLOADS = yaml.safe_load((Path(__file__).parent / "settings.yaml").read_text())
VERBS = (["fit"], ["fit", "--plan"], ["test"], ["validate"], ["predict"], ["export"])
ENV = "--data.env_id=CartPole-v1"
BELONGS_TO_THE_AGENT = "hyper_parameters."


def nothing_ran(folder: Path) -> bool:
    return not (folder / "pwned").exists()


def refuses(verb: list[str], folder: Path, monkeypatch, capsys) -> None:
    code = run(monkeypatch, *verb, ENV, *tiny(), "--ckpt_path=run/checkpoints/last.ckpt")
    said = capsys.readouterr().err
    assert nothing_ran(folder)
    assert code == 2, said
    assert re.search("error: (ckpt_path: |env_id: the checkpoint .* if you trust )", said)
    assert "Traceback" not in said


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_payload_runs_by_load_agent_or_by_a_verb(folder, checkpoint, change, monkeypatch, capsys, name):
    """Every third one by a verb, too; all by all of them in the slow test below."""
    payload = PAYLOADS[name]
    change(payload["at"], payload["value"])
    for load in (load_agent, LitDQN.load_from_checkpoint):
        if payload["at"].startswith(BELONGS_TO_THE_AGENT) and "_instantiator" not in payload["at"]:
            with pytest.raises(ConfigError):
                load(checkpoint)
        else:
            load(checkpoint)  # what the agent is made of is no payload
        assert nothing_ran(folder)
    number = list(PAYLOADS).index(name)
    if "_instantiator" not in payload["at"] and number % 3 == 0:  # nobody reads that
        refuses(VERBS[number // 3 % len(VERBS)], folder, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("name", [name for name in PAYLOADS if name != "instantiator"])
def test_no_payload_runs_by_any_verb(folder, change, monkeypatch, capsys, name, verb):
    payload = PAYLOADS[name]
    change(payload["at"], payload["value"])
    refuses(verb, folder, monkeypatch, capsys)


@pytest.mark.slow
def test_a_fresh_process_knows_the_agents(checkpoint):
    """Nobody has asked for LitDQN there."""
    load = f"import lit_dqn; print(type(lit_dqn.load_agent({str(checkpoint)!r})).__name__)"
    assert subprocess.run([sys.executable, "-c", load], capture_output=True, text=True).stdout.strip() == "LitDQN"
