"""A run that is resumed is the run that never stopped; what cannot be, is said."""

import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Timer
from torch import nn

from helpers import CARTPOLE, make_data, make_trainer, read_checkpoint, run, same, tiny, verify_checkpoint
from lit_dqn import MLP, ConfigError, LitDQN, ReplayCheckpointIO, load_agent
from lit_dqn.commands.resume import _set_aside, resume_in_its_folder
from lit_dqn.commands.run_name import version_of_run
from lit_dqn.envs import make_vec
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import UniformRandom
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.replay import Replay, ReplayBuffer, Uniform
from lit_dqn.saving import checkpoint as checkpoint_module
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.find import find_checkpoint
from lit_dqn.saving.random_state import random_state, set_random_state
from prove_resume import differences, flat, points

FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL = ["--model.network.init_args.hidden_sizes=[8]"]
VALUES = {"0.1.0": [-0.028744947, -0.09155409], "0.2.0": [-0.028759595, -0.091566995]}
"""Q(s, ·) of one state, as each release has computed it."""

PROOF = Path(__file__).parents[1] / "prove_resume.py"


def checkpoints(version: int = 0) -> Path:
    return Path(f"lightning_logs/cartpole/version_{version}/checkpoints")


def state(path: Path) -> dict:
    """What a checkpoint holds, but for wall time, names of files and the count of resumes."""
    checkpoint = verify_checkpoint(path)
    for name in ("identity", "folder", "manifest_crc32"):
        del checkpoint["ReplayDataModule"]["replay"][name]
    for name in ("seconds", "logged_at"):
        del checkpoint["callbacks"]["TrainingStatistics"][name]
    del checkpoint["callbacks"]["Checkpoints"]["session"]
    return {"": dict(flat(checkpoint))}


# --- the proof itself ---


