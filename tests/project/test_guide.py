"""What the guide shows, runs as it stands there."""

import re
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import run, tiny

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/guide"
PARTS = re.findall(r"```python\n(.*?)```", (GUIDE / "parts.md").read_text(), re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for page in sorted(GUIDE.glob("*.md"))
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture
def my_parts(tmp_path, monkeypatch) -> Path:
    """The page's parts as a module that a config can name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_parts.py").write_text("\n\n".join(PARTS))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("my_parts", None)


def test_the_parts_of_the_page_train_and_are_tested(my_parts, monkeypatch):
    cartpole = ("--config", ROOT / "configs/cartpole.yaml")
    parts = (
        "--model.network=my_parts.TwoLayers",
        "--model.network.width=16",
        "--model.objective=my_parts.ClippedRewards",
        "--data.policy=my_parts.Sticky",
        "--trainer.callbacks+=my_parts.LongestEpisode",
    )
    small = tiny(**{"data.env_steps_per_update": 1, "data.gradient_steps": 8, "data.num_envs": 8})
    assert run(monkeypatch, "fit", *cartpole, *parts, *small) == 0
    (written,) = my_parts.glob("lightning_logs/*/version_0/config.yaml")
    assert "my_parts.ClippedRewards" in written.read_text()
    assert run(monkeypatch, "test", "--config", written, "--ckpt_path=last", "--trainer.callbacks=null") == 0


def test_the_script_under_a_plain_trainer_runs_and_draws_the_curves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"```python\n(.*?)```", (GUIDE / "watching.md").read_text(), re.DOTALL)
    small = script.replace("max_steps=1000", "max_steps=40, log_every_n_steps=10").replace(
        "=500)", "=20, eval_episodes=1)"
    )
    assert small.count("20, eval_episodes=1") == small.count("max_steps=40") == 1
    exec(compile(small, "watching.md", "exec"), {})
    (folder,) = (tmp_path / "lightning_logs/plain").iterdir()
    assert (folder / "episodes.csv").exists()
    events = EventAccumulator(str(folder))
    events.Reload()
    curves = {"train/loss", "rollout/ep_rew", "rollout/exploration_rate", "eval/mean_reward"}
    assert curves <= set(events.Tags()["scalars"])
    # 1,000 env steps are played before the first of 40 updates, one with each.
    assert [point.step for point in events.Scalars("train/loss")] == [1010, 1020, 1030, 1040]


@pytest.mark.slow
def test_every_command_of_the_guide_is_understood(my_parts, monkeypatch, capsys):
    (my_parts / "configs").symlink_to(ROOT / "configs")
    for folder in ("lightning_logs/cartpole/version_0", "cartpole-dqn"):  # which the pages presuppose
        (my_parts / folder).mkdir(parents=True)
        (my_parts / folder / "config.yaml").write_text((ROOT / "configs/cartpole.yaml").read_text())
    commands = [line for line in COMMANDS if line.startswith("python -m lit_dqn ") and "my_package" not in line]
    assert len(commands) >= 6
    for line in commands:
        verb, *arguments = line.split()[3:]
        if verb in ("push", "pull"):  # tests/commands/test_sharing.py has a hub for them
            continue
        assert run(monkeypatch, verb, "--print_config", *arguments) == 0, line
