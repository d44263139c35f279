"""Whatever fails while a checkpoint is written, and whatever breaks afterwards, one that loads is left and is found."""

import errno
import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from lit_dqn import TrainingError, durable
from lit_dqn.callbacks import Checkpoints, StoppingRules
from lit_dqn.checkpoint import CheckpointFolder, find_checkpoint, verify_checkpoint
from test_callbacks import fit
from test_dqn import make_agent, make_data

CHANGING = ("open", "write", "fsync", "close", "replace", "link", "mkdir", "unlink", "rmdir")


class SystemCalls:
    """The module `os` as `durable` sees it: numbers the calls that change files, and lets one go wrong."""

    def __init__(self, fault=None, at: int = 0) -> None:
        self.fault, self.at, self.count = fault, at, 0
        self.lock = threading.Lock()

    def __getattr__(self, name):
        call = getattr(os, name)
        if name not in CHANGING:
            return call
        if name == "fsync":
            call = wait_for_nothing  # the machine does not fail here, only the process

        def counted(*arguments, **options):
            with self.lock:  # segments are written by several threads
                self.count += 1
                now = self.count == self.at
            if now:
                return self.fault(call, *arguments, **options)
            return call(*arguments, **options)

        return counted


def wait_for_nothing(descriptor):
    pass


def failing(number):
    def fault(call, *arguments, **options):
        if call is os.close:
            call(*arguments)
        raise OSError(number, os.strerror(number))

    return fault


