"""The update by itself, against the same update written out plainly."""

import copy
from functools import partial

import lightning
import pytest
import torch
from torch import nn

from helpers import ADAM, SMALL, WithBatchNorm, WithDropout, batches
from lit_dqn import (
    CNN,
    ConfigError,
    DoubleQLearning,
    LitDQN,
    MunchausenQLearning,
    QLearning,
    QuantileNetwork,
    QuantileRegression,
    ReplayDataModule,
    TrainingError,
)
from lit_dqn.learning.learner import Learner, Update
from lit_dqn.learning.objectives import ActorCritic, TDLearning
from lit_dqn.learning.update_graph import Capturable
from lit_dqn.types import Chunk


def actor_critic(online, target, batch):
    return ActorCritic()(online, batch, 0.7)


def plain_updates(online, target, objective, optimizer, batches, period, tau, max_grad_norm):
    """What a textbook writes."""
    losses = []
    online.train()
    for number, batch in enumerate(batches, start=1):
        loss = objective(online, target, batch).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(online.parameters(), max_grad_norm)
        optimizer.step()
        if period is not None and number % period == 0:
            with torch.no_grad():
                for new, old in zip(online.parameters(), target.parameters(), strict=True):
                    old.copy_(new) if tau == 1 else old.lerp_(new, tau)
        losses.append(loss.detach())
    return torch.stack(losses)


@pytest.mark.parametrize(
    ("objective", "network", "outputs", "period", "tau", "max_grad_norm"),
    [
        (QLearning(), SMALL, 2, 3, 1.0, None),
        (QLearning(), partial(CNN, filters=(4,), kernel_sizes=(4,), strides=(2,), dense_size=8), 2, 1, 0.1, 1.0),
        (DoubleQLearning(huber_delta=1.0), SMALL, 2, 3, 1.0, 0.1),
        (MunchausenQLearning(), SMALL, 2, 3, 1.0, 10.0),
        (QuantileRegression(), partial(QuantileNetwork, network=SMALL, num_quantiles=5), 2, 3, 1.0, None),
        (TDLearning(), SMALL, 1, 1, 1.0, None),
        (actor_critic, SMALL, 3, None, 1.0, 0.5),
    ],
)
def test_a_learner_makes_the_updates_of_the_textbook_bit_for_bit(
    objective, network, outputs, period, tau, max_grad_norm
):
    torch.manual_seed(0)
    shape = (1, 8, 8) if getattr(network, "func", None) is CNN else (4,)
    online = network(shape, outputs)
    target = copy.deepcopy(online).requires_grad_(False)
    plain_online, plain_target = copy.deepcopy(online), copy.deepcopy(target)
    learner = Learner(
        online,
        target if period else None,
        objective,
        ADAM(online.parameters()),
        target_update_period=period,
        target_update_tau=tau,
        max_grad_norm=max_grad_norm,
    )
    given = batches(7, shape)
    losses = [*learner.update_many(given[:4]).metrics["loss"], learner.update(given[4]).metrics["loss"]]
    losses = torch.stack([*losses, *learner.update_many(given[5:]).metrics["loss"]])
    optimizer = ADAM(plain_online.parameters())
    expected = plain_updates(plain_online, plain_target, objective, optimizer, given, period, tau, max_grad_norm)
    assert torch.equal(losses, expected)
    assert learner.updates == 7
    for learned, plain in ((online, plain_online), (target, plain_target)):
        for name, weight in plain.state_dict().items():
            assert torch.equal(learned.state_dict()[name], weight), name


class Loader:
    """A data loader of chunks."""

    def __init__(self, chunks):
        self.chunks = chunks

    def __len__(self):
        return len(self.chunks)

    def __iter__(self):
        return iter(self.chunks)


def fit(agent, chunks):
    data = ReplayDataModule("CartPole-v1", seed=0)
    data.train_dataloader = lambda: Loader(chunks)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    try:
        trainer.fit(agent, datamodule=data)
    finally:
        agent.trainer_of_the_test = trainer
    return trainer


def test_a_loss_that_is_no_number_names_its_update_within_the_chunk():
    good = batches(7)
    bad = good[5]._replace(reward=torch.full((8,), float("nan")))
    chunks = [Chunk(tuple(good[:3]), 10), Chunk((good[3], good[4], bad, good[6]), 20)]
    with pytest.raises(TrainingError, match=r"became nan at update 6 \(env step 20\)"):
        fit(LitDQN((4,), 2, network=SMALL), chunks)


