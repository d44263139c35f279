"""What a run tells Weights & Biases, MLflow and a CSV, by the packages themselves; skipped where they are missing."""

import csv
from pathlib import Path

import imageio.v3 as iio
import pytest

from helpers import CONFIGS, run, tiny

MAZE = (
    f"--config={CONFIGS / 'maze_fast.yaml'}",
    *tiny(),
    "--data.num_envs=1",
    "--data.env_steps_per_update=4",
    "--data.gradient_steps=1",
    "--maze_view.every_n_evaluations=1",
    "--episode_view.max_steps=4",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
)
CURVES = {"train/loss", "eval/mean_reward"}
PICTURES = {"maze", "actions", "saliency"}


def check_gif(content):
    frames = iio.imread(content, extension=".gif", index=None)
    assert frames.shape[1:] == (244, 360, 3)  # a frame that looks like the one before is none of its own
    assert frames.std() > 0


def curves_of_csv(folder):
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        name: [(int(row["step"]), float(row[name])) for row in rows if row[name]]
        for name in rows[0]
        if name not in ("step", "epoch") and not name.startswith("time/")
    }


@pytest.mark.slow
def test_csv_has_pictures_and_videos_as_files(folder, monkeypatch):
    assert run(monkeypatch, "fit", *MAZE, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs") == 0
    (version,) = folder.glob("logs/*/version_0")
    found = {}
    for path in (version / "pictures").iterdir():
        tag, _, env_step = path.stem.partition("_env_step_")
        found.setdefault((tag, path.suffix), []).append(int(env_step))
    assert {tag for tag, suffix in found if suffix == ".png"} == PICTURES
    assert {tag for tag, suffix in found if suffix == ".gif"} == {"episode"}
    assert set(curves_of_csv(version)) >= CURVES
    (last,) = version.glob(f"pictures/episode_env_step_{max(found['episode', '.gif'])}.gif")
    check_gif(last.read_bytes())


@pytest.mark.slow
def test_without_videos_no_episode_is_played_for_them(folder, monkeypatch):
    monkeypatch.setattr("lit_dqn.callbacks.episode_view.play_trajectories", lambda *_, **__: pytest.fail("played"))
    off = "--episode_view.every_n_evaluations=null"
    assert run(monkeypatch, "fit", *MAZE, off, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs") == 0
    assert not list(folder.glob("logs/*/version_0/pictures/*.gif"))


@pytest.mark.slow
def test_mlflow_has_the_curves_of_the_csv_pictures_and_videos(folder, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    settings = {"tracking_uri": "sqlite:///mlflow.db", "experiment_name": "lesson", "artifact_location": "artifacts"}
    logger = ["--trainer.logger=MLFlowLogger", *(f"--trainer.logger.{key}={value}" for key, value in settings.items())]
    assert run(monkeypatch, "fit", *MAZE, *logger) == 0
    client = mlflow.MlflowClient("sqlite:///mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("lesson").experiment_id])
    (version,) = folder.glob("lightning_logs/*/version_0")
    curves = curves_of_csv(version)
    assert set(curves) >= CURVES
    for name, points in curves.items():
        there = [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, name)]
        assert sorted(there) == sorted(points), name
    assert found.data.params["data.env_id"] == "lit_dqn/Maze-v0"
    images = {
        path.path.rpartition("/")[2].partition("+")[0].partition("%")[0]
        for path in client.list_artifacts(found.info.run_id, "images")
    }
    assert images == PICTURES
    videos = client.list_artifacts(found.info.run_id, "pictures")
    assert {Path(video.path).name.partition("_env_step_")[0] for video in videos} == {"episode"}
    check_gif(Path(client.download_artifacts(found.info.run_id, videos[0].path)).read_bytes())


@pytest.mark.slow
def test_wandb_has_the_curves_of_the_csv_pictures_and_videos(folder, monkeypatch):
    pytest.importorskip("wandb")
    import wandb

    said, log = [], wandb.Run.log

    def note(run, data, *args, **kwargs):
        said.append(data)
        log(run, data, *args, **kwargs)

    monkeypatch.setattr(wandb.Run, "log", note)
    settings = {"offline": "true", "project": "lesson", "save_dir": "."}
    logger = ["--trainer.logger=WandbLogger", *(f"--trainer.logger.{key}={value}" for key, value in settings.items())]
    assert run(monkeypatch, "fit", *MAZE, *logger) == 0
    wandb.finish()
    (version,) = folder.glob("lightning_logs/*/version_0")
    curves = curves_of_csv(version)
    for name, points in curves.items():
        there = [(data["trainer/global_step"], data[name]) for data in said if name in data]
        assert sorted(there) == sorted(points), name
    media = [path for path in folder.glob("wandb/offline-run-*/files/media/**/*") if path.is_file()]
    assert {path.name.partition("_")[0] for path in media if path.suffix == ".png"} == PICTURES
    videos = [path for path in media if path.suffix == ".gif"]
    assert {path.name.partition("_")[0] for path in videos} == {"episode"}
    check_gif(videos[0].read_bytes())
