"""Whole runs on the GPU: the ways agree, a killed run is the run that was not, and runs move between CPU and GPU."""

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import lightning
import pytest
import torch

from audit import AUDIT_ENV
from helpers import read_checkpoint
from lit_dqn import (
    MLP,
    CategoricalHead,
    CategoricalQLearning,
    DoubleQLearning,
    EpsilonGreedy,
    Exponential,
    Greedy,
    HLGauss,
    ImpalaCNN,
    ImplicitQuantileHead,
    ImplicitQuantileLearning,
    Latest,
    Linear,
    LitActorCritic,
    LitDQN,
    LitTD,
    Munchausen,
    Prioritized,
    QLearning,
    ReplayDataModule,
    Rollout,
    Softmax,
    TrainingError,
    UniformRandom,
)
from lit_dqn.commands.cli import main

ROOT = Path(__file__).parents[2]
ACCELERATOR = "gpu"
SMALL = partial(MLP, hidden_sizes=(16,))


class Watch(lightning.Callback):
    """What was used, and what came out."""

    def __init__(self):
        self.outputs, self.captured, self.on_device = [], False, False

    def on_train_batch_end(self, trainer, agent, outputs, chunk, *args):
        self.outputs.append({name: value.clone() for name, value in outputs.items()})
        self.captured = agent._learner.captured
        self.on_device = trainer.datamodule.store.device.type == "cuda"


def fit(make=LitDQN, *, updates=64, precision="32-true", accelerator=None, agent_settings=None, **settings):
    """(agent, data, watch, trainer) after a short run."""
    torch.manual_seed(0)
    data = ReplayDataModule(
        **{
            "env_id": "CartPole-v1",
            "num_envs": 4,
            "capacity": 300,
            "min_replay_size": 64,
            "batch_size": 16,
            "gradient_steps": 4,
            "updates_per_epoch": 32,
            "n_step": 2,
            "eval_episodes": 2,
            "eval_max_steps": 20,
            "policy": EpsilonGreedy(0.3),
            "seed": 0,
        }
        | settings
    )
    agent = make(
        data.observation_shape,
        data.num_actions,
        **{"network": SMALL, "optimizer": partial(torch.optim.Adam, lr=2**-10, fused=True)} | (agent_settings or {}),
    )
    watch = Watch()
    trainer = lightning.Trainer(
        accelerator=accelerator or ACCELERATOR,
        devices=1,
        max_steps=updates,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch],
    )
    trainer.fit(agent, datamodule=data)
    return agent, data, watch, trainer


def differences(one, other):
    """Names of weights, outputs and counters that differ."""
    (agent, data, watch, trainer), (agent_2, data_2, watch_2, trainer_2) = one, other
    found = [
        name
        for name, value in agent.state_dict().items()
        if not torch.equal(value.cpu(), agent_2.state_dict()[name].cpu())
    ]
    for number, (outputs, outputs_2) in enumerate(zip(watch.outputs, watch_2.outputs, strict=True)):
        found += [f"{name} of chunk {number}" for name in outputs if not torch.equal(outputs[name], outputs_2[name])]
    arrays, arrays_2 = (part.collector.store.buffer.state_dict()["arrays"] for part in (data, data_2))
    found += [f"replay's {name}" for name in arrays if not torch.equal(arrays[name], arrays_2[name])]
    if trainer.global_step != trainer_2.global_step:
        found.append("global_step")
    return found


