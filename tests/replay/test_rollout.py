"""λ-returns by hand and beside an oracle, and the store that gives them."""

import numpy as np
import pytest
import torch

from lit_dqn import ConfigError, Rollout
from lit_dqn.learning.losses import lambda_returns
from lit_dqn.replay import ReplayBuffer, RolloutStore
from lit_dqn.types import Timestep

GAMMA = 0.5


def returns_of(rows, trace_decay):
    """Of one env: (reward, discount, last, V of what is seen next) for each step."""
    reward, discount, last, value = (torch.tensor([column]) for column in zip(*rows, strict=True))
    return lambda_returns(reward, discount, last, value, trace_decay)[0].tolist()


GOES_ON, TERMINATED, TRUNCATED, LIFE_LOST = (GAMMA, False), (0.0, True), (GAMMA, True), (0.0, False)
TABLE = [
    (1.0, *GOES_ON, 8.0),
    (2.0, *TERMINATED, 1000.0),  # a decoy: nothing comes after it
    (4.0, *GOES_ON, 16.0),
    (8.0, *TRUNCATED, 32.0),
    (16.0, *LIFE_LOST, 500.0),
    (32.0, *GOES_ON, 64.0),  # the rollout ends, the episode does not
]


@pytest.mark.parametrize(
    ("trace_decay", "expected"),
    [
        (0.0, [1 + 4, 2, 4 + 8, 8 + 16, 16, 32 + 32]),
        (1.0, [1 + 1, 2, 4 + 12, 8 + 16, 16, 32 + 32]),
        (0.5, [1 + (4 + 1) / 2, 2, 4 + (8 + 12) / 2, 8 + 16, 16, 32 + 32]),
    ],
    ids=["λ 0 is one step", "λ 1 is Monte Carlo up to the bootstrap", "λ 0.5 is half of each"],
)
def test_returns_by_hand(trace_decay, expected):
    assert returns_of(TABLE, trace_decay) == pytest.approx(expected)


@pytest.mark.parametrize(("end", "expected"), [(TERMINATED, 3.0), (TRUNCATED, 3.0 + GAMMA * 7)])
def test_an_episode_that_ends_with_the_rollout(end, expected):
    rows = [(1.0, *GOES_ON, 5.0), (3.0, *end, 7.0)]
    assert returns_of(rows, 1.0) == pytest.approx([1 + GAMMA * expected, expected])


def naive_return(reward, discount, last, value, trace_decay, start):
    """Σ over n of (1 - λ) λ^(n-1) G_{t:t+n}, the rest of the weight on the longest (Sutton & Barto, eq. 12.9)."""
    n_step_returns, total, factor = [], 0.0, 1.0
    for step in range(start, len(reward)):
        total += factor * reward[step]
        factor *= discount[step]
        n_step_returns.append(total + factor * value[step])
        if last[step]:
            break
    weights = [(1 - trace_decay) * trace_decay**n for n in range(len(n_step_returns) - 1)]
    weights.append(trace_decay ** (len(n_step_returns) - 1))
    return sum(weight * one for weight, one in zip(weights, n_step_returns, strict=True))


@pytest.mark.parametrize("trace_decay", [0.0, 0.3, 0.65, 1.0])
def test_returns_are_the_weighed_mean_of_n_step_returns(trace_decay):
    generator = np.random.default_rng(0)
    reward, value = generator.normal(size=(2, 5, 40))
    last = generator.random((5, 40)) < 0.15
    discount = np.where(generator.random((5, 40)) < 0.1, 0.0, 0.9)
    arrays = (reward, discount, last, value)
    found = lambda_returns(*map(torch.from_numpy, arrays), trace_decay).numpy()
    expected = [
        [naive_return(*(array[env] for array in arrays), trace_decay, step) for step in range(40)] for env in range(5)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_other_shapes_are_refused():
    ones = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"one shape \[N, T\], not \(2, 3\), \(2, 3\), \(2, 3\), \(3, 2\)"):
        lambda_returns(ones, ones, ones.bool(), ones.T, 0.5)


