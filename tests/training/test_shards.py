import copy
from functools import partial

import pytest
import torch

from helpers import WithBatchNorm, WithDropout, batches, make_agent, make_data, make_trainer, same
from lit_dqn import MLP, ConfigError, Linear, LitDQN, Prioritized
from lit_dqn.learning.learner import Learner
from lit_dqn.learning.sharded import Shards
from lit_dqn.ranks import tree_sum
from lit_dqn.saving.checkpoint import Checkpoint
from lit_dqn.saving.io import ReplayCheckpointIO
from lit_dqn.types import Batch, LossOutput


def numbers(*values):
    return [torch.tensor([value]) for value in values]


def test_a_tree_adds_neighbours_first():
    """Each way has its own sum in float32."""
    values = [1e8, 3.0, -1e8, 3.0]
    in_turn, pairs = ((1e8 + 8) - 1e8) + 3, (1e8 + 0) + (-1e8 + 0)  # 1e8 + 3 is 1e8, 1e8 + 8 is the next number
    assert in_turn != pairs
    assert tree_sum(numbers(*values)) == (torch.tensor(1e8) + 3) + (torch.tensor(-1e8) + 3)
    left, right = tree_sum(numbers(*values[:2])), tree_sum(numbers(*values[2:]))
    assert tree_sum([left, right]) == tree_sum(numbers(*values))
    assert tree_sum(numbers(*values)) != tree_sum(numbers(values[0], values[2], values[1], values[3]))


def squares(online, target, batch):
    values = online(batch.observation).gather(1, batch.action[:, None])[:, 0]
    return LossOutput((values - batch.reward).square(), {"largest": values.detach().max()}, values.detach().abs())


def make_learner(network, shards=None, **settings):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    return Learner(network, None, squares, optimizer, shards=shards, **settings)


def test_an_update_of_several_shards_is_one_step_along_the_mean_of_their_gradients():
    torch.manual_seed(0)
    network = MLP((4,), 2, (16,))
    whole = copy.deepcopy(network)
    parts = batches(8, size=4)
    fours = [zip(*(part.tensors for part in parts[first : first + 4]), strict=True) for first in (0, 4)]
    together = [Batch(*map(torch.cat, columns)) for columns in fours]
    sharded = make_learner(network, Shards(4, range(4), tree_sum), max_grad_norm=0.05)
    learned = sharded.update_many(parts)
    expected = make_learner(whole, max_grad_norm=0.05).update_many(together)
    assert sharded.updates == 2
    for one, other in zip(network.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-7)
    assert torch.allclose(learned.metrics["loss"], expected.metrics["loss"])
    assert not torch.allclose(learned.metrics["largest"], expected.metrics["largest"])  # a mean of largest ones
    assert not network.training


def test_weights_count_within_a_shard_and_priorities_come_back_by_shard():
    torch.manual_seed(0)
    weight = [torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 0, 0, 0.5])]
    parts = [part._replace(weight=one) for part, one in zip(batches(2, size=4), weight, strict=True)]
    network = MLP((4,), 2, (16,))
    values = [squares(network, network, part) for part in parts]
    learned = make_learner(network, Shards(2, range(2), tree_sum)).update_many(parts)
    assert learned.metrics["loss"][0] == pytest.approx((values[0].loss[0] / 4 + values[1].loss[3] / 8).item() / 2)
    assert torch.equal(learned.priority, torch.cat([value.priority for value in values])[None])


@pytest.mark.parametrize("network", [WithDropout, partial(MLP, hidden_sizes=(16,), noise=0.5)])
def test_what_a_shard_draws_follows_from_its_number_and_the_count_of_updates(network):
    """Shards 2 and 3 draw in a process of their own what they draw beside 0 and 1; torch's generator is left alone."""

    def gradients(here, updates):
        seen = []

        def keep(rows):
            seen.extend(row.clone() for row in rows)
            return tree_sum(rows)

        torch.manual_seed(0)
        learner = make_learner(network((4,), 2), Shards(4, here, keep), seed=7, updates=updates)
        before = torch.random.get_rng_state()
        learner.update_many(batches(1, size=4) * len(here))
        assert torch.equal(before, torch.random.get_rng_state())
        return seen

    together, apart = gradients(range(4), 5), gradients(range(2, 4), 5)
    assert all(torch.equal(one, other) for one, other in zip(together[2:], apart, strict=True))
    different = [*together, *gradients(range(4), 6)]
    assert len({row.numpy().tobytes() for row in different}) == 8


