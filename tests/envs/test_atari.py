import sys
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

import lit_dqn.envs.atari.vec as atari
from audit import NobodyAsks
from lit_dqn import ConfigError, TrainingError
from lit_dqn.envs import AtariProtocol, make_env, make_env_with_pictures, make_vec
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import UniformRandom
from lit_dqn.playing.seeds import episode_seed
from lit_dqn.replay import Replay, ReplayBuffer, Uniform

BREAKOUT = "ALE/Breakout-v5"


class Asked(NobodyAsks):
    """Breakout has four actions."""


def plain_game(env_id: str, seed: int, *, sticky: float, size: int, frame_stack: int) -> gymnasium.Env:
    """The same game by Gymnasium's own wrappers, which know nothing of a vector env, at its first observation."""
    game = gymnasium.make(env_id, frameskip=1, repeat_action_probability=sticky)
    ale_env = game.unwrapped
    # Gymnasium hashes a seed before ALE gets it; the vector env hands it over as it is.
    ale_env.seed_game = lambda _: ale_env.ale.setInt("random_seed", seed)
    frames = AtariPreprocessing(game, noop_max=0, frame_skip=4, screen_size=size)
    return FrameStackObservation(frames, frame_stack, padding_type="reset")


@pytest.mark.parametrize(
    ("num_envs", "n_step", "sticky", "size"),
    [
        (2, 3, 0.25, 84),
        pytest.param(1, 1, 0.0, 84, marks=pytest.mark.slow),
        pytest.param(1, 3, 0.25, 42, marks=pytest.mark.slow),
    ],
)
def test_every_transition_is_what_gymnasiums_own_wrappers_show(num_envs, n_step, sticky, size):
    """Pixel by pixel, over several games, with the write head passing over the oldest."""
    protocol = {"repeat_action_probability": sticky, "life_loss_is_terminal": True, "screen_size": size}
    envs = make_vec(BREAKOUT, num_envs, protocol)
    actions, infos, step = [], [], envs.step

    def recording_step(action):
        actions.append(action.copy())
        result = step(action)
        infos.append(result[-1])
        return result

    envs.step = recording_step
    capacity = 300
    replay = ReplayBuffer(capacity, num_envs, (size, size), np.uint8, gamma=0.9, n_step=n_step, frame_stack=4)
    collector = Collector(Player(envs, 4, seed=3), UniformRandom(), Replay(replay, Uniform()))
    collector.collect(Asked(), 700 * num_envs)

    # What each env has shown, [(stack before, action, reward, no future, ended, stack after)].
    shown = []
    for env in range(num_envs):
        episode, game = 0, None
        for t in range(len(actions)):
            if game is None:
                seed = episode_seed(3, env, episode) % 2**31
                game = plain_game(BREAKOUT, seed, sticky=sticky, size=size, frame_stack=4)
                observation, info = game.reset(seed=0)
                lives = info["lives"]
            before = observation
            observation, reward, terminated, truncated, info = game.step(actions[t][env])
            lost, lives = info["lives"] < lives, info["lives"]
            assert infos[t]["life_lost"][env] == lost
            shown.append((env, t, before, reward, terminated or lost, terminated or truncated, observation))
            if terminated or truncated:
                game.close()
                episode, game = episode + 1, None
        assert episode >= 2
    of = {(env, t): rest for env, t, *rest in shown}

    starts = np.array(replay.starts)
    assert len(starts) == capacity
    batch = replay.sample(starts)
    assert (batch.discount == 0).sum() > (0 if n_step == 1 else 3)
    for row, start in enumerate(starts):
        env = int(replay._start_column[start % capacity])
        observation = batch.observation[row].numpy()
        candidates = [t for t in range(len(actions)) if np.array_equal(of[env, t][0], observation)]
        assert candidates, "an observation that was never shown"
        for t in candidates:
            total, discount = 0.0, 1.0
            for i in range(t, min(t + n_step, len(actions))):
                _, reward, no_future, ended, after = of[env, i]
                total += discount * reward
                discount *= 0 if no_future else 0.9
                if ended:
                    break
            if (
                batch.action[row] == actions[t][env]
                and abs(batch.reward[row] - total) < 1e-6
                and abs(batch.discount[row] - discount) < 1e-6
                and np.array_equal(batch.next_observation[row], after)
            ):
                break
        else:
            raise AssertionError(f"start {start} of env {env} is no transition that was played")
    envs.close()


def test_a_game_is_the_same_in_pools_of_other_sizes():
    frames = {}
    for num_envs in (1, 3):
        envs = make_vec(BREAKOUT, num_envs, {"noop_max": 30})
        rng = np.random.default_rng(0)
        observation, _ = envs.reset(seed=[5, 6, 7][:num_envs])
        seen = [observation[0].copy()]
        for _ in range(100):
            action = np.full(num_envs, rng.integers(4))
            observation, *_ = envs.step(action)
            seen.append(observation[0].copy())
        frames[num_envs] = np.stack(seen)
        envs.close()
    np.testing.assert_array_equal(frames[1], frames[3])
    assert len(np.unique(frames[1].reshape(101, -1), axis=0)) > 50


def test_a_masked_reset_leaves_the_other_games_alone():
    envs, alone = make_vec(BREAKOUT, 2), make_vec(BREAKOUT, 1)
    envs.reset(seed=[1, 2])
    alone.reset(seed=[2])
    for t in range(60):
        if t % 20 == 10:
            envs.reset(seed=[t, None], options={"reset_mask": np.array([True, False])})
        frames, reward, *_ = envs.step(np.array([1, t % 4]))
        frame, reward_alone, *_ = alone.step(np.array([t % 4]))
        np.testing.assert_array_equal(frames[1], frame[0])
        assert reward[1] == reward_alone[0]
    envs.close(), alone.close()


