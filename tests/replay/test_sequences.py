"""Sequences out of a replay: none holds steps of two episodes, and each starts from what was remembered there."""

import numpy as np
import pytest
import torch

from audit import Audit, audit_collector
from lit_dqn import ConfigError, Sequences
from lit_dqn.replay import Horizon, ReplayBuffer, SequenceStore
from lit_dqn.replay.layout import replay_bytes
from lit_dqn.types import Timestep

# (num_envs, n_step, frame_stack, capacity, length, burn_in, overlap)
LAYOUTS = [
    (1, 1, 1, 40, 4, 2, 2),
    (1, 3, 2, 50, 4, 4, 0),
    (3, 2, 1, 90, 5, 0, 4),
    (2, 1, 4, 80, 6, 1, 3),
]
ENDINGS = {
    "some": {"termination": 0.05, "truncation": 0.05},
    "short": {"termination": 0.3, "truncation": 0.3},
    "never": {"termination": 0.0, "truncation": 0.0},
    "images": {"image": True, "termination": 0.1, "truncation": 0.05},
    "lives": {"life_loss": 0.3, "termination": 0.05, "truncation": 0.05},
}


def audited(num_envs, n_step, frame_stack, capacity, length, burn_in, overlap, **settings) -> Audit:
    sequences = Sequences(length, burn_in, overlap)
    return Audit(
        audit_collector(num_envs, capacity, n_step=n_step, frame_stack=frame_stack, sequences=sequences, **settings)
    )


