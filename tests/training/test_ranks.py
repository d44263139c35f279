"""Several processes that share one run. They are forked, so that they need not import torch again; prove_scale.py and
test_scale.py start them as a user does."""

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from datetime import timedelta
from functools import partial

import pytest
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only

from helpers import make_agent, make_data, make_trainer, same
from lit_dqn import ConfigError, Linear, Play, Prioritized, ReplayCheckpointIO, ShardedStrategy
from lit_dqn.callbacks.run_folder import check_is_shared, run_folder
from lit_dqn.commands.prepared import Prepared
from lit_dqn.commands.processes import rank_of_process, settings_of_process
from lit_dqn.errors import TrainingError
from lit_dqn.learning.sharded import ShardedGradient
from lit_dqn.ranks import Ranks
from lit_dqn.saving import sidecar_writer
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.training import heartbeat
from lit_dqn.training import strategy as strategy_module
from lit_dqn.training.ranks import check_share
from lit_dqn.training.strategy import _Launcher, check_alike

SECONDS = 120
"""A crowded machine is slow; nothing waits that long."""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.fixture(autouse=True)
def one_thread():
    """A fork of a process that has OpenMP's threads waits for them for ever: they are not in it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def together(count, work, ends=None, after_first=None):
    """Let processes do something; each must end with 0, or as `ends` says; what comes after the end of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(count):
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
            code = 1
            try:
                signal.alarm(SECONDS)
                work(rank)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        processes.append(process)
    codes = []
    for process in processes:
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        if len(codes) == 1 and after_first is not None:
            after_first(processes[1:])
    assert codes == (ends or [0] * count)


SHARDED = {
    "shards": 4,
    "sampler": Prioritized(0.9, Linear(0.4, 1.0, env_steps=90)),
    "n_step": 2,
    "gradient_steps": 2,
    "prefill": [Play(env_steps=40)],
}


def strategy(count):
    return {"strategy": ShardedStrategy(), "devices": count} if count > 1 else {}


def fitted(path, updates, count=1, resume=None, **settings):
    random.seed(0)
    agent = make_agent()
    data = make_data(num_envs=8, env_steps_per_update=8, capacity=240, eval_episodes=3, eval_envs=2, **settings)
    trainer = make_trainer(max_epochs=-1, max_steps=updates, plugins=[ReplayCheckpointIO()], **strategy(count))
    trainer.fit(agent, datamodule=data, ckpt_path=resume)
    trainer.save_checkpoint(path, weights_only=False)
    return trainer


def contents(path):
    checkpoint = Checkpoint.read(path).verify(training=False)
    stored = [{name: tuple(content) for name, content in of.contents.items()} for of in checkpoint.segments()]
    for replay in checkpoint.replays:
        for name in ("identity", "folder", "manifest_crc32"):
            del replay[name]
    del checkpoint.contents["callbacks"]
    return {"checkpoint": checkpoint.contents, "stored": stored}


