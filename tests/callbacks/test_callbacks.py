import csv
import errno
import io
import itertools
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import imageio.v3 as iio
import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from helpers import fit, make_agent, make_data, make_trainer
from lit_dqn import MLP, ConfigError, LitDQN, LitTD, ReplayDataModule, TrainingError, UniformRandom
from lit_dqn.callbacks import (
    Checkpoints,
    EpisodeView,
    LiveView,
    MazeView,
    StoppingRules,
    TrainingProgress,
    TrainingStatistics,
    TrajectoryWriter,
)
from lit_dqn.saving import durable
from lit_dqn.saving.io import ReplayCheckpointIO


def scalars(tmp_path: Path) -> dict[str, list]:
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"max_episodes": 6}, "max_episodes 6 reached"),
        ({"max_env_steps": 75}, "max_env_steps 75 reached"),
        ({"mean_return": 1.0, "window": 3}, "mean_return 1.0 reached"),
    ],
)
def test_each_stopping_rule_ends_the_run_at_its_limit_and_says_so(tmp_path, caplog, rule, reason):
    stop = StoppingRules(**rule)
    with caplog.at_level("INFO", logger="lit_dqn"):
        trainer, collector = fit(tmp_path, stop, Checkpoints(), check_val_every_n_epoch=1000)
    assert stop.reason.startswith(reason)
    assert f"stopping: {reason}" in caplog.text
    if "max_episodes" in rule:
        assert collector.episodes == 6
    if "max_env_steps" in rule:
        assert collector.env_step == 75
    # The last weights are graded although no evaluation was due.
    assert "eval/mean_reward" in trainer.callback_metrics
    assert (tmp_path / "run/checkpoints/best.ckpt").exists()
    assert stop.progress(trainer) == (0.0 if "mean_return" in rule else 1.0)


@pytest.mark.parametrize("limit", [{"max_steps": 40, "max_epochs": 8}, {"max_epochs": 4, "max_steps": 80}])
def test_progress_is_the_share_of_the_nearest_of_the_trainers_limits(tmp_path, limit):
    class HalfWay(lightning.Callback):
        def on_train_batch_end(self, trainer, *args) -> None:
            if trainer.global_step == 20:
                self.progress = stop.progress(trainer)

    stop, half_way = StoppingRules(), HalfWay()
    fit(tmp_path, stop, half_way, data=make_data(updates_per_epoch=10), check_val_every_n_epoch=1000, **limit)
    assert half_way.progress == 0.5