def test_a_game_is_cut_at_its_cap_on_frames_and_must_then_be_reset():
    envs = make_vec(BREAKOUT, 1, {"max_num_frames_per_episode": 40})
    envs.reset(seed=[0])
    ends = [envs.step(np.array([0]))[2:4] for _ in range(10)]
    assert [bool(truncated[0]) for _, truncated in ends] == [False] * 9 + [True]
    assert not any(terminated[0] for terminated, _ in ends)
    with pytest.raises(ValueError, match=r"games \[0\] ended and were not reset"):
        envs.step(np.array([0]))
    envs.close()


def test_rewards_are_the_games_own():
    envs = make_vec("ALE/SpaceInvaders-v5", 4)
    envs.reset(seed=[0, 1, 2, 3])
    rng = np.random.default_rng(0)
    rewards = set()
    for _ in range(150):
        _, reward, terminated, truncated, info = envs.step(rng.integers(6, size=4))
        assert "life_lost" not in info
        rewards |= set(reward)
        if (ended := terminated | truncated).any():
            envs.reset(seed=[9] * 4, options={"reset_mask": ended})
    assert max(rewards) >= 10
    envs.close()


def test_the_screen_in_colour_follows_the_game():
    env = make_env_with_pictures("ALE/Pong-v5")
    grey = AtariPreprocessing(gymnasium.make("ALE/Pong-v5", frameskip=1), noop_max=0)
    observation, _ = env.reset(seed=4)
    seen = [observation]
    for t in range(40):
        observation, *_ = env.step(t % 6)
        seen.append(observation)
    screens = env.render()
    assert len(screens) == 41
    assert screens[0].shape == (210, 160, 3)
    for screen, observation in zip(screens[1:], seen[1:], strict=True):
        # The ball and the paddles stand out of the ground at the same places in both.
        luminance = screen @ np.array([0.299, 0.587, 0.114])
        small = luminance.reshape(42, 5, 32, 5).mean(axis=(1, 3))
        rows, columns = np.arange(42) * 2, (np.arange(32) * 84 / 32).astype(int)
        coarse = observation[rows][:, columns].astype(float)
        assert np.corrcoef(small.ravel(), coarse.ravel())[0, 1] > 0.8
    env.close(), grey.close()


@pytest.mark.parametrize(
    ("env_id", "env_kwargs", "sentence"),
    [
        ("ALE/Pongg-v5", {}, "no game 'ALE/Pongg-v5'; did you mean ALE/Pong-v5"),
        ("ALE/Zzzzzzzz-v5", {}, "there are 104, such as ALE/Pong-v5"),
        (
            "ALE/Pong-v5",
            {"frame_skip": 4},
            r"env_kwargs.frame_skip: ALE games have no such key; did you mean frameskip\?",
        ),
        ("ALE/Pong-v5", {"frameskip": 0}, "env_kwargs.frameskip: 0 must be at least 1"),
        ("ALE/Pong-v5", {"frameskip": 2.5}, "env_kwargs.frameskip: 2.5 must be of type int"),
        ("ALE/Pong-v5", {"repeat_action_probability": 1.5}, r"repeat_action_probability: 1.5 must lie in \[0, 1\)"),
        ("ALE/Pong-v5", {"noop_max": -1}, "env_kwargs.noop_max: -1 must not be negative"),
        ("ALE/Pong-v5", {"life_loss_is_terminal": "yes"}, "'yes' must be of type bool"),
    ],
)
def test_a_bad_protocol_is_refused_in_one_sentence(env_id, env_kwargs, sentence):
    for make in (make_env, lambda *args: make_vec(args[0], 2, args[1])):
        with pytest.raises(ConfigError, match=sentence):
            make(env_id, env_kwargs)


def test_wrappers_are_refused_where_they_cannot_be_put():
    with pytest.raises(ConfigError, match="wrappers: ALE/Pong-v5 is played by ALE's own vector env"):
        make_vec("ALE/Pong-v5", 1, {}, [gymnasium.wrappers.FlattenObservation])


def test_without_ale_py_the_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ConfigError, match=r"needs the package ale-py, which is not installed; install the extra atari"):
        make_env("ALE/Pong-v5")


def test_a_missing_rom_is_named(monkeypatch):
    import ale_py

    monkeypatch.setattr(ale_py.roms, "get_rom_path", lambda game: None)
    with pytest.raises(ConfigError, match="'ALE/Pong-v5' has no ROM in this installation of ale-py; reinstall it"):
        make_env("ALE/Pong-v5")


def test_the_protocol_is_what_the_id_means():
    protocol = AtariProtocol.of("ALE/Pong-v5", {})
    assert protocol == AtariProtocol()
    assert protocol.describe()["repeat_action_probability"] == 0.25
    assert AtariProtocol.of("ALE/Pong-v5", {"repeat_action_probability": 0}).repeat_action_probability == 0.0


def test_a_hanging_env_becomes_an_error_that_says_which_and_when(monkeypatch):
    envs = make_vec("ALE/Pong-v5", 2)
    envs.reset(seed=[0, 1])
    envs.step(np.zeros(2, int))
    monkeypatch.setattr(atari, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(envs._ale, "step", lambda actions: time.sleep(2))
    with pytest.raises(TrainingError, match=r"ALE/Pong-v5 did not answer within 0.2 s in step 2 of its 2 envs"):
        envs.step(np.zeros(2, int))


def test_actions_that_ale_would_wait_for_ever_on_are_refused():
    envs = make_vec("ALE/Pong-v5", 2)
    envs.reset(seed=[0, 1])
    for actions in ([6, 0], [-1, 0], [0]):
        with pytest.raises(ValueError, match="takes 2 actions below 6"):
            envs.step(np.array(actions))
    envs.close()