def test_updates_are_counted_by_lightning_also_those_before_an_error():
    agent = LitDQN((4,), 2, network=SMALL)
    assert fit(agent, [Chunk(tuple(batches(3)), 10), Chunk(tuple(batches(2)), 20)]).global_step == 5
    broken = batches(1)[0]._replace(observation=torch.zeros(8, 5))
    agent = LitDQN((4,), 2, network=SMALL)
    with pytest.raises(RuntimeError, match="shapes"):
        fit(agent, [Chunk(tuple(batches(3)), 10), Chunk((*batches(2), broken), 20)])
    assert agent.trainer_of_the_test.global_step == 5


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"network": WithDropout}, "it draws random numbers, as dropout does"),
        ({"network": WithBatchNorm}, "the network changes its buffers, as batch norm does"),
        ({"optimizer": partial(torch.optim.SGD, lr=0.1)}, "torch cannot capture the steps of SGD"),
    ],
)
def test_an_update_that_cannot_be_captured_is_refused_in_a_sentence_before_the_run(settings, reason):
    agent = LitDQN((4,), 2, **{"network": SMALL, "update": "graph", **settings})
    state, weights = torch.get_rng_state(), copy.deepcopy(agent.online.state_dict())
    with pytest.raises(ConfigError, match=f"update: graph cannot capture this update: {reason}; set --model.update"):
        agent.check_device(torch.device("cuda"))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, agent.online.state_dict()[name]) for name, value in weights.items())
    LitDQN((4,), 2, network=SMALL, update="graph").check_device(torch.device("cuda"))


def test_a_graph_needs_a_gpu_and_auto_does_without():
    with pytest.raises(ConfigError, match=r"update: graph .* a run on cpu; set --model.update auto, or"):
        fit(LitDQN((4,), 2, network=SMALL, update=Update.graph), [Chunk(tuple(batches(1)), 10)])
    agent = LitDQN((4,), 2, network=SMALL)
    assert agent.hparams["update"] == "auto"
    fit(agent, [Chunk(tuple(batches(1)), 10)])


@pytest.mark.parametrize("make", [ADAM, partial(torch.optim.Adam, lr=1e-2), partial(torch.optim.RMSprop, lr=1e-2)])
def test_a_capturable_optimiser_shows_nothing_of_it_in_a_checkpoint_and_can_be_made_what_it_was(make):
    online = SMALL((4,), 2)
    optimizer = make(online.parameters())
    Learner(online, online, QLearning(), optimizer).update_many(batches(2))
    before = copy.deepcopy(optimizer.state_dict())
    capturable = Capturable(optimizer)
    rate = optimizer.param_groups[0]["lr"]
    capturable.set_learning_rate(0.25)
    assert rate is optimizer.param_groups[0]["lr"]
    assert rate == torch.tensor(0.25)
    capturable.set_learning_rate(1e-2)
    saved = optimizer.state_dict()
    capturable.restore(saved["param_groups"])
    assert saved["param_groups"] == before["param_groups"]
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor)
    capturable.undo()
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]
    for number, state in before["state"].items():
        for key, value in state.items():
            assert torch.equal(optimizer.state_dict()["state"][number][key], value)


def weighed(batch, *weights):
    return batch._replace(weight=torch.tensor(weights))


def test_a_weight_scales_the_loss_of_its_transition_and_nothing_else():
    """Plain gradient descent shows it; Adam divides a factor away again."""
    (batch,) = batches(1, size=4)
    agents = []
    for given in (weighed(batch, 2.0, 0.0, 1.0, 0.5), batch):
        torch.manual_seed(0)
        online = SMALL((4,), 2)
        learner = Learner(online, None, QLearning(), torch.optim.SGD(online.parameters(), lr=0.1))
        first = copy.deepcopy(online)
        agents.append((online, first, learner.update(given)))
    online, first, learned = agents[0]
    losses = QLearning()(first, first, batch).loss
    (losses @ torch.tensor([2.0, 0.0, 1.0, 0.5]) / 4).backward()
    for new, old in zip(online.parameters(), first.parameters(), strict=True):
        torch.testing.assert_close(new, old - 0.1 * old.grad)
    torch.testing.assert_close(learned.metrics["loss"], losses.detach() @ torch.tensor([2.0, 0.0, 1.0, 0.5]) / 4)
    torch.testing.assert_close(agents[1][2].metrics["loss"], losses.detach().mean())


def test_priorities_come_back_where_batches_are_weighed():
    torch.manual_seed(0)
    online = SMALL((4,), 2)
    learner = Learner(online, None, QLearning(), torch.optim.SGD(online.parameters(), lr=0.0))
    given = batches(3)
    assert learner.update_many(given).priority is None
    learned = learner.update_many([weighed(batch, *[1.0] * 8) for batch in given])
    expected = torch.stack([QLearning()(online, online, batch).priority for batch in given])
    assert learned.priority.shape == (3, 8)
    assert torch.equal(learned.priority, expected)
    assert torch.equal(learner.update(weighed(given[1], *[1.0] * 8)).priority, expected[1])
    torch.testing.assert_close(learned.metrics["td_error"], expected.mean(dim=1))


def test_a_chunk_is_settled_once_with_its_priorities_also_when_learning_fails():
    settled = []
    good = [weighed(batch, *[1.0] * 8) for batch in batches(2)]
    bad = good[0]._replace(reward=torch.full((8,), float("nan")))
    agent = LitDQN((4,), 2, network=SMALL)
    with pytest.raises(TrainingError):
        fit(agent, [Chunk(tuple(good), 10, settled.append), Chunk((bad,), 20, settled.append)])
    assert settled[0].shape == (2, 8)
    assert settled[1:] == [None]
