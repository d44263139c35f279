"""Whatever fails while a checkpoint is written, and whatever breaks afterwards, one that loads is left and is found."""

import errno
import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from helpers import fit, make_agent, make_data, read_checkpoint, verify_checkpoint
from lit_dqn import TrainingError
from lit_dqn.callbacks import Checkpoints, StoppingRules
from lit_dqn.saving import durable
from lit_dqn.saving.find import find_checkpoint
from lit_dqn.saving.folder import CheckpointFolder
from lit_dqn.saving.layout import env_step_of

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

    def __init__(self, folder: Path, monkeypatch, resume: Path | None = None, max_epochs: int = 2) -> None:
        self.callback, self.monkeypatch = Checkpoints(), monkeypatch
        self.agent, self.data = make_agent(), make_data(num_envs=2, gradient_steps=2)
        settings = {"agent": self.agent, "data": self.data, "max_epochs": max_epochs, "resume": resume}
        self.trainer, self.collector = fit(folder, StoppingRules(), self.callback, **settings)
        self.folder = folder / "run/checkpoints"

    def play_on(self) -> None:
        self.collector.collect(self.agent, 8)
        self.agent.env_step = self.collector.env_step

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

    def save_as_best(self, system_calls, grade: float) -> None:
        with self.monkeypatch.context() as patch:
            patch.setattr(durable, "os", system_calls)
            patch.setattr(self.agent, "grade", lambda metrics: grade)
            self.callback.on_validation_end(self.trainer, self.agent)

    def best_of_resumed(self, folder: Path | None = None) -> tuple[int, float]:
        """Env step of the best checkpoint after a resume in its own or another folder, and the grade to beat."""
        path = find_checkpoint(str(self.folder.parent), None).path
        checkpoint = read_checkpoint(path)
        callback = Checkpoints()
        callback.load_state_dict(checkpoint["callbacks"]["Checkpoints"])
        collector = SimpleNamespace(env_step=checkpoint["env_step"])
        loggers = [TensorBoardLogger(folder or self.folder.parent.parent, name="", version="run")]
        trainer = SimpleNamespace(
            loggers=loggers, ckpt_path=str(path), datamodule=SimpleNamespace(collector=collector, stopped=False)
        )
        self.monkeypatch.setattr(Checkpoints, "_listen", lambda *_: None)
        callback.on_train_start(trainer, self.agent)
        best = callback.folder(trainer) / "best.ckpt"
        verify_checkpoint(best)
        return read_checkpoint(best)["env_step"], callback.best_grade

    def check_found(self) -> int:
        """The env step of the checkpoint that is found; it must be whole."""
        found = find_checkpoint(str(self.folder.parent), None, replay=True)
        assert found.replay_is_whole
        return verify_checkpoint(found.path)["ReplayDataModule"]["collector"]["env_step"]

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
def test_a_save_in_which_any_call_fails_leaves_an_intact_one_and_training_continues(
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


@every
def test_a_process_that_is_killed_while_it_saves_the_best_does_not_lose_it(run, tmp_path, every):
    run.play_on()
    system_calls = SystemCalls()
    grade = 1000.0
    run.save_as_best(system_calls, grade)
    assert system_calls.count > 30
    best = run.callback.last_saved
    for call in range(1, system_calls.count + 1, every):
        before = env_step_of(best)
        run.play_on()
        child = os.fork()
        if child == 0:
            try:
                run.save_as_best(SystemCalls(killing, call), grade + 1)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        now = run.collector.env_step
        assert run.best_of_resumed(tmp_path / f"moved_{call}") in ((before, grade), (now, grade + 1))
        found = read_checkpoint(find_checkpoint("best", run.folder.parent.parent).path)
        assert run.best_of_resumed() == (found["env_step"], found["callbacks"]["Checkpoints"]["best_grade"])
        run.play_on()
        grade += 2
        run.save_as_best(SystemCalls(), grade)
        best = run.callback.last_saved
        run.check_clean()


def test_a_clean_up_that_fails_is_a_warning_and_no_failed_save(run, caplog):
    class NoRemoving(SystemCalls):
        def __getattr__(self, name):
            if name not in ("unlink", "rmdir"):
                return super().__getattr__(name)
            return lambda path: failing(errno.EACCES)(None) if Path(path).suffix != ".tmp" else os.unlink(path)

    for _ in range(5):
        run.play_on()
        caplog.clear()
        assert run.save(NoRemoving())
        assert "older checkpoints of" in caplog.text
        assert run.check_found() == run.collector.env_step
    run.play_on()
    assert run.save(SystemCalls())
    run.check_clean()


def test_a_replay_of_before_that_cannot_be_removed_is_a_warning_too(run, caplog):
    class NoRemoving(SystemCalls):
        def __getattr__(self, name):
            return failing(errno.EACCES).__get__(os.rmdir) if name == "rmdir" else super().__getattr__(name)

    path = run.folder / "by_hand.ckpt"
    with run.monkeypatch.context() as patch:
        patch.setattr(durable, "os", NoRemoving())
        for _ in range(2):
            run.trainer.save_checkpoint(path, weights_only=False)
    assert "of before stays" in caplog.text
    verify_checkpoint(path)


def test_a_run_that_wakes_after_another_has_resumed_it_ends_and_leaves_what_that_has_saved(run, monkeypatch):
    """As on a file system that has no locks."""
    resumed = Run(run.folder.parent.parent, monkeypatch, resume=run.folder / "last.ckpt", max_epochs=4)
    files = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    run.play_on()
    with pytest.raises(TrainingError, match=r"another process has resumed this run and saved env step 90 in"):
        run.save(SystemCalls())
    assert files == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    resumed.play_on()
    assert resumed.save(SystemCalls())
    resumed.check_clean()


def test_what_is_ahead_and_not_its_own_is_never_removed(run):
    ahead = run.folder / "env_step_5000.ckpt"
    unfinished = run.folder / "env_step_5008.replay", run.folder / "env_step_5008.ckpt.tmp"
    ahead.write_bytes(run.callback.last_saved.read_bytes())
    unfinished[0].mkdir()
    unfinished[1].touch()
    for _ in range(4):
        run.play_on()
        assert run.save(SystemCalls())
    assert all(path.exists() for path in (ahead, *unfinished))


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
        steps = 15 if path.suffix == ".ckpt" else 2
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
            checkpoint = verify_checkpoint(found.path, replay=whole)
            weights = contents[checkpoint["ReplayDataModule"]["collector"]["env_step"]]
            assert all(torch.equal(checkpoint["state_dict"][name], weights[name]) for name in weights)
            noticed += "is skipped" in caplog.text
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
        assert f"The last good checkpoint is {good}. Training continues" in caplog.text
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


def test_without_hard_links_everything_is_rewritten(run):
    class NoLinks(SystemCalls):
        def __getattr__(self, name):
            return failing(errno.EPERM).__get__(os.link) if name == "link" else super().__getattr__(name)

    run.play_on()
    assert run.save(NoLinks())
    assert run.check_found() == run.collector.env_step
    new = run.callback.last_saved
    assert all(path.stat().st_nlink == 1 for path in new.with_suffix(".replay").iterdir())
