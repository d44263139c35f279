"""`extends: base.yaml`: a config file stands on another, and says what differs."""

from pathlib import Path

import pytest
import yaml

from helpers import CONFIGS, run, tiny
from lit_dqn.commands.inputs import first_look
from lit_dqn.errors import ConfigError

WHOLE = "data: {env_id: CartPole-v1, capacity: 3000}\nmodel: {network: lit_dqn.MLP}\n"


def printed(monkeypatch, capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert run(monkeypatch, "fit", *arguments, "--print_config") == 0, capsys.readouterr().err
    return capsys.readouterr().out


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


def test_a_file_changes_what_it_stands_on_and_is_changed_by_the_command_line(folder, monkeypatch, capsys):
    (folder / "sub").mkdir()
    write(folder, whole=WHOLE, middle="extends: whole.yaml\ndata: {capacity: 5000, gamma: 0.9}\n")
    write(folder / "sub", top="extends: ../middle.yaml\ndata: {gamma: 0.8}\n")
    data = yaml.safe_load(printed(monkeypatch, capsys, "--config=sub/top.yaml", "--data.batch_size=8"))["data"]
    assert (data["env_id"], data["capacity"], data["gamma"], data["batch_size"]) == ("CartPole-v1", 5000, 0.8, 8)


def test_a_config_of_lit_dqn_can_be_extended_from_anywhere(folder, monkeypatch, capsys):
    write(folder, mine="extends: cartpole\nseed_everything: 7\n")
    mine = yaml.safe_load(printed(monkeypatch, capsys, "--config=mine.yaml"))
    theirs = yaml.safe_load(printed(monkeypatch, capsys, "--config", CONFIGS / "cartpole.yaml", "--seed_everything=7"))
    assert mine["trainer"]["logger"]["init_args"].pop("name") == "mine"
    assert theirs["trainer"]["logger"]["init_args"].pop("name") == "cartpole"
    assert mine == theirs


def test_a_run_keeps_one_whole_config(folder, monkeypatch, capsys):
    write(folder, whole=WHOLE, top="extends: whole.yaml\ndata: {gamma: 0.8}\n")
    assert run(monkeypatch, "fit", "--config=top.yaml", *tiny()) == 0
    kept = folder / "lightning_logs/top/version_0/config.yaml"
    text = kept.read_text()
    assert "extends" not in text
    (folder / "whole.yaml").unlink()
    data = yaml.safe_load(printed(monkeypatch, capsys, "--config", kept))["data"]
    assert (data["env_id"], data["gamma"]) == ("CartPole-v1", 0.8)


@pytest.mark.parametrize(
    ("top", "sentence"),
    [
        (
            "extends: nowhere.yaml",
            "extends: top.yaml stands on nowhere.yaml; there is no file nowhere.yaml, and lit_dqn has no config of "
            "that name; it has acrobot, ",
        ),
        ("extends: cartpol", "there is no file cartpol, and lit_dqn has no config of that name; did you mean"),
        ("extends: top.yaml", "extends: top.yaml -> top.yaml is a circle; take extends out of top.yaml."),
        ("extends: middle.yaml", "extends: top.yaml -> middle.yaml -> top.yaml is a circle; take extends out of"),
        ("extends: [whole.yaml]", "extends: ['whole.yaml'] in top.yaml is not a config; name one, such as"),
        ("extends: bad.yaml", "config: bad.yaml, line "),
        ("data: {extends: whole.yaml}", "data.extends: there is no such key"),
    ],
)
def test_what_cannot_be_extended_is_one_sentence(folder, top, sentence):
    write(folder, whole=WHOLE, middle="extends: top.yaml\n", bad="[", top=top)
    with pytest.raises(ConfigError) as refusal:
        first_look(["fit", "--config=top.yaml"])
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("word", ["--extends=cartpole", "--config={extends: cartpole}"])
def test_only_a_file_stands_on_another(word):
    with pytest.raises(ConfigError, match="extends: there is no such key"):
        first_look(["fit", word])