def test_a_resumed_run_continues_to_a_higher_limit_and_not_beyond(tmp_path):
    last = tmp_path / "run/checkpoints/last.ckpt"
    trainer, first = fit(tmp_path, StoppingRules(max_episodes=5), Checkpoints(), TrainingStatistics())
    updates = trainer.global_step
    trainer, again = fit(tmp_path, StoppingRules(max_episodes=5), Checkpoints(), TrainingStatistics(), resume=last)
    assert trainer.global_step == updates
    assert again.env_step == first.env_step
    trainer, further = fit(tmp_path, StoppingRules(max_episodes=9), Checkpoints(), TrainingStatistics(), resume=last)
    assert further.episodes == 9
    with (tmp_path / "run/episodes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["episode"]) for line in lines] == list(range(1, 10))
    assert sum(int(line["length"]) for line in lines) <= further.env_step


def test_a_log_that_was_cut_in_the_middle_of_a_line_is_mended_on_resume(tmp_path):
    last, log = tmp_path / "run/checkpoints/last.ckpt", tmp_path / "run/episodes.csv"
    fit(tmp_path, StoppingRules(max_episodes=5), Checkpoints(), TrainingStatistics())
    log.write_text(log.read_text() + "6,")
    fit(tmp_path, StoppingRules(max_episodes=7), Checkpoints(), TrainingStatistics(), resume=last)
    with log.open() as file:
        assert [int(line["episode"]) for line in csv.DictReader(file)] == list(range(1, 8))


def test_the_best_v_is_kept_and_not_the_last(tmp_path):
    errors = iter([0.3, 0.1, 0.2])

    class Grade(lightning.Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            trainer.callback_metrics["eval/value_rms_error"] = torch.tensor(next(errors))

    walk = {"env_id": "lit_dqn/RandomWalk-v0", "env_kwargs": {"observation": "one_hot"}, "eval_policy": UniformRandom()}
    data = make_data(policy=UniformRandom(), **walk)
    agent = LitTD(data.observation_shape, 2, network=MLP)
    agent.evaluation_metrics = super(LitTD, agent).evaluation_metrics
    fit(tmp_path, StoppingRules(), Grade(), Checkpoints(), agent=agent, data=data, max_epochs=3)
    folder = tmp_path / "run/checkpoints"
    assert (folder / "best.ckpt").samefile(folder / "env_step_70.ckpt")


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    class Breaks(lightning.Callback):
        def on_validation_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                pl_module.online[1].weight.data.fill_(float("nan"))

    with pytest.raises(TrainingError, match="a weight became infinite or no number before update 30"):
        fit(tmp_path, StoppingRules(), Breaks(), Checkpoints(), max_epochs=5)
    agent = LitDQN.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert all(torch.isfinite(parameter).all() for parameter in agent.parameters())


def test_lightning_finds_the_best_checkpoint_by_its_word(tmp_path):
    agent, data, checkpoints = make_agent(), make_data(), Checkpoints()
    assert checkpoints.best_model_path == ""
    trainer, _ = fit(tmp_path, StoppingRules(), checkpoints, agent=agent, data=data, max_epochs=2)
    assert checkpoints.best_model_path == str(tmp_path / "run/checkpoints/best.ckpt")
    learned = [parameter.clone() for parameter in agent.parameters()]
    for parameter in agent.parameters():
        parameter.data.zero_()
    trainer.validate(agent, datamodule=data, ckpt_path="best", verbose=False)
    assert trainer.ckpt_path == checkpoints.best_model_path
    assert len(learned) == sum(bool(parameter.any()) for parameter in agent.parameters())


@pytest.mark.parametrize(
    ("callback", "key"),
    [
        (lambda: Checkpoints(0), "checkpoints.every_n_epochs"),
        (lambda: MazeView(0), "maze_view.every_n_evaluations"),
        (lambda: EpisodeView(0), "episode_view.every_n_evaluations"),
        (lambda: EpisodeView(max_steps=0), "episode_view.max_steps"),
        (lambda: TrainingStatistics(0), "statistics.window"),
    ],
)
def test_periods_below_one_are_refused(callback, key):
    with pytest.raises(ConfigError, match=f"{key}: 0 must be at least 1"):
        callback()


@pytest.mark.parametrize("key", ["max_episodes", "max_env_steps", "window"])
def test_a_limit_below_one_is_refused(key):
    with pytest.raises(ConfigError, match=rf"stop\.{key}: 0 must be at least 1"):
        StoppingRules(**{key: 0})


@pytest.mark.parametrize("limit", [None, 1000, 1001])
def test_a_limit_of_env_steps_may_end_with_the_warm_up(limit):
    StoppingRules(max_env_steps=limit).check_warm_up(1000)


def test_a_limit_of_env_steps_within_the_warm_up_is_refused():
    with pytest.raises(ConfigError, match=r"999 is less than the 1000 env steps .* --stop.max_env_steps 1000"):
        StoppingRules(max_env_steps=999).check_warm_up(1000)


def test_the_curves_have_env_steps_on_the_x_axis_and_the_names_that_dashboards_know(tmp_path):
    _, collector = fit(tmp_path, StoppingRules(max_env_steps=200), TrainingStatistics(window=3))
    curves = scalars(tmp_path)
    assert {
        "rollout/ep_rew",
        "rollout/ep_len",
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "rollout/exploration_rate",
        "time/fps",
        "time/total_timesteps",
        "train/loss",
        "train/q_value",
        "train/n_updates",
        "eval/mean_reward",
        "eval/mean_ep_length",
    } <= set(curves)
    with (tmp_path / "run/episodes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == collector.episodes
    assert [point.step for point in curves["rollout/ep_rew"]] == [int(line["env_step"]) for line in lines]
    assert [point.value for point in curves["rollout/ep_rew"]] == [float(line["return"]) for line in lines]
    assert all(point.step == point.value for point in curves["time/total_timesteps"])
    assert [point.step for point in curves["train/loss"]] == list(range(55, 201, 5))
    last_three = [float(line["return"]) for line in lines[-3:]]
    assert curves["rollout/ep_rew_mean"][-1].value == pytest.approx(np.mean(last_three))


def test_checkpoints_keep_the_last_and_the_best(tmp_path, monkeypatch):
    grades = iter([-3.0, -1.0, -2.0, -1.0])
    checkpoints, saved = Checkpoints(), []

    class Grade(lightning.Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            trainer.callback_metrics["eval/mean_reward"] = np.float64(next(grades))

    point = durable.point
    monkeypatch.setattr(
        durable, "point", lambda alias, target: (saved.append((alias.name, target.name)), point(alias, target))
    )
    monkeypatch.setattr(LitDQN, "_log_evaluation", lambda agent: agent._evaluated.clear())
    fit(tmp_path, StoppingRules(), Grade(), checkpoints, max_epochs=4)
    names = {update: f"env_step_{50 + update}.ckpt" for update in (10, 20, 30, 40)}
    assert [name for alias, name in saved if alias == "best.ckpt"] == [names[10], names[20], names[40]]
    assert [name for alias, name in saved if alias == "last.ckpt"] == list(names.values())
    folder = tmp_path / "run/checkpoints"
    kept = {"best.ckpt", "last.ckpt", names[30], names[40], "env_step_80.replay", "env_step_90.replay"}
    assert {path.name for path in folder.iterdir()} == kept
    assert (folder / "best.ckpt").samefile(folder / names[40])


@pytest.mark.parametrize(
    ("observation", "frame_stack"),
    [
        ("image", 2),
        ("index", 1),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("image", 1), ("one_hot", 1), ("one_hot", 2))),
    ],
)
def test_the_maze_view_is_an_image_and_a_png_of_the_policy(tmp_path, observation, frame_stack):
    data = ReplayDataModule(
        "lit_dqn/Maze-v0",
        env_kwargs={"observation": observation},
        frame_stack=frame_stack,
        capacity=400,
        min_replay_size=300,
        updates_per_epoch=2,
        batch_size=4,
        eval_episodes=1,
        eval_max_steps=5,
        seed=0,
    )
    network = {} if observation == "image" else {"network": MLP}
    agent = LitDQN(data.observation_shape, 4, **network)
    fit(tmp_path, StoppingRules(), MazeView(), agent=agent, data=data, max_epochs=2)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0})
    events.Reload()
    assert [image.step for image in events.Images("maze")] == [302, 304]
    assert [image.step for image in events.Images("actions")] == [304]
    for name in ("maze.png", "actions.png"):
        assert (tmp_path / "run" / name).stat().st_size > 10_000