def fitted(path, updates, resume=None, **settings):
    agent = make_agent()
    data = make_data(num_envs=8, env_steps_per_update=8, capacity=240, **settings)
    trainer = make_trainer(max_epochs=-1, max_steps=updates, limit_val_batches=0, plugins=[ReplayCheckpointIO()])
    trainer.fit(agent, datamodule=data, ckpt_path=resume)
    trainer.save_checkpoint(path, weights_only=False)
    return agent, data


SHARDED = {"shards": 4, "sampler": Prioritized(0.9, Linear(0.4, 1.0, env_steps=90)), "n_step": 2}


@pytest.mark.parametrize("play_ahead", [False, True])
def test_a_run_of_shards_that_is_resumed_is_the_run_that_never_stopped(tmp_path, play_ahead):
    settings = {**SHARDED, "play_ahead": play_ahead, "gradient_steps": 2}
    whole, whole_data = fitted(tmp_path / "whole.ckpt", 40, **settings)
    fitted(tmp_path / "half.ckpt", 20, **settings)
    resumed, data = fitted(tmp_path / "resumed.ckpt", 40, tmp_path / "half.ckpt", **settings)
    assert same(whole.state_dict(), resumed.state_dict())
    one, other = whole_data.collector, data.collector
    assert (one.env_step, one.episodes) == (other.env_step, other.episodes)
    assert data.state_dict()["sampling"] == whole_data.state_dict()["sampling"]
    for one, other in zip(data.state_dict()["replay"], whole_data.state_dict()["replay"], strict=True):
        for kind in ("arrays", "rewritten"):
            for name, array in one[kind].items():
                assert torch.equal(array, other[kind][name]), name
    folders = sorted(path.name for path in tmp_path.glob("whole.*.replay"))
    assert folders == [f"whole.shard_{shard}.replay" for shard in range(4)]


def test_shards_play_the_episodes_of_one_and_count_them_together():
    """By the policy of the warm-up, which does not ask the agent."""

    def played(shards):
        data = make_data(num_envs=8, env_steps_per_update=8, shards=shards, min_replay_size=800, capacity=800)
        make_trainer(max_steps=1, limit_val_batches=0).fit(make_agent(), datamodule=data)
        return data

    one, four = played(1), played(4)
    assert one.collector.env_step == four.collector.env_step == 808
    assert one.collector.episodes == four.collector.episodes > 20
    episodes = [[episode for episode in data.collector.finished if episode.env_step <= 800] for data in (one, four)]
    assert episodes[0] == episodes[1]
    assert [len(replay.buffer.starts) for replay in four.store.replays.values()] == [200] * 4
    actions = [replay.buffer.state_dict()["arrays"]["action"][:, :100] for replay in four.store.replays.values()]
    assert torch.equal(torch.cat(actions), one.store.buffer.state_dict()["arrays"]["action"][:, :100])


def test_each_shard_draws_its_part_of_a_batch_with_its_own_generator():
    data = make_data(num_envs=4, env_steps_per_update=4, shards=4, gradient_steps=2)
    agent = make_agent()
    seen = []
    step = agent.training_step
    agent.training_step = lambda chunk, batch_idx: (seen.append(chunk), step(chunk, batch_idx))[1]
    make_trainer(max_steps=2, limit_val_batches=0).fit(agent, datamodule=data)
    (chunk,) = seen
    assert [len(part.reward) for part in chunk.batches] == [4] * 8
    positions = [{float(row) for row in part.observation[:, 0]} for part in chunk.batches]
    for number, position in enumerate(positions):
        own = data.store.replays[number % 4].buffer.frames[:, 0].tolist()
        assert position <= set(own)
    states = [generator.bit_generator.state["state"]["state"] for generator in data._sampling]
    assert len(set(states)) == 4


def test_a_batch_norm_and_another_number_of_shards_are_refused(tmp_path):
    agent = LitDQN((4,), 2, network=WithBatchNorm)
    with pytest.raises(ConfigError, match=r"shards: 2, but the network's layer 1, BatchNorm1d, takes means"):
        agent.check_can_learn_from(make_data(num_envs=2, env_steps_per_update=2, shards=2))
    fitted(tmp_path / "two.ckpt", 4, shards=2)
    with pytest.raises(ConfigError, match=r"shards: the checkpoint was made with 2, not 4, .* set --data.shards 2"):
        make_data(num_envs=8, env_steps_per_update=8, capacity=240, shards=4).check_can_resume(
            Checkpoint.read(tmp_path / "two.ckpt")
        )
