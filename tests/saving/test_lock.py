"""One process at a time writes to a run's folder, and each new run has a folder of its own."""

import errno
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from helpers import CARTPOLE, fit, run, tiny
from lit_dqn import ConfigError
from lit_dqn.callbacks import Checkpoints, StoppingRules, run_folder
from lit_dqn.callbacks.run_folder import lock_run_folder, make_run_folder
from lit_dqn.saving import lock
from lit_dqn.saving.lock import Lock


@contextmanager
def held_by_another(folder: Path):
    """The process that holds the lock of a run's folder, until it is killed here."""
    ready, holds = os.pipe()
    child = os.fork()
    if child == 0:
        held = lock_run_folder(folder)  # noqa: F841 - until the end
        os.write(holds, b".")
        signal.pause()
    os.read(ready, 1)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(holds)


def test_a_second_process_is_refused_by_the_name_of_the_first_until_that_is_dead(tmp_path):
    with held_by_another(tmp_path) as pid:
        for _ in range(2):  # who is refused takes nothing away
            holder = f"process {pid} on {re.escape(socket.gethostname())}"
            with pytest.raises(ConfigError, match=f"the run {tmp_path} is being trained by {holder}; wait for its end"):
                lock_run_folder(tmp_path)
    held = lock_run_folder(tmp_path)
    with pytest.raises(ConfigError, match=f"by process {os.getpid()} on"):
        lock_run_folder(tmp_path)
    held.release()
    lock_run_folder(tmp_path).release()


def test_a_stopped_process_still_holds_its_lock(tmp_path):
    with held_by_another(tmp_path) as pid:
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ConfigError, match=f"process {pid}"):
            lock_run_folder(tmp_path)


def test_without_locks_the_log_says_so_and_the_run_continues(tmp_path, monkeypatch, caplog):
    def no_locks(descriptor):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock, "_lock", no_locks)
    held = lock_run_folder(tmp_path)
    assert "the file system has no locks (No locks available)" in caplog.text
    held.release()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("precious")
    (tmp_path / "run.lock").symlink_to(target)
    with pytest.raises(ConfigError, match=r"run\.lock cannot be written"):
        lock_run_folder(tmp_path)
    assert target.read_text() == "precious"


def test_what_a_lock_says_cannot_write_to_a_terminal(tmp_path):
    path = tmp_path / "run.lock"
    held = Lock(path)
    held.acquire("")
    path.write_bytes(b"\x1b[2J\xff evil")
    with pytest.raises(ConfigError, match=r"^by \[2J\ufffd evil$"):
        Lock(path).acquire("by {holder}")
    held.release()


def test_a_second_resume_ends_in_one_sentence_and_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    version = Path("lightning_logs/cartpole/version_0")
    further = tiny(**{"stop.max_env_steps": 140})
    with held_by_another(version) as pid:
        files = {path: path.read_bytes() for path in version.rglob("*") if path.is_file()}
        capsys.readouterr()
        assert run(monkeypatch, "fit", *CARTPOLE, *further, "--ckpt_path=last") == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert errors == [
            f"error: the run {version} is being trained by process {pid} on {socket.gethostname()}; wait for its end, "
            "or end it, then resume."
        ]
        assert files == {path: path.read_bytes() for path in version.rglob("*") if path.is_file()}
        assert run(monkeypatch, "test", *CARTPOLE, *tiny(), "--ckpt_path=best") == 0  # who only looks may
    assert run(monkeypatch, "fit", *CARTPOLE, *further, "--ckpt_path=last") == 0
    assert sorted(path.name for path in version.parent.iterdir()) == ["version_0"]


@pytest.mark.parametrize("error", [None, ValueError("broken")])
def test_a_plain_trainer_holds_the_lock_while_it_fits_and_no_longer(tmp_path, error):
    class Looks(StoppingRules):
        def on_train_start(self, trainer, pl_module):
            with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
                lock_run_folder(tmp_path / "run")
            self.looked = True
            if error is not None:
                raise error

    looks = Looks()
    try:
        fit(tmp_path, looks, Checkpoints(), max_epochs=1)
    except ValueError:
        assert error is not None
    assert looks.looked
    lock_run_folder(tmp_path / "run").release()


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_runs_that_start_at_once_get_different_folders(tmp_path, kind):
    trainers = [SimpleNamespace(loggers=[kind(tmp_path, name="name")]) for _ in range(8)]
    for trainer in trainers:
        assert run_folder(trainer).name == "version_0"  # all have looked before any has made its folder
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda trainer: make_run_folder(trainer, version_is_chosen=False), trainers))
    assert {run_folder(trainer).name for trainer in trainers} == {f"version_{number}" for number in range(8)}


def test_a_version_that_another_has_just_taken_is_refused(tmp_path):
    trainer = SimpleNamespace(loggers=[TensorBoardLogger(tmp_path, name="name", version="mine")])
    make_run_folder(trainer, version_is_chosen=True)
    with pytest.raises(ConfigError, match="mine exists already; resume it by --ckpt_path last"):
        make_run_folder(trainer, version_is_chosen=True)
