"""Runs of networks that remember: what they go with, and what a run is that was stopped and resumed."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from forbidding import FORBIDDING_ENV
from helpers import CONFIGS, fit, make_data, make_trainer, read_checkpoint, run
from lit_dqn import (
    CNN,
    MLP,
    CheckpointPolicy,
    ConfigError,
    DoubleQLearning,
    Greedy,
    Linear,
    LitDQN,
    LitTD,
    MunchausenQLearning,
    PartsNetwork,
    Play,
    QuantileHead,
    QuantileRegression,
    RecurrentNetwork,
    Sequences,
    Uniform,
    UniformRandom,
    load_agent,
)
from lit_dqn.callbacks import StoppingRules
from lit_dqn.envs.t_maze import T_MAZE_ID
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.replay import ReplayBuffer
from lit_dqn.training.replay_placement import ReplayDevice
from parting import SIGNPOST_ENV

RECURRENT = partial(RecurrentNetwork, lstm_size=8)
SEQUENCES = Sequences(length=6, burn_in=3, overlap=3)
CONFIG = f"--config={CONFIGS}/t_maze.yaml"
TINY = {
    "data.capacity": 400,
    "data.min_replay_size": 80,
    "data.updates_per_epoch": 8,
    "data.eval_episodes": 2,
    "data.eval_max_steps": 10,
    "stop.max_env_steps": 160,
    "model.network.lstm_size": 4,
    "data.sampler.length": 6,
    "data.sampler.burn_in": 3,
    "data.sampler.overlap": 3,
}


def tiny(**changes) -> list[str]:
    return [CONFIG, *(f"--{key}={value}" for key, value in (TINY | changes).items())]


def maze_data(**changes):
    defaults = {"env_id": T_MAZE_ID, "num_envs": 2, "capacity": 300, "env_steps_per_update": 2, "sampler": SEQUENCES}
    return make_data(**(defaults | {"eval_episodes": 2, "batch_size": 4} | changes))


def agent_for(data, **changes) -> LitDQN:
    torch.manual_seed(0)
    return LitDQN(data.observation_shape, data.num_actions, **({"network": RECURRENT} | changes))


SMALL_CNN = partial(CNN, filters=(4,), kernel_sizes=(4,), strides=(2,), dense_size=8)
RUNS = {
    "ahead": ({"play_ahead": True, "gradient_steps": 2}, {"objective": DoubleQLearning()}),
    "shards": ({"shards": 2, "n_step": 3}, {}),
    "processes": ({"env_processes": True}, {"objective": MunchausenQLearning()}),
    "stacked parts": (
        {"env_id": SIGNPOST_ENV, "frame_stack": 2, "num_envs": 3, "env_steps_per_update": 3},
        {"network": partial(RECURRENT, encoder=partial(PartsNetwork, dense_size=8, encoders={"image": SMALL_CNN}))},
    ),
    "masks": ({"env_id": FORBIDDING_ENV, "action_mask": True, "n_step": 2}, {"objective": DoubleQLearning()}),
    "quantiles": (
        {},
        {"network": partial(RECURRENT, head=QuantileHead, noise=0.5), "objective": QuantileRegression()},
    ),
    "changing windows": ({"n_step": Linear(4, 2, 100)}, {"update": "eager"}),
}


@pytest.mark.parametrize("name", RUNS)
def test_runs_with_memory_learn_and_evaluate(name):
    of_data, of_agent = RUNS[name]
    data = maze_data(**of_data)
    agent = agent_for(data, **of_agent)
    before = {key: weight.clone() for key, weight in agent.online.state_dict().items()}
    trainer = make_trainer(max_epochs=1)
    trainer.fit(agent, datamodule=data)
    learned = [key for key, weight in agent.online.state_dict().items() if not torch.equal(weight, before[key])]
    assert any("hh" in key for key in learned)
    assert len(learned) >= len(before) - 4
    assert all(torch.isfinite(weight).all() for weight in agent.state_dict().values())
    assert trainer.callback_metrics["eval/episodes"] == 2


@pytest.mark.slow
def test_a_run_of_the_command_line_that_is_resumed_is_the_run_that_was_not(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = ("--trainer.logger.init_args.name=whole", "--trainer.logger.init_args.name=parts")
    long = "--stop.max_env_steps=300"
    assert run(monkeypatch, "fit", *tiny(), names[0], long) == 0
    assert run(monkeypatch, "fit", *tiny(), names[1]) == 0
    assert run(monkeypatch, "fit", *tiny(), names[1], long, "--ckpt_path=last") == 0
    whole, parts = (next(Path("lightning_logs", name).rglob("last.ckpt")) for name in ("whole", "parts"))
    weights = [read_checkpoint(path)["state_dict"] for path in (whole, parts)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert run(monkeypatch, "test", *tiny(), f"--ckpt_path={whole}") == 0
    assert run(monkeypatch, "predict", *tiny(), f"--ckpt_path={whole}") == 0
    # An agent of Python's acts step by step, and not by one observation alone.
    agent = load_agent(whole)
    with pytest.raises(ValueError, match="this agent also acts by those before it; call remember"):
        agent.act(np.zeros(4, np.float32))
    preferences, memory = agent.remember(np.zeros((1, 4), np.float32), np.zeros((1, agent.memory_size), np.float32))
    assert preferences.shape == (1, 4)
    assert memory.any()
    with pytest.raises(ConfigError, match="its agent has a memory, and a policy keeps no state"):
        CheckpointPolicy(str(whole))
    # It shows another agent how: there its memory goes on, too.
    shown = make_data(env_id=T_MAZE_ID, prefill=[Play(100, str(whole), Greedy())])
    make_trainer(max_steps=1).fit(LitDQN((4,), 4, network=MLP), datamodule=shown)
    assert shown.prefilled == 100


@pytest.mark.parametrize("resume_env", ResumeEnv)
def test_a_checkpoint_resumes_exactly_or_with_new_episodes(tmp_path, resume_env):
    def fitted(folder, env_steps, resume=None):
        data = maze_data(resume_env=resume_env)
        agent = agent_for(data)
        fit(tmp_path / folder, StoppingRules(max_env_steps=env_steps), agent=agent, data=data, resume=resume)
        return agent.online.state_dict(), data.collector.players.stage.memory

    fitted("parts", 90)
    resumed, remembered = fitted("resumed", 150, next(tmp_path.rglob("*.ckpt")))
    whole, memory = fitted("whole", 150)
    exact = all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert exact == np.array_equal(remembered, memory) == (resume_env is ResumeEnv.exact)


def test_memory_is_counted_before_anything_is_allocated():
    data = maze_data(capacity=10_000)
    without = data.replay_bytes(10_000)
    data.memory_size = 16
    arrays = ReplayBuffer(10_000, 2, (4,), np.float32, gamma=0.9, memory_size=16).arrays
    assert (
        data.replay_bytes(10_000) == sum(array.nbytes for array in arrays.values()) == without + arrays["memory"].nbytes
    )


@pytest.mark.slow
def test_the_plan_counts_what_is_remembered(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lit_dqn.commands.plan.WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr("lit_dqn.commands.plan.TRIAL_SECONDS", 0.1)
    size = {"data.capacity": 1_000_000}
    for units, gigabytes in ((4, "0.09"), (512, "4.27")):
        assert run(monkeypatch, "fit", *tiny(**size, **{"model.network.lstm_size": units}), "--plan") == 0
        said = capsys.readouterr().out
        assert f"replay      1,000,000 timesteps, {gigabytes}" in said
        assert "of 16 sequences of up to 6 transitions" in said


@pytest.mark.parametrize(
    ("of_data", "of_agent", "sentence"),
    [
        (
            {"sampler": Uniform()},
            {},
            "RecurrentNetwork has a memory, which cannot be trained with single transitions from",
        ),
        ({}, {"network": MLP}, "sampler: Sequences needs a network with a memory, and MLP has none; .* or --model"),
        ({}, {"update": "compiled"}, "update: compiled cannot compute updates from sequences"),
        ({}, {"update": "graph"}, "update: graph cannot compute updates from sequences"),
    ],
)
def test_what_does_not_go_together_is_refused(of_data, of_agent, sentence):
    data = maze_data(**of_data)
    with pytest.raises(ConfigError, match=sentence):
        agent_for(data, **of_agent).check_can_learn_from(data)


def test_an_agent_that_learns_from_single_transitions_refuses_a_network_that_remembers():
    data = maze_data(policy=UniformRandom(), warm_up_policy=UniformRandom())
    with pytest.raises(ConfigError, match="RecurrentNetwork has a memory, and LitTD learns from single transitions"):
        LitTD((4,), 4, network=RECURRENT).check_can_learn_from(data)


class Wrapping(nn.Module):
    def __init__(self, observation_shape, num_outputs):
        super().__init__()
        self.inner = RECURRENT(observation_shape, num_outputs)

    def forward(self, observation):
        return self.inner(observation)


@pytest.mark.parametrize(("agent", "sampler"), [(LitDQN, SEQUENCES), (LitDQN, Uniform()), (LitTD, Uniform())])
def test_a_memory_that_another_network_would_lose_is_refused(agent, sampler):
    with pytest.raises(ConfigError, match="Wrapping does not keep the memory of its inner, a RecurrentNetwork"):
        agent((4,), 4, network=Wrapping).check_can_learn_from(maze_data(sampler=sampler))


def test_a_memory_inside_an_encoder_is_refused():
    shape = {"image": (1, 40, 40), "direction": (4,)}
    for network, key in (
        (partial(RECURRENT, encoder=RECURRENT), r"network.encoder lit_dqn.MLP"),
        (partial(PartsNetwork, encoders={"direction": RECURRENT}), "network.encoders '{direction: lit_dqn.MLP}'"),
    ):
        with pytest.raises(ConfigError, match=f"RecurrentNetwork keeps no memory inside .*; set --model.{key}"):
            network((4,) if "network.encoder " in key else shape, 4)


@pytest.mark.parametrize(
    ("observation", "memory"), [((4,), (1, 16)), ((1, 4), (16,)), ((2, 4), (1, 16)), ((1, 3), (1, 16))]
)
def test_what_an_agent_cannot_remember_is_refused(observation, memory):
    agent = LitDQN((4,), 4, network=RECURRENT)
    with pytest.raises(ValueError, match=r"remember takes N observations of shape \(4,\) and a memory of .*\(N, 16\)"):
        agent.remember(np.zeros(observation, np.float32), np.zeros(memory, np.float32))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"prefill": [Play(100)]}, "prefill: demonstrations come without the memory from which Sequences start"),
        ({"replay_device": ReplayDevice.cuda}, "replay_device: cuda builds batches of single transitions"),
        ({"capacity": 40, "min_replay_size": 20}, r"capacity: 40 timesteps of 2 envs .* set --data.capacity 52,"),
    ],
)
def test_settings_without_sequences_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        maze_data(**settings)


@pytest.mark.slow
def test_an_export_takes_memory_in_and_gives_it_out(monkeypatch, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "fit", *tiny()) == 0
    assert run(monkeypatch, "export", *tiny(), "--ckpt_path=last", "--output_dir=out") == 0
    session = onnxruntime.InferenceSession("out/model.onnx", providers=["CPUExecutionProvider"])
    agent = load_agent(next(Path("lightning_logs").rglob("last.ckpt")))
    memory = np.zeros((3, agent.memory_size), np.float32)
    after = memory
    for _ in range(5):
        observation = np.eye(4, dtype=np.float32)[np.random.default_rng(0).integers(4, size=3)]
        expected, memory = agent.remember(observation, memory)
        found, after = session.run(["q_values", "next_memory"], {"observation": observation, "memory": after})
        np.testing.assert_allclose(found, expected, atol=1e-5)
    again = ("--config=out/config.yaml", "--model.init_from=out/model.safetensors", "--stop.max_env_steps=100")
    assert run(monkeypatch, "fit", *again) == 0


@pytest.mark.slow
@pytest.mark.parametrize("remembers", [True, False])
def test_the_t_maze_is_solved_with_a_memory_and_half_solved_without(monkeypatch, tmp_path, remembers):
    """The best return is 1; what acts by what it sees alone gets 0.5 on average, whatever it learns."""
    monkeypatch.chdir(tmp_path)
    other = ["--data.sampler=Uniform", "--model.network=lit_dqn.MLP", "--data.batch_size=64"]
    assert run(monkeypatch, "fit", CONFIG, *([] if remembers else other), "--data.eval_episodes=100") == 0
    last = next(Path("lightning_logs").rglob("last.ckpt"))
    given = [CONFIG, *([] if remembers else other), f"--ckpt_path={last}", "--data.eval_episodes=200"]
    assert run(monkeypatch, "test", *given) == 0
    (entry,) = json.loads(next(Path("lightning_logs").rglob("results.json")).read_text())
    if remembers:
        assert entry["return"]["mean"] > 0.95
    else:
        assert entry["return"]["mean"] < 0.65  # 0.5, and four standard errors of 200 episodes
