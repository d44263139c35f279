"""One conformance suite that every store passes."""

import copy

import numpy as np
import pytest
import torch

from helpers import random_replay
from lit_dqn import Latest, Prioritized, Rollout, Uniform
from lit_dqn.replay import DeviceFrames, Replay, RolloutStore

SAMPLERS = {
    "uniform": Uniform,
    "with replacement": lambda: Uniform(replacement=True),
    "latest": Latest,
    "prioritized": lambda: Prioritized(alpha=0.7, beta=0.5),
}
STORES = [*SAMPLERS, "rollout"]
every_store = pytest.mark.parametrize("store", STORES)
everywhere = pytest.mark.parametrize(
    ("store", "on_device"),
    [*((name, False) for name in STORES), *((name, True) for name in SAMPLERS)],
    ids=lambda part: part if isinstance(part, str) else "device" if part else "host",
)


def brightness(observation):
    """The value of an observation to the rollout."""
    return observation.reshape(len(observation), -1).mean(axis=1, dtype=np.float32)


class Played:
    """A store of a buffer that another step is played into when it is asked for one."""

    def __init__(self, store, on_device=False, **settings):
        if store == "rollout":  # has windows of one step, and whole steps of all three envs
            settings |= {"n_step": 1, "capacity": settings.get("capacity", 60) // 3 * 3}
        self.steps = random_replay(400, **settings)
        self.buffer = next(self.steps)
        frames = DeviceFrames(self.buffer, "cpu") if on_device else None
        self.store = (
            RolloutStore(self.buffer, Rollout(trace_decay=0.0), brightness)
            if store == "rollout"
            else Replay(self.buffer, SAMPLERS[store](), frames)
        )
        self.generator = np.random.default_rng(5)
        self.play(10)

    def play(self, steps):
        for _ in range(steps):
            next(self.steps)

    def draw(self, updates=3, batch_size=7):
        return self.store.draw(updates, batch_size, self.generator, env_step=100)

    def learn(self):
        batches, start = self.draw()
        self.store.settle(start, torch.stack([batch.reward.abs() for batch in batches]))
        return start


@everywhere
def test_what_is_drawn_are_the_transitions_of_its_starts(store, on_device):
    played = Played(store, on_device)
    for _ in range(12):
        played.play(7)
        batches, start = played.draw()
        assert start.shape == (3, 7)
        assert all(number in played.buffer.starts for number in start.reshape(-1).tolist())
        for batch, numbers in zip(batches, start, strict=True):
            expected = played.buffer.sample(numbers)
            if store == "rollout":  # with λ = 0, returns are targets of one step
                following = torch.from_numpy(brightness(expected.next_observation.numpy()))
                torch.testing.assert_close(batch.reward, expected.reward + expected.discount * following)
                assert not batch.discount.any()
                expected = expected._replace(reward=batch.reward, discount=batch.discount, next_observation=None)
            for one, other in zip(batch.tensors[:5], expected.tensors, strict=True):
                assert torch.equal(one, other)
        played.store.settle(start, torch.rand(3, 7))


@everywhere
def test_weights_are_there_where_priorities_are_and_the_largest_of_a_batch_is_1(store, on_device):
    played = Played(store, on_device)
    for _ in range(3):
        played.learn()
        for batch in played.draw()[0]:
            assert (batch.weight is not None) == (store == "prioritized")
            if batch.weight is not None:
                assert batch.weight.shape == (7,)
                assert batch.weight.dtype == torch.float32
                assert batch.weight.max() == 1
                assert 0 < batch.weight.min() < 1 or len(played.buffer.starts) < 30


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_device_and_the_host_draw_the_same_and_weigh_the_same(sampler):
    one, other = Played(sampler), Played(sampler, on_device=True)
    assert other.store.device == torch.device("cpu")
    for _ in range(10):
        one.play(5), other.play(5)
        assert (one.learn() == other.learn()).all()
        for first, second in zip(one.draw().batches, other.draw().batches, strict=True):
            assert len(first.tensors) == len(second.tensors)
            assert all(map(torch.equal, first.tensors, second.tensors))


@every_store
@pytest.mark.parametrize("settings", [{}, {"n_step": 1, "frame_stack": 1, "num_envs": 1}, {"capacity": 31}], ids=str)
@pytest.mark.parametrize("played_ahead", [0, 4])
def test_a_restored_store_draws_on_as_the_one_that_was_saved(store, settings, played_ahead):
    saved, restored = Played(store, **settings), Played(store, **settings)
    for _ in range(12):
        saved.play(5)
        saved.learn()
    saved.play(played_ahead)  # nobody has drawn since
    restored.learn()  # what it knew before is forgotten
    restored.store.load_state_dict(copy.deepcopy(saved.store.state_dict()))
    restored.generator.bit_generator.state = saved.generator.bit_generator.state
    for _ in range(4):
        assert (saved.learn() == restored.learn()).all()
    assert saved.store.state_dict()["next_start"] == restored.store.state_dict()["next_start"]


@every_store
def test_saving_changes_nothing(store):
    one, other = Played(store), Played(store)
    for _ in range(6):
        one.play(5), other.play(5)
        other.store.state_dict()
        assert (one.learn() == other.learn()).all()


@every_store
def test_what_was_overwritten_before_it_is_settled_does_no_harm(store):
    played = Played(store)
    start = played.draw().start
    played.play(100)
    played.store.settle(start, torch.full((3, 7), 9.0))
    assert played.draw().start.min() >= played.buffer.starts.start


def test_a_run_that_was_saved_without_priorities_resumes_with_the_highest_for_all():
    saved, restored = Played("uniform"), Played("prioritized")
    restored.learn()
    restored.store.load_state_dict(saved.store.state_dict())
    restored.store.state_dict()
    weights = restored.draw().batches[0].weight
    assert weights.tolist() == [1.0] * 7


def test_priorities_decide_what_is_drawn():
    played = Played("prioritized")
    numbers = np.array(played.buffer.starts)
    played.draw()
    played.store.settle(numbers[None], torch.where(torch.from_numpy(numbers == numbers[3]), 1e9, 0.0)[None])
    assert (played.draw().start == numbers[3]).mean() > 0.9