DOUBLE = {"objective": DoubleQLearning(huber_delta=1.0), "target_update_period": 5, "max_grad_norm": 1.0}
PIXELS = {"env_id": AUDIT_ENV, "env_kwargs": {"image": True}, "frame_stack": 3}
RUNS = {
    "cartpole": ({"agent_settings": DOUBLE}, {}),
    "ahead": ({"agent_settings": DOUBLE}, {"play_ahead": True}),
    "bf16": ({"agent_settings": DOUBLE, "precision": "bf16-mixed"}, {}),
    "images": ({"agent_settings": DOUBLE}, PIXELS),
    "td": ({"make": LitTD}, {"policy": UniformRandom(), "eval_policy": UniformRandom()}),
    "actor-critic": (
        {"make": LitActorCritic},
        {
            "policy": Softmax(Linear(1.0, 0.5, 2000)),
            "sampler": Latest(),
            "gradient_steps": 1,
            "env_steps_per_update": 16,
        },
    ),
    "rainbow": (
        {
            "agent_settings": {
                "network": partial(SMALL, dueling=True, noise=0.5, head=partial(CategoricalHead, v_min=-5, v_max=50)),
                "objective": CategoricalQLearning(double=True),
            }
        },
        {"sampler": Prioritized(0.5, 0.5), "policy": Greedy(), "eval_policy": Greedy()},
    ),
    "munchausen iqn, impala": (
        {
            "agent_settings": {
                "network": partial(ImpalaCNN, width=1, dense_size=16, noise=0.5, head=ImplicitQuantileHead),
                "objective": ImplicitQuantileLearning(
                    num_samples=8, num_target_samples=8, munchausen=Munchausen(0.9, 0.03, -1.0)
                ),
            }
        },
        {"env_id": "lit_dqn/Maze-v0", "frame_stack": 2, "sampler": Prioritized(0.2, 0.5), "play_ahead": True},
    ),
    "hl-gauss, layer norm": (
        {
            "agent_settings": {
                "network": partial(
                    SMALL, layer_norm=True, head=partial(CategoricalHead, v_min=-5, v_max=50, num_atoms=21)
                ),
                "objective": CategoricalQLearning(target=HLGauss()),
            }
        },
        {"n_step": Linear(5, 1, 500), "gamma": Exponential(0.9, 0.99, 500, towards=1.0)},
    ),
    "pqn": (
        {
            "agent_settings": {
                "network": partial(SMALL, layer_norm=True),
                "objective": QLearning(huber_delta=None),
                "target_update_period": None,
            }
        },
        {
            "sampler": Rollout(0.65),
            "capacity": 256,
            "min_replay_size": 0,
            "env_steps_per_update": 16,
            "gradient_steps": 16,
            "n_step": 1,
        },
    ),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_run_by_graph_and_replay_on_the_gpu_is_the_eager_run_with_its_replay_on_the_host(case):
    arguments, settings = RUNS[case]
    run = fit(**arguments, **settings)
    assert run[3].global_step == 64
    assert run[2].captured
    assert run[2].on_device is (case != "pqn")  # a rollout stays on the host, which sends its batches
    arguments = {**arguments, "agent_settings": {**arguments.get("agent_settings", {}), "update": "eager"}}
    eager = fit(**arguments, **settings, replay_device="cpu")
    assert not eager[2].captured
    assert not eager[2].on_device
    assert not differences(run, eager)


def test_each_of_the_two_alone():
    whole = fit(agent_settings=DOUBLE)
    eager = fit(agent_settings={**DOUBLE, "update": "eager"})
    on_host = fit(agent_settings=DOUBLE, replay_device="cpu")
    assert (eager[2].captured, eager[2].on_device) == (False, True)
    assert (on_host[2].captured, on_host[2].on_device) == (True, False)
    assert (differences(whole, eager), differences(whole, on_host)) == ([], [])


@pytest.mark.parametrize("way", ["auto", "eager"])
def test_playing_ahead_is_the_same_each_time(way):
    runs = [fit(agent_settings={**DOUBLE, "update": way}, play_ahead=True, updates=200) for _ in range(3)]
    assert (differences(runs[0], runs[1]), differences(runs[0], runs[2])) == ([], [])


class Explodes(DoubleQLearning):
    """Its loss is infinite where rewards are large."""

    def __call__(self, online, target, batch):
        output = super().__call__(online, target, batch)
        return output._replace(loss=torch.where(batch.reward.sum() > 1e3, torch.inf, output.loss))


class LargeRewards(lightning.Callback):
    """Makes all rewards of the replay large after five chunks."""

    def on_train_batch_end(self, trainer, agent, outputs, chunk, batch_idx):
        if batch_idx == 4:
            trainer.datamodule.collector.store.buffer._reward[:] = 1e6


def test_a_loss_that_is_not_finite_is_reported_with_its_update_one_chunk_later():
    data = ReplayDataModule(
        "CartPole-v1", num_envs=4, capacity=300, min_replay_size=64, gradient_steps=4, updates_per_epoch=64, seed=0
    )
    trainer = lightning.Trainer(
        accelerator=ACCELERATOR,
        max_steps=64,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[LargeRewards()],
    )
    agent = LitDQN((4,), 2, network=SMALL, objective=Explodes(), target_update_period=5)
    with pytest.raises(TrainingError, match=r"became inf at update 21 \(env step"):
        trainer.fit(agent, datamodule=data)
    assert trainer.global_step == 28  # the chunk after the sixth was launched before anybody looked


CARTPOLE = [
    "fit",
    f"--config={ROOT}/configs/cartpole.yaml",
    "--data.capacity=1500",
    "--data.min_replay_size=400",
    "--data.updates_per_epoch=80",
    "--data.eval_episodes=2",
    "--data.eval_max_steps=60",
    "--trainer.log_every_n_steps=7",
    "--trainer.enable_progress_bar=false",
]
PONG = [
    "fit",
    f"--config={ROOT}/configs/atari/pong.yaml",
    "--data.capacity=1200",
    "--data.min_replay_size=400",
    "--data.updates_per_epoch=80",
    "--data.eval_episodes=1",
    "--data.eval_max_steps=40",
    "--data.policy.init_args.epsilon=0.2",
    "--checkpoints.every_n_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--model.target_update_period=25",
    "--trainer.log_every_n_steps=3",
    "--trainer.enable_progress_bar=false",
    "--stop.max_env_steps=1200",
]
PATIENCE = 120
RUN_WITH_A_KILL = """
import sys
from prove_resume import Phases
phases = Phases(sys.argv[1], int(sys.argv[2]))
phases.watch()
from lit_dqn.commands.cli import main
main(sys.argv[3:])
"""


def start(folder, phase, number, command):
    folder.mkdir(exist_ok=True)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    output = (folder / "output.txt").open("a")
    return subprocess.Popen(
        [sys.executable, "-c", RUN_WITH_A_KILL, phase, str(number), *command, f"--trainer.accelerator={ACCELERATOR}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=output,
        stderr=subprocess.STDOUT,
    )


KILLED = {
    "cartpole": [*CARTPOLE, "--stop.max_env_steps=4000"],
    "cartpole, ahead, bf16": [
        *CARTPOLE,
        "--stop.max_env_steps=4000",
        "--data.play_ahead=true",
        "--trainer.precision=bf16-mixed",
    ],
    "pong": PONG,
    "pong, ahead": [*PONG, "--data.play_ahead=true"],
}


class Pieces:
    """A run, and beside it one that is killed and resumed; both begin at once."""

    def __init__(self, folder, command):
        self.whole, self.pieces = folder / "whole", folder / "pieces"
        self.command = command
        killed_at = 20 if command[1].endswith("pong.yaml") else 25
        self.first = start(self.whole, "", 0, command), start(self.pieces, "learning", killed_at, command)
        self.resumed = threading.Thread(target=self._resume, daemon=True)
        self.codes = []
        self.resumed.start()

    def _resume(self):
        self.codes = [process.wait() for process in reversed(self.first)]
        self.codes.append(start(self.pieces, "", 0, [*self.command, "--ckpt_path=last"]).wait())


@pytest.fixture(scope="module")
def killed_runs(tmp_path_factory):
    """All of them side by side, for most of their time goes into imports."""
    at_hand = {name: command for name, command in KILLED.items() if "pong" not in name or find_spec("ale_py")}
    return {name: Pieces(tmp_path_factory.mktemp("killed"), command) for name, command in at_hand.items()}


@pytest.mark.parametrize("name", KILLED)
def test_a_run_that_was_killed_is_the_run_that_was_not(name, killed_runs):
    from prove_resume import differences, fingerprints

    if name not in killed_runs:
        pytest.skip("ale_py is not installed")
    runs = killed_runs[name]
    runs.resumed.join(PATIENCE)
    said = "\n".join((folder / "output.txt").read_text()[-3000:] for folder in (runs.whole, runs.pieces))
    assert runs.codes == [-signal.SIGKILL, 0, 0], said
    found = differences(fingerprints(runs.whole), fingerprints(runs.pieces))
    assert not found, f"{len(found)} differ: {found[:12]}"


def test_a_run_moves_from_the_cpu_to_the_gpu_and_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    groups, steps = [], []
    for number, (accelerator, env_steps) in enumerate(
        [("cpu", 1500), (ACCELERATOR, 2500), ("cpu", 3500), (ACCELERATOR, 4000)]
    ):
        resume = ["--ckpt_path=last"] if number else []
        main([*CARTPOLE, f"--trainer.accelerator={accelerator}", f"--stop.max_env_steps={env_steps}", *resume])
        (path,) = tmp_path.glob("lightning_logs/*/*/checkpoints/last.ckpt")
        checkpoint = read_checkpoint(path)
        (state,) = checkpoint["optimizer_states"]
        groups.append([{k: v for k, v in group.items() if k != "lr"} for group in state["param_groups"]])
        rates = [group["lr"] for group in state["param_groups"]]
        assert all(type(rate) is float for rate in rates)
        steps.append(int(state["state"][0]["step"]))
        assert steps[-1] == checkpoint["global_step"]
        assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())
        assert not any(key in str(checkpoint.keys()) for key in ("graph", "captur"))
    assert groups[0] == groups[1] == groups[2] == groups[3]
    assert steps == sorted(set(steps))


def test_what_was_learned_on_the_gpu_is_near_what_a_cpu_learns():
    settings = {"agent_settings": DOUBLE, "updates": 16, "policy": UniformRandom()}
    on_gpu, on_cpu = fit(**settings), fit(**settings, accelerator="cpu")
    for name, value in on_cpu[0].state_dict().items():
        torch.testing.assert_close(on_gpu[0].state_dict()[name].cpu(), value, rtol=2e-2, atol=2e-3, msg=name)
    arrays, arrays_2 = (run[1].collector.store.buffer.state_dict()["arrays"] for run in (on_gpu, on_cpu))
    assert all(torch.equal(arrays[name], arrays_2[name]) for name in arrays)  # the host decides
