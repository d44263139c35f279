"""Whole runs on the GPU: captured or eager, with the replay there or on the host, they are the same."""

from functools import partial
from pathlib import Path

import lightning
import pytest
import torch

from audit import AUDIT_ENV
from dials import DIALS_ENV
from lit_dqn import (
    CNN,
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
    PartsNetwork,
    Prioritized,
    QLearning,
    RecurrentNetwork,
    ReplayDataModule,
    Rollout,
    Sequences,
    ShrinkAndPerturb,
    Softmax,
    TrainingError,
    UniformRandom,
)
from parting import SIGNPOST_ENV

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
TINY_FILTERS = {"filters": (4,), "kernel_sizes": (4,), "strides": (2,), "dense_size": 8}
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
    "gae": (
        {"make": LitActorCritic},
        {
            "policy": Softmax(1.0),
            "sampler": Rollout(0.95),
            "capacity": 64,
            "batch_size": 64,
            "min_replay_size": 0,
            "env_steps_per_update": 64,
            "gradient_steps": 1,
            "n_step": 1,
        },
    ),
    "memory": (
        {"agent_settings": {**DOUBLE, "network": partial(RecurrentNetwork, lstm_size=8)}},
        {"sampler": Sequences(length=6, burn_in=3, overlap=3), "batch_size": 4},
    ),
    "branching": ({"agent_settings": DOUBLE}, {"env_id": DIALS_ENV, "combine_actions": False}),
    "parts": (
        {
            "agent_settings": {
                **DOUBLE,
                "network": partial(PartsNetwork, dense_size=8, encoders={"image": partial(CNN, **TINY_FILTERS)}),
            }
        },
        {"env_id": SIGNPOST_ENV, "frame_stack": 2},
    ),
    "resets": (
        {
            "agent_settings": {
                **DOUBLE,
                "optimizer": partial(torch.optim.AdamW, lr=2**-10, fused=True),
                "network": partial(ImpalaCNN, width=1, dense_size=16, spectral_norm=True),
                "resets": ShrinkAndPerturb(every_env_steps=20, until_env_steps=100, shrink=0.5),
            }
        },
        {"env_id": "lit_dqn/Maze-v0", "frame_stack": 2, "sampler": Prioritized(0.2, 0.5)},
    ),
}
ON_THE_HOST = ("pqn", "gae", "memory")
"""Rollouts and sequences are put together there."""


@pytest.mark.parametrize("case", RUNS)
def test_a_run_by_graph_and_replay_on_the_gpu_is_the_eager_run_with_its_replay_on_the_host(case):
    arguments, settings = RUNS[case]
    run = fit(**arguments, **settings)
    assert run[3].global_step == 64
    assert run[2].captured is (case != "memory")  # sequences differ in size from batch to batch
    assert run[2].on_device is (case not in ON_THE_HOST)
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


def test_what_was_learned_on_the_gpu_is_near_what_a_cpu_learns():
    settings = {"agent_settings": DOUBLE, "updates": 16, "policy": UniformRandom()}
    on_gpu, on_cpu = fit(**settings), fit(**settings, accelerator="cpu")
    for name, value in on_cpu[0].state_dict().items():
        torch.testing.assert_close(on_gpu[0].state_dict()[name].cpu(), value, rtol=2e-2, atol=2e-3, msg=name)
    arrays, arrays_2 = (run[1].collector.store.buffer.state_dict()["arrays"] for run in (on_gpu, on_cpu))
    assert all(torch.equal(arrays[name], arrays_2[name]) for name in arrays)  # the host decides