def differences(one, other, name=""):
    """The names of what is not the same."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, dict):
        found = [differences(one[key], other[key], f"{name}/{key}") for key in one.keys() & other.keys()]
        return [key for part in found for key in part] + [f"{name}/{key}" for key in one.keys() ^ other.keys()]
    if isinstance(one, list | tuple) and len(one) == len(other):
        return [key for n, pair in enumerate(zip(one, other, strict=True)) for key in differences(*pair, f"{name}/{n}")]
    return [] if one == other else [name]


@pytest.mark.parametrize("play_ahead", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_is_the_same_bytes_in_one_process_and_in_two_that_four_resume(tmp_path, play_ahead):
    settings = SHARDED | {"play_ahead": play_ahead}
    whole = fitted(tmp_path / "whole.ckpt", 40, **settings)
    grade = whole.callback_metrics["eval/mean_reward"]

    def begin(rank):
        fitted(tmp_path / "half.ckpt", 20, 2, **settings)

    def end(rank):
        trainer = fitted(tmp_path / "resumed.ckpt", 40, 4, tmp_path / "half.ckpt", **settings)
        assert trainer.callback_metrics["eval/mean_reward"] == grade

    together(2, begin)
    together(4, end)
    one, other = contents(tmp_path / "whole.ckpt"), contents(tmp_path / "resumed.ckpt")
    assert differences(one, other) == []
    assert len(differences(one, contents(tmp_path / "half.ckpt"))) > 50


def test_without_strict_an_update_is_one_all_reduce_and_the_run_is_the_strict_one_but_for_rounding(tmp_path):
    settings = {"shards": 4, "gradient_steps": 2}
    for strict in (True, False):
        fitted(tmp_path / f"1_{strict}.ckpt", 6, strict=strict, **settings)

    def work(rank, count):
        calls, of_updates = [], []
        for name in ("all_reduce", "all_gather", "all_gather_object", "batch_isend_irecv", "broadcast"):
            setattr(torch.distributed, name, noting(name, getattr(torch.distributed, name), calls))
        exchange = ShardedGradient.__call__

        def noted(*arguments):
            calls.clear()
            learned = exchange(*arguments)
            of_updates.append([*calls])
            return learned

        ShardedGradient.__call__ = noted
        fitted(tmp_path / f"{count}_False.ckpt", 6, count, strict=False, **settings)
        assert of_updates == [["all_reduce"]] * 6

    for count in (2, 4):
        together(count, partial(work, count=count))
    whole = contents(tmp_path / "1_True.ckpt")
    for count in (1, 2):  # a + b = b + a
        found = differences(whole, contents(tmp_path / f"{count}_False.ckpt"))
        assert found == ["/checkpoint/datamodule_hyper_parameters/strict"]
    weights = contents(tmp_path / "4_False.ckpt")["checkpoint"]["state_dict"]
    for name, weight in whole["checkpoint"]["state_dict"].items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6)


def noting(name, tell, calls):
    def noted(*arguments, **settings):
        calls.append(name)
        return tell(*arguments, **settings)

    return noted


def test_a_save_that_fails_in_one_process_fails_in_all_and_the_one_before_stands(tmp_path):
    def work(rank):
        trainer = fitted(tmp_path / "last.ckpt", 10, 2, **SHARDED)
        before = sorted(path.name for path in tmp_path.iterdir())
        whole = (tmp_path / "last.ckpt").read_bytes()

        def full(*args):
            raise OSError(errno.ENOSPC, "No space left on device")

        if rank == 1:
            sidecar_writer.SidecarWriter.write = full
        with pytest.raises(OSError, match="No space left on device"):
            trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
        Ranks.now().gather(rank)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert (tmp_path / "last.ckpt").read_bytes() == whole
        Checkpoint.read(tmp_path / "last.ckpt").verify(training=False)

    together(2, work)


def test_a_process_that_dies_in_a_save_leaves_the_one_before(tmp_path):
    fitted(tmp_path / "last.ckpt", 10, **SHARDED)
    whole = (tmp_path / "last.ckpt").read_bytes()

    def work(rank):
        trainer = fitted(tmp_path / "other.ckpt", 10, 2, **SHARDED)
        if rank == 1:
            sidecar_writer.SidecarWriter.write = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(Exception, match="another process of this run has ended or cannot be reached"):
            trainer.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)

    together(2, work, [0, -signal.SIGKILL])
    assert (tmp_path / "last.ckpt").read_bytes() == whole
    Checkpoint.read(tmp_path / "last.ckpt").verify(training=False)


def test_what_the_first_process_cannot_do_ends_all_with_its_sentence():
    def begin():
        raise ConfigError("the run is being trained by process 7.")

    def work(rank):
        trainer = make_trainer(strategy=ShardedStrategy(begin=begin), devices=2)
        with pytest.raises(ConfigError, match="is being trained by process 7"):
            trainer.fit(make_agent(), datamodule=make_data(num_envs=2, env_steps_per_update=2, shards=2))

    together(2, work)


def test_processes_with_other_settings_or_weights_are_refused_in_all():
    def work(rank):
        agent, data = make_agent(), make_data(num_envs=2, env_steps_per_update=2, shards=2)
        if rank == 1:
            torch.nn.init.zeros_(next(agent.online.parameters()))
        settings = {"trainer": {"logger": rank}, "data": {"batch_size": 16}}
        alike = settings_of_process(settings, agent, data)
        trainer = make_trainer(strategy=ShardedStrategy(alike), devices=2)
        with pytest.raises(ConfigError, match=r"^the checksum of the weights: process 0 of this run has \w+ and"):
            trainer.fit(agent, datamodule=data)

    together(2, work)


def test_the_first_key_that_differs_is_named():
    class Two(Ranks):
        def gather(self, thing):
            return [thing, thing | {"data.gamma": "0.9"}]

    with pytest.raises(ConfigError, match=r"^data.gamma: process 0 of this run has 0.99 and process 1 has 0.9; start"):
        check_alike(Two(0, 2), {"data.batch_size": "16", "data.gamma": "0.99"})


def test_a_process_that_goes_silent_ends_the_others(capfd):
    def work(rank):
        heartbeat.BEAT_SECONDS, heartbeat.SILENT_SECONDS = 0.2, 5.0
        torch.distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=SECONDS))
        heartbeat.Heartbeat(Ranks.now())
        Ranks.now().gather(rank)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        Ranks.now().gather(rank)  # waits in torch, where no exception reaches it

    together(2, work, [2, -signal.SIGKILL], after_first=lambda others: os.kill(others[0], signal.SIGKILL))
    assert "process 1 is silent for 5 s" in capfd.readouterr().err


@pytest.mark.slow
def test_a_first_process_that_dies_before_all_have_come_ends_those_that_have_by_its_silence(capfd, monkeypatch):
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 3.0)

    def work(rank):
        if rank == 2:  # has not come yet
            return
        trainer = make_trainer(strategy=ShardedStrategy(), devices=4)
        if rank == 0:
            hear = heartbeat.Heartbeat._hear

            def die_when_the_other_came(self):
                hear(self)
                if self._heard:
                    os.kill(os.getpid(), signal.SIGKILL)

            heartbeat.Heartbeat._hear = die_when_the_other_came
        trainer.fit(make_agent(), datamodule=make_data(num_envs=4, env_steps_per_update=4, shards=4))

    together(3, work, [-signal.SIGKILL, 2, 0])
    assert "process 0 is silent for 3 s" in capfd.readouterr().err


def test_who_has_not_come_is_named(monkeypatch):
    monkeypatch.setattr(strategy_module, "MEET_MINUTES", 0.01)

    def work(rank):
        trainer = make_trainer(strategy=ShardedStrategy(), devices=2)
        with pytest.raises(TrainingError, match=r"^not all of the 2 processes of this run came .* \(missing: 1\), so"):
            trainer.fit(make_agent(), datamodule=make_data(num_envs=2, env_steps_per_update=2, shards=2))

    together(1, work)


def test_a_process_whose_first_one_has_ended_does_not_look_for_it(capfd):
    def work(rank):
        os.environ[strategy_module.STARTED_BY] = "1234567"
        launcher = _Launcher(LightningEnvironment(), 2, 1)
        launcher.launch(lambda: time.sleep(SECONDS))

    together(1, work, [2])
    assert "another process of this run has ended before it began" in capfd.readouterr().err


def test_a_first_process_that_fails_before_they_meet_ends_those_that_it_started(monkeypatch):
    environment = LightningEnvironment()
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    launcher = _Launcher(environment, 2, 1)
    another = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(launcher, "_call_children_scripts", lambda: launcher.procs.append(subprocess.Popen(another)))

    def begin():
        raise TrainingError("the port is taken.")

    with pytest.raises(TrainingError, match="the port is taken"):
        launcher.launch(begin)
    assert launcher.procs[0].wait(SECONDS) == -signal.SIGTERM


def test_other_processes_have_a_logger_that_writes_nothing_for_callbacks_that_need_one(tmp_path, monkeypatch):
    # Lightning's LearningRateMonitor and DeviceStatsMonitor refuse to be without one, in each process.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # the Trainer sets it, and later tests are of the first process
    several = ["--data.shards=2", "--trainer.strategy=ddp", "--trainer.devices=2"]
    trainer = Prepared(["fit", "--config=cartpole", *several]).trainer
    assert trainer.loggers
    assert run_folder(trainer) is None


def test_torchrun_must_have_started_as_many_processes_on_a_machine_as_it_has_devices(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert rank_of_process({"strategy": "ddp", "devices": 2, "num_nodes": 1}) == 1
    with pytest.raises(ConfigError, match=r"devices: 1, and torchrun .* --trainer.devices 2 --trainer.num_nodes 1\.$"):
        rank_of_process({"strategy": "ddp", "devices": 1, "num_nodes": 2})


def test_a_port_that_is_taken_is_named_at_once():
    def work(rank):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))
            taken.listen()
            trainer = make_trainer(strategy=ShardedStrategy(), devices=2)
            with pytest.raises(ConfigError, match=r"^MASTER_PORT: \d+ is taken by another process of this machine"):
                trainer.fit(make_agent(), datamodule=make_data(num_envs=2, env_steps_per_update=2, shards=2))

    together(1, work)


def test_parts_in_several_processes_of_another_kind_refuse_before_anything_is_built():
    class Several:
        world_size, strategy = 2, object()

    agent, data = make_agent(), make_data()
    agent._trainer = data.trainer = Several()
    for part in (agent, data):
        with pytest.raises(ConfigError, match=r"trainer.strategy: this Trainer runs in 2 processes by object"):
            part.setup("test")
    assert data.collector is None


def test_processes_must_share_the_shards_alike():
    check_share(2, 4)
    with pytest.raises(ConfigError, match=r"trainer.devices: 4 processes cannot share 1 shard .* --data.shards 4"):
        check_share(4, 1)
    with pytest.raises(ConfigError, match=r"trainer.devices: 3 processes cannot share 4 shards .*; start fewer"):
        check_share(3, 4)


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "1"}, 1),
        ({"NODE_RANK": "1"}, 2),
        ({"NODE_RANK": "1", "LOCAL_RANK": "1"}, 3),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_JOB_NAME": "run"}, 2),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "1"}, 1),
    ],
)
def test_a_process_knows_which_one_it_is_before_it_is_connected(monkeypatch, environment, rank):
    for name in ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank_of_process({"strategy": "ddp", "devices": 2, "num_nodes": 2}) == rank
    assert rank_of_process({"strategy": "auto", "devices": 1}) == 0


def test_memory_is_counted_for_the_processes_of_a_machine(monkeypatch):
    data = make_data(num_envs=4, env_steps_per_update=4, shards=4, capacity=200)
    whole = data.replay_bytes(200)
    monkeypatch.setattr("lit_dqn.replay.memory.available_bytes", lambda: whole // 2 + 2**29 + 1)
    with pytest.raises(ConfigError, match="capacity: a replay of 200 timesteps"):
        data.check_memory()
    data.processes = 4
    data.check_memory(2)
    with pytest.raises(ConfigError, match="capacity: a replay of 200 timesteps"):
        data.check_memory(3)


def test_a_folder_that_a_machine_does_not_see_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(check_is_shared.__globals__, "SHOWN_SECONDS", 0.2)
    check_is_shared(tmp_path, 1)
    check_is_shared(tmp_path / "none", 0)
    with pytest.raises(ConfigError, match=r"save_dir: process 1 on .* does not see the run's folder"):
        check_is_shared(tmp_path / "none", 1)


def test_networks_of_two_processes_stay_alike():
    def work(rank):
        settings = {"max_steps": 4, "limit_val_batches": 0, "plugins": [ReplayCheckpointIO()]}
        trainer = make_trainer(strategy=ShardedStrategy(), devices=2, **settings)
        agent = make_agent()
        trainer.fit(agent, datamodule=make_data(num_envs=2, env_steps_per_update=2, shards=2))
        first, second = Ranks.now().gather(agent.state_dict())
        assert same(first, second)

    together(2, work)


def test_processes_that_could_not_save_what_they_have_are_refused_before_the_first_step():
    def work(rank):
        trainer = make_trainer(strategy=ShardedStrategy(), devices=2, max_steps=4)
        message = r"^trainer.plugins: each of 2 processes writes its part .* plugins=\[lit_dqn.ReplayCheckpointIO"
        with pytest.raises(ConfigError, match=message):
            trainer.fit(make_agent(), datamodule=make_data(num_envs=2, env_steps_per_update=2, shards=2))

    together(2, work)
