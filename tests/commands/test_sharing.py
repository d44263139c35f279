"""Agents to and from a stand-in of the hub, by huggingface_hub itself; skipped where that is not installed."""

import json
import sys

import pytest
import torch
import yaml

from helpers import CARTPOLE, run, tiny
from hub import Hub
from lit_dqn.commands.sharing.bundle import checked_config
from lit_dqn.errors import ConfigError


@pytest.fixture
def hub(monkeypatch, tmp_path):
    pytest.importorskip("huggingface_hub")
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.chdir(tmp_path)
    yield hub
    hub.close()


def command(capsys, monkeypatch, *words):
    """The exit code of a verb that has no config, and what it has printed."""
    from lit_dqn.__main__ import main

    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["lit-dqn", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def make_run(monkeypatch, *settings):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), "--trainer.logger.init_args.name=a", *settings) == 0
    return "lightning_logs/a/version_0"


@pytest.mark.slow
def test_an_agent_goes_to_the_hub_and_comes_back(hub, monkeypatch, capsys, tmp_path):
    folder = make_run(monkeypatch)
    assert run(monkeypatch, "test", *CARTPOLE, *tiny(), f"--ckpt_path={folder}/checkpoints/best.ckpt") == 0
    code, out, err = command(capsys, monkeypatch, "push", folder, "me/cartpole", "--private")
    assert (code, err) == (0, err)
    assert out.strip().startswith(f"{hub.address}/me/cartpole/commit/")
    files = hub.files["me/cartpole"]
    assert set(files) == {"README.md", "config.yaml", "learning_curve.png", "model.safetensors", "results.json"}
    assert hub.private == {"me/cartpole": True}
    (entry,) = json.loads(files["results.json"])
    readme = files["README.md"].decode()
    head, text = readme.removeprefix("---\n").split("---\n", 1)
    head = yaml.safe_load(head)
    assert {"lit_dqn", "CartPole-v1", "DoubleQLearning"} <= set(head["tags"])
    score = f"{entry['return']['mean']:.2f} ± {entry['return']['standard_error']:.2f}"
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == score
    assert f"**{score}**" in text
    assert "| max_steps | 5 |" in text
    assert "python -m lit_dqn pull me/cartpole" in text

    code, out, err = command(capsys, monkeypatch, "pull", "me/cartpole", "--folder", "got")
    assert (code, err) == (0, err)
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == sorted(files)
    assert not list(tmp_path.glob(".got*"))
    words = out.split("python -m lit_dqn ")[1].split()
    assert words == ["test", "--config", "got/config.yaml", "--model.init_from", "got/model.safetensors"]
    assert run(monkeypatch, *words) == 0
    said = capsys.readouterr().err
    assert f"return {entry['return']['mean']:.2f}" in said  # the same episodes by the same weights
    assert command(capsys, monkeypatch, "pull", "me/cartpole", "--folder", "got")[0] == 2  # it is there already

    code, _, _ = command(capsys, monkeypatch, "push", f"{folder}/checkpoints/last.ckpt", "me/cartpole")
    assert code == 0
    assert len(hub.messages) == 2


EVIL = {
    "code in a list": ("data", "wrappers", ["os.system"]),
    "a class of somebody's": ("data", "policy", {"class_path": "evil.Policy"}),
    "a module that the env imports": ("data", "env_id", "evil:Env-v0"),
    "a function for an optimiser": ("model", "optimizer", {"class_path": "os.system"}),
    "a file of ours": ("model", "init_from", "/etc/passwd"),
}


@pytest.mark.parametrize("name", EVIL)
def test_a_config_that_names_code_is_refused(name):
    section, key, value = EVIL[name]
    config = {"data": {"env_id": "CartPole-v1"}, "model": {"class_path": "lit_dqn.LitDQN", "init_args": {}}}
    assert checked_config(yaml.safe_dump(config), "it")["data"] == {"env_id": "CartPole-v1"}
    (config["data"] if section == "data" else config["model"]["init_args"])[key] = value
    with pytest.raises(ConfigError, match=r"^it"):
        checked_config(yaml.safe_dump(config), "it")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &a [1]\nb: [*a, *a]", "repeats parts by references"),
        ("[", "cannot be read"),
        ("!!python/object/apply:os.system [ls]", "cannot be read"),
        ("trainer: {}\ndata: {}\nmodel: {}", "more or less than data, model and a seed"),
        ("data: {}\nmodel: {class_path: lit_dqn.LitAgent}", "names no agent of lit_dqn"),
        ("data: {}\nmodel: {class_path: lit_dqn.Run}", "names no agent of lit_dqn"),
        ("data: {}\nmodel: {class_path: evil.LitDQN}", "names no agent of lit_dqn"),
        ("data: {}\nmodel: lit_dqn.LitDQN", "names no agent of lit_dqn"),
        ("data: {gamma: !!int ''}\nmodel: {}", "cannot be read"),
        ("data: {gamma: !!bool perhaps}\nmodel: {}", "cannot be read"),
        ("data: {gamma: !!timestamp today}\nmodel: {}", "cannot be read"),
        ('data: {env_id: "\\e[31m"}\nmodel: {}', "letters that cannot be shown"),
        ("seed_everything: true\ndata: {}\nmodel: {class_path: lit_dqn.LitDQN}", "or no seed"),
    ],
)
def test_what_is_no_config_of_an_agent_is_refused(text, sentence):
    with pytest.raises(ConfigError, match=f"^it: .*{sentence}"):
        checked_config(text, "it")


