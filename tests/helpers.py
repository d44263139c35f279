"""What tests of several folders share."""

import sys
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from audit import AUDIT_ENV
from lit_dqn import (
    MLP,
    LitDQN,
    QLearning,
    ReplayDataModule,
)
from lit_dqn.callbacks import (
    StoppingRules,
)
from lit_dqn.commands.cli import main
from lit_dqn.replay import ReplayBuffer
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.io import ReplayCheckpointIO
from lit_dqn.types import Batch, Timestep


def read_checkpoint(path: str | Path) -> dict:
    """The contents of a checkpoint, as far as an agent needs them checked."""
    return Checkpoint.read(path).contents


def verify_checkpoint(path: str | Path, replay: bool = True) -> dict:
    """The contents of a checkpoint, all of which was checked."""
    return Checkpoint.read(path).verify(replay).contents


SMALL = partial(MLP, hidden_sizes=(16,))


def make_agent(**kwargs) -> LitDQN:
    torch.manual_seed(0)
    return LitDQN((4,), 2, network=SMALL, optimizer=partial(torch.optim.Adam, lr=1e-2), **kwargs)


def make_data(**kwargs) -> ReplayDataModule:
    defaults = {
        "env_id": "CartPole-v1",
        "capacity": 200,
        "min_replay_size": 50,
        "batch_size": 16,
        "updates_per_epoch": 10,
        "eval_episodes": 2,
        "eval_max_steps": 20,
        "seed": 0,
    }
    return ReplayDataModule(**(defaults | kwargs))


def make_trainer(**kwargs) -> lightning.Trainer:
    defaults = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return lightning.Trainer(**(defaults | kwargs))


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def fit(tmp_path: Path, stop: StoppingRules, *callbacks, agent=None, data=None, resume=None, **trainer_settings):
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    trainer = make_trainer(
        callbacks=[stop, *callbacks],
        logger=logger,
        plugins=[ReplayCheckpointIO()],
        enable_checkpointing=True,
        **({"max_epochs": -1, "log_every_n_steps": 5} | trainer_settings),
    )
    data = data or make_data()
    trainer.fit(agent or make_agent(), datamodule=data, ckpt_path=resume)
    logger.experiment.close()
    return trainer, data.collector


CONFIGS = Path(__file__).parents[1] / "configs"


TINY = {
    "data.capacity": 100,
    "data.min_replay_size": 40,
    "data.batch_size": 8,
    "data.updates_per_epoch": 16,
    "data.eval_episodes": 2,
    "data.eval_max_steps": 5,
    "stop.max_env_steps": 80,
    "trainer.check_val_every_n_epoch": 1,
    "episode_view.max_steps": 1,
    "maze_view.every_n_evaluations": 1000,  # a picture takes longer than all else
}


def tiny(**changes: object) -> list[str]:
    return [f"--{key}={value}" for key, value in (TINY | changes).items()]


def run(monkeypatch, *arguments: object) -> int:
    """The exit code of a command line."""
    monkeypatch.setattr(sys, "argv", ["lit-dqn", *map(str, arguments)])
    try:
        main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


CARTPOLE = ("--config", CONFIGS / "cartpole.yaml")


ADAM = partial(torch.optim.Adam, lr=1e-2, fused=True)


def batches(count, shape=(4,), size=8):
    generator = torch.Generator().manual_seed(3)
    normal = partial(torch.randn, generator=generator)
    return [
        Batch(
            normal(size, *shape),
            torch.randint(0, 2, (size,), generator=generator),
            normal(size),
            torch.full((size,), 0.9),
            normal(size, *shape),
        )
        for _ in range(count)
    ]


class WithDropout(MLP):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs, (16,))
        self.insert(1, nn.Dropout(0.5))


class WithBatchNorm(MLP):
    def __init__(self, shape, outputs):
        super().__init__(shape, outputs, (16,))
        self.insert(1, nn.BatchNorm1d(4))


def random_replay(steps, *, shape=(5, 5), dtype=np.uint8, n_step=3, frame_stack=4, num_envs=3, capacity=60):
    generator = np.random.default_rng(0)
    replay = ReplayBuffer(
        capacity, num_envs, shape, dtype, gamma=0.9, n_step=n_step, frame_stack=frame_stack, reward_clip=1.0
    )
    yield replay
    draw = lambda: generator.integers(0, 255, (num_envs, *shape)).astype(dtype)  # noqa: E731
    frames = draw()
    for _ in range(steps):
        following, last = draw(), generator.random(num_envs) < 0.1
        reward = generator.normal(size=num_envs)
        replay.add(Timestep(frames, generator.integers(0, 4, num_envs), reward, ~last, last, following))
        frames = np.where(last.reshape(-1, *[1] * len(shape)), draw(), following).astype(dtype)
        yield replay


def same_batches(replay, frames, count=3, size=7):
    starts = np.random.default_rng(1).integers(replay.starts.start, replay.starts.stop, count * size)
    expected = replay.sample(starts)
    gathered = frames.batches(replay.lookup(starts), count)
    assert len(gathered) == count
    for number, batch in enumerate(gathered):
        for name, one, other in zip(batch._fields[:5], batch.tensors, expected.tensors, strict=True):
            assert torch.equal(one, other[number * size : (number + 1) * size]), name


def fit_audit_env(monkeypatch, on_device, **kwargs):
    if on_device:
        monkeypatch.setattr(ReplayDataModule, "device_of_frames", lambda self, device: torch.device("cpu"))
    torch.manual_seed(0)
    module = make_data(env_id=AUDIT_ENV, env_kwargs={"image": True}, frame_stack=2, n_step=2, **kwargs)
    agent = LitDQN(module.observation_shape, 4, network=partial(MLP, hidden_sizes=(8,)), objective=QLearning())
    make_trainer(max_epochs=2).fit(agent, datamodule=module)
    return agent.online.state_dict()
