"""Where `predict`, `export` and `test` write: never over anything, never two runs into one place."""

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from helpers import CARTPOLE, run, tiny


@pytest.fixture
def version(tmp_path, monkeypatch, capsys) -> Path:
    """A run's folder, in the folder where commands are given."""
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    capsys.readouterr()
    return tmp_path / "lightning_logs/cartpole/version_0"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def predict(monkeypatch, capsys, *arguments: object) -> None:
    assert run(monkeypatch, "predict", *CARTPOLE, *tiny(), *arguments) == 0, capsys.readouterr().err


def test_each_predict_has_its_own_folder_in_the_run_of_its_checkpoint(version, monkeypatch, capsys):
    before = files(version.parents[2])
    predict(monkeypatch, capsys, "--ckpt_path=last")
    said = capsys.readouterr().err
    first = files(version / "predictions")
    own = Path("lightning_logs/cartpole/version_0/predictions/env_step_104")
    kinds = ", ".join(sorted({Path(name).suffix for name in first}))
    assert f"\nsaved: {len(first)} files ({kinds}) in {own}\n" in said
    assert said.count(str(own)) == 1
    assert {"env_step_104/episode_1.npz", "env_step_104/episode_2.npz"} <= first.keys()
    predict(monkeypatch, capsys, f"--ckpt_path={version}", "--data.eval_max_steps=3")
    assert np.load(version / "predictions/env_step_104_2/episode_1.npz")["action"].shape == (3,)
    second = files(version / "predictions")
    assert first.items() <= second.items()
    assert before.items() <= files(version.parents[2]).items()
    assert [path.name for path in version.parents[2].iterdir()] == ["lightning_logs"]


def test_what_belongs_to_no_run_has_a_place_too(version, monkeypatch, capsys):
    folder = version.parents[2]
    downloads = folder / "downloads"
    downloads.mkdir()
    shutil.copy(version / "checkpoints/last.ckpt", downloads / "a.ckpt")
    shutil.copy(version / "checkpoints/last.ckpt", downloads / "b.ckpt")
    for name in ("a", "b", "a"):
        predict(monkeypatch, capsys, f"--ckpt_path={downloads / name}.ckpt")
    assert sorted(path.name for path in (downloads / "predictions").iterdir()) == ["a", "a_2", "b"]
    predict(monkeypatch, capsys)  # an agent that has learned nothing
    assert (folder / "predictions/CartPole-v1/episode_2.npz").is_file()
    assert not (version / "predictions").exists()


@pytest.mark.slow
def test_another_folder_can_be_set_and_an_impossible_one_is_refused(version, monkeypatch, capsys):
    chosen = "--trajectories.output_dir=chosen"
    for _ in range(2):
        predict(monkeypatch, capsys, "--ckpt_path=last", chosen)
    assert sorted(path.name for path in Path("chosen").iterdir()) == ["env_step_104", "env_step_104_2"]
    (version / "predictions").write_text("no folder")
    capsys.readouterr()
    assert run(monkeypatch, "predict", *CARTPOLE, *tiny(), "--ckpt_path=last") == 2
    said = capsys.readouterr().err
    assert (
        f"error: trajectories.output_dir: {Path('lightning_logs/cartpole/version_0/predictions/env_step_104')}" in said
    )
    assert "cannot be made (Not a directory); set --trajectories.output_dir" in said


def export(monkeypatch, capsys, *arguments: object) -> str:
    assert run(monkeypatch, "export", *CARTPOLE, *tiny(), *arguments) == 0
    return capsys.readouterr().err


def test_each_export_has_its_own_folder_in_the_run_of_its_checkpoint(version, monkeypatch, capsys):
    monkeypatch.setattr("lit_dqn.commands.export.ONNX_PACKAGES", ("no_such_package",))  # which takes its time
    before = files(version.parents[2])
    said = export(monkeypatch, capsys, "--ckpt_path=last")
    assert str(Path("lightning_logs/cartpole/version_0/export/env_step_104/model.safetensors")) in said
    first = files(version / "export")
    export(monkeypatch, capsys, f"--ckpt_path={version}")
    exported = {f"env_step_104{again}/{name}" for again in ("", "_2") for name in ("model.safetensors", "config.yaml")}
    assert files(version / "export").keys() == exported
    assert first.items() <= files(version / "export").items()
    assert before.items() <= files(version.parents[2]).items()
    assert [path.name for path in version.parents[2].iterdir()] == ["lightning_logs"]
    export(monkeypatch, capsys, "--ckpt_path=last", "--output_dir=chosen")
    assert {path.name for path in Path("chosen").iterdir()} == {"model.safetensors", "config.yaml"}


def test_an_export_without_a_possible_folder_is_refused(version, monkeypatch, capsys):
    (version / "export").write_text("no folder")
    assert run(monkeypatch, "export", *CARTPOLE, *tiny(), "--ckpt_path=last") == 2
    said = capsys.readouterr().err
    assert f"error: output_dir: {Path('lightning_logs/cartpole/version_0/export/env_step_104')} cannot be made" in said
    assert "set --output_dir to a folder that you may write to" in said


def test_results_that_cannot_be_written_are_reported_after_the_score(version, monkeypatch, capsys):
    (version / "results.json").write_text("[")
    assert run(monkeypatch, "test", *CARTPOLE, *tiny(), "--ckpt_path=last") == 2
    said = capsys.readouterr().err
    assert "return 5.00" in said
    assert "error: ckpt_path: the results cannot be written to " in said
    assert (version / "results.json").read_text() == "["
    shutil.copytree(version / "checkpoints", "elsewhere")  # what the sentence says to do
    assert run(monkeypatch, "test", *CARTPOLE, *tiny(), "--ckpt_path=elsewhere/last.ckpt") == 0
    (entry,) = json.loads(Path("elsewhere/results.json").read_text())
    assert entry["env_step"] == 104


@pytest.mark.parametrize("forbidden", [".", "checkpoints"])
def test_a_run_whose_folder_is_read_only_is_refused_before_it_is_tested(forbidden, version, monkeypatch, capsys):
    class Folder(tempfile.TemporaryDirectory):  # root may write everywhere
        def __init__(self, dir=None, prefix=None):
            if prefix == ".can_it_be_written" and dir == (version / forbidden).resolve():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))
            super().__init__(dir=dir, prefix=prefix)

    monkeypatch.setattr(tempfile, "TemporaryDirectory", Folder)
    before = files(version)
    code = run(monkeypatch, "test", *CARTPOLE, *tiny(), "--ckpt_path=last")
    said = capsys.readouterr().err
    if forbidden == "checkpoints":  # where `test` writes nothing
        assert code == 0
        assert files(version).keys() - before.keys() == {"results.json"}
        return
    assert code == 2
    results = Path("lightning_logs/cartpole/version_0/results.json")
    assert f"error: ckpt_path: the results cannot be written to {results} (Permission denied); fix that, or" in said
    assert "return" not in said
    assert files(version) == before
