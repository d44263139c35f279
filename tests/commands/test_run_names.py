"""No folder holds runs of two envs, and no verb takes a checkpoint of another env for one of its own."""

import json
import shutil
from pathlib import Path

import gymnasium
import pytest
import yaml
from gymnasium.envs.classic_control import CartPoleEnv

from helpers import CONFIGS, run, tiny

BREAKOUT, PONG = CONFIGS / "atari/breakout.yaml", CONFIGS / "atari/pong.yaml"


def name_of(monkeypatch, capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert run(monkeypatch, "fit", *arguments, "--print_config") == 0, capsys.readouterr().err
    return yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"]["init_args"]["name"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([CONFIGS / "cartpole.yaml"], "cartpole"),
        ([CONFIGS / "cartpole.yaml", "--data.env_id=CartPole-v1"], "cartpole"),
        ([CONFIGS / "cartpole.yaml", "--data.env_id=Acrobot-v1"], "cartpole-Acrobot-v1"),
        ([CONFIGS / "cartpole.yaml", "--data.env_id=my_package.envs:mine/Maze-v0"], "cartpole-Maze-v0"),
        ([CONFIGS / "cartpole.yaml", "--data.env_id=Acrobot-v1", "--trainer.logger.init_args.name=mine"], "mine"),
        ([CONFIGS / "cartpole.yaml", "--data.env_id=Acrobot-v1", "--trainer.logger=CSVLogger"], "cartpole-Acrobot-v1"),
        ([CONFIGS / "maze.yaml", CONFIGS / "double.yaml"], "double-Maze-v0"),
        ([BREAKOUT, CONFIGS / "atari/fast.yaml"], "breakout"),
        ([BREAKOUT, CONFIGS / "atari/nature.yaml"], "nature-Breakout-v5"),
        ([PONG, CONFIGS / "atari/nature.yaml"], "nature-Pong-v5"),
        ([CONFIGS / "random_walk_td.yaml", CONFIGS / "random_walk_19.yaml"], "random_walk_19"),
        (["--data.env_id=lit_dqn/Maze-v0"], "Maze-v0"),
        (["--config={data: {env_id: lit_dqn/Maze-v0}}"], "Maze-v0"),
        ([CONFIGS / "lesson/e1_latest_32.yaml"], "e1_latest_32"),
        ([CONFIGS / "atari/space_invaders.yaml", "--data.env_id=ALE/Pong-v5"], "space_invaders-Pong-v5"),
        ([CONFIGS / "cartpole.yaml", CONFIGS / "minatar/breakout.yaml"], "minatar_breakout"),
        ([CONFIGS / "atari/pong_fast.yaml", CONFIGS / "atari/pong_finish.yaml"], "pong_fast"),
    ],
)
def test_a_run_of_another_env_gets_another_name_by_itself(folder, monkeypatch, capsys, arguments, name):
    words = [word if isinstance(word, str) else f"--config={word}" for word in arguments]
    assert name_of(monkeypatch, capsys, *words) == name


def test_a_run_s_own_config_names_it_as_it_was_named(folder, monkeypatch, capsys):
    other = ("--config", CONFIGS / "cartpole.yaml", "--data.env_id=Acrobot-v1")
    assert run(monkeypatch, "fit", *other, *tiny()) == 0
    runs = folder / "lightning_logs/cartpole-Acrobot-v1"
    assert name_of(monkeypatch, capsys, "--config", runs / "version_0/config.yaml") == runs.name


gymnasium.register("lit_dqn_tests/OtherPole-v0", CartPoleEnv, max_episode_steps=500)


@pytest.fixture
def two_runs(folder, monkeypatch, capsys) -> tuple[Path, Path]:
    """Runs of two envs that show and take the same, both in the folder `both`, as an earlier release could do it."""
    for env_id in ("CartPole-v1", "lit_dqn_tests/OtherPole-v0"):
        named = (f"--data.env_id={env_id}", "--trainer.logger.init_args.name=both")
        assert run(monkeypatch, "fit", "--config", CONFIGS / "cartpole.yaml", *named, *tiny()) == 0
    capsys.readouterr()
    runs = folder / "lightning_logs/both"
    assert sorted(path.name for path in runs.iterdir()) == ["version_0", "version_1"]
    return runs / "version_0", runs / "version_1"


@pytest.mark.slow
def test_a_checkpoint_of_another_env_is_refused_by_both_names_and_what_is_said_then_helps(
    two_runs, monkeypatch, capsys
):
    one, other = two_runs
    config = f"--config={one / 'config.yaml'}"
    before = {path: path.read_bytes() for path in one.parent.rglob("*") if path.is_file()}
    said = {}
    for verb, ckpt_path in {
        "fit": "last",
        "validate": "best",
        "test": other / "checkpoints/best.ckpt",
        "predict": other,
        "export": "last",
    }.items():
        assert run(monkeypatch, verb, config, f"--ckpt_path={ckpt_path}") == 2
        (said[verb],) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert said[verb].startswith("error: env_id: the checkpoint ")
        assert "was trained on lit_dqn_tests/OtherPole-v0, but this config plays CartPole-v1; " in said[verb]
    assert before == {path: path.read_bytes() for path in one.parent.rglob("*") if path.is_file()}
    for verb in ("fit", "test"):
        words = [word.strip(",.") for word in said[verb].split()]
        own = words[words.index("--config") + 1]
        assert Path(own).samefile(other / "config.yaml")
        weights = words[words.index("--model.init_from") + 1]
        further = "--stop.max_env_steps=120"
        assert run(monkeypatch, verb, f"--config={own}", f"--ckpt_path={other}", further) == 0, capsys.readouterr().err
        assert run(monkeypatch, verb, config, f"--model.init_from={weights}", further) == 0, capsys.readouterr().err
        assert "has not learned anything" not in capsys.readouterr().err


def test_without_the_run_s_config_the_refusal_names_the_env_to_set(two_runs, monkeypatch, capsys):
    one, other = two_runs
    shutil.move(other / "checkpoints/best.ckpt", one.parent.parent / "a.ckpt")
    arguments = ("--config", one / "config.yaml", "--ckpt_path", one.parent.parent / "a.ckpt")
    assert run(monkeypatch, "test", *arguments) == 2
    remedy = "--data.env_id lit_dqn_tests/OtherPole-v0"
    assert f"; set {remedy}, or" in capsys.readouterr().err
    assert run(monkeypatch, "test", *arguments, *remedy.split()) == 0, capsys.readouterr().err


def test_the_module_that_registers_an_env_is_no_part_of_its_name(two_runs, monkeypatch, capsys):
    one, _ = two_runs
    elsewhere = "--data.env_id=gymnasium.envs.classic_control:CartPole-v1"
    assert run(monkeypatch, "test", "--config", one / "config.yaml", elsewhere, f"--ckpt_path={one}") == 0


def test_another_task_of_the_same_env_is_reported_and_cannot_be_resumed(two_runs, monkeypatch, capsys):
    one, _ = two_runs
    arguments = ("--config", one / "config.yaml", "--ckpt_path", one)
    told = "sutton_barto_reward: true now, but not set when the agent was trained; this is another task"
    for other in ((), ("--data.env_kwargs.sutton_barto_reward=true",)):
        assert run(monkeypatch, "test", *arguments, *other) == 0, capsys.readouterr().err
        assert capsys.readouterr().err.count(told) == len(other)
    assert json.loads((one / "results.json").read_text())[1]["protocol"]["sutton_barto_reward"] is True
    assert run(monkeypatch, "fit", *arguments, *other) == 2
    assert "error: env_kwargs: the checkpoint was made with {" in capsys.readouterr().err
