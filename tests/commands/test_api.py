import re
from pathlib import Path

import numpy as np
import pytest
import torch

import lit_dqn
from helpers import CONFIGS, TINY, run
from lit_dqn import MLP, ConfigError, EpsilonGreedy, LitDQN, Run

GRID = {
    "data.env_kwargs": {"observation": "one_hot", "rewards": "reward_1"},
    "model.network": MLP,
    "trainer.enable_progress_bar": False,
}
CARTPOLE, MAZE = CONFIGS / "cartpole.yaml", CONFIGS / "maze.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A notebook's process has arguments that are none of ours.
    monkeypatch.setattr("sys.argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    return tmp_path


def test_a_run_learns_and_leaves_what_the_command_line_leaves(folder, monkeypatch):
    learned = Run.from_config(CARTPOLE, TINY).fit()
    assert learned.trainer.global_step > 0
    assert learned.folder.samefile(folder / "lightning_logs/cartpole/version_0")
    arguments = [f"--{key}={value}" for key, value in TINY.items()]
    assert run(monkeypatch, "fit", f"--config={CARTPOLE}", *arguments) == 0
    versions = [folder / f"lightning_logs/cartpole/version_{number}" for number in (0, 1)]
    assert {path.name for path in versions[0].iterdir() if "events" not in path.name} == {
        path.name for path in versions[1].iterdir() if "events" not in path.name
    }
    weights = [torch.load(path / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for path in versions]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_evaluate_act_and_watch_leave_the_runs_curves_alone(folder):
    learned = Run.from_config(CARTPOLE, TINY).fit()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    metrics = learned.evaluate()
    assert metrics["eval/episodes"] == 2
    assert metrics["eval/mean_ep_length"] == 5
    (trajectory,) = learned.watch()
    assert trajectory.observation.shape == (6, 4)
    assert learned.agent.act(trajectory.observation[0]) == trajectory.action[0]
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_watch_gives_as_many_episodes_as_asked_for():
    untrained = Run.from_config(CARTPOLE, TINY)
    watched = untrained.watch(3)
    assert [trajectory.seed for trajectory in watched[:2]] == untrained.data.test_seeds
    assert len({trajectory.seed for trajectory in watched}) == 3
    assert len(untrained.data.predict_dataloader()) == TINY["data.eval_episodes"]
    for episodes in (0, -1, 1.5):
        with pytest.raises(ConfigError, match=rf"^episodes: {episodes} must be .* such as watch\(episodes=1\)\.$"):
            untrained.watch(episodes)


def test_a_run_resumes_from_its_checkpoint_and_has_its_weights_before(folder):
    first = Run.from_config(MAZE, TINY | GRID).fit()
    observation = np.eye(54, dtype=np.float32)
    again = Run.from_config(MAZE, TINY | GRID | {"stop.max_env_steps": 120}, ckpt_path="last")
    np.testing.assert_array_equal(again.agent.q_values(observation), first.agent.q_values(observation))
    assert again.agent.env_step == first.agent.env_step == 80
    again.fit()
    assert again.data.collector.env_step == 120
    with pytest.raises(ConfigError, match="fit: this run has been trained; make another"):
        again.fit()
    assert [path.name for path in (folder / "lightning_logs/maze").iterdir()] == ["version_0"]


def test_overrides_may_be_objects_and_classes_and_overlays_hold():
    double = Run.from_config([MAZE, CONFIGS / "double.yaml"], TINY | GRID | {"data.policy": EpsilonGreedy(0.25)})
    assert isinstance(double.agent, LitDQN)
    assert isinstance(double.agent.online, MLP)
    assert isinstance(double.agent.objective, lit_dqn.DoubleQLearning)
    assert double.data.policy.metrics(0) == {"exploration_rate": 0.25}
    assert double.data.env_kwargs["observation"] == "one_hot"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"data.capacty": 5}, "data.capacty: there is no such key; did you mean capacity?"),
        ({"data.gamma": "much"}, "gamma"),
        ({"data.batch_size": 60000}, "batch_size: 60000"),
        ({"data.env_id": "CartPol-v1"}, "there is no environment 'CartPol-v1'"),
    ],
)
def test_mistakes_are_config_errors(folder, overrides, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        Run.from_config(CARTPOLE, overrides)
    with pytest.raises(ConfigError, match="nowhere"):
        Run.from_config(folder / "nowhere.yaml")
    with pytest.raises(ConfigError, match=r"there is no last\.ckpt"):
        Run.from_config(CARTPOLE, ckpt_path="last")
    assert list(folder.iterdir()) == []


def test_an_interrupted_run_leaves_the_process_alive(monkeypatch):
    interrupted = Run.from_config(CARTPOLE, TINY)

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted.data.__class__, "train_dataloader", stop)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit()


def test_pictures_of_a_run(folder):
    maze = Run.from_config(MAZE, TINY | GRID | {"data.eval_max_steps": 3, "stop.max_env_steps": 60})
    with pytest.raises(ValueError, match="does not exist"):
        maze.plot()
    assert "in 3 steps" in maze.draw().axes[0].get_title()
    assert len(maze.animate().pictures) == 4
    with pytest.raises(ValueError, match="a saliency map is made of an image"):
        maze.saliency()
    cartpole = Run.from_config(CARTPOLE, TINY).fit()
    assert len(cartpole.plot().axes) == 2
    with pytest.raises(ConfigError, match="is not a grid world"):
        cartpole.draw()
    turned = Run.from_config(MAZE, TINY | GRID | {"data.wrappers": ["gymnasium.wrappers.RecordEpisodeStatistics"]})
    with pytest.raises(ConfigError, match="wrappers: the agent sees what they make of the world"):
        turned.draw()
    nameless = Run.from_config(CARTPOLE, TINY | {"trainer.logger": False})
    assert nameless.folder == Path("lightning_logs/cartpole/version_1")  # beside the one above


def test_the_saliency_of_a_run_that_sees_images():
    maze = Run.from_config(MAZE, TINY | {"data.eval_max_steps": 3})
    assert len(maze.saliency(moments=2).axes) == 2 * 2 + 1  # two moments and the legend
