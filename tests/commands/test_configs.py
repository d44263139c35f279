from pathlib import Path

import pytest
import torch
import yaml

from helpers import CONFIGS, run, tiny

ALL = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
BREAKOUT, MINATAR = Path("atari/breakout.yaml"), Path("minatar/breakout.yaml")
RECIPES = ("bbf_lite", "btr", "c51", "hl_gauss", "iqn", "m_iqn", "rainbow")
OVERLAYS = {
    Path("double.yaml"): Path("maze.yaml"),
    Path("gae.yaml"): Path("cartpole_actor_critic.yaml"),
    Path("offline.yaml"): Path("cartpole.yaml"),
    Path("prioritized.yaml"): Path("cartpole.yaml"),
    **{Path(f"{name}.yaml"): MINATAR for name in ("dueling", "noisy", "pqn", *RECIPES)},
    Path("atari/nature.yaml"): BREAKOUT,
    Path("atari/dopamine.yaml"): BREAKOUT,
    Path("atari/fast.yaml"): BREAKOUT,
    Path("atari/munchausen.yaml"): BREAKOUT,
    Path("atari/pong_finish.yaml"): Path("atari/pong_fast.yaml"),
    Path("atari/quantile.yaml"): BREAKOUT,
    Path("random_walk_19.yaml"): Path("random_walk_td.yaml"),
    Path("random_walk_image.yaml"): Path("random_walk_td.yaml"),
}

SMALLER = {
    Path("gae.yaml"): {
        "data.capacity": 32,
        "data.min_replay_size": 0,
        "data.env_steps_per_update": 32,
        "data.batch_size": 32,
    },
    Path("offline.yaml"): {"data.prefill": '[{"class_path": "lit_dqn.Play", "init_args": {"env_steps": 80}}]'},
    Path("pqn.yaml"): {
        "data.num_envs": 4,
        "data.capacity": 32,
        "data.min_replay_size": 0,
        "data.env_steps_per_update": 8,
        "data.gradient_steps": 4,
        "data.batch_size": 16,
    },
    Path("t_maze.yaml"): {"data.capacity": 800},
    Path("atari/pong_gpu.yaml"): {"data.num_envs": 4, "data.eval_envs": 2, "trainer.precision": "32-true"},
}
"""What is tiny for configs that refuse what is tiny for others."""


LIKE_ANOTHER = {
    Path(f"{name}.yaml")
    for name in (
        "acrobot",
        "atari/breakout",
        "atari/dopamine",
        "atari/fast",
        "atari/munchausen",
        "atari/nature",
        "atari/pong_fast",
        "atari/pong_finish",
        "atari/quantile",
        "atari/space_invaders",
        "bbf_lite",
        "c51",
        "cartpole_layer_norm",
        "double",
        "dueling",
        "hl_gauss",
        "iqn",
        "lesson/e1_latest_32",
        "lesson/e2_no_replay",
        "lesson/e3_replay_8",
        "lunar_lander",
        "lunar_lander_continuous",
        "m_iqn",
        "maze",
        "minatar/asterix",
        "minatar/freeway",
        "minatar/seaquest",
        "minatar/space_invaders",
        "noisy",
        "prioritized",
        "random_walk_19",
    )
}
"""Configs that differ from another by numbers or by one part alone; they train in the slow tests."""


def one_by_one(slow: set[Path]) -> pytest.MarkDecorator:
    """A test of each config, of which some are slow."""
    configs = [pytest.param(config, marks=[pytest.mark.slow] if config in slow else []) for config in ALL]
    return pytest.mark.parametrize("config", configs, ids=str)