def test_the_maze_view_leaves_other_environments_alone(tmp_path):
    fit(tmp_path, StoppingRules(), MazeView(), max_epochs=1)
    assert not (tmp_path / "run/maze.png").exists()


def test_the_maze_view_leaves_a_maze_alone_that_is_seen_through_wrappers(tmp_path):
    data = make_data(
        env_id="lit_dqn/Maze-v0",
        env_kwargs={"observation": "one_hot"},
        wrappers=[gymnasium.wrappers.TimeAwareObservation],
        updates_per_epoch=2,
    )
    agent = LitDQN(data.observation_shape, data.num_actions, network=MLP)
    fit(tmp_path, StoppingRules(), MazeView(), agent=agent, data=data, max_epochs=1)
    assert not (tmp_path / "run/maze.png").exists()


def test_without_a_logger_that_has_a_folder_for_each_version_nothing_is_kept(tmp_path, monkeypatch):
    class Elsewhere(Logger):
        """A logger of another kind, whose `save_dir` all runs share."""

        name = version = "elsewhere"
        save_dir = str(tmp_path)

        def log_metrics(self, *args, **kwargs): ...

        def log_hyperparams(self, *args, **kwargs): ...

    monkeypatch.chdir(tmp_path)
    agent, data, callbacks = make_agent(), make_data(), [Checkpoints(), TrainingStatistics()]
    make_trainer(logger=Elsewhere(), callbacks=callbacks[1:]).fit(agent, datamodule=data)
    for logger in (Elsewhere(), False):
        with pytest.raises(ConfigError, match=r"^checkpoints: .* no logger with one; give it logger=TensorBoardLogger"):
            make_trainer(logger=logger, callbacks=callbacks, enable_checkpointing=True).fit(agent, datamodule=data)
    assert list(tmp_path.iterdir()) == []
    tried = make_trainer(callbacks=callbacks, enable_checkpointing=True, logger=True, fast_dev_run=True)
    tried.fit(agent, datamodule=data)
    assert list(tmp_path.iterdir()) == []
    kept = [Elsewhere(), TensorBoardLogger(tmp_path, name="", version="run")]
    make_trainer(logger=kept, callbacks=callbacks, plugins=[ReplayCheckpointIO()], enable_checkpointing=True).fit(
        make_agent(), datamodule=make_data()
    )
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()
    assert (tmp_path / "run/episodes.csv").exists()