def short_write(call, *arguments, **options):
    """A write that takes half of the bytes and says so, as the system may."""
    if call is os.write:
        descriptor, data = arguments
        return call(descriptor, data[: len(data) // 2])
    return call(*arguments, **options)


def lost_write(call, *arguments, **options):
    """A write that takes half of the bytes and claims all."""
    if call is os.write:
        descriptor, data = arguments
        call(descriptor, data[: len(data) // 2])
        return len(data)
    return call(*arguments, **options)


def killing(call, *arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)


class Run:
    """A small run that has two checkpoints and can be saved again and again."""

    def __init__(self, folder: Path, monkeypatch) -> None:
        self.callback, self.monkeypatch = Checkpoints(), monkeypatch
        self.agent, self.data = make_agent(), make_data(num_envs=2, gradient_steps=2)
        self.trainer, self.collector = fit(
            folder, StoppingRules(), self.callback, agent=self.agent, data=self.data, max_epochs=2
        )
        self.folder = folder / "run/checkpoints"

    def play_on(self) -> None:
        self.collector.collect(self.agent, 8)

    def save(self, system_calls) -> bool:
        with self.monkeypatch.context() as patch:
            patch.setattr(durable, "os", system_calls)
            return self.callback._save(self.trainer)

    def save_and_die(self, system_calls) -> None:
        child = os.fork()
        if child == 0:
            try:
                self.save(system_calls)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    def check_found(self) -> int:
        """The env step of the checkpoint that is found; it must be whole."""
        path, whole = find_checkpoint(str(self.folder.parent), None, replay=True)
        assert whole
        return verify_checkpoint(path)["ReplayDataModule"]["collector"]["env_step"]

    def check_clean(self) -> None:
        """Nothing is left of what went wrong."""
        numbered = {path.name for path in CheckpointFolder(self.folder).numbered()}
        replays = {path.name for path in self.folder.glob("*.replay")}
        used = {verify_checkpoint(path)["ReplayDataModule"]["replay"]["folder"] for path in self.folder.glob("*.ckpt")}
        assert {path.name for path in self.folder.iterdir()} == {"last.ckpt", "best.ckpt"} | numbered | used
        assert replays == used
        assert len(numbered) in (2, 3)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    return Run(tmp_path, monkeypatch)


def number_of_calls(run: Run) -> int:
    run.play_on()
    system_calls = SystemCalls()
    assert run.save(system_calls)
    assert system_calls.count > 30
    return system_calls.count


SLOW = pytest.mark.slow
every = pytest.mark.parametrize("every", [6, pytest.param(1, marks=SLOW)])


@every
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("ENOSPC", failing(errno.ENOSPC)),
        pytest.param("EIO", failing(errno.EIO), marks=SLOW),
        pytest.param("EACCES", failing(errno.EACCES), marks=SLOW),
        pytest.param("short write", short_write, marks=SLOW),
        ("lost write", lost_write),
    ],
)
def test_a_save_in_which_any_call_fails_leaves_a_whole_one_and_training_goes_on(
    run, record_property, name, fault, every
):
    calls = number_of_calls(run)
    failed = 0
    for call in range(1, calls + 1, every):
        before = run.check_found()
        run.play_on()
        saved = run.save(SystemCalls(fault, call))
        failed += not saved
        assert run.check_found() in ((run.collector.env_step,) if saved else (before, run.collector.env_step))
        run.callback._failed_saves = 0
        run.play_on()
        assert run.save(SystemCalls())
        run.check_clean()
    assert failed == 0 if name == "short write" else failed > 0
    record_property("calls", len(range(1, calls + 1, every)))
    record_property("failed", failed)


@every
def test_a_process_that_is_killed_before_any_call_of_a_save_leaves_a_whole_checkpoint(run, record_property, every):
    calls = number_of_calls(run)
    for call in range(1, calls + 1, every):
        before = run.check_found()
        run.play_on()
        run.save_and_die(SystemCalls(killing, call))
        assert run.check_found() in (before, run.collector.env_step)
        run.play_on()
        assert run.save(SystemCalls())
        run.check_clean()
    record_property("calls", len(range(1, calls + 1, every)))


def test_every_file_cut_or_with_a_bit_flipped_is_noticed_and_another_checkpoint_found(run, record_property, caplog):
    run.play_on()
    assert run.save(SystemCalls())
    contents = {}
    for path in run.folder.glob("*.ckpt"):
        checkpoint = verify_checkpoint(path)
        contents[checkpoint["ReplayDataModule"]["collector"]["env_step"]] = checkpoint["state_dict"]
    files = [path for path in sorted(run.folder.rglob("*")) if path.is_file()]
    cut = flipped = noticed = without_replay = 0
    for path in files:
        content = path.read_bytes()
        steps = 30 if path.suffix == ".ckpt" else 4
        damages = [content[:0], content[: len(content) // 2], content[:-1]]
        cut += len(damages)
        for place in range(0, len(content), max(1, len(content) // steps)):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            damages.append(bytes(damaged))
            flipped += 1
        for damaged in damages:
            path.write_bytes(damaged)  # in place: every name of the file is hit
            caplog.clear()
            found, whole = find_checkpoint(str(run.folder.parent), None, replay=True)
            checkpoint = verify_checkpoint(found, replay=whole)
            weights = contents[checkpoint["ReplayDataModule"]["collector"]["env_step"]]
            assert all(torch.equal(checkpoint["state_dict"][name], weights[name]) for name in weights)
            noticed += "is passed over" in caplog.text
            without_replay += not whole
        path.write_bytes(content)
    # What is not noticed is in the padding of the zip file, and changes nothing, or in a file that is older.
    assert noticed > (cut + flipped) / 4
    record_property("files, cut, flipped, noticed, without replay", (len(files), cut, flipped, noticed, without_replay))


def test_too_many_failed_saves_end_the_run_and_name_the_last_good_checkpoint(run, caplog):
    good = run.callback.last_saved
    for _ in range(3):
        run.play_on()
        assert not run.save(SystemCalls(failing(errno.ENOSPC), 1))
        assert f"The last good checkpoint is {good}. Training goes on" in caplog.text
    run.play_on()
    with pytest.raises(TrainingError, match=rf"No space left.*{good.name}\. This was failure 4 in a row"):
        run.save(SystemCalls(failing(errno.ENOSPC), 1))


def test_free_space_is_looked_at_before_anything_is_written(run, caplog, monkeypatch):
    files = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    monkeypatch.setattr(durable, "free_bytes", lambda folder: 2**20)
    run.play_on()
    assert not run.save(SystemCalls())
    assert "the checkpoint takes 0 MiB, and" in caplog.text
    assert "has 1 MiB left" in caplog.text
    assert files == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}


def test_without_hard_links_everything_is_written_anew(run):
    class NoLinks(SystemCalls):
        def __getattr__(self, name):
            return failing(errno.EPERM).__get__(os.link) if name == "link" else super().__getattr__(name)

    run.play_on()
    assert run.save(NoLinks())
    assert run.check_found() == run.collector.env_step
    new = run.callback.last_saved
    assert all(path.stat().st_nlink == 1 for path in new.with_suffix(".replay").iterdir())