@one_by_one(LIKE_ANOTHER)
def test_every_config_trains_for_a_moment(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [OVERLAYS[config], config] if config in OVERLAYS else [config]
    if files[0].parent.name == "minatar":
        pytest.importorskip("minatar")
    arguments = [f"--config={CONFIGS / file}" for file in files]
    assert run(monkeypatch, "fit", *arguments, *tiny(**SMALLER.get(config, {}))) == 0
    assert len(list(tmp_path.glob("lightning_logs/*/version_0/checkpoints/last.ckpt"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("base", [BREAKOUT, MINATAR], ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_one_for_atari_and_for_minatar(recipe, base, tmp_path, monkeypatch):
    pytest.importorskip("minatar")
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "fit", *(f"--config={CONFIGS / file}" for file in (base, f"{recipe}.yaml")), *tiny()) == 0
    assert len(list(tmp_path.glob(f"lightning_logs/*{recipe}*/version_0/checkpoints/last.ckpt"))) == 1


@pytest.mark.slow
def test_the_overlay_changes_the_objective_and_nothing_else_of_the_agent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maze = f"--config={CONFIGS / 'maze.yaml'}"
    assert run(monkeypatch, "fit", maze, *tiny()) == 0
    assert run(monkeypatch, "fit", maze, f"--config={CONFIGS / 'double.yaml'}", *tiny()) == 0
    single, double = (
        torch.load(tmp_path / f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)[
            "hyper_parameters"
        ]
        for name in ("maze", "double-Maze-v0")
    )
    assert single.pop("objective")["class_path"] == "lit_dqn.QLearning"
    assert double.pop("objective")["class_path"] == "lit_dqn.DoubleQLearning"
    assert single == double


def printed(capsys, monkeypatch, *arguments: object) -> str:
    capsys.readouterr()
    assert run(monkeypatch, "fit", *arguments, "--print_config") == 0, capsys.readouterr().err
    return capsys.readouterr().out


PRINTED = {
    Path(f"{name}.yaml")
    for name in (
        "maze",
        "maze_td",
        "cartpole_actor_critic",
        "lesson/e1_latest_32",
        "atari/pong",
        "rainbow",
        "pqn",
        "taxi",
    )
}
"""Configs of every kind; those that train in the default tests and are not here are printed in the slow ones."""


@one_by_one(set(ALL) - PRINTED - LIKE_ANOTHER)
def test_what_is_printed_of_a_config_says_the_same_when_it_is_read_again(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [OVERLAYS[config], config] if config in OVERLAYS else [config]
    text = printed(capsys, monkeypatch, *(f"--config={CONFIGS / file}" for file in files))
    (tmp_path / "printed.yaml").write_text(text)
    assert printed(capsys, monkeypatch, "--config=printed.yaml") == text


def check_that_a_run_can_be_read(monkeypatch, capsys, *arguments: str) -> None:
    """What `fit` keeps says what it was, each verb takes it, and a resume finds nothing that is different."""
    text = printed(capsys, monkeypatch, *arguments)
    assert "Unable to serialize" not in text
    assert run(monkeypatch, "fit", *arguments) == 0, capsys.readouterr().err
    (kept,) = Path("lightning_logs").glob("*/version_0/config.yaml")
    then, now = yaml.safe_load(kept.read_text()), yaml.safe_load(text)
    assert isinstance(then.pop("seed_everything"), int)  # of `true`, which number that was
    assert then == {key: now[key] for key in now if key not in ("seed_everything", "ckpt_path", "weights_only")}
    again = yaml.safe_load(printed(capsys, monkeypatch, f"--config={kept}"))
    assert again | {"seed_everything": 0} == now | {"seed_everything": 0}
    further = ("--stop.max_env_steps=120", "--ckpt_path=last")
    for files in (arguments, [f"--config={kept}"]):
        assert run(monkeypatch, "fit", *files, *further) == 0, capsys.readouterr().err
        assert " now; it was " not in capsys.readouterr().err
    assert run(monkeypatch, "test", f"--config={kept}", "--ckpt_path=best") == 0, capsys.readouterr().err


MINIMAL = {
    "LitDQN": "data: {env_id: CartPole-v1}\nmodel: {network: lit_dqn.MLP}\n",
    "LitTD": "data: {env_id: lit_dqn/RandomWalk-v0, policy: UniformRandom, eval_policy: UniformRandom}\n"
    "model: {class_path: LitTD, init_args: {network: lit_dqn.MLP}}\n",
    "LitActorCritic": "data: {env_id: CartPole-v1, policy: Softmax, sampler: Latest, env_steps_per_update: 8}\n"
    "model: {class_path: LitActorCritic, init_args: {network: lit_dqn.MLP}}\n",
}


@pytest.mark.parametrize(
    "agent", [pytest.param(agent, marks=[] if agent == "LitDQN" else [pytest.mark.slow]) for agent in MINIMAL]
)
def test_what_a_run_of_a_config_of_two_lines_keeps_can_be_read(agent, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minimal.yaml").write_text(MINIMAL[agent])
    check_that_a_run_can_be_read(monkeypatch, capsys, "--config=minimal.yaml", *tiny())


@pytest.mark.slow
@pytest.mark.parametrize("config", ALL, ids=str)
def test_what_a_run_of_every_config_keeps_can_be_read(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [OVERLAYS[config], config] if config in OVERLAYS else [config]
    if files[0].parent.name == "minatar":
        pytest.importorskip("minatar")
    check_that_a_run_can_be_read(
        monkeypatch, capsys, *(f"--config={CONFIGS / file}" for file in files), *tiny(**SMALLER.get(config, {}))
    )