def test_no_means_are_kept_where_none_are_logged(tmp_path):
    statistics = TrainingStatistics()
    fit(tmp_path, StoppingRules(), statistics, max_epochs=1, log_every_n_steps=0)
    assert statistics.state_dict()["outputs"] == {}


def test_the_progress_bar_leaves_a_line_for_each_evaluation(tmp_path, capsys):
    statistics, stop = TrainingStatistics(), StoppingRules(max_env_steps=90)
    fit(tmp_path, stop, statistics, TrainingProgress(statistics, stop), enable_progress_bar=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if "evaluation" in line]
    assert len(lines) == 4
    assert lines[-1].startswith("env step 90 · episode ")
    assert "ε 0.10" in lines[-1]
    assert "env steps/s" in lines[-1]


def test_the_maze_view_of_policy_evaluation_is_beside_the_truth(tmp_path):
    data = ReplayDataModule(
        "lit_dqn/RandomWalk-v0",
        env_kwargs={"observation": "one_hot"},
        policy=UniformRandom(),
        eval_policy=UniformRandom(),
        capacity=100,
        min_replay_size=50,
        updates_per_epoch=2,
        eval_episodes=1,
        seed=0,
    )
    agent = LitTD(data.observation_shape, 2, network=MLP)
    fit(tmp_path, StoppingRules(), MazeView(), agent=agent, data=data, max_epochs=1)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0})
    events.Reload()
    assert [image.step for image in events.Images("values_beside_truth")] == [52]
    assert (tmp_path / "run/values_beside_truth.png").stat().st_size > 5_000


class Notebook:
    """Takes the place of IPython's display: what was shown, by the handle that shows it."""

    def __init__(self) -> None:
        self.shown: list[list[bytes]] = []

    def __call__(self, picture, display_id):
        assert display_id is True
        updates = [picture.data]
        self.shown.append(updates)
        return SimpleNamespace(update=lambda picture: updates.append(picture.data))


@pytest.mark.parametrize(("env_id", "handles"), [("lit_dqn/Maze-v0", 2), ("CartPole-v1", 1)])
def test_the_live_view_updates_its_pictures_at_most_twice_a_second(tmp_path, monkeypatch, env_id, handles):
    notebook, now = Notebook(), itertools.count(0, 0.2)
    monkeypatch.setattr("IPython.display.display", notebook)
    monkeypatch.setattr("IPython.get_ipython", object)
    monkeypatch.setattr("lit_dqn.callbacks.live_view.time", SimpleNamespace(monotonic=lambda: next(now)))
    grid = {"env_kwargs": {"observation": "one_hot", "max_episode_steps": 5}} if "Maze" in env_id else {}
    data = make_data(env_id=env_id, **grid)
    agent = LitDQN(data.observation_shape, data.num_actions, network=MLP)
    fit(tmp_path, StoppingRules(), LiveView(), TrainingStatistics(), agent=agent, data=data, max_epochs=2)
    assert len(notebook.shown) == handles
    assert all(picture.startswith(b"\x89PNG") for pictures in notebook.shown for picture in pictures)
    # 20 training steps: each looks at the clock once, each drawing twice more, and a drawing that takes 0.2 s must not
    # come back before 2 s; so every ninth step or so, and the end.
    assert 2 <= len(notebook.shown[-1]) <= 4


def test_without_a_notebook_there_is_no_live_view(monkeypatch):
    with pytest.raises(ConfigError, match=r"^live: .* need a notebook, and this process is none; leave it out\.$"):
        LiveView()
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ConfigError, match="pip install ipython"):
        LiveView()


