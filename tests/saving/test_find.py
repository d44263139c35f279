"""Which checkpoint `last` and `best` mean: that of the last session, whatever the clock and the files' times say."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from lit_dqn.saving.find import find_checkpoint
from lit_dqn.saving.folder import CheckpointFolder, Moment, moment_of


def save(path: Path, session: int | None, best_env_step: int | None = None, age: float = 0.0) -> Path:
    """As much of a checkpoint as is looked at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {} if session is None else {"session": session, "best_env_step": best_env_step}
    env_step = int(path.stem.split("_")[-1]) if "_" in path.stem else 0
    agent = {"state_dict": {}, "hyper_parameters": {"observation_shape": [4], "num_actions": 2}}
    state |= {"best_grade": 1.0}
    torch.save(agent | {"env_step": env_step, "callbacks": {"Checkpoints": state}}, path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_a_later_session_is_newer_than_a_higher_env_step(tmp_path):
    folder = tmp_path / "version_0/checkpoints"
    before = [save(folder / f"env_step_{env_step}.ckpt", 1) for env_step in (100, 200, 300)]
    after = save(folder / "env_step_120.ckpt", 2, age=1e6)  # resumed from the first one, by a clock that was put back
    assert CheckpointFolder(folder).newest_first() == [after, *reversed(before)]


@pytest.mark.parametrize("sessions", [(1, 2), (7, 9), (None, 1), (None, None)])
def test_last_is_of_the_version_that_was_started_last_whatever_was_touched_since(tmp_path, sessions):
    older = save(tmp_path / "version_9/checkpoints/env_step_500.ckpt", sessions[0])
    newer = save(tmp_path / "version_10/checkpoints/env_step_100.ckpt", sessions[1], age=1e6)
    os.utime(older.parent)
    assert find_checkpoint("last", tmp_path).path == newer


def test_a_version_that_was_resumed_is_newer_than_a_later_one(tmp_path):
    save(tmp_path / "version_1/checkpoints/env_step_500.ckpt", 2)
    save(tmp_path / "version_0/checkpoints/env_step_100.ckpt", 1)
    resumed = save(tmp_path / "version_0/checkpoints/env_step_200.ckpt", 3)
    assert find_checkpoint("last", tmp_path).path == resumed


def test_a_copy_of_a_version_does_not_come_before_it(tmp_path):
    original = save(tmp_path / "version_0/checkpoints/env_step_500.ckpt", 2, age=1e6)
    shutil.copytree(tmp_path / "version_0", tmp_path / "backup")
    assert find_checkpoint("last", tmp_path).path == original


def test_versions_with_names_of_before_there_was_a_count_go_by_their_time(tmp_path):
    newer = save(tmp_path / "b/checkpoints/env_step_1.ckpt", None)
    older = save(tmp_path / "a/checkpoints/env_step_2.ckpt", None)
    os.utime(older.parent, (1e9, 1e9))
    assert find_checkpoint("last", tmp_path).path == newer


def test_what_cannot_be_read_is_named_before_an_older_one_is_taken(tmp_path, caplog):
    folder = tmp_path / "version_0/checkpoints"
    whole = save(folder / "env_step_100.ckpt", 4)
    (folder / "env_step_200.ckpt").write_bytes(b"cut")
    (folder / "env_step_50.ckpt").write_bytes(b"cut")
    (tmp_path / "version_1/checkpoints").mkdir(parents=True)
    (tmp_path / "version_1/checkpoints/env_step_10.ckpt").write_bytes(b"cut")
    assert find_checkpoint("last", tmp_path).path == whole
    passed_over = [record.message for record in caplog.records if "is skipped" in record.message]
    assert [Path(message.split(" is skipped")[0]).name for message in passed_over] == [
        "env_step_10.ckpt",
        "env_step_200.ckpt",
    ]


def test_best_is_what_the_newest_checkpoint_says_that_it_is(tmp_path):
    folder = tmp_path / "version_0/checkpoints"
    os.link(save(folder / "env_step_100.ckpt", 1, best_env_step=100), folder / "best.ckpt")
    save(folder / "env_step_200.ckpt", 1, best_env_step=100)
    assert find_checkpoint("best", tmp_path).path == folder / "best.ckpt"
    killed = save(folder / "env_step_300.ckpt", 1, best_env_step=300)
    assert find_checkpoint("best", tmp_path).path == killed


def test_the_moment_of_a_checkpoint_is_read_without_its_tensors(tmp_path, monkeypatch):
    path = tmp_path / "env_step_7.ckpt"
    state = {"callbacks": {"Checkpoints": {"session": 3, "best_env_step": 7}}}
    torch.save({"state_dict": {"weight": torch.zeros(10**6)}, "env_step": 7, **state}, path)
    assert moment_of(path) == Moment(3, 7, True)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in the weights, at which it must not look
    path.write_bytes(content)
    assert moment_of(path) == Moment(3, 7, True)
