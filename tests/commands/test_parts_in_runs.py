"""Runs whose observations have several parts, from the command line to the files that they leave."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import lit_dqn
from helpers import make_data, make_trainer, run, verify_checkpoint
from lit_dqn import (
    CNN,
    CheckpointPolicy,
    ConfigError,
    EpsilonGreedy,
    Latest,
    Linear,
    LitActorCritic,
    LitDQN,
    LitTD,
    MunchausenQLearning,
    PartsNetwork,
    Play,
    QLearning,
    QuantileHead,
    QuantileRegression,
    Rollout,
    Softmax,
    UniformRandom,
    load_agent,
)
from parting import SIGNPOST_ENV, STEPS, Signpost

ENCODERS = {"image": partial(CNN, filters=(4,), kernel_sizes=(4,), strides=(2,), dense_size=8)}
SMALL = partial(PartsNetwork, encoders=ENCODERS, dense_size=16)
SHAPES = {"image": (1, 8, 10), "told/left": (1,), "told/sign": (2,)}

PARTS = {
    "seed_everything": 1,
    "data": {
        "env_id": SIGNPOST_ENV,
        "num_envs": 4,
        "capacity": 200,
        "min_replay_size": 80,
        "env_steps_per_update": 4,
        "batch_size": 16,
        "updates_per_epoch": 20,
        "n_step": 2,
        "frame_stack": 2,
        "eval_episodes": 3,
        "eval_envs": 2,
        "eval_max_steps": 60,
    },
    "model": {
        "network": {
            "class_path": "lit_dqn.PartsNetwork",
            "init_args": {
                "encoders": {
                    "image": {
                        "class_path": "lit_dqn.CNN",
                        "init_args": {"filters": [4], "kernel_sizes": [4], "strides": [2], "dense_size": 8},
                    },
                    "told/sign": {"class_path": "lit_dqn.MLP", "init_args": {"hidden_sizes": [4]}},
                },
                "dense_size": 16,
                "dueling": True,
            },
        }
    },
    "stop": {"max_env_steps": 240},
    "trainer": {"accelerator": "cpu", "check_val_every_n_epoch": 1},
}


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("parts.yaml").write_text(yaml.safe_dump(PARTS))
    return "--config=parts.yaml"


@pytest.mark.slow
def test_every_verb_takes_them_and_a_run_that_was_stopped_is_the_run_that_was_not(config, monkeypatch, caplog):
    with caplog.at_level("INFO"):
        assert run(monkeypatch, "fit", config, "--trainer.logger.init_args.name=whole", "--stop.max_env_steps=400") == 0
    assert "observations image (2, 8, 10), told/left (1,), told/sign (2,) (of images: " in caplog.text
    assert run(monkeypatch, "fit", config, "--trainer.logger.init_args.name=parts") == 0
    again = ("--ckpt_path=last", "--stop.max_env_steps=400")
    assert run(monkeypatch, "fit", config, "--trainer.logger.init_args.name=parts", *again) == 0
    whole, parts = (
        verify_checkpoint(next(Path("lightning_logs", name).rglob("last.ckpt"))) for name in ("whole", "parts")
    )
    assert all(torch.equal(parts["state_dict"][name], weight) for name, weight in whole["state_dict"].items())
    last = next(Path("lightning_logs", "parts").rglob("last.ckpt"))
    assert run(monkeypatch, "predict", config, f"--ckpt_path={last}", "--trajectories.output_dir=seen") == 0
    with np.load(next(Path("seen").rglob("*.npz"))) as episode:
        assert episode["observation/image"].shape == (STEPS + 1, 1, 8, 10)
        assert episode["observation/told/left"][:, 0].tolist() == [4, 3, 2, 1, 0]


def test_an_agent_acts_by_parts_with_their_frames_stacked():
    data = make_data(env_id=SIGNPOST_ENV, frame_stack=2)
    agent = LitDQN(data.observation_shape, 2, network=partial(PartsNetwork, encoders={"image": lit_dqn.MLP}))
    random = np.random.default_rng(0)
    seen = {name: random.integers(0, 2, part.shape).astype(part.dtype) for name, part in agent.parts.items()}
    assert seen["image"].shape == (2, 8, 10)
    values = agent.q_values(agent.parts.pack_stack(seen)[None])
    assert agent.act(seen) == values.argmax()


def test_an_agent_acts_by_parts_and_by_rows():
    data = make_data(env_id=SIGNPOST_ENV)
    torch.manual_seed(0)
    agent = LitDQN(data.observation_shape, 2, network=SMALL)
    assert agent.observation_shape == SHAPES
    env = data.parts
    rng = np.random.default_rng(0)
    parts = [
        {
            "image": rng.integers(256, size=(1, 8, 10), dtype=np.uint8),
            "told/left": rng.normal(size=1),
            "told/sign": np.array([True, False]),
        }
        for _ in range(20)
    ]
    rows = np.stack([env.pack(of_one) for of_one in parts])
    best = agent.q_values(rows).argmax(axis=1).tolist()
    assert len(set(best)) == 2
    assert [agent.act(of_one) for of_one in parts] == [agent.act(row) for row in rows] == best
    for wrong in ({"image": parts[0]["image"]}, rows[0][:-1]):
        with pytest.raises(ValueError, match="act takes one observation with parts of shapes"):
            agent.act(wrong)


AGENTS = {
    "quantiles": (
        LitDQN,
        {"network": partial(SMALL, noise=0.5, head=QuantileHead), "objective": QuantileRegression()},
        {"frame_stack": 2, "play_ahead": True},
    ),
    "munchausen": (LitDQN, {"objective": MunchausenQLearning()}, {"env_kwargs": {"form": "tuple"}}),
    "shards": (LitDQN, {}, {"shards": 2, "frame_stack": 3}),
    "pqn": (
        LitDQN,
        {"objective": QLearning(), "target_update_period": None},
        {
            "sampler": Rollout(),
            "min_replay_size": 0,
            "capacity": 64,
            "env_steps_per_update": 16,
            "gradient_steps": 4,
            "batch_size": 32,
            "updates_per_epoch": 8,
        },
    ),
    "actor-critic": (
        LitActorCritic,
        {},
        {"sampler": Latest(), "policy": Softmax(), "eval_policy": Softmax(), "env_steps_per_update": 16},
    ),
    "td": (LitTD, {}, {"policy": UniformRandom(), "eval_policy": UniformRandom()}),
}


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_learns_from_them(name):
    kind, model, changes = AGENTS[name]
    data = make_data(**{"env_id": SIGNPOST_ENV, "num_envs": 4, "env_steps_per_update": 4} | changes)
    network = SMALL if name != "munchausen" else partial(PartsNetwork, encoders={"part_0": ENCODERS["image"]})
    agent = kind(data.observation_shape, data.num_actions, **{"network": network} | model)
    make_trainer(max_epochs=1).fit(agent, datamodule=data)
    assert agent.env_step > 0
    assert all(weight.isfinite().all() for weight in agent.state_dict().values())


@pytest.mark.slow
def test_compiled_updates_are_the_eager_ones():
    weights = []
    for update in ("eager", "compiled"):
        torch.manual_seed(0)
        data = make_data(env_id=SIGNPOST_ENV, frame_stack=2, num_envs=4, env_steps_per_update=4)
        agent = LitDQN(data.observation_shape, 2, network=SMALL, update=update)
        make_trainer(max_epochs=1).fit(agent, datamodule=data)
        weights.append(torch.cat([weight.detach().flatten() for weight in agent.online.parameters()]).numpy())
    assert weights[1] == pytest.approx(weights[0], abs=1e-5)


def test_masks_and_the_agent_of_a_checkpoint_go_with_parts(config, monkeypatch):
    masked = ("--data.env_kwargs.form=masked", "--data.action_mask=true")
    assert run(monkeypatch, "fit", config, *masked) == 0
    checkpoint = str(next(Path("lightning_logs").rglob("last.ckpt")))
    policy = CheckpointPolicy(checkpoint)
    data = make_data(
        env_id=SIGNPOST_ENV,
        env_kwargs={"form": "masked"},
        action_mask=True,
        policy=policy,
        frame_stack=2,
        prefill=[Play(40, checkpoint)],
    )
    agent = LitTD(data.observation_shape, 3, network=SMALL)
    data.warm_up_policy = data.eval_policy = UniformRandom()
    make_trainer().fit(agent, datamodule=data)
    assert data.collector.env_step > 0
    assert len(data.store) > data.collector.env_step  # with demonstrations


def test_a_number_that_is_none_is_named_with_its_part():
    with pytest.raises(ConfigError, match="shows nan as a number of the part 'told/left' of its observation at step 1"):
        make_data(env_id=SIGNPOST_ENV, env_kwargs={"form": "nan"})


@pytest.mark.slow
def test_the_export_has_an_input_for_each_part(config, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    masked = ("--data.env_kwargs.form=masked", "--data.action_mask=true")
    assert run(monkeypatch, "fit", config, *masked) == 0
    assert run(monkeypatch, "export", config, *masked, "--ckpt_path=last", "--output_dir=out") == 0
    agent = load_agent(next(Path("lightning_logs").rglob("last.ckpt")))
    session = onnxruntime.InferenceSession("out/model.onnx", providers=["CPUExecutionProvider"])
    assert [(given.name, given.type) for given in session.get_inputs()] == [
        ("image", "tensor(uint8)"),
        ("told/left", "tensor(float)"),
        ("told/sign", "tensor(bool)"),
        ("action_mask", "tensor(bool)"),
    ]
    rng = np.random.default_rng(0)
    rows = rng.integers(256, size=(9, *agent.parts.row_shape), dtype=np.uint8)
    rows[..., :4] = rng.normal(size=(9, 2, 1)).astype(np.float32).view(np.uint8)
    parts, mask = agent.parts.arrays(rows), np.array([[True, False, True]] * 9)
    parts["told/sign"] = parts["told/sign"].view(np.uint8) != 0
    (values,) = session.run(None, {**parts, "action_mask": mask})
    assert values[mask] == pytest.approx(agent.q_values(rows)[mask], rel=1e-3, abs=1e-5)
    assert (values[~mask] == np.finfo(np.float32).min).all()


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [None, "image", "told/sign"])
def test_what_no_part_says_alone_is_learned_from_all_of_them(hidden):
    # Each step pays 1 where lamp and sign are put together, so V = 1 + γ + γ² + ... of the steps that are left.
    gamma = 0.9
    data = make_data(
        env_id=SIGNPOST_ENV,
        num_envs=8,
        capacity=4000,
        min_replay_size=400,
        env_steps_per_update=8,
        gradient_steps=4,
        batch_size=64,
        updates_per_epoch=2000,
        gamma=gamma,
        policy=EpsilonGreedy(Linear(1.0, 0.1, 6000)),
        eval_episodes=50,
        eval_envs=5,
    )
    torch.manual_seed(0)
    network = partial(SMALL, dense_size=64) if hidden is None else partial(Blind, hidden=hidden)
    agent = LitDQN(
        data.observation_shape,
        2,
        network=network,
        objective=QLearning(),
        optimizer=partial(torch.optim.Adam, lr=2e-3),
        target_update_period=50,
    )
    trainer = make_trainer(max_epochs=1)
    trainer.fit(agent, datamodule=data)
    (metrics,) = trainer.validate(agent, datamodule=data, verbose=False)
    if hidden is not None:
        assert metrics["eval/mean_reward"] < 0.75 * STEPS
        return
    assert metrics["eval/mean_reward"] == STEPS
    env = Signpost()
    env.reset(seed=0)
    for left in range(STEPS, 0, -1):
        env.left = left
        seen = env.show()
        sign = np.array([seen["told"]["sign"] == 1, seen["told"]["sign"] == 2])
        parts = {"image": np.moveaxis(seen["image"], -1, 0), "told/left": seen["told"]["left"], "told/sign": sign}
        value = agent.state_values(data.parts.pack(parts)[None])[0]
        assert value == pytest.approx((1 - gamma**left) / (1 - gamma), abs=0.15)


class Blind(PartsNetwork):
    """A network that is not shown one of the parts."""

    def __init__(self, observation_shape, num_outputs, hidden):
        super().__init__(observation_shape, num_outputs, ENCODERS, dense_size=64)
        self.hidden = hidden

    def prepared(self, observation):
        return {**observation, self.hidden: torch.zeros_like(observation[self.hidden])}
