import numpy as np
import pytest
from gymnasium.wrappers import FrameStackObservation

from audit import AUDIT_ENV, AuditEnv
from lit_dqn.envs import make_env, make_vec
from lit_dqn.playing.evaluation import play_episodes
from lit_dqn.playing.policies import EpsilonGreedy, Greedy
from lit_dqn.playing.trajectories import play_episode

SEED = 7


class LookedUp:
    """Prefers the action t mod 4, and remembers what it was asked."""

    num_actions = 4

    def __init__(self):
        self.seen = []

    def preferences(self, observation):
        self.seen.append(observation[0].copy())
        return np.eye(4, dtype=np.float32)[[int(observation.reshape(-1, 3)[-1, -1]) % 4]]


def play(seed=3, policy=None, max_steps=50, frame_stack=1, agent=None, **env_kwargs):
    env, agent = AuditEnv(**env_kwargs), agent or LookedUp()
    return list(play_episode(env, agent, policy or Greedy(), seed=seed, max_steps=max_steps, frame_stack=frame_stack))


def test_an_episode_is_played_greedily_to_its_end():
    steps = play(termination=0.2, truncation=0)
    assert [step.action for step in steps] == [t % 4 for t in range(len(steps))]
    assert [step.terminated for step in steps] == [False] * (len(steps) - 1) + [True]
    assert not any(step.truncated for step in steps)
    assert [step.observation.tolist() for step in steps] == [[0, 0, t] for t in range(len(steps))]
    assert [step.next_observation.tolist() for step in steps] == [[0, 0, t + 1] for t in range(len(steps))]


def test_the_cap_on_the_steps_is_a_truncation():
    steps = play(max_steps=5, termination=0, truncation=0)
    assert [step.truncated for step in steps] == [False] * 4 + [True]
    assert not any(step.terminated for step in steps)


def test_an_episode_that_terminates_at_the_cap_is_not_truncated():
    (step,) = play(max_steps=1, termination=1.0, truncation=0)
    assert (step.terminated, step.truncated) == (True, False)


def test_the_seed_decides_an_episode():
    exploring = {"policy": EpsilonGreedy(0.5), "termination": 0, "truncation": 0}

    def summary(seed):
        return [(step.action, step.reward) for step in play(seed=seed, **exploring)]

    assert summary(3) == summary(3) != summary(4)


@pytest.mark.parametrize("image", [False, True], ids=["vectors", "images"])
def test_an_agent_that_plays_one_episode_sees_the_stacks_that_gymnasium_shows(image):
    agent = LookedUp()
    steps = play(agent=agent, frame_stack=3, max_steps=9, termination=0, truncation=0, image=image)
    shadow = FrameStackObservation(AuditEnv(0, 0, image), 3, padding_type="reset")
    shown, _ = shadow.reset(seed=3)
    for seen, step in zip(agent.seen, steps, strict=True):
        np.testing.assert_array_equal(seen, shown.reshape(seen.shape))
        shown, *_ = shadow.step(step.action)


class PrefersByWhatItSees:
    """One action per observation, so that a stack that is wrong changes what is played."""

    num_actions = 4

    def preferences(self, observation):
        index = np.asarray(observation).reshape(len(observation), -1) @ np.arange(1, 7) % 4
        return np.eye(4, dtype=np.float32)[index.astype(int)]


def actions_by_seed(envs):
    played = {}
    for env in envs:
        for episode, seed in enumerate(env.unwrapped.seeds):
            played[seed] = [step.action for step in env.unwrapped.steps if step.episode == episode]
    return played


@pytest.mark.parametrize("num_envs", [1, 3, 8])
def test_episodes_played_side_by_side_are_those_played_alone(num_envs):
    """In the order of their seeds, with the same actions, whatever the number of envs."""
    seeds = [11, 5, 8, 2, 13, 3, 7]
    chances = {"termination": 0.05, "truncation": 0.05}
    settings = {"max_steps": 12, "frame_stack": 2}
    agent, policy = PrefersByWhatItSees(), EpsilonGreedy(0.5)
    envs = make_vec(AUDIT_ENV, num_envs, chances)
    alone = make_env(AUDIT_ENV, chances)
    for env in (*envs.envs, alone):
        env.unwrapped.observe = lambda env=env.unwrapped: np.array([0, 0, env.t], np.float32)
    episodes = list(play_episodes(envs, agent, policy, seeds=seeds, **settings))
    assert [episode.number for episode in episodes] == list(range(1, 8))
    for episode, seed in zip(episodes, seeds, strict=True):
        steps = list(play_episode(alone, agent, policy, seed=seed, **settings))
        assert episode.length == len(steps)
        assert episode.total_reward == pytest.approx(sum(step.reward for step in steps))
        assert episode.terminated == steps[-1].terminated
    assert any(episode.length == 12 and not episode.terminated for episode in episodes)
    assert any(episode.length < 12 for episode in episodes)
    side_by_side = actions_by_seed(envs.envs)
    for seed, actions in actions_by_seed([alone]).items():
        assert side_by_side[seed][: len(actions)] == actions


@pytest.mark.parametrize(("dtype", "scale"), [(np.int64, 1), (np.float64, 255), (np.float32, 1)])
def test_pictures_of_any_type_become_bytes(dtype, scale):
    from lit_dqn.playing.trajectories import _as_picture

    drawn = np.array([[[0, 51, 255]]], np.uint8)
    picture = _as_picture((drawn / scale).astype(dtype))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, drawn)
