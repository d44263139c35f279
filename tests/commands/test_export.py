import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from helpers import CARTPOLE, CONFIGS, run, tiny
from lit_dqn import (
    MLP,
    CategoricalHead,
    ImpalaCNN,
    ImplicitQuantileHead,
    LitDQN,
    NatureCNN,
    QuantileHead,
    TrainingError,
)
from lit_dqn.commands import export


def test_an_agent_is_exported_with_a_config_that_trains_on_from_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "fit", *CARTPOLE, *tiny()) == 0
    assert run(monkeypatch, "export", *CARTPOLE, *tiny(), "--ckpt_path=best", "--output_dir=out") == 0
    assert re.search(r"model.safetensors: equal to the network on \d\d observations", capsys.readouterr().err)
    best = next(Path("lightning_logs").rglob("best.ckpt"))
    agent, weights = LitDQN.load_from_checkpoint(best), safetensors.torch.load_file("out/model.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in agent.online.state_dict().items())
    # A few steps are played to check it, for which nobody needs the replay of the run.
    vast = tiny(**{"data.capacity": 9_000_000_000_000})
    assert run(monkeypatch, "export", *CARTPOLE, *vast, "--ckpt_path=best", "--output_dir=again") == 0
    config = yaml.safe_load(Path("out/config.yaml").read_text())
    assert config["data"]["env_id"] == "CartPole-v1"
    assert config["seed_everything"] == 1
    arguments = ["--config=out/config.yaml", "--model.init_from=out/model.safetensors", "--stop.max_env_steps=80"]
    assert run(monkeypatch, "fit", *arguments) == 0
    assert run(monkeypatch, "export", *CARTPOLE, *tiny()) == 2
    assert "ckpt_path: export needs an agent" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "env_steps"),
    [("cartpole_actor_critic", 200), pytest.param("random_walk_td", 1100, marks=pytest.mark.slow)],
)
def test_agents_of_other_kinds_are_exported_with_a_config_that_trains_on_from_them(
    config, env_steps, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = f"--config={CONFIGS / config}.yaml"
    short = [f"--stop.max_env_steps={env_steps}", "--data.eval_episodes=1"]
    assert run(monkeypatch, "fit", config, *short) == 0
    assert run(monkeypatch, "export", config, "--ckpt_path=last", "--output_dir=out") == 0
    arguments = ["--config=out/config.yaml", "--model.init_from=out/model.safetensors", *short]
    assert run(monkeypatch, "fit", *arguments) == 0


def test_onnx_takes_images_as_the_env_shows_them_and_any_number_of_them(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    agent = LitDQN((4, 50, 84), 3)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 4, 50, 84), np.uint8))
    export.export_agent(agent.online, images, {}, tmp_path, output_name="q_values")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(uint8)"
    assert [output.name for output in session.get_outputs()] == ["q_values"]
    for count in (1, 3, 5):
        (values,) = session.run(None, {"observation": images[:count].numpy()})
        assert values == pytest.approx(agent.q_values(images[:count].numpy()), rel=1e-3, abs=1e-5)


def slow(case):
    return pytest.param(case, marks=pytest.mark.slow)


PARTS = [
    slow(partial(NatureCNN, dueling=True, layer_norm=True, head=partial(QuantileHead, num_quantiles=5))),
    partial(NatureCNN, noise=0.5, dueling=True, head=CategoricalHead),
    slow(partial(NatureCNN, head=ImplicitQuantileHead, dueling=True)),
    partial(ImpalaCNN, pool="adaptive_max", spectral_norm=True, head=ImplicitQuantileHead),
    slow(partial(ImpalaCNN, pool="average", layer_norm=True, noise=0.5)),
]


@pytest.mark.parametrize("network", PARTS, ids=["quantiles", "categorical", "implicit", "impala", "impoola"])
def test_onnx_gives_the_action_values_of_every_head_and_torso(network, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    agent = LitDQN((1, 40, 36), 3, network=partial(network, dense_size=8))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 1, 40, 36), np.uint8))
    with agent.exploring():
        noisy = agent.q_values(images.numpy())
    export.export_agent(agent.online, images, {}, tmp_path, output_name="q_values")  # which compares
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        (values,) = session.run(None, {"observation": images[:count].numpy()})
        assert values == pytest.approx(agent.q_values(images[:count].numpy()), rel=1e-3, abs=1e-5)
    assert np.array_equal(noisy, agent.q_values(images.numpy())) == ("noise" not in network.keywords)


def test_an_export_that_is_not_the_network_is_refused(tmp_path, monkeypatch):
    network, observation = MLP((4,), 2), torch.randn(8, 4)
    save = safetensors.torch.save
    monkeypatch.setattr(safetensors.torch, "save", lambda weights: save({k: v + 1 for k, v in weights.items()}))
    with pytest.raises(TrainingError, match=r"model\.safetensors does not give the values of the network"):
        export.export_agent(network, observation, {}, tmp_path, output_name="q_values")


def test_without_the_extra_the_weights_are_written_and_the_rest_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(export, "ONNX_PACKAGES", ("no_such_package",))
    export.export_agent(MLP((4,), 2), torch.randn(8, 4), {}, tmp_path, output_name="q_values")
    assert (tmp_path / "model.safetensors").exists()
    assert "no_such_package missing; pip install 'lit-dqn[export]'" in caplog.text


class Summed(torch.nn.Module):
    """Sums two parts, one of them named `memory`, and counts the steps in its memory."""

    def forward(self, observation):
        return (observation["memory"] + observation["lamp"]).sum(1, keepdim=True) * torch.ones(2)

    def remember(self, observation, memory):
        return self(observation) + memory, memory + 1


@pytest.mark.slow
def test_a_part_with_the_name_of_another_input_gets_its_own(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    parts = {"memory": torch.rand(3, 4), "lamp": torch.rand(3, 4)}
    memory = torch.rand(3, 1)
    export.export_agent(Summed(), parts, {}, tmp_path, output_name="q_values", memory=memory)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    given = {"observation_memory": parts["memory"].numpy(), "lamp": parts["lamp"].numpy(), "memory": memory.numpy()}
    assert [one.name for one in session.get_inputs()] == list(given)
    outputs, after = session.run(["q_values", "next_memory"], given)
    np.testing.assert_allclose(outputs, Summed()(parts).numpy() + memory.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(after, memory.numpy() + 1)