def test_predict_writes_a_video_and_the_numbers(tmp_path):
    agent = LitDQN((1, 50, 84), 4)
    data = ReplayDataModule("lit_dqn/Maze-v0", eval_episodes=1, eval_max_steps=4, seed=0)
    make_trainer(callbacks=[TrajectoryWriter(str(tmp_path / "seen"))]).predict(agent, datamodule=data)
    seen = tmp_path / "seen/Maze-v0"
    numbers = np.load(seen / "episode_1.npz")
    assert numbers["observation"].shape == (5, 1, 50, 84)
    assert numbers["action"].shape == (4,)
    videos = [*seen.glob("episode_1.mp4"), *seen.glob("episode_1.gif")]
    assert len(videos) == 1
    assert videos[0].stat().st_size > 1000
    for name in ("episode_1.png", "episode_1_saliency.png"):
        assert (seen / name).stat().st_size > 5_000


def test_tensorboard_has_a_page_of_hyperparameters_with_the_score_and_the_config(tmp_path):
    walk = {"env_id": "lit_dqn/RandomWalk-v0", "env_kwargs": {"observation": "one_hot"}, "eval_policy": UniformRandom()}
    td_data = make_data(policy=UniformRandom(), **walk)
    td = LitTD(td_data.observation_shape, 2, network=MLP)
    for name, agent, data, score in (
        ("q", make_agent(), make_data(), "eval/mean_reward"),
        ("td", td, td_data, "eval/value_rms_error"),
    ):
        fit(tmp_path / name, StoppingRules(), agent=agent, data=data, max_epochs=1)
        events = EventAccumulator(str(tmp_path / name / "run"))
        events.Reload()
        plugin = events.summary_metadata["_hparams_/experiment"].plugin_data.content
        experiment = plugin_data_pb2.HParamsPluginData.FromString(plugin).experiment
        names = {info.name for info in experiment.hparam_infos}
        assert {"data.env_id", "data.gamma", "model.network", "model.objective", "model.optimizer.lr"} <= names
        assert "_instantiator" not in "".join(names)
        assert score in {info.name.tag for info in experiment.metric_infos}
        # The score of the page is the curve of evaluations, and no other curve is drawn for it.
        assert score in events.Tags()["scalars"]
        assert "hp_metric" not in events.Tags()["scalars"]
        text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
        assert f"env_id: {data.env_id}" in text
        assert "_instantiator" not in (tmp_path / name / "run/hparams.yaml").read_text()


def test_a_plain_trainer_draws_the_same_curves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    data = make_data()
    lightning.Trainer(
        accelerator="cpu", max_steps=40, log_every_n_steps=5, logger=logger, enable_progress_bar=False
    ).fit(make_agent(), datamodule=data)
    logger.experiment.close()
    curves = scalars(tmp_path)
    assert {"train/loss", "rollout/ep_rew", "rollout/exploration_rate", "eval/mean_reward"} <= set(curves)
    assert [point.step for point in curves["train/loss"]] == list(range(55, 91, 5))
    assert curves["eval/mean_reward"][-1].step == 90
    assert (tmp_path / "run/episodes.csv").exists()


def images(folder: Path) -> dict[str, list]:
    events = EventAccumulator(str(folder / "run"), size_guidance={"images": 0})
    events.Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def test_tensorboard_shows_videos_of_evaluation_episodes(tmp_path):
    pytest.importorskip("pygame")
    fit(tmp_path, StoppingRules(), EpisodeView(every_n_evaluations=2, max_steps=5), max_epochs=4)
    videos = images(tmp_path)["episode"]
    # After the first and the third evaluation, and at the end.
    assert [video.step for video in videos] == [60, 80, 90]
    gif = iio.imread(videos[0].encoded_image_string, extension=".gif")
    assert 2 <= len(gif) <= 6  # equal pictures are one
    assert (gif[0] != gif[-1]).any()
    assert gif.shape[1:3] == (videos[0].height, videos[0].width)