class Numbered:
    """Plays N envs whose frames are numbers that are never shown twice, and knows what was played."""

    def __init__(self, num_envs=3, length=8, frame_stack=1, trace_decay=0.65, chance_of_end=0.3, reward_clip=None):
        self.buffer = ReplayBuffer(
            num_envs * length, num_envs, (1,), np.float32, gamma=0.9, frame_stack=frame_stack, reward_clip=reward_clip
        )
        self.store = RolloutStore(self.buffer, Rollout(trace_decay), self.values)
        self.generator, self.dice = np.random.default_rng(7), np.random.default_rng(3)
        self.num_envs, self.length, self.chance = num_envs, length, chance_of_end
        self.shown, self.asked = 0, []
        self.frames = self.new_frames()

    def new_frames(self):
        self.shown += self.num_envs
        return np.arange(self.shown - self.num_envs, self.shown, dtype=np.float32)[:, None]

    def values(self, observation):
        self.asked.append(observation.copy())
        return 0.01 * observation.reshape(len(observation), -1)[:, -1]

    def play(self):
        """One rollout, as {first frame's number: (action, reward, discount, last, next frame)} for each env."""
        played = [{} for _ in range(self.num_envs)]
        for _ in range(self.length):
            following = self.new_frames()
            last = self.dice.random(self.num_envs) < self.chance
            terminated = last & (self.dice.random(self.num_envs) < 0.5)
            action = self.dice.integers(0, 4, self.num_envs)
            reward = self.dice.normal(size=self.num_envs) * 3
            self.store.add(Timestep(self.frames, action, reward, ~terminated, last, following))
            for env in range(self.num_envs):
                frame = float(self.frames[env, 0])
                played[env][frame] = (
                    action[env],
                    reward[env],
                    not terminated[env],
                    last[env],
                    float(following[env, 0]),
                )
            self.frames = np.where(last[:, None], self.new_frames(), following)
        return played

    def expected(self, played):
        """{frame: (action, return)}."""
        found = {}
        for env in played:
            _, reward, goes_on, last, following = map(list, zip(*env.values(), strict=True))
            discount, value = [0.9 * float(future) for future in goes_on], [0.01 * frame for frame in following]
            for step, (frame, (action, *_)) in enumerate(env.items()):
                trace_decay = self.store.rollout.trace_decay
                found[frame] = (action, naive_return(reward, discount, last, value, trace_decay, step))
        return found


@pytest.mark.parametrize("chance_of_end", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("frame_stack", [1, 3])
def test_each_pass_holds_every_transition_once_with_its_return(chance_of_end, frame_stack):
    numbered = Numbered(chance_of_end=chance_of_end, frame_stack=frame_stack)
    for _ in range(5):  # the ring goes round
        expected = numbered.expected(numbered.play())
        batches, start = numbered.store.draw(12, 4, numbered.generator, env_step=0)
        assert start.shape == (12, 4)
        orders = []
        for passed in (batches[:6], batches[6:]):
            frames = torch.cat([batch.observation.reshape(4, -1)[:, -1] for batch in passed]).tolist()
            assert sorted(frames) == sorted(expected)
            orders.append(frames)
            for batch in passed:
                assert batch.next_observation is None
                assert batch.discount.tolist() == [0.0] * 4
                for frame, action, reward in zip(
                    batch.observation.reshape(4, -1)[:, -1].tolist(), batch.action, batch.reward, strict=True
                ):
                    assert action == expected[frame][0]
                    assert float(reward) == pytest.approx(expected[frame][1], rel=1e-5, abs=1e-5)
        assert orders[0] != orders[1]


def test_rewards_are_clipped_before_they_are_added_up():
    numbered = Numbered(chance_of_end=1.0, reward_clip=1.0)
    (played, *_) = numbered.play()
    batches = numbered.store.draw(1, 24, numbered.generator, env_step=0).batches
    found = dict(zip(batches[0].observation[:, 0].tolist(), batches[0].reward.tolist(), strict=True))
    for frame, (_, reward, goes_on, _, following) in played.items():
        expected = np.clip(reward, -1, 1) + (0.9 * 0.01 * following if goes_on else 0)
        assert found[frame] == pytest.approx(expected, rel=1e-5)


def test_values_are_asked_of_what_each_step_has_led_to_in_slices_of_a_batch():
    numbered = Numbered()
    played = numbered.play()
    numbered.store.draw(6, 4, numbered.generator, env_step=0)
    assert [len(rows) for rows in numbered.asked] == [4] * 6
    asked = np.concatenate(numbered.asked)[:, 0]
    assert sorted(asked) == sorted(following for env in played for *_, following in env.values())


def test_a_restored_store_draws_as_the_one_that_was_saved():
    saved, restored = Numbered(frame_stack=3), Numbered(frame_stack=3)
    for _ in range(3):
        saved.play()
    restored.store.load_state_dict(saved.store.state_dict())
    for one, other in zip(*(n.store.draw(6, 4, n.generator, 0).batches for n in (saved, restored)), strict=True):
        assert all(map(torch.equal, one.tensors, other.tensors))


@pytest.mark.parametrize("length", [1, 50, 1024])
def test_a_rollout_is_whole_however_short_its_episodes_are(length):
    numbered = Numbered(num_envs=2, length=length, frame_stack=4, chance_of_end=1.0)
    for _ in range(3):
        numbered.play()
        assert len(numbered.buffer.starts) == 2 * length


def test_a_trace_decay_out_of_its_range_is_refused():
    with pytest.raises(ConfigError, match=r"trace_decay: 1.5 is λ and must lie in \[0, 1\]"):
        Rollout(1.5)
