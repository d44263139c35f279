"""A run's folder that a stranger has packed makes no file of yours go or change."""

import os
from pathlib import Path

import pytest

from helpers import CARTPOLE, run, tiny, verify_checkpoint
from lit_dqn import ConfigError
from lit_dqn.saving import durable

SMALL = "--model.network.init_args.hidden_sizes=[8]"


@pytest.fixture
def mine(folder) -> Path:
    """A folder and files of the user, which must not change."""
    mine = folder / "mine"
    (mine / "deep").mkdir(parents=True)
    for name in ("letter.txt", "deep/diary.txt"):
        (mine / name).write_text("mine\n")
    return mine


def is_untouched(mine: Path) -> bool:
    files = {path.relative_to(mine).as_posix(): path.read_text() for path in mine.rglob("*") if path.is_file()}
    return files == {"letter.txt": "mine\n", "deep/diary.txt": "mine\n"}


LINKS = {
    "checkpoints/env_step_1.replay": "deep",
    "checkpoints/env_step_112.replay": "deep",
    "checkpoints/last.ckpt.tmp": "letter.txt",
    "checkpoints/env_step_136.ckpt.tmp": "letter.txt",
    "checkpoints/best.ckpt.tmp": "letter.txt",
    "config.yaml": "letter.txt",
    "hparams.yaml": "letter.txt",
    "episodes.csv": "letter.txt",
    "episodes.tmp": "letter.txt",
    "metrics.csv": "letter.txt",
    "results.json": "letter.txt",
    "results.json.tmp": "letter.txt",
    "maze": "deep",
}


@pytest.mark.parametrize("name", LINKS)
def test_a_run_with_a_link_is_refused(folder, mine, checkpoint, name):
    (folder / "run" / name).symlink_to(mine / LINKS[name])
    for training in (True, False):
        with pytest.raises(ConfigError, match=f"{name} is a link or no file"):
            verify_checkpoint(checkpoint, training)


@pytest.mark.parametrize(("verb", "name"), [("fit", "checkpoints/env_step_1.replay"), ("test", "results.json.tmp")])
def test_what_a_link_leads_to_stays(folder, mine, monkeypatch, capsys, name, verb):
    (folder / "lightning_logs/cartpole").mkdir(parents=True)
    (folder / "run").rename(folder / "lightning_logs/cartpole/version_0")
    (folder / "lightning_logs/cartpole/version_0" / name).symlink_to(mine / LINKS[name])
    assert run(monkeypatch, verb, *CARTPOLE, *tiny(**{"stop.max_env_steps": 150}), SMALL, "--ckpt_path=last") == 2
    assert "is a link or no file" in capsys.readouterr().err
    assert is_untouched(mine)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("name", ["start_0", "manifest.json"])
def test_segments_are_files(checkpoint, name):
    segment = checkpoint.parent / "env_step_104.replay" / name
    for put in (lambda: segment.symlink_to("/dev/zero"), lambda: os.mkfifo(segment), segment.mkdir):
        segment.unlink()
        put()
        with pytest.raises(ConfigError):
            verify_checkpoint(checkpoint)
        segment.rmdir() if segment.is_dir() else segment.unlink()
        segment.touch()


def test_a_replay_outside_of_its_run_is_refused(checkpoint):
    folder = checkpoint.parent / "env_step_104.replay"
    elsewhere = folder.rename(checkpoint.parent.parent.parent / "elsewhere.replay")
    folder.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link or no file"):
        verify_checkpoint(checkpoint)
    moved = checkpoint.rename(checkpoint.parent.parent / "last.ckpt")  # not in `checkpoints`
    (moved.parent / folder.name).symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="is a link, or no folder"):
        verify_checkpoint(moved)


def test_a_file_more_in_a_replay_is_refused(checkpoint):
    (checkpoint.parent / "env_step_104.replay/start_1").touch()
    with pytest.raises(ConfigError, match="belongs to no replay"):
        verify_checkpoint(checkpoint)


def test_a_checkpoint_that_is_no_file_is_not_read(checkpoint):
    for target in ("/dev/zero", "/dev", "nowhere"):
        checkpoint.unlink()
        checkpoint.symlink_to(target)
        with pytest.raises(ConfigError, match="there is no checkpoint"):
            verify_checkpoint(checkpoint)


def test_nothing_is_written_or_removed_through_a_link(mine, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(mine / "letter.txt")
    with pytest.raises(OSError, match="link"):
        durable.write_file(link, [memoryview(b"yours")])
    link.unlink()
    link.symlink_to(mine / "deep")
    durable.remove_folder(link)
    assert not link.is_symlink()
    assert is_untouched(mine)
