"""What a file or Python gives as a text is a text for envs and own classes, and in the config that a run keeps."""

from pathlib import Path

import gymnasium
import pytest
import yaml
from gymnasium.envs.classic_control import CartPoleEnv
from torch import nn

from helpers import CONFIGS, run, tiny
from lit_dqn import Run, load_agent
from lit_dqn.commands.inputs import dump_yaml, load_yaml
from lit_dqn.commands.prepared import Prepared

CARTPOLE = f"--config={CONFIGS / 'cartpole.yaml'}"
OWN = ["--data.env_id=lit_dqn_tests/Said-v0", "--trainer.logger.init_args.name=said"]
TEXTS = {
    "number": "3",
    "float": "1e-3",
    "whole": "1e6",
    "bool": "off",
    "null": "null",
    "lines": "one\ntwo\n",
    "quoted": "'x'",
    "open": "[a",
    "comment": "a # b",
    "spaces": " a ",
    "empty": "",
    "letters": "über 😀",
    "listed": ["1", "no", {"deep": "2"}],
}


class Said(CartPoleEnv):
    """An env that takes anything."""

    def __init__(self, render_mode=None, **said):
        super().__init__()
        self.said = said


class Net(nn.Sequential):
    """A network whose argument has no annotation."""

    def __init__(self, observation_shape, num_outputs, level=None):
        assert type(level) is str
        super().__init__(nn.Linear(*observation_shape, num_outputs))


gymnasium.register("lit_dqn_tests/Said-v0", Said, max_episode_steps=50)


def types(value) -> object:
    if isinstance(value, dict):
        return {key: types(part) for key, part in value.items()}
    return [types(part) for part in value] if isinstance(value, list) else type(value)


def write(folder: Path, env_kwargs: dict, level: str = "0.5") -> str:
    network = {"class_path": "test_texts.Net", "init_args": {"level": level}}
    settings = {"data": {"env_kwargs": env_kwargs}, "model": {"network": network}}
    (folder / "texts.yaml").write_text(yaml.safe_dump(settings, default_style='"'))
    return f"--config={folder / 'texts.yaml'}"


def test_a_text_of_a_file_is_a_text_for_the_env_and_for_an_argument_without_annotation(folder):
    prepared = Prepared(["fit", CARTPOLE, *OWN, write(folder, TEXTS)])
    said = prepared.datamodule.env_kwargs
    assert said == TEXTS
    assert types(said) == types(TEXTS)
    assert prepared.model.hparams["network"]["init_args"] == {"level": "0.5"}


@pytest.mark.parametrize(
    ("word", "value"), [("3", 3), ('"3"', "3"), ("'off'", "off"), ("off", False), ("a b", "a b"), ("[a", "[a")]
)
def test_a_word_of_the_command_line_is_read_as_yaml_once(folder, word, value):
    prepared = Prepared(["fit", CARTPOLE, *OWN, f"--data.env_kwargs.level={word}", "--data.env_kwargs.other=1"])
    assert prepared.datamodule.env_kwargs == {"level": value, "other": 1}
    assert type(prepared.datamodule.env_kwargs["level"]) is type(value)


def test_a_text_of_python_is_a_text(folder):
    own = {"data.env_id": "lit_dqn_tests/Said-v0"}
    inside = Run.from_config(CONFIGS / "cartpole.yaml", own | {"data.env_kwargs": TEXTS})
    assert inside.data.env_kwargs == TEXTS
    alone = {f"data.env_kwargs.{key}": text for key, text in TEXTS.items()} | {"data.env_kwargs.count": 3}
    assert Run.from_config(CONFIGS / "cartpole.yaml", own | alone).data.env_kwargs == TEXTS | {"count": 3}


def test_a_run_with_texts_resumes_from_the_config_that_it_has_kept(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", CARTPOLE, *OWN, write(folder, TEXTS), *tiny()) == 0
    version = folder / "lightning_logs/said/version_0"
    kept = version / "config.yaml"
    (folder / "first.yaml").write_bytes(kept.read_bytes())
    assert load_yaml(kept.read_text(encoding="utf-8"))["data"]["env_kwargs"] == TEXTS
    for config, limit in ((kept, 120), (folder / "first.yaml", 140)):
        words = [f"--config={config}", "--ckpt_path=last", f"--stop.max_env_steps={limit}"]
        assert run(monkeypatch, "fit", *words) == 0, capsys.readouterr().err
    assert load_yaml(kept.read_text(encoding="utf-8"))["data"]["env_kwargs"] == TEXTS
    agent = load_agent(version / "checkpoints/last.ckpt", trust=[Net])
    assert agent.hparams["network"]["init_args"] == {"level": "0.5"}


@pytest.mark.parametrize("value", [*TEXTS.values(), "2020-01-01", "1:00:00", "0x1F", "1_000", ".5", "~", 10**6, 1e-5])
def test_what_is_written_is_read_as_the_same(value):
    for whole in (value, [value], {"key": value}):
        read = load_yaml(dump_yaml(whole))
        assert read == whole
        assert types(read) == types(whole)


@pytest.mark.parametrize(
    ("env_kwargs", "sentence"),
    [
        ({"name": "{name}"}, "data.env_kwargs.name: it is the text '{name}', which the parser would take apart, so"),
        ({"names": ["a: b"]}, "data.env_kwargs.names[0]: it is the text 'a: b', which the parser would take apart, so"),
        ({"levels": {1: 2}}, "data.env_kwargs.levels: it has a key 1, which is not a name, so that no checkpoint of"),
    ],
)
def test_settings_that_no_checkpoint_gives_back_are_refused_before_the_run(
    folder, monkeypatch, capsys, env_kwargs, sentence
):
    (folder / "bad.yaml").write_text(yaml.safe_dump({"data": {"env_kwargs": env_kwargs}}))
    assert run(monkeypatch, "fit", CARTPOLE, *OWN, "--config=bad.yaml", *tiny()) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "; give names as keys, and no texts that are mappings or lists in YAML." in said
    assert [path.name for path in folder.iterdir()] == ["bad.yaml"]


def test_a_text_of_a_network_that_no_checkpoint_gives_back_is_refused_too(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", CARTPOLE, *OWN, write(folder, {}, level="[1]"), *tiny()) == 2
    assert "error: model.network.Net.level: it is the text '[1]', which the parser" in capsys.readouterr().err