def test_a_video_changes_nothing_of_what_is_learned(tmp_path):
    weights = []
    for name, views in (("with", [EpisodeView(1)]), ("without", [])):
        agent = make_agent()
        fit(tmp_path / name, StoppingRules(), *views, agent=agent, max_epochs=3)
        weights.append(torch.cat([parameter.flatten() for parameter in agent.parameters()]))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_where_images_are_seen_tensorboard_shows_what_the_agent_looks_at(tmp_path):
    data = make_data(env_id="lit_dqn/Maze-v0", env_kwargs={"max_episode_steps": 5}, updates_per_epoch=2)
    agent = LitDQN(data.observation_shape, 4)
    fit(tmp_path, StoppingRules(), EpisodeView(max_steps=3), agent=agent, data=data, max_epochs=1)
    shown = images(tmp_path)
    assert len(shown["saliency"]) == len(shown["episode"]) == 1


def test_an_env_that_cannot_be_drawn_ends_no_run(tmp_path, monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise ConfigError("env_id: it cannot be drawn")

    monkeypatch.setattr("lit_dqn.callbacks.episode_view.make_env_with_pictures", fails)
    trainer, _ = fit(tmp_path, StoppingRules(), EpisodeView(1), max_epochs=3)
    assert trainer.global_step == 30
    assert caplog.text.count("there will be no videos of episodes: env_id: it cannot be drawn") == 1
    assert images(tmp_path) == {}


def test_curves_that_cannot_be_written_do_not_end_a_run_and_are_reported_once(tmp_path, monkeypatch, caplog):
    write, calls = RecordWriter.write, []

    def on_a_full_disk(writer, data):
        calls.append(data)
        if len(calls) > 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, data)

    monkeypatch.setattr(RecordWriter, "write", on_a_full_disk)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)  # of TensorBoard's own thread
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    trainer = make_trainer(
        callbacks=[TrainingStatistics(), MazeView(), Checkpoints()],
        logger=logger,
        plugins=[ReplayCheckpointIO()],
        enable_checkpointing=True,
        max_epochs=3,
        log_every_n_steps=1,
    )
    data = make_data(env_id="lit_dqn/Maze-v0", env_kwargs={"observation": "one_hot", "max_episode_steps": 5})
    trainer.fit(LitDQN(data.observation_shape, data.num_actions, network=MLP), datamodule=data)
    assert len(calls) > 10
    assert (tmp_path / "run/checkpoints/env_step_80.ckpt").exists()
    told = [record.message for record in caplog.records if record.name == "lit_dqn" and record.levelname == "WARNING"]
    assert len(told) == 1
    assert told[0].startswith("TensorBoardLogger cannot write its curves: [Errno 28] No space left on device. Training")


def test_lines_of_the_log_that_cannot_be_written_are_written_later(tmp_path, monkeypatch, caplog):
    path, tries = tmp_path / "run/episodes.csv", []
    open_file = Path.open

    class FullDisk(io.TextIOWrapper):
        def write(self, text):
            super().write(text[: len(text) // 2])
            self.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half_a_line(file, mode="r", **kwargs):
        tries.extend([file] if mode == "a" else [])
        if mode == "a" and len(tries) in (2, 3):
            return FullDisk(open_file(file, "ab"), **kwargs)
        return open_file(file, mode, **kwargs)

    monkeypatch.setattr(Path, "open", half_a_line)
    fit(tmp_path, StoppingRules(max_episodes=8), TrainingStatistics())
    with path.open() as file:
        assert [int(line["episode"]) for line in csv.DictReader(file)] == list(range(1, 9))
    assert caplog.text.count("episodes.csv cannot be written") == 1


def test_a_resumed_run_that_cannot_show_its_episodes_has_the_state_of_the_run_that_was_not_stopped(
    tmp_path, monkeypatch
):
    def never(self, data, agent):
        raise RuntimeError("no pictures here")

    monkeypatch.setattr(EpisodeView, "_play", never)
    whole, resumed = EpisodeView(1), EpisodeView(1)
    trainer, _ = fit(tmp_path / "whole", StoppingRules(), whole, max_epochs=3)
    assert whole.state_dict()["shown_at"] == trainer.datamodule.collector.env_step
    resumed.load_state_dict(whole.state_dict())
    fit(tmp_path / "resumed", StoppingRules(), resumed, max_epochs=3)
    assert resumed.state_dict()["shown_at"] == whole.state_dict()["shown_at"]
