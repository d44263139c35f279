import io

import numpy as np
import pytest
import torch

from audit import Audit, NobodyAsks, audit_collector
from lit_dqn.replay import Latest, ReplayBuffer, Uniform, stack_frames
from lit_dqn.replay.layout import replay_bytes
from lit_dqn.types import Batch, Timestep

# (num_envs, n_step, frame_stack, capacity)
LAYOUTS = [
    (1, 1, 1, 1),
    (1, 3, 4, 1),
    (3, 1, 1, 2),
    (4, 5, 2, 3),
    (1, 1, 1, 8),
    (1, 3, 1, 8),
    (1, 2, 3, 5),
    (2, 1, 4, 32),
    (3, 3, 4, 20),
    (4, 5, 2, 17),
    (8, 3, 1, 30),
]
ENDINGS = {
    "some": {"termination": 0.1, "truncation": 0.1},
    "short": {"termination": 0.5, "truncation": 0.4},
    "always": {"termination": 0.5, "truncation": 1.0},
    "never": {"termination": 0.0, "truncation": 0.0},
    "images": {"image": True},
    "lives": {"life_loss": 0.3, "termination": 0.05, "truncation": 0.05},
    "clipped": {"reward_clip": 0.5},
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("num_envs", "n_step", "frame_stack", "capacity"), LAYOUTS)
def test_every_transition_of_every_moment_is_what_was_played(num_envs, n_step, frame_stack, capacity, ending):
    collector = audit_collector(num_envs, capacity, n_step=n_step, frame_stack=frame_stack, **ENDINGS[ending])
    audit = Audit(collector)
    for _ in range(40 + 3 * capacity // num_envs):
        audit.play()
        audit.check_newest(audit.check_transitions())
        audit.check_last_episodes()
    assert len(collector.store.buffer.starts) == capacity


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(("num_envs", "n_step", "frame_stack", "capacity"), LAYOUTS[2:4])
def test_windows_may_be_shorter_than_the_longest_and_differ_from_draw_to_draw(
    num_envs, n_step, frame_stack, capacity, ending
):
    audit = Audit(audit_collector(num_envs, capacity, n_step=n_step, frame_stack=frame_stack, **ENDINGS[ending]))
    for moment in range(40 + 3 * capacity // num_envs):
        audit.play()
        shorter = 1 + moment % n_step
        audit.check_newest(audit.check_transitions(shorter, 0.5 + 0.4 * shorter / n_step))
    with pytest.raises(AssertionError):
        audit.replay.lookup(np.array(audit.replay.starts), n_step + 1)


@pytest.mark.parametrize(
    ("num_envs", "n_step", "frame_stack", "capacity"), [(5, 9, 1, 10), *LAYOUTS[2:4], *LAYOUTS[7:]]
)
def test_an_env_of_very_short_episodes_beside_longer_ones_takes_no_room_from_them(
    num_envs, n_step, frame_stack, capacity
):
    collector = audit_collector(num_envs, capacity, n_step=n_step, frame_stack=frame_stack, seed=0)
    for env in collector.players.envs.envs:
        env.unwrapped.chances = (0.5, 1.0) if env.unwrapped.index == 0 else (0.2, 0.0)
    audit = Audit(collector)
    for _ in range(40):
        audit.play()
        audit.check_newest(audit.check_transitions())


@pytest.mark.parametrize(("num_envs", "n_step", "frame_stack", "capacity"), LAYOUTS)
def test_a_cut_ends_running_episodes_as_a_truncation(num_envs, n_step, frame_stack, capacity):
    collector = audit_collector(num_envs, capacity, n_step=n_step, frame_stack=frame_stack)
    audit = Audit(collector)
    for step in range(40 + 3 * capacity // num_envs):
        audit.play()
        if step % 7 in (2, 3):
            audit.cut()
        audit.check_newest(audit.check_transitions())
        audit.check_last_episodes()


def test_a_capacity_equal_to_the_batch_gives_exactly_the_newest_steps():
    audit = Audit(audit_collector(2, capacity=8))
    for _ in range(30):
        audit.play()
    for sampler in (Uniform(), Latest()):
        numbers = sampler.sample(audit.replay.starts, 8, np.random.default_rng(0))
        observation = audit.replay.sample(numbers).observation.numpy()
        newest = {(index, *played[:2]) for index, env in enumerate(audit.envs) for played in env.steps[-4:]}
        assert {tuple(map(int, row)) for row in observation} == newest


# --- fed by hand, one env whose observation is the number of the step ---


def feed(replay, *steps, at=0):
    """Each step is (reward, discount, last); episodes show 0, 1, 2, ..."""
    t = at
    for reward, discount, last in steps:
        replay.add(
            Timestep(
                np.full((1, 1), t, np.float32),
                np.array([t]),
                np.array([reward], np.float64),
                np.array([bool(discount)]),
                np.array([bool(last)]),
                np.full((1, 1), t + 1, np.float32),
            )
        )
        t = 0 if last else t + 1


def make_replay(capacity=16, n_step=1, frame_stack=1, gamma=0.5, num_envs=1):
    return ReplayBuffer(capacity, num_envs, (1,), np.float32, gamma=gamma, n_step=n_step, frame_stack=frame_stack)


def everything(replay):
    return replay.sample(np.array(replay.starts, dtype=np.int64))


def assert_same(left, right):
    for one, other in zip(left.tensors, right.tensors, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_a_lost_life_ends_the_future_but_not_the_episode():
    replay = make_replay(n_step=2)
    feed(replay, (1, 1, 0), (2, 0, 0), (4, 1, 0), (8, 1, 1))  # the life is lost with the second step
    batch = everything(replay)
    assert batch.observation.flatten().tolist() == [0, 1, 2, 3]
    assert batch.reward.tolist() == [1 + 2 / 2, 2, 4 + 8 / 2, 8]
    assert batch.discount.tolist() == [0, 0, 0.25, 0.5]
    assert batch.next_observation.flatten().tolist()[2:] == [4, 4]
    assert replay.last_episode(0).flatten().tolist() == [0, 1, 2, 3, 4]


def test_frames_are_stacked_across_a_lost_life():
    replay = make_replay(frame_stack=3)
    feed(replay, (0, 1, 0), (0, 0, 0), (0, 1, 0))
    batch = everything(replay)
    assert batch.observation[2].flatten().tolist() == [0, 1, 2]
    assert batch.next_observation[1].flatten().tolist() == [0, 1, 2]


def test_a_truncated_window_bootstraps_with_the_discount_of_its_length():
    replay = make_replay(n_step=3)
    feed(replay, (1, 1, 0), (1, 1, 1))
    batch = everything(replay)
    assert batch.discount.tolist() == [0.25, 0.5]
    assert batch.next_observation.flatten().tolist() == [2, 2]


def test_a_transition_can_be_drawn_as_soon_as_its_window_is_complete():
    replay = make_replay(n_step=3)
    feed(replay, (0, 1, 0), (0, 1, 0))
    assert len(replay.starts) == 0
    feed(replay, (0, 1, 0), at=2)
    assert everything(replay).next_observation.tolist() == [[3]]


def test_an_empty_buffer_has_no_starts_and_no_episode_and_can_be_cut():
    replay = make_replay()
    replay.cut_episodes()
    assert len(replay.starts) == 0
    assert replay.last_episode(0).shape == (0, 1)


def test_a_cut_right_after_an_end_or_another_cut_changes_nothing():
    replay = make_replay(n_step=2)
    feed(replay, (1, 1, 0), (2, 1, 1))
    before = everything(replay)
    replay.cut_episodes()
    assert_same(before, everything(replay))
    feed(replay, (4, 1, 0))
    replay.cut_episodes()
    cut = everything(replay)
    assert cut.reward.tolist() == [2, 2, 4]
    assert cut.discount.tolist() == [0.25, 0.5, 0.5]
    replay.cut_episodes()
    assert_same(cut, everything(replay))
    assert replay.last_episode(0).flatten().tolist() == [0, 1]


def test_of_an_episode_longer_than_the_ring_the_end_is_left():
    replay = make_replay(capacity=4)
    feed(replay, *[(0, 1, 0)] * 99, (0, 0, 1))
    frames = replay.last_episode(0).flatten().tolist()
    assert frames == list(range(101))[-len(frames) :]
    rows = replay.state_dict()["arrays"]["observation"].shape[1]
    assert len(frames) == rows - 1  # all but the row that the next episode begins with


def test_with_too_little_room_for_last_observations_fewer_steps_are_kept_and_all_are_right():
    capacity, length = 6000, 4
    replay = make_replay(capacity, frame_stack=4)
    no_life, one = np.array([True]), np.zeros(1, np.int64)
    for number in range(8000):
        last = number % length == length - 1
        frame, next_frame = np.full((1, 1), number), np.full((1, 1), number + (0.5 if last else 1))
        replay.add(Timestep(frame, one, np.array([number]), no_life, np.array([last]), next_frame))
        if number < 7980:
            continue
        kept = len(replay.starts)
        assert 5000 < kept < capacity
        numbers = np.arange(number + 1 - kept, number + 1)
        begin = numbers - numbers % length
        batch = everything(replay)
        assert batch.reward.tolist() == numbers.tolist()
        expected = np.maximum(numbers[:, None] + np.arange(-3, 1), begin[:, None])
        np.testing.assert_array_equal(batch.observation[:, :, 0], expected)
        np.testing.assert_array_equal(batch.next_observation[:, -1, 0] % 1 == 0.5, numbers % length == length - 1)


@pytest.mark.parametrize(
    ("dtype", "shape", "stacked"),
    [(np.uint8, (2, 5, 7), (6, 5, 7)), (np.float32, (4,), (3, 4)), (np.uint8, (5, 7), (3, 5, 7)), (np.int16, (), (3,))],
)
def test_observations_keep_their_dtype_and_stack_by_their_rank(dtype, shape, stacked):
    assert stack_frames(np.zeros((2, 3, *shape), dtype)).shape == (2, *stacked)
    replay = ReplayBuffer(8, 2, shape, dtype, gamma=0.9, frame_stack=3)
    frames = np.ones((2, *shape), dtype)
    no = np.zeros(2, bool)
    replay.add(Timestep(frames, np.zeros(2, np.int64), np.zeros(2), ~no, no, frames))
    batch = everything(replay)
    assert batch.observation.shape == batch.next_observation.shape == (2, *stacked)
    assert batch.observation.numpy().dtype == dtype
    assert (batch.action.dtype, batch.reward.dtype, batch.discount.dtype) == (
        torch.int64,
        torch.float32,
        torch.float32,
    )


def test_a_batch_does_not_change_when_the_buffer_is_written_to():
    replay = make_replay(capacity=2)
    feed(replay, (1, 1, 0), (2, 1, 0))
    batch = everything(replay)
    before = Batch(*(tensor.clone() for tensor in batch.tensors))
    feed(replay, *[(9, 1, 0)] * 9, at=2)
    assert_same(before, batch)


# --- state and memory ---


@pytest.mark.parametrize(("num_envs", "n_step", "frame_stack", "capacity"), LAYOUTS[1::3])
def test_a_restored_buffer_draws_the_same_and_continues_alike(num_envs, n_step, frame_stack, capacity):
    collector = audit_collector(num_envs, capacity, n_step=n_step, frame_stack=frame_stack)
    collector.collect(NobodyAsks(), 50 * num_envs)
    file = io.BytesIO()
    torch.save(collector.store.buffer.state_dict(), file)
    file.seek(0)
    other = audit_collector(num_envs, capacity, n_step=n_step, frame_stack=frame_stack).store.buffer
    other.load_state_dict(torch.load(file, weights_only=True))
    original = collector.store.buffer

    def check():
        assert other.starts == original.starts
        numbers = [Uniform().sample(replay.starts, capacity, np.random.default_rng(3)) for replay in (original, other)]
        assert_same(original.sample(numbers[0]), other.sample(numbers[1]))
        for env in range(num_envs):
            np.testing.assert_array_equal(original.last_episode(env), other.last_episode(env))

    check()
    add = original.add
    original.add = lambda *told: (add(*told), other.add(*told))
    for _ in range(30):
        collector.collect(NobodyAsks(), num_envs)
        check()
    original.cut_episodes()
    other.cut_episodes()
    check()


@pytest.mark.parametrize(
    "layout",
    [{"capacity": 17}, {"num_envs": 2}, {"n_step": 2}, {"frame_stack": 2}],
    ids=lambda layout: next(iter(layout)),
)
def test_the_state_of_another_layout_is_refused(layout):
    with pytest.raises(ValueError, match=r"the replay's|n_step and frame_stack"):
        make_replay().load_state_dict(make_replay(**layout).state_dict())


def test_the_state_of_another_dtype_is_refused_and_nothing_is_taken_over():
    replay = make_replay()
    feed(replay, (1, 1, 0))
    other = ReplayBuffer(16, 1, (1,), np.uint8, gamma=0.5)
    before = everything(replay)
    with pytest.raises(ValueError, match="observation is float32"):
        replay.load_state_dict(other.state_dict())
    assert_same(before, everything(replay))


@pytest.mark.parametrize(("num_envs", "n_step", "frame_stack", "capacity"), LAYOUTS[::4])
def test_required_bytes_is_the_sum_of_the_arrays(num_envs, n_step, frame_stack, capacity):
    windows = {"n_step": n_step, "frame_stack": frame_stack}
    replay = ReplayBuffer(capacity, num_envs, (2, 5, 7), np.uint8, gamma=0.9, **windows)
    allocated = sum(tensor.nbytes for tensor in replay.state_dict()["arrays"].values())
    assert replay_bytes(capacity, num_envs, (2, 5, 7), np.uint8, **windows) == allocated


@pytest.mark.parametrize("num_envs", [1, 8, 128])
def test_a_million_atari_timesteps_take_little_more_than_their_frames(num_envs):
    required = replay_bytes(1_000_000, num_envs, (84, 84), np.uint8, n_step=3, frame_stack=4)
    frames = 1_000_000 * 84 * 84
    assert frames < required
    if num_envs <= 8:
        assert required <= 7.4e9
