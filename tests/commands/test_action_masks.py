"""Runs with `data.action_mask: true`, from the command line to the files that they leave."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from forbidding import FORBIDDING_ENV, GOAL, MASKS, NUM_ACTIONS, actions_at
from helpers import CONFIGS, make_data, make_trainer, run, verify_checkpoint
from lit_dqn import (
    MLP,
    CheckpointPolicy,
    EpsilonGreedy,
    Latest,
    Linear,
    LitActorCritic,
    LitDQN,
    LitTD,
    MunchausenQLearning,
    QLearning,
    Rollout,
    Softmax,
    UniformRandom,
    load_agent,
)
from lit_dqn.commands import export

MASKED = {
    "seed_everything": 1,
    "data": {
        "env_id": FORBIDDING_ENV,
        "env_kwargs": {"truncation": 0.05},
        "action_mask": True,
        "num_envs": 4,
        "capacity": 200,
        "min_replay_size": 80,
        "env_steps_per_update": 4,
        "batch_size": 16,
        "updates_per_epoch": 20,
        "n_step": 2,
        "frame_stack": 2,
        "play_ahead": True,
        "eval_episodes": 3,
        "eval_envs": 2,
        "eval_max_steps": 60,
        "eval_policy": {"class_path": "EpsilonGreedy", "init_args": {"epsilon": 0.5}},
        "warm_up_policy": {"class_path": "EpsilonGreedy", "init_args": {"epsilon": 0.5}},
    },
    "model": {"network": {"class_path": "lit_dqn.MLP", "init_args": {"hidden_sizes": [16]}}},
    "stop": {"max_env_steps": 240},
    "trainer": {"accelerator": "cpu", "check_val_every_n_epoch": 1},
}


@pytest.fixture
def config(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("masked.yaml").write_text(yaml.safe_dump(MASKED))
    return "--config=masked.yaml"


def test_every_verb_plays_what_is_allowed(config, monkeypatch, capsys):
    # The env fails where a forbidden action is played.
    assert run(monkeypatch, "fit", config) == 0
    assert run(monkeypatch, "predict", config, "--ckpt_path=last") == 0
    assert make_data(env_id=FORBIDDING_ENV, action_mask=True).evaluation_protocol()["action_mask"] is True
    assert "action_mask" not in make_data().evaluation_protocol()
    # Where an action that is forbidden fails, the first one does.
    assert run(monkeypatch, "fit", config, "--ckpt_path=last", "--data.action_mask=false") == 2
    assert "which actions are allowed: set --data.action_mask true." in capsys.readouterr().err


def test_a_run_that_is_validated_without_its_masks_is_another_task(config, monkeypatch, capsys):
    taxi = (config, "--data.env_id=Taxi-v4", "--data.env_kwargs={}", "--data.eval_max_steps=9")
    assert run(monkeypatch, "fit", *taxi) == 0
    told = "data.action_mask: false now, but true when the agent was trained; this is another task"
    for mask in ("true", "false"):
        assert run(monkeypatch, "validate", *taxi, "--ckpt_path=last", f"--data.action_mask={mask}") == 0
        assert (told in capsys.readouterr().err) == (mask == "false")


@pytest.mark.slow
def test_the_export_takes_a_mask_and_says_that_no_forbidden_action_is_best(config, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert run(monkeypatch, "fit", config) == 0
    assert run(monkeypatch, "export", config, "--ckpt_path=last", "--output_dir=out") == 0
    agent = load_agent(next(Path("lightning_logs").rglob("last.ckpt")))
    session = onnxruntime.InferenceSession("out/model.onnx", providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()] == ["observation", "action_mask"]
    observation = np.eye(GOAL + 1, dtype=np.float32)[np.arange(GOAL).repeat(2)].reshape(GOAL, 2, -1)
    allowed = MASKS[:GOAL].astype(bool)
    (values,) = session.run(None, {"observation": observation, "action_mask": allowed})
    assert values[allowed] == pytest.approx(agent.q_values(observation)[allowed], rel=1e-3, abs=1e-5)
    assert (values[~allowed] == np.finfo(np.float32).min).all()
    greedy = [agent.act(frame, mask) for frame, mask in zip(observation, allowed, strict=True)]
    assert greedy == values.argmax(axis=1).tolist()


@pytest.mark.slow
def test_a_run_that_was_stopped_has_its_masks_again(config, monkeypatch):
    assert run(monkeypatch, "fit", config, "--trainer.logger.init_args.name=whole", "--stop.max_env_steps=400") == 0
    assert run(monkeypatch, "fit", config, "--trainer.logger.init_args.name=parts") == 0
    again = ("--ckpt_path=last", "--stop.max_env_steps=400")
    assert run(monkeypatch, "fit", config, "--trainer.logger.init_args.name=parts", *again) == 0
    whole, parts = (
        verify_checkpoint(next(Path("lightning_logs", name).rglob("last.ckpt"))) for name in ("whole", "parts")
    )
    assert all(torch.equal(parts["state_dict"][name], weight) for name, weight in whole["state_dict"].items())
    one, other = (contents["ReplayDataModule"]["replay"] for contents in (whole, parts))
    assert one["next_start"] == other["next_start"]


AGENTS = {
    "dqn": (LitDQN, {}, {}),
    "munchausen": (LitDQN, {"objective": MunchausenQLearning()}, {"n_step": 3}),
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
def test_every_agent_learns_from_what_is_allowed(name, tmp_path):

    kind, model, changes = AGENTS[name]
    data = make_data(
        **{"env_id": FORBIDDING_ENV, "action_mask": True, "num_envs": 4, "env_steps_per_update": 4} | changes
    )
    agent = kind((GOAL + 1,), NUM_ACTIONS, network=partial(MLP, hidden_sizes=(8,)), **model)
    make_trainer(max_epochs=1).fit(agent, datamodule=data)
    assert agent.env_step > 0
    assert all(weight.isfinite().all() for weight in agent.state_dict().values())


def test_the_policy_of_a_checkpoint_plays_what_is_allowed(config, monkeypatch):
    assert run(monkeypatch, "fit", config, "--data.play_ahead=false") == 0
    policy = CheckpointPolicy(str(next(Path("lightning_logs").rglob("last.ckpt"))))
    data = make_data(
        env_id=FORBIDDING_ENV, action_mask=True, policy=policy, warm_up_policy=policy, eval_policy=policy, frame_stack=2
    )
    agent = LitTD((2, GOAL + 1), NUM_ACTIONS, network=partial(MLP, hidden_sizes=(8,)))
    make_trainer().fit(agent, datamodule=data)
    assert data.collector.env_step > 50


def test_act_takes_a_mask_and_refuses_what_is_none():
    torch.manual_seed(0)
    agent = LitDQN((3,), 4, network=partial(MLP, hidden_sizes=(8,)))
    observation = np.ones(3, np.float32)
    best = agent.act(observation)
    others = np.arange(4) != best
    second = agent.act(observation, others.astype(np.int8))
    assert second == np.where(others, agent.q_values(observation[None])[0], -np.inf).argmax() != best
    for mask in ([1, 1], [0, 0, 0, 0]):
        with pytest.raises(ValueError, match="act takes a mask of shape \\(4,\\) that allows at least one action"):
            agent.act(observation, mask)


def test_the_state_values_of_an_actor_keep_their_place_behind_the_mask(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network, observation = MLP((3,), 5, (8,)), torch.randn(6, 3)
    mask = torch.tensor([[True, False, True, True]] * 6)
    export.export_agent(network, observation, {}, tmp_path, output_name="outputs", action_mask=mask)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"observation": observation.numpy(), "action_mask": mask.numpy()})
    expected = network(observation).detach().numpy()
    assert found[:, [0, 2, 3, 4]] == pytest.approx(expected[:, [0, 2, 3, 4]], rel=1e-3, abs=1e-5)
    assert (found[:, 1] < -1e38).all()


@pytest.mark.slow
def test_an_onnx_network_that_does_not_mask_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")

    class Unmasked(export._WithInputs):
        def forward(self, *inputs):
            return self.network(inputs[0]) + 0 * inputs[1][:, :1]

    network, written = MLP((3,), 4, (8,)), torch.onnx.export

    def export_unmasked(net, *rest, **named):
        return written(Unmasked(net.network, None, remembers=False, masked=True).eval(), *rest, **named)

    monkeypatch.setattr(torch.onnx, "export", export_unmasked)
    mask = torch.tensor([[True, False, True, True]] * 6)
    with pytest.raises(export.TrainingError, match="does not mask the actions"):
        export.export_agent(network, torch.randn(6, 3), {}, tmp_path, output_name="q_values", action_mask=mask)


class ByPlace(nn.Linear):
    """A table of action values, in which what is never tried looks best."""

    def __init__(self, observation_shape, num_outputs):
        super().__init__(*observation_shape, num_outputs, bias=False)
        nn.init.constant_(self.weight, 5.0)


def test_the_way_to_the_goal_is_learned_although_what_is_forbidden_looks_better():
    # Every value begins at +5, and no true one is above 0: forbidden actions, which are never tried, stay there.
    data = make_data(
        env_id=FORBIDDING_ENV,
        action_mask=True,
        num_envs=8,
        capacity=2000,
        min_replay_size=400,
        env_steps_per_update=8,
        gradient_steps=4,
        batch_size=64,
        updates_per_epoch=600,
        gamma=1.0,
        policy=EpsilonGreedy(Linear(1.0, 0.1, 4000)),
        eval_episodes=30,
        eval_envs=5,
        eval_max_steps=50,
    )
    agent = LitDQN(
        (GOAL + 1,),
        NUM_ACTIONS,
        network=ByPlace,
        objective=QLearning(),
        optimizer=partial(torch.optim.SGD, lr=8.0),
        target_update_period=20,
    )
    trainer = make_trainer(max_epochs=1)
    trainer.fit(agent, datamodule=data)
    q_values = agent.q_values(np.eye(GOAL + 1, dtype=np.float32)[:GOAL])
    for place in range(GOAL):
        left, right = actions_at(place)
        assert q_values[place, right] == pytest.approx(-(GOAL - place), abs=0.1)
        assert q_values[place, left] == pytest.approx(-(GOAL - max(place - 1, 0)) - 1, abs=0.2)
        assert (np.delete(q_values[place], [left, right]) == 5.0).all()
    (metrics,) = trainer.validate(agent, datamodule=data, verbose=False)
    starts = [
        np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).integers(GOAL)
        for seed in data.evaluation_seeds
    ]
    assert metrics["eval/mean_reward"] == pytest.approx(-np.mean([GOAL - start for start in starts]))


@pytest.mark.slow
def test_taxi_is_learned(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO):
        assert run(monkeypatch, "fit", f"--config={CONFIGS}/taxi.yaml") == 0
    (reached,) = [record.getMessage() for record in caplog.records if "evaluation return" in record.getMessage()]
    assert float(reached.split("return ")[1].split()[0]) > 7.0
