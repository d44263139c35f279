"""The script behind `make results-classic`, without its training."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "classic.py"
RUNS = [
    {"config": "cartpole", "seed": seed, "env_steps": "100000", "minutes": "1.0"}
    | {"training_return": training, "greedy_return": greedy}
    for seed, training, greedy in (("2", "480", "500"), ("1", "440", "470"))
]
CURVES = [
    {"config": "cartpole", "seed": seed, "env_step": str(step), "training_return": str(scale * step)}
    for seed, scale in (("1", 1), ("2", 3))
    for step in (10, 20, 30)
]
PUBLISHED = [{"source": "CleanRL DQN (3 seeds)", "steps": "500000", "CartPole-v1": "488.69", "Acrobot-v1": ""}]


@pytest.fixture
def script(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("classic", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(module, "PICTURE", tmp_path / "classic.png")
    return module


def test_the_table_has_means_seeds_in_order_and_published_figures(script):
    lines = script.table(RUNS, PUBLISHED).splitlines()
    assert len(lines) == 3
    assert (
        lines[2]
        == "| CartPole-v1 | 1, 2 | 100,000 | 1.0 | **460.0** (440.0, 480.0) | **485.0** (470.0, 500.0) | 488.69 |"
    )


def test_the_curve_is_the_mean_of_the_seeds_in_a_band_from_worst_to_best(script):
    (axes,) = script.picture(CURVES, PUBLISHED).axes
    line, goal = axes.get_lines()
    np.testing.assert_allclose(line.get_ydata(), 2 * line.get_xdata())
    assert goal.get_xydata().tolist() == [[500_000, 488.69]]  # where it was reached, and nowhere before
    assert line.get_label() == "lit_dqn: mean of 2 seeds, band from worst to best"
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (10, 90)


def test_only_what_is_between_the_marks_is_written_anew(script):
    begin, end = script.MARKS
    script.PAGE.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    for _ in range(2):
        script.write(RUNS, CURVES, PUBLISHED)
        written = script.PAGE.read_text()
        assert written.startswith(f"before\n{begin}\n| |")
        assert written.endswith(f"|\n{end}\nafter\n")
        assert "old" not in written
    assert script.PICTURE.stat().st_size > 5000


def test_every_config_of_the_script_is_there(script):
    for config, env_id in script.ENVS.items():
        assert f"env_id: {env_id}" in (script.ROOT / "configs" / f"{config}.yaml").read_text()
    assert script.read(script.PUBLISHED)[0]["source"].startswith("CleanRL DQN (")
    assert script.MARKS[0] in (script.ROOT / "docs" / "results.md").read_text()