@pytest.mark.parametrize(("address", "kept"), [("ray://evil:10001", False), ("local", True), ("auto", True)])
def test_no_config_of_a_stranger_says_whose_ray_sends_what_is_unpickled(address, kept):
    place = {"class_path": "lit_dqn.RayActors", "init_args": {"actors": 3, "address": address}}
    config = {"data": {"env_id": "CartPole-v1", "place": place}, "model": {"class_path": "lit_dqn.LitDQN"}}
    found = checked_config(yaml.safe_dump(config), "it")["data"]["place"]["init_args"]
    assert found == {"actors": 3, **({"address": address} if kept else {})}


GOOD = b"data: {env_id: CartPole-v1}\nmodel: {class_path: lit_dqn.LitDQN}\n"


def weights(value=0.0):
    import safetensors.torch

    return safetensors.torch.save({"a": torch.tensor([value])})


def of_four_bits():
    head = json.dumps({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    return len(head).to_bytes(8, "little") + head + b"0"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"config.yaml": GOOD}, "has no model.safetensors"),
        ({"config.yaml": GOOD, "model.safetensors": b"pickle"}, "cannot be read"),
        ({"config.yaml": GOOD, "model.safetensors": weights(float("nan"))}, "the weight a is not a number"),
        ({"config.yaml": GOOD, "model.safetensors": of_four_bits()}, "cannot be read"),
        ({"config.yaml": b"#" * 200_000, "model.safetensors": weights()}, "more than 100,000 bytes"),
        ({"config.yaml": GOOD.replace(b"CartPole", b"evil:C"), "model.safetensors": weights()}, "evil"),
    ],
)
def test_what_is_no_agent_gets_no_folder(hub, monkeypatch, capsys, tmp_path, files, sentence):
    hub.files["me/a"] = files
    code, _, err = command(capsys, monkeypatch, "pull", "me/a", "--folder", "of/mine/a")
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "sentence"), [("new/..", "exists already"), ("a" * 250, "cannot be made"), ("a" * 300, "cannot be made")]
)
def test_names_that_no_folder_can_have(hub, monkeypatch, capsys, tmp_path, name, sentence):
    hub.files["me/a"] = {"config.yaml": GOOD, "model.safetensors": weights()}
    code, _, err = command(capsys, monkeypatch, "pull", "me/a", "--folder", name)
    assert code == 2
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_other_files_stay_there(hub, monkeypatch, capsys, tmp_path):
    hub.files["me/a"] = {
        "config.yaml": GOOD,
        "model.safetensors": weights(),
        "evil.py": b"1",
        "pytorch_model.bin": b"2",
        "../../b": b"3",
    }
    assert command(capsys, monkeypatch, "pull", "me/a")[0] == 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["config.yaml", "model.safetensors"]


@pytest.mark.parametrize(("status", "remedy"), [(401, "HF_TOKEN"), (403, "may write there"), (500, "try again later")])
def test_what_the_hub_refuses_is_one_sentence(hub, monkeypatch, capsys, status, remedy):
    hub.refused = status
    code, _, err = command(capsys, monkeypatch, "pull", "me/a")
    assert code == 2
    assert remedy in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("repo_id", "sentence"), [("me/none", "give another one"), ("a/b/c", "is not a name of a")])
def test_a_repository_that_is_not_there(hub, monkeypatch, capsys, repo_id, sentence):
    code, _, err = command(capsys, monkeypatch, "pull", repo_id)
    assert code == 2
    assert sentence in err


def test_a_hub_that_does_not_answer(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, _, err = command(capsys, monkeypatch, "pull", "me/a")
    assert code == 2
    assert "the hub cannot be asked" in err


@pytest.mark.parametrize("words", [("push", "nowhere", "me/a"), ("pull", "me/a")])
def test_without_the_package_its_extra_is_named(monkeypatch, capsys, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, err = command(capsys, monkeypatch, *words)
    assert code == 2
    assert "'lit-dqn[hub]'" in err
