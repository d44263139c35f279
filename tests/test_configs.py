from pathlib import Path

import pytest
import torch

from test_cli import CONFIGS, run, tiny

ALL = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
BREAKOUT = Path("atari/breakout.yaml")
OVERLAYS = {
    Path("double.yaml"): Path("maze.yaml"),
    Path("atari/nature.yaml"): BREAKOUT,
    Path("atari/dopamine.yaml"): BREAKOUT,
    Path("atari/fast.yaml"): BREAKOUT,
    Path("atari/munchausen.yaml"): BREAKOUT,
    Path("atari/pong_finish.yaml"): Path("atari/pong_fast.yaml"),
    Path("atari/quantile.yaml"): BREAKOUT,
    Path("random_walk_19.yaml"): Path("random_walk_td.yaml"),
    Path("random_walk_image.yaml"): Path("random_walk_td.yaml"),
}


@pytest.mark.parametrize("config", ALL, ids=str)
def test_every_config_trains_for_a_moment(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = [OVERLAYS[config], config] if config in OVERLAYS else [config]
    arguments = [f"--config={CONFIGS / file}" for file in files]
    assert run(monkeypatch, "fit", *arguments, *tiny()) == 0
    assert len(list(tmp_path.glob("lightning_logs/*/version_0/checkpoints/last.ckpt"))) == 1


def test_the_overlay_changes_the_objective_and_nothing_else_of_the_agent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    maze = f"--config={CONFIGS / 'maze.yaml'}"
    assert run(monkeypatch, "fit", maze, *tiny()) == 0
    assert run(monkeypatch, "fit", maze, f"--config={CONFIGS / 'double.yaml'}", *tiny()) == 0
    single, double = (
        torch.load(tmp_path / f"lightning_logs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)[
            "hyper_parameters"
        ]
        for name in ("maze", "double")
    )
    assert single.pop("objective")["class_path"] == "lit_dqn.objectives.QLearning"
    assert double.pop("objective")["class_path"] == "lit_dqn.objectives.DoubleQLearning"
    assert single == double
