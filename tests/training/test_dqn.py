import copy
import re
import warnings
from functools import partial

import gymnasium
import lightning
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from helpers import SMALL, make_agent, make_data, make_trainer, same
from lit_dqn import (
    MLP,
    ActorCritic,
    ConfigError,
    DoubleQLearning,
    Greedy,
    Linear,
    LitActorCritic,
    LitDQN,
    LitTD,
    Prioritized,
    QLearning,
    QuantileNetwork,
    QuantileRegression,
    TDLearning,
    TrainingError,
    load_agent,
)
from lit_dqn.types import Batch, Chunk


class Recorder(lightning.Callback):
    """Copies of both networks after every training step."""

    def __init__(self) -> None:
        self.online: list[dict] = []
        self.target: list[dict] = []

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        self.online.append(copy.deepcopy(pl_module.online.state_dict()))
        self.target.append(copy.deepcopy(pl_module.target.state_dict()))


class OneChunk:
    """A data loader of one chunk; a list would be a collection of loaders to Lightning."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk

    def __len__(self) -> int:
        return 1

    def __iter__(self):
        yield self.chunk


def test_every_update_moves_the_online_network_and_only_the_period_moves_the_target():
    agent, recorder = make_agent(target_update_period=4), Recorder()
    first = copy.deepcopy(agent.online.state_dict())
    make_trainer(callbacks=[recorder]).fit(agent, datamodule=make_data())
    assert len(recorder.online) == 10
    for before, after in zip([first, *recorder.online], recorder.online, strict=False):
        assert not same(before, after)
    for update, target in enumerate(recorder.target, start=1):
        copied_at = update // 4 * 4
        assert same(target, first if copied_at == 0 else recorder.online[copied_at - 1])


def test_polyak_averaging_goes_the_share_tau_of_the_way():
    agent, recorder = make_agent(target_update_period=1, target_update_tau=0.25), Recorder()
    first = copy.deepcopy(agent.online.state_dict())
    make_trainer(callbacks=[recorder]).fit(agent, datamodule=make_data(updates_per_epoch=1))
    for name, weight in recorder.target[0].items():
        torch.testing.assert_close(weight, 0.75 * first[name] + 0.25 * recorder.online[0][name])


def test_the_optimizer_holds_the_online_parameters_alone():
    agent = make_agent()
    held = {id(parameter) for group in agent.configure_optimizers().param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in agent.online.parameters()}
    assert not any(parameter.requires_grad for parameter in agent.target.parameters())


def test_a_chunk_of_eight_makes_eight_updates_and_counts_them():
    trainer = make_trainer()
    trainer.fit(make_agent(), datamodule=make_data(gradient_steps=8, updates_per_epoch=16))
    assert trainer.global_step == 16
    assert trainer.fit_loop.total_batch_idx + 1 == 2


def learn_from(agent: LitDQN, *batches: Batch) -> LitDQN:
    data = make_data(updates_per_epoch=len(batches), gradient_steps=len(batches))
    data.train_dataloader = lambda: OneChunk(Chunk(batches, 1))
    make_trainer(limit_val_batches=0).fit(agent, datamodule=data)
    return agent


def some_batch(size: int = 8, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    observation, next_observation = torch.randn(2, size, 4, generator=generator)
    action = torch.randint(0, 2, (size,), generator=generator)
    return Batch(observation, action, torch.randn(size, generator=generator), torch.ones(size), next_observation)


def test_each_batch_of_a_chunk_is_learned_from_once_and_in_order():
    agent, learned = make_agent(), []
    batch_loss = agent.batch_loss
    agent.batch_loss = lambda batch: (learned.append(batch), batch_loss(batch))[1]
    batches = [some_batch(seed=seed) for seed in range(5)]
    learn_from(agent, *batches)
    assert list(map(id, learned)) == list(map(id, batches))


def test_the_gradient_is_that_of_the_mean_over_the_batch_whatever_its_size():
    """Plain gradient descent shows it; Adam divides a factor away again."""
    once, batch = some_batch(), some_batch()
    thrice = Batch(*(torch.cat([tensor] * 3) for tensor in batch.tensors))
    agents = []
    for one in (once, thrice):
        torch.manual_seed(0)
        agents.append(LitDQN((4,), 2, network=SMALL, optimizer=partial(torch.optim.SGD, lr=0.1)))
        learn_from(agents[-1], one)
    for one, other in zip(agents[0].online.parameters(), agents[1].online.parameters(), strict=True):
        torch.testing.assert_close(one, other)

    torch.manual_seed(0)
    agent = LitDQN((4,), 2, network=SMALL, optimizer=partial(torch.optim.SGD, lr=0.1))
    before = [parameter.detach().clone() for parameter in agent.online.parameters()]
    agent.batch_loss(batch).loss.mean().backward()
    gradients = [parameter.grad.clone() for parameter in agent.online.parameters()]
    learn_from(agent, batch)
    for parameter, old, gradient in zip(agent.online.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), old - 0.1 * gradient)


def test_max_grad_norm_scales_the_gradient_down(monkeypatch):
    agent = make_agent(max_grad_norm=0.5)
    norms = []
    step = torch.optim.Adam.step

    def watch(optimizer, *args, **kwargs):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watch)
    batch = Batch(
        torch.randn(8, 4), torch.zeros(8, dtype=torch.int64), torch.full((8,), 1e3), torch.ones(8), torch.randn(8, 4)
    )
    data = make_data(updates_per_epoch=1)
    data.train_dataloader = lambda: OneChunk(Chunk((batch,), 1))
    make_trainer().fit(agent, datamodule=data)
    assert norms == pytest.approx([0.5], rel=1e-3)


def test_the_learning_rate_follows_its_schedule_by_env_steps(monkeypatch):
    agent = make_agent(learning_rate=Linear(start=1e-2, end=1e-3, env_steps=56))
    rates = []
    step = torch.optim.Adam.step

    def watch(optimizer, *args, **kwargs):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watch)
    make_trainer().fit(agent, datamodule=make_data())
    # The replay is filled with 50 env steps, and one more is played for each of the ten updates.
    expected = [1e-2 + (1e-3 - 1e-2) * min((50 + update) / 56, 1) for update in range(1, 11)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_and_names_the_update(reward):
    batch = Batch(
        torch.randn(8, 4), torch.zeros(8, dtype=torch.int64), torch.full((8,), reward), torch.ones(8), torch.randn(8, 4)
    )
    data = make_data(updates_per_epoch=1)
    data.train_dataloader = lambda: OneChunk(Chunk((batch,), 77))
    with pytest.raises(TrainingError, match=r"update 1 \(env step 77\)"):
        make_trainer().fit(make_agent(), datamodule=data)


def test_act_is_greedy_for_one_observation():
    agent = make_agent()
    observation = np.random.default_rng(0).normal(size=4)
    values = agent.q_values(observation[None].astype(np.float32))
    assert values.shape == (1, 2)
    assert agent.act(observation) == values[0].argmax()
    with pytest.raises(ValueError, match="one observation of shape"):
        agent.act(observation[None])


def test_values_of_observations_take_what_act_takes():
    agent = make_agent()
    observations = np.random.default_rng(0).normal(size=(3, 4))
    assert np.array_equal(agent.q_values(observations), agent.q_values(observations.astype(np.float32)))
    with pytest.raises(ValueError, match=r"takes N observations of shape \(4,\), not \(4,\)"):
        agent.q_values(observations[0])


def test_the_number_of_actions_may_be_that_of_a_gymnasium_space():
    env = gymnasium.make("CartPole-v1")
    agent = LitDQN(env.observation_space.shape, env.action_space.n, network=MLP)
    assert type(agent.num_actions) is type(agent.hparams["num_actions"]) is int


@pytest.mark.parametrize(
    ("shape", "num_actions", "sentence"),
    [
        ((4,), 1, "num_actions: the agent was made for 1, and CartPole-v1 has 2; make the agent with data.num_actions"),
        ((6,), 2, r"observation_shape: the agent was made for \(6,\), and CartPole-v1 has \(4,\); make the agent with"),
        ((4,), (2, 1), r"num_actions: the agent was made for \(2, 1\), and CartPole-v1 has 2"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "validate"])
def test_an_agent_of_another_env_is_refused(shape, num_actions, sentence, verb):
    agent = LitDQN(shape, num_actions, network=MLP)
    with pytest.raises(ConfigError, match=sentence):
        getattr(make_trainer(), verb)(agent, datamodule=make_data())


def test_a_trainer_that_has_trained_is_not_taken_for_one_that_resumes():
    trainer, agent, data = make_trainer(), make_agent(), make_data()
    trainer.fit(agent, datamodule=data)
    trainer.fit_loop.max_epochs = 5
    with pytest.raises(TrainingError, match="this Trainer has trained before, and its replay is gone; create another"):
        trainer.fit(agent, datamodule=data)
    make_trainer().fit(agent, datamodule=data)


class Brightness(nn.Module):
    """Prefers action 0 if an image is brighter than 0.3, as a fraction of white."""

    def __init__(self, shape, actions):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(0.3))

    def forward(self, observation):
        observation = observation / 255 if observation.dtype == torch.uint8 else observation
        brightness = observation.flatten(1).mean(dim=1)
        return torch.stack([brightness, self.threshold.expand(len(observation))], dim=1)


def test_act_gives_images_to_the_network_as_training_does():
    """Bytes stay bytes, which networks take for fractions of 255; all else becomes float32."""
    agent = LitDQN((1, 6, 5), 2, network=Brightness)
    dark, bright = (np.full((1, 6, 5), grey, np.uint8) for grey in (51, 204))
    assert [agent.act(image) for image in (dark, bright)] == [1, 0]
    assert [agent.act(image / 255) for image in (dark, bright)] == [1, 0]
    agent = LitDQN((3,), 2, network=Brightness)
    assert agent.act(np.array([51, 51, 51], np.uint8)) == 0  # numbers, no picture


def test_load_from_checkpoint_needs_no_config(tmp_path):
    agent = make_agent(objective=DoubleQLearning(huber_delta=2.0), max_grad_norm=3.0)
    trainer = make_trainer()
    trainer.fit(agent, datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "agent.ckpt", weights_only=False)
    loaded = LitDQN.load_from_checkpoint(tmp_path / "agent.ckpt")
    assert same(agent.online.state_dict(), loaded.online.state_dict())
    assert loaded.objective == agent.objective
    assert (loaded.max_grad_norm, loaded.env_step) == (3.0, agent.env_step)
    observation = np.ones(4)
    assert loaded.act(observation) == agent.act(observation)


def test_init_from_takes_the_online_weights_and_nothing_else(tmp_path):
    agent = make_agent()
    trainer = make_trainer()
    trainer.fit(agent, datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "agent.ckpt", weights_only=False)
    safetensors.torch.save_file(agent.online.state_dict(), tmp_path / "agent.safetensors")
    for path in (tmp_path / "agent.ckpt", tmp_path / "agent.safetensors"):
        torch.manual_seed(1)
        warm = LitDQN((4,), 2, network=SMALL, init_from=str(path))
        assert same(warm.online.state_dict(), agent.online.state_dict())
        assert same(warm.target.state_dict(), agent.online.state_dict())
        assert not same(warm.target.state_dict(), agent.target.state_dict())
        assert warm.env_step == 0
    with pytest.raises(ConfigError, match=r"init_from: .*another network: 3\.weight"):
        LitDQN((4,), 3, network=SMALL, init_from=str(tmp_path / "agent.ckpt"))
    with pytest.raises(ConfigError, match="holds no weights"):
        LitDQN((4,), 2, network=SMALL, init_from=str(tmp_path / "no.ckpt"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("target_update_period", 0), ("target_update_tau", 0.0), ("target_update_tau", 1.5), ("max_grad_norm", -1.0)],
)
def test_values_out_of_range_are_named(key, value):
    with pytest.raises(ConfigError, match=f"{key}: {value}"):
        make_agent(**{key: value})


def test_a_learning_rate_is_a_number_or_a_schedule_and_not_negative():
    assert make_agent(learning_rate=0.5).learning_rate(7) == 0.5
    with pytest.raises(ConfigError, match=r"learning_rate: from 0\.1 to -0\.1, but"):
        make_agent(learning_rate=Linear(0.1, -0.1, 100))


def test_a_network_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="does not take observations"):
        LitDQN((4,), 2, network=lambda shape, actions: nn.Linear(5, actions))
    with pytest.raises(ConfigError, match="one value for each action"):
        LitDQN((4,), 2, network=lambda shape, actions: nn.Linear(4, 7))


class SumOfTDErrors(QLearning):
    def __call__(self, online, target, batch):
        output = super().__call__(online, target, batch)
        return output._replace(loss=output.loss.sum())


class BareTensor(QLearning):
    def __call__(self, online, target, batch):
        return super().__call__(online, target, batch).loss


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (
            QuantileRegression(),
            r"needs a network with a QuantileHead, .* MLP .*; set --model.network.head lit_dqn.QuantileHead",
        ),
        (SumOfTDErrors(), r"loss of shape \(\) of 2"),
        (BareTensor(), "BareTensor makes no loss of the outputs of MLP: .*no attribute 'loss'"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused_before_the_warm_up(objective, reason):
    with pytest.raises(ConfigError, match=f"objective: .*{reason}"):
        make_agent(objective=objective)


@pytest.mark.parametrize(
    ("agent", "objective", "example"),
    [(LitDQN, DoubleQLearning, "DoubleQLearning()"), (LitTD, TDLearning, "TDLearning()"),
     (LitActorCritic, ActorCritic, "ActorCritic()")],
)  # fmt: skip
def test_the_class_of_an_objective_is_no_objective(agent, objective, example):
    sentence = f"objective: the class {objective.__name__} is no objective; give an object, such as {example}."
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        agent((4,), 2, network=MLP, objective=objective)


def test_the_trials_of_a_new_agent_leave_no_trace_in_its_network():
    agent = LitDQN((4,), 2, network=Normalised)
    fresh = nn.BatchNorm1d(4).state_dict()
    assert not any(module.training for module in agent.modules())
    for network in (agent.online, agent.target):
        assert same({name: network.state_dict()[f"0.{name}"] for name in fresh}, fresh)


class Normalised(nn.Sequential):
    def __init__(self, shape, actions):
        super().__init__(nn.BatchNorm1d(*shape), nn.Linear(*shape, actions))


def test_quantile_regression_learns_acts_and_comes_back_from_its_checkpoint(tmp_path):
    torch.manual_seed(0)
    network = partial(QuantileNetwork, network=SMALL, num_quantiles=5)
    agent = LitDQN((4,), 2, network=network, objective=QuantileRegression())
    before = copy.deepcopy(agent.online.state_dict())
    trainer = make_trainer()
    trainer.fit(agent, datamodule=make_data())
    assert not same(agent.online.state_dict(), before)
    assert agent.q_values(np.ones((3, 4), np.float32)).shape == (3, 2)
    trainer.save_checkpoint(tmp_path / "agent.ckpt", weights_only=False)
    loaded = load_agent(tmp_path / "agent.ckpt")
    assert same(agent.online.state_dict(), loaded.online.state_dict())
    assert loaded.objective == agent.objective
    assert loaded.act(np.ones(4)) == agent.act(np.ones(4))


class Moody(nn.Sequential):
    """A network that says in which mode it is asked; for one observation, batch norm in training mode is an error."""

    def __init__(self, shape, actions):
        super().__init__(nn.BatchNorm1d(*shape), nn.Dropout(0.5), nn.Linear(*shape, actions))
        self.asked = []

    def forward(self, observation):
        self.asked.append((len(observation), self.training))
        return super().forward(observation)


@pytest.mark.parametrize("play_ahead", [False, True])
def test_only_the_network_that_learns_is_in_training_mode_and_only_in_its_updates(tmp_path, play_ahead):
    agent = LitDQN((4,), 2, network=Moody)
    agent.online.asked.clear()
    data, trainer = make_data(num_envs=1, policy=Greedy(), play_ahead=play_ahead), make_trainer(max_epochs=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(agent, datamodule=data)
    assert not [warning for warning in caught if "eval mode" in str(warning.message)]
    assert (16, True) in agent.online.asked  # batches
    assert {training for batch, training in agent.online.asked if batch != 16} == {False}  # actions and evaluations
    assert not any(training for _, training in agent.target.asked)
    trainer.save_checkpoint(tmp_path / "agent.ckpt", weights_only=False)
    make_trainer(limit_train_batches=0).fit(agent, datamodule=make_data())  # nothing to do, and no hook of training
    for actor in (agent, load_agent(tmp_path / "agent.ckpt", trust=[Moody])):
        values = [actor.q_values(np.ones((3, 4), np.float32)) for _ in range(9)]
        assert np.ptp(values, axis=0).max() == 0
        assert actor.act(np.ones(4)) in (0, 1)


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_an_interrupted_evaluation_leaves_nothing_to_the_next(verb):
    class Interrupt(lightning.Callback):
        def on_validation_batch_end(self, trainer, *args) -> None:
            raise RuntimeError("stop")

        on_test_batch_end = on_validation_batch_end

    agent, data = make_agent(), make_data(eval_episodes=3)
    with pytest.raises(RuntimeError, match="stop"):
        getattr(make_trainer(callbacks=[Interrupt()]), verb)(agent, datamodule=data, verbose=False)
    (result,) = getattr(make_trainer(), verb)(agent, datamodule=data, verbose=False)
    assert result["eval/episodes"] == 3


class OwnDQN(LitDQN):
    """A custom agent."""


def test_load_agent_knows_subclasses_of_agents_and_takes_only_classes_that_are_handed_over(tmp_path):
    path = tmp_path / "own.ckpt"
    agent, trainer = OwnDQN((4,), 2, network=Moody), make_trainer()
    trainer.fit(agent, datamodule=make_data())
    trainer.save_checkpoint(path, weights_only=False)
    with pytest.raises(ConfigError, match=r"names test_dqn\.Moody as its network, .*load_agent\(path, trust=\["):
        load_agent(path)
    assert type(load_agent(path, trust=[Moody])) is type(OwnDQN.load_from_checkpoint(path, trust=[Moody])) is OwnDQN
    # A class of a script is one of `__main__` there, and of a module where it is imported.
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["network"]["class_path"] = "__main__.Moody"
    torch.save(checkpoint, path)
    with pytest.raises(ConfigError, match=r"names __main__\.Moody as its network"):
        load_agent(path)
    assert type(load_agent(path, trust=[Moody]).online) is Moody


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    trainer = make_trainer()
    trainer.fit(make_agent(), datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "agent.ckpt", weights_only=False)
    checkpoint = torch.load(tmp_path / "agent.ckpt", weights_only=True)
    reasons = {float("nan"): r"the weight online\.1\.bias is NaN", float("inf"): r"NaN or infinite \(.*1\.bias"}
    for number, reason in reasons.items():
        checkpoint["state_dict"]["online.1.bias"][0] = number
        torch.save(checkpoint, tmp_path / "agent.ckpt")
        with pytest.raises(ConfigError, match=reason):
            load_agent(tmp_path / "agent.ckpt")
        with pytest.raises(ConfigError, match=f"init_from: .*{reason}"):
            LitDQN((4,), 2, network=SMALL, init_from=str(tmp_path / "agent.ckpt"))


class WithoutPriority(QLearning):
    def __call__(self, online, target, batch):
        return super().__call__(online, target, batch)._replace(priority=None)


class OnePriority(QLearning):
    def __call__(self, online, target, batch):
        return super().__call__(online, target, batch)._replace(priority=torch.ones(1))


@pytest.mark.parametrize(
    ("objective", "says"), [(WithoutPriority(), "none"), (OnePriority(), r"a tensor of shape \(1,\) for 2 of them")]
)
def test_a_sampler_that_asks_for_priorities_is_refused_where_there_are_none(objective, says):
    data = make_data(sampler=Prioritized())
    with pytest.raises(ConfigError, match=f"sampler: Prioritized .*Priority gives {says}; set --data.sampler Uniform"):
        make_trainer().fit(make_agent(objective=objective), datamodule=data)
    make_trainer().fit(make_agent(objective=objective), datamodule=make_data())


@pytest.mark.parametrize("play_ahead", [False, True])
def test_what_is_learned_comes_back_as_priorities_of_the_transitions_that_it_was_learned_from(play_ahead):
    agent, data = make_agent(), make_data(sampler=Prioritized(alpha=1.0), gradient_steps=2, play_ahead=play_ahead)
    learned, settled = [], []
    setup = data.setup

    def watched_setup(stage):
        setup(stage)
        settle = data.store.settle
        data.store.settle = lambda start, priority: (settled.append((start, priority)), settle(start, priority))

    data.setup = watched_setup
    batch_loss = agent.batch_loss
    agent.batch_loss = lambda batch: (learned.append(batch), batch_loss(batch))[1]
    make_trainer().fit(agent, datamodule=data)
    learned = learned[1:]  # the first is that of `check_data`
    assert len(settled) == 5
    for chunk, (start, priority) in enumerate(settled):
        assert priority.shape == (2, 16)
        for update in range(2):
            batch = learned[2 * chunk + update]
            assert torch.equal(batch.observation, data.store.buffer.sample(start[update]).observation)
            assert batch.weight.max() == 1
    start, priority = settled[-1]
    leaves = data.store.sampler.arrays["priority"]
    assert leaves[start[1, -1] % len(leaves)] == pytest.approx(priority[1, -1].item(), abs=1e-5)