def test_a_run_killed_at_random_moments_and_stopped_by_signals_is_the_run_that_was_not():
    command = [sys.executable, PROOF, "--kills", "1", "--cases", "cartpole_ahead"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\| cartpole_ahead \| \d+ \| 1: .* \| 4 \| .* \| 0 \|", done.stdout)


def test_the_proof_sees_a_difference():
    one = {"weights": dict(flat({"a": torch.zeros(3), "b": [1, 2.0]}))}
    other = {"weights": dict(flat({"a": torch.tensor([0, 0, -0.0]), "b": [1, 2.0]}))}
    assert differences(one, one) == []
    assert differences(one, other) == ["weights/a"]


# --- envs ---


class Noisy(gymnasium.Env):
    """Shows what no seed decides from the step `noisy_from` on."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, noisy_from: int) -> None:
        self.noisy_from = noisy_from

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.random(2, np.float32), {}

    def step(self, action):
        self.t += 1
        random = np.random.default_rng() if self.t >= self.noisy_from else self.np_random
        return random.random(2, np.float32), float(action), self.t == 50, False, {}


def collector_of(envs, frame_stack: int = 1) -> Collector:
    shape = envs.single_observation_space.shape
    replay = ReplayBuffer(300, envs.num_envs, shape, np.float32, gamma=0.9, n_step=3, frame_stack=frame_stack)
    return Collector(Player(envs, frame_stack, seed=3), UniformRandom(), Replay(replay, Uniform()))


class Agent:
    num_actions = 2


def resumed(collector: Collector, envs, resume_env: ResumeEnv = ResumeEnv.exact) -> Collector:
    other = collector_of(envs, collector.store.buffer.frame_stack)
    other.store.buffer.load_state_dict(collector.store.buffer.state_dict())
    other.load_state_dict(collector.state_dict(), resume_env)
    return other


@pytest.mark.parametrize("played", [1, 30, 137])
def test_envs_that_are_played_again_go_on_as_if_nothing_had_been(played):
    one = collector_of(make_vec("CartPole-v1", 3), frame_stack=4)
    one.collect(Agent(), 3 * played)
    other = resumed(one, make_vec("CartPole-v1", 3))
    assert len({len(episode["actions"]) for episode in one.state_dict()["running"]}) > 1 or played == 1
    for collector in (one, other):
        collector.collect(Agent(), 3 * 60)
    assert dict(flat(one.state_dict())) == dict(flat(other.state_dict()))
    assert np.array_equal(one.players.stage.observation, other.players.stage.observation)
    starts = np.array(one.store.buffer.starts)
    for a, b in zip(one.store.buffer.sample(starts).tensors, other.store.buffer.sample(starts).tensors, strict=True):
        assert torch.equal(a, b)


def test_an_env_that_cannot_be_restored_is_named_and_only_it_restarts(caplog):
    def envs():
        return SyncVectorEnv(
            [lambda number=number: Noisy(number) for number in (100, 5)], autoreset_mode=AutoresetMode.DISABLED
        )

    one = collector_of(envs())
    one.collect(Agent(), 2 * 20)
    other = resumed(one, envs())
    assert "env 1 cannot be restored" in caplog.text
    assert "env 0" not in caplog.text
    assert [len(episode["actions"]) for episode in other.state_dict()["running"]] == [20, 0]
    assert other.state_dict()["episode_of_env"] == [1, 2]
    # The episode that was cut is a truncation: its windows are complete, and its end is no terminal.
    assert len(other.store.buffer.starts) == len(one.store.buffer.starts) + 2
    assert other.store.buffer.sample(np.array(other.store.buffer.starts)).discount.min() > 0


def test_new_episodes_can_be_asked_for():
    one = collector_of(make_vec("CartPole-v1", 2))
    one.collect(Agent(), 2 * 20)
    other = resumed(one, make_vec("CartPole-v1", 2), ResumeEnv.new_episode)
    assert other.state_dict()["running"] == []
    other.collect(Agent(), 2)
    assert other.state_dict()["episode_of_env"] == [number + 1 for number in one.state_dict()["episode_of_env"]]


# --- generators ---


def draws() -> list[float]:
    from_numpy = np.random.random()  # noqa: NPY002 - the global one
    return [random.random(), from_numpy, torch.rand(()).item()]


def test_the_global_generators_go_on_where_they_stood():
    state = random_state()
    drawn = draws()
    assert draws() != drawn
    set_random_state(state)
    assert draws() == drawn


class Forgetful(nn.Sequential):
    """A network that draws random numbers while it learns."""

    def __init__(self, shape, actions):
        super().__init__(nn.Linear(*shape, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, actions))


def test_a_network_with_dropout_learns_on_as_if_it_had_never_stopped(tmp_path):
    def fit(epochs, ckpt_path=None):
        agent, data = LitDQN((4,), 2, network=Forgetful), make_data()
        trainer = make_trainer(max_epochs=epochs, plugins=[ReplayCheckpointIO()])
        trainer.fit(agent, datamodule=data, ckpt_path=ckpt_path, weights_only=False)
        return trainer

    def weights(trainer):
        return trainer.lightning_module.online.state_dict().values()

    torch.manual_seed(1)
    whole = fit(3)
    torch.manual_seed(1)
    fit(1).save_checkpoint(tmp_path / "first.ckpt")
    torch.manual_seed(2)
    assert all(map(torch.equal, weights(whole), weights(fit(3, tmp_path / "first.ckpt"))))


# --- the command line ---


def test_a_run_resumes_in_another_folder_from_a_path_and_keeps_its_best(folder, monkeypatch, capfd):
    further = tiny(**{"stop.max_env_steps": 400})
    assert run(monkeypatch, "fit", *CARTPOLE, *further) == 0
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    assert run(monkeypatch, "fit", *CARTPOLE, *further, f"--ckpt_path={checkpoints(1)}") == 0
    assert differences(state(checkpoints(0) / "last.ckpt"), state(checkpoints(2) / "last.ckpt")) == []
    assert (checkpoints(2) / "best.ckpt").exists()


def test_resuming_in_its_folder_keeps_the_loggers_other_settings():
    checkpoint = Checkpoint({"env_step": 80}, Path("runs/version_3/checkpoints/last.ckpt"))
    logger = Namespace(class_path="TensorBoardLogger", init_args=Namespace(), dict_kwargs={"flush_secs": 5})
    resume_in_its_folder(checkpoint, logger)
    assert logger.dict_kwargs == {"flush_secs": 5, "purge_step": 81}
    assert logger.init_args.version == "version_3"


def test_the_command_line_wins_over_the_file_and_the_file_over_the_checkpoint(folder, monkeypatch, capsys):
    own = ["--model.learning_rate=null"]  # the file's schedule would set the optimiser's
    settings = ["--model.max_grad_norm=3", "--model.optimizer.init_args.lr=0.001", "--data.eval_max_steps=7"]
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), *own, "--model.target_update_tau=0.5", *settings) == 0
    capsys.readouterr()
    further = tiny(**{"stop.max_env_steps": 140})
    arguments = [*own, "--model.optimizer.init_args.lr=0.002", "--ckpt_path=last"]
    assert run(monkeypatch, "fit", *CARTPOLE, *further, *arguments) == 0
    said = capsys.readouterr().err
    last = Path("lightning_logs/cartpole/version_0/checkpoints/env_step_104.ckpt")
    assert said.count(f"resume: {last}, env step 104\n") == 1
    assert "resume: model.optimizer.init_args.lr is 0.002 now; it was 0.001 in the checkpoint" in said
    assert "resume: model.max_grad_norm is 10.0 now; it was 3.0 in the checkpoint" in said  # the file says 10
    assert "resume: data.eval_max_steps is 5 now; it was 7 in the checkpoint" in said
    assert "target_update_tau" not in said
    checkpoint = read_checkpoint(checkpoints() / "last.ckpt")
    assert checkpoint["hyper_parameters"]["target_update_tau"] == 0.5  # of which neither speaks
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 0.002
    model = yaml.safe_load((checkpoints().parent / "config.yaml").read_text())["model"]
    assert model["init_args"]["target_update_tau"] == 0.5


def test_what_cannot_change_is_refused(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    kept = (checkpoints().parent / "config.yaml").read_text()
    for argument, sentence in [
        ("--data.env_id=Acrobot-v1", "there is no last.ckpt under lightning_logs/cartpole-Acrobot-v1"),  # another run
        ("--data.env_kwargs={'sutton_barto_reward': true}", "env_kwargs: the checkpoint was made with {}, not"),
        ("--model.network.init_args.hidden_sizes=[60, 84]", "cannot be resumed with another; set --model.network"),
        ("--model.network=lit_dqn.NatureCNN", "NatureCNN takes images"),
        ("--model.optimizer=torch.optim.SGD", "optimizer: the checkpoint's optimiser has other settings"),
        ("--model.target_update_period=null", "target network, and cannot be resumed without one; set --model.target_"),
        ("--data.updates_per_epoch=32", "updates_per_epoch: the checkpoint was made with 16, not 32"),
        ("--data.num_envs=4", "num_envs: the checkpoint was made with 8, not 4"),
    ]:
        capsys.readouterr()
        assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), "--ckpt_path=last", argument) == 2
        assert re.search(sentence, capsys.readouterr().err), argument
        assert (checkpoints().parent / "config.yaml").read_text() == kept, argument


def test_without_its_replay_a_run_fills_it_again_and_says_that_it_is_another(folder, monkeypatch, capsys):
    arguments = [*CARTPOLE, *tiny(), "--checkpoints.save_replay=false"]
    assert run(monkeypatch, "fit", *arguments) == 0
    assert not list(folder.rglob("*.replay"))
    env_steps = read_checkpoint(checkpoints() / "last.ckpt")["env_step"]
    further = tiny(**{"stop.max_env_steps": 150})
    assert run(monkeypatch, "fit", *CARTPOLE, *further, "--ckpt_path=last") == 0
    assert "filled again with 40 env steps before learning continues, so from here on the run is not" in (
        capsys.readouterr().err
    )
    assert env_steps == 104
    assert read_checkpoint(checkpoints() / "last.ckpt")["env_step"] == 104 + 40 + 32


def test_a_damaged_replay_is_passed_over_and_if_there_is_no_other_filled_again(folder, monkeypatch, capsys):
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    for path in folder.rglob("env_0_row_0"):
        path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    further = tiny(**{"stop.max_env_steps": 150})
    assert run(monkeypatch, "fit", *CARTPOLE, *further, "--ckpt_path=last") == 0
    said = capsys.readouterr().err
    assert re.search(r"env_step_104\.ckpt is skipped: .*env_0_row_0 is cut short", said)
    assert "all but the replay is" in said
    assert "is filled again" in said


def test_a_run_without_a_tensorboard_keeps_the_points_of_its_csv(folder, monkeypatch):
    logger = [
        "--trainer.logger=CSVLogger",
        "--trainer.logger.save_dir=lightning_logs",
        "--trainer.logger.name=cartpole",
    ]
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), *logger) == 0
    before = (checkpoints().parent / "metrics.csv").read_text()
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"stop.max_env_steps": 150}), *logger, "--ckpt_path=last") == 0
    assert (checkpoints().parent / "metrics_to_env_step_104.csv").read_text() == before


# --- stopping ---


def interrupting(monkeypatch, at: int, act) -> None:
    """Let something happen in the `at`-th training step."""
    training_step, calls = LitDQN.training_step, []

    def step(agent, chunk, batch_idx):
        calls.append(batch_idx)
        if len(calls) == at:
            act()
        return training_step(agent, chunk, batch_idx)

    monkeypatch.setattr(LitDQN, "training_step", step)


def test_a_second_ctrl_c_ends_the_run_at_once_without_harm(folder, monkeypatch, capfd):
    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    interrupting(monkeypatch, 4, twice)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"stop.max_env_steps": 1000})) == 130
    said = capfd.readouterr().err
    assert "SIGINT: the run saves its state after this chunk and ends; Ctrl-C again ends it at once" in said
    assert "stopped at once. The last good checkpoint is" in said
    assert find_checkpoint("last", checkpoints().parent.parent, replay=True).path.name == "env_step_104.ckpt"
    assert signal.getsignal(signal.SIGINT) == handler


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError])
def test_an_exception_leaves_the_last_saved_state_and_names_it(folder, monkeypatch, capfd, error):
    def breaks():
        raise error("broken")

    interrupting(monkeypatch, 4, breaks)
    with pytest.raises(error):
        run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"stop.max_env_steps": 1000}))
    said = capfd.readouterr().err
    assert f"the run failed. The last good checkpoint is {checkpoints()}/env_step_104.ckpt. Resume from it with" in said


def test_a_run_that_fails_before_its_first_checkpoint_offers_none(folder, monkeypatch, capfd):
    interrupting(monkeypatch, 1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, "fit", *CARTPOLE, *tiny())
    assert "the run failed. No checkpoint was written yet.\n" in capfd.readouterr().err


def test_a_run_that_ends_by_time_or_by_a_limit_in_mid_epoch_is_the_beginning_of_a_longer_one(
    folder, monkeypatch, capfd
):
    further = tiny(**{"stop.max_env_steps": 400, "trainer.check_val_every_n_epoch": 1000})
    assert run(monkeypatch, "fit", *CARTPOLE, *further) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Timer, "_check_time_remaining", lambda self, trainer: stop_at(trainer, 3))
        assert run(monkeypatch, "fit", *CARTPOLE, *further, "--trainer.max_time=00:01:00:00") == 0
    assert (checkpoints(1) / "best.ckpt").exists()  # the last weights are graded, though no evaluation was due
    last = read_checkpoint(checkpoints(1) / "last.ckpt")
    assert last["global_step"] == 24
    assert last["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["completed"] == 1
    assert run(monkeypatch, "fit", *CARTPOLE, *further, "--ckpt_path=last") == 0
    # The evaluation in which the stopped run has ended is one more, and nothing else is.
    different = differences(state(checkpoints(0) / "last.ckpt"), state(checkpoints(1) / "last.ckpt"))
    assert different == ["/callbacks/EpisodeView/evaluations", "/callbacks/MazeView/evaluations"]


@pytest.mark.parametrize("evaluated", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_finished_run_that_is_resumed_adds_nothing(folder, monkeypatch, evaluated):
    maze = ["--data.env_id=lit_dqn/Maze-v0", "--data.env_kwargs={'observation': 'one_hot', 'max_episode_steps': 8}"]
    settings = [*tiny(), *maze, *([] if evaluated else ["--trainer.limit_val_batches=0"])]
    assert run(monkeypatch, "fit", *CARTPOLE, *settings) == 0
    (version,) = folder.glob("lightning_logs/*/version_0")
    before = points(version), (version / "episodes.csv").read_text()
    assert {"train/loss", "rollout/ep_rew", "actions"} <= before[0].keys()
    for _ in range(2):
        assert run(monkeypatch, "fit", *CARTPOLE, *settings, "--ckpt_path=last") == 0
    after = points(version), (version / "episodes.csv").read_text()
    assert [tag for tag in after[0] if after[0][tag] != before[0].get(tag)] == []
    assert after == before


def stop_at(trainer, chunks):
    if trainer.fit_loop.total_batch_idx + 1 >= chunks:
        trainer.should_stop = True


# --- what lies about ---


class Malicious:
    def __reduce__(self):
        return os.system, ("touch was_here",)


def test_a_checkpoint_that_would_run_code_is_refused(folder, monkeypatch, capsys):
    torch.save({"state_dict": Malicious(), "env_step": 0}, folder / "bad.ckpt")
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), "--ckpt_path=bad.ckpt") == 2
    assert "error: ckpt_path: bad.ckpt holds more than tensors and plain values" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"init_from: .*bad\.ckpt"):
        LitDQN((4,), 2, network=MLP, init_from=str(folder / "bad.ckpt"))
    assert not (folder / "was_here").exists()


@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
def test_the_checkpoint_of_a_release_still_resumes(folder, monkeypatch, capsys, release):
    """The run of `tiny()`, with hidden sizes [8]; made once with each release, never again."""
    fixture, limit = FIXTURES / f"cartpole_{release}", {"stop.max_env_steps": 200}
    last = fixture / "checkpoints/last.ckpt"
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**limit), *SMALL, f"--ckpt_path={fixture}") == 0
    said = capsys.readouterr().err
    assert f"resume: {last}, env step 104\n" in said
    assert " now; it was " not in said
    before, after = verify_checkpoint(last), read_checkpoint(checkpoints() / "last.ckpt")
    assert (before["env_step"], after["env_step"]) == (104, 200)
    assert after["ReplayDataModule"]["collector"]["episodes"] > before["ReplayDataModule"]["collector"]["episodes"]


@pytest.mark.parametrize("release", ["0.1.0", "0.2.0"])
def test_the_checkpoint_of_a_release_holds_the_agent_that_it_held(release):
    last = FIXTURES / f"cartpole_{release}/checkpoints/last.ckpt"
    saved, agent = torch.load(last, weights_only=True), load_agent(last)
    assert same(saved["state_dict"], agent.state_dict())
    assert agent.env_step == 104
    assert Checkpoint.read(last).agent == "LitDQN"
    (values,) = agent.preferences(np.array([[0.1, -0.2, 0.3, -0.4]], np.float32))
    assert values == pytest.approx(VALUES[release], rel=1e-5)


@pytest.mark.parametrize(
    "verb", ["fit", "test", *(pytest.param(verb, marks=pytest.mark.slow) for verb in ("validate", "predict", "export"))]
)
def test_a_command_reads_its_checkpoint_once(folder, monkeypatch, verb):
    shutil.copytree(FIXTURES / "cartpole_0.2.0", folder / "lightning_logs/cartpole/version_0")
    os.link(checkpoints() / "last.ckpt", checkpoints() / "best.ckpt")  # as in the run that it is of
    read, inodes = checkpoint_module.read_archive, []

    def counted(path):
        inodes.append(path.stat().st_ino)
        return read(path)

    monkeypatch.setattr(checkpoint_module, "read_archive", counted)
    last = (checkpoints() / "last.ckpt").stat().st_ino
    assert run(monkeypatch, verb, *CARTPOLE, *tiny(**{"stop.max_env_steps": 200}), *SMALL, "--ckpt_path=last") == 0
    assert inodes.count(last) == 1


def test_last_is_the_newest_version_and_in_it_the_latest_whole_env_step(folder, monkeypatch, caplog):
    for _ in range(2):
        assert run(monkeypatch, "fit", *CARTPOLE, *tiny(**{"stop.max_env_steps": 200})) == 0
    runs = checkpoints().parent.parent
    assert find_checkpoint("last", runs).path == checkpoints(1) / "env_step_200.ckpt"
    (checkpoints(1) / "env_step_200.ckpt").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint("last", runs).path == checkpoints(1) / "env_step_168.ckpt"
    assert "env_step_200.ckpt is skipped" in caplog.text
    # The best was that of 200; when this one was saved it was the best.
    assert find_checkpoint("best", runs).path == checkpoints(1) / "env_step_168.ckpt"
    assert find_checkpoint(str(checkpoints(0).parent), None).path == checkpoints(0) / "env_step_200.ckpt"
    with pytest.raises(ConfigError, match=r"no last\.ckpt under"):
        find_checkpoint("last", folder)


def test_in_a_version_of_its_own_last_and_best_are_those_of_this_version(folder, monkeypatch, capsys):
    for seed in (1, 2):
        assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), f"--seed_everything={seed}") == 0
    older = checkpoints(0).parent
    for which in ("last", "best"):
        assert find_checkpoint(which, older.parent, version="version_0").path.parent == checkpoints(0)
    assert run(monkeypatch, "test", f"--config={older}/config.yaml", "--ckpt_path=last") == 0
    assert f"agent: {older}/checkpoints/env_step_" in capsys.readouterr().err
    missing = "--trainer.logger.init_args.version=7"
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), missing, "--ckpt_path=last") == 2
    assert "there is no last.ckpt under lightning_logs/cartpole/version_7 yet" in capsys.readouterr().err


def test_the_version_that_is_meant_is_that_of_the_logger_or_of_a_runs_own_config(folder):
    runs = checkpoints().parent.parent
    checkpoints(0).mkdir(parents=True)
    own, other, copied = (
        f"{runs}/version_0/config.yaml",
        f"{runs}/version_1/config.yaml",
        "elsewhere/version_0/config.yaml",
    )
    Path("elsewhere/version_0/checkpoints").mkdir(parents=True)
    for files, version, meant in [
        ([own], None, "version_0"),
        ([own, "mine.yaml"], None, "version_0"),
        ([own], 3, "version_3"),
        (["mine.yaml"], "named", "named"),
        (["mine.yaml"], None, None),
        ([None], None, None),
        ([other], None, None),
        ([copied], None, None),
    ]:
        arguments = Namespace(save_dir="lightning_logs", name="cartpole", version=version)
        logger = Namespace(class_path="lightning.pytorch.loggers.CSVLogger", init_args=arguments)
        config = Namespace(config=files, trainer=Namespace(logger=logger))
        assert version_of_run(config, runs) == meant, (files, version)


OWN = """
import gymnasium
from torch import nn

class Net(nn.Sequential):
    def __init__(self, observation_shape: tuple[int, ...], num_outputs: int, units: int = 8,
                 activation: type[nn.Module] = nn.ReLU, name: str | nn.Module = "plain"):
        super().__init__(nn.Linear(*observation_shape, units), activation(), nn.Linear(units, num_outputs))

class Other(Net):
    pass

gymnasium.register("Own-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
"""


def test_a_run_of_own_classes_resumes_if_its_config_names_them_and_not_by_the_word_of_its_checkpoint(
    folder, monkeypatch, capsys
):
    (folder / "own_parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    own = [
        "--model.network=own_parts.Net",
        "--model.network.activation=torch.nn.Tanh",
        "--data.env_id=own_parts:Own-v0",
    ]
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny(), *own) == 0
    (folder_of_run,) = Path("lightning_logs").glob("*/version_0")
    last = folder_of_run / "checkpoints/last.ckpt"
    config = ("--config", folder_of_run / "config.yaml")
    assert run(monkeypatch, "test", *config, f"--ckpt_path={last}") == 0
    assert run(monkeypatch, "fit", *config, "--stop.max_env_steps=120", "--ckpt_path=last") == 0
    player = ["--data.policy=CheckpointPolicy", f"--data.policy.checkpoint={last}"]
    player += ["--data.policy.trust=[own_parts.Net]", "--model=LitTD", "--trainer.logger.name=td"]
    player += [f"--data.{key}policy=UniformRandom" for key in ("warm_up_", "eval_")]
    td = ["--data.env_id=own_parts:Own-v0", "--model.network=lit_dqn.MLP", *player]
    assert run(monkeypatch, "fit", *tiny(), *td) == 0
    assert run(monkeypatch, "fit", *tiny(**{"stop.max_env_steps": 120}), *td, "--ckpt_path=last") == 0
    monkeypatch.delitem(sys.modules, "own_parts")
    for others, part in (
        (["--data.env_id=Own-v0"], "own_parts:Own-v0 as its env_id, which would import own_parts"),
        (["--data.env_id=own_parts:Own-v0"], r"own_parts\.Net as its network, not a class that a checkpoint may"),
        (["--data.env_id=own_parts:Own-v0", "--model.network=own_parts.Other"], r"own_parts\.Net as its network"),
    ):
        capsys.readouterr()
        assert run(monkeypatch, "test", *others, f"--ckpt_path={last}") == 2
        assert re.search(
            rf"error: ckpt_path: the checkpoint names {part}.*give the run's --config", capsys.readouterr().err
        )


def test_the_points_of_a_csv_outlive_a_run_that_is_killed_twice_from_one_checkpoint(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,loss\n100,1.0\n200,2.0\n300,3.0\n")
    _set_aside(metrics, 200)
    kept = tmp_path / "metrics_to_env_step_200.csv"
    assert kept.read_text().split() == ["step,loss", "100,1.0", "200,2.0"]
    metrics.write_text("step,loss\n210,2.1\n")  # what the logger wrote until the run was killed again
    _set_aside(metrics, 200)
    assert kept.read_text().split() == ["step,loss", "100,1.0", "200,2.0"]


@pytest.mark.parametrize("torn", ["300,3.", "300,3.0", "3", "300,3.0\r"])
def test_a_last_line_of_a_csv_that_a_killed_run_left_half_written_is_dropped(tmp_path, torn):
    metrics = tmp_path / "metrics.csv"
    metrics.write_bytes(f"step,loss\r\n100,1.0\r\n200,2.0\r\n{torn}".encode())
    _set_aside(metrics, 400)
    kept = tmp_path / "metrics_to_env_step_400.csv"
    assert kept.read_bytes() == b"step,loss\r\n100,1.0\r\n200,2.0\r\n"


@pytest.mark.parametrize("content", ["", "step,lo"])
def test_a_csv_that_a_killed_run_left_without_points_has_none_to_keep(tmp_path, content):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(content)
    _set_aside(metrics, 400)
    assert list(tmp_path.iterdir()) == [metrics]