@pytest.mark.parametrize(
    ("layout", "ending"),
    [
        pytest.param(layout, ending, marks=[] if (number - place) % len(LAYOUTS) == 0 else pytest.mark.slow)
        for place, layout in enumerate(LAYOUTS)
        for number, ending in enumerate(ENDINGS)
    ],
    ids=str,
)
def test_every_sequence_of_every_moment_is_what_was_played_and_remembered(layout, ending):
    audit = audited(*layout, **ENDINGS[ending])
    num_envs, n_step, _, capacity, *_ = layout
    checked = []
    for moment in range(20 + 2 * capacity // num_envs):
        audit.play()
        if moment % 31 == 30:
            audit.cut()  # as a run that is resumed with new episodes
        if moment % 7 == 0:
            checked.append(audit.check_sequences(1 + moment % n_step, 0.9))
    audit.check_sequences()
    assert checked[-1] > 0
    assert audit.replay.starts.start > 0  # the ring has come round


def test_a_transition_is_in_the_sequence_of_its_stride_and_each_transition_can_be_drawn():
    """By hand: sequences of 4 steps, each begun 2 after the one before, 2 before them; an episode of 7 steps."""
    buffer = ReplayBuffer(64, 1, (1,), np.float32, gamma=0.5, memory_size=1)
    store = SequenceStore(buffer, Sequences(length=4, burn_in=2, overlap=2))
    for t in range(9):  # two steps of another episode follow
        step = np.array([[t]], np.float32)
        last = np.array([t == 6])
        array = np.array([t])
        buffer.add(Timestep(step, array, array.astype(float), ~last, last, step + 101, memory=step + 0.5))
    seen = store.sample(np.arange(9), 1, 0.5)
    first = [0, 0, 2, 2, 4, 4, 6, 7, 7]
    count = [4, 4, 4, 4, 3, 3, 1, 2, 2]
    memory = [0, 0, 0, 0, 2, 2, 4, 7, 7]  # of two steps before, unless the episode begins there
    assert [row[0] for row in seen["action"].tolist()] == first
    assert seen["weight"].sum(axis=1).tolist() == count
    assert seen["memory"][:, 0].tolist() == [step + 0.5 for step in memory]
    assert seen["burned_in"].tolist() == [False, False, True, True, True, True, True, False, False]
    assert seen["burn_in"][4, :, 0].tolist() == [102, 103]  # as the steps before show them
    assert seen["discount"][5].tolist() == [0.5, 0.5, 0, 0]  # the last one stands for what is missing, weighed by 0
    assert seen["place"][5].tolist() == [[0, 1, 2, 2], [1, 2, 3, 3]]
    drawn = store.draw(3, 8, np.random.default_rng(0), 0)
    assert drawn.start.shape == (3, 8)
    batch = drawn.batches[0]
    assert batch.observation.shape == (8, 5, 1)
    assert batch.reward.shape == batch.weight.shape == (32,)
    assert batch.place.shape == (2, 32)
    assert batch.weight.mean() == 1  # so that the mean of the weighed losses is that over the steps there are
    # Places count through the batch.
    there = batch.weight > 0
    starts = batch.observation.flatten(0, 1)[batch.place[0], 0] % 100
    assert torch.equal(starts[there], batch.action[there].float())
    assert {int(start) for start in drawn.start.reshape(-1)} <= set(range(9))
    assert len({int(start) for start in store.draw(20, 8, np.random.default_rng(0), 0).start.reshape(-1)}) == 9


@pytest.mark.slow
def test_episodes_that_lie_where_those_of_the_round_before_lay_are_other_ones():
    """Episodes of 5 steps take 6 of 21,432 rows, so that each begins in a row where one began a round before."""
    buffer = ReplayBuffer(20_003, 1, (1,), np.float32, gamma=0.5, memory_size=1)
    assert buffer.arrays["step"].shape == (1, 21_432)
    store = SequenceStore(buffer, Sequences(length=5, burn_in=0, overlap=0))
    one = np.zeros((1, 1), np.float32)
    steps = 5 * 3572 * 2 + 2  # two rounds, and two steps of an episode
    for t in range(steps):
        last = np.array([t % 5 == 4])
        buffer.add(Timestep(one, np.array([t]), np.zeros(1), ~last, last, one, memory=one))
    assert len(buffer.starts) < 20_003  # there are more rows than starts
    (newest,) = store.sample(np.array(buffer.starts[-1:]), 1, 0.5)["action"]
    assert newest.tolist() == [steps - 2, *[steps - 1] * 4]
    assert store.sample(np.array(buffer.starts[-1:]), 1, 0.5)["weight"].tolist() == [[1, 1, 0, 0, 0]]


def test_memory_is_counted():
    arrays = ReplayBuffer(500, 2, (3,), np.float32, gamma=0.9, memory_size=6).arrays
    size = (500, 2, (3,), np.float32)
    assert replay_bytes(*size, memory_size=6) == sum(array.nbytes for array in arrays.values())
    assert replay_bytes(*size, memory_size=6) - replay_bytes(*size) == arrays["step"].size * 6 * 4


def test_n_and_gamma_may_change():
    buffer = ReplayBuffer(64, 1, (1,), np.float32, gamma=0.5, n_step=3, memory_size=1)
    horizon = Horizon(2, 0.25)
    store = SequenceStore(buffer, Sequences(length=4, burn_in=0, overlap=0), horizon)
    for t in range(8):
        one = np.array([[t]], np.float32)
        buffer.add(Timestep(one, np.array([0]), np.ones(1), one[0] > -1, one[0] > 99, one + 1, memory=one))
    (batch,) = store.draw(1, 2, np.random.default_rng(0), 0).batches
    assert batch.discount.tolist() == [0.0625] * 8
    assert batch.reward.tolist() == [1.25] * 8
    assert (batch.place[1] - batch.place[0]).tolist() == [2] * 8
    assert batch.burn_in is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"length": 0}, "length: 0 steps of a sequence must be at least 1"),
        ({"length": 10, "overlap": 10}, "overlap: 10 steps, but sequences of 10 steps can share 0 to 9"),
        ({"length": 10, "overlap": 5, "burn_in": 6}, "burn_in: 6 steps must lie between 0 and length - overlap = 5"),
        ({"burn_in": -1}, "burn_in: -1 steps must lie between 0"),
    ],
)
def test_sequences_that_cannot_be_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Sequences(**arguments)
