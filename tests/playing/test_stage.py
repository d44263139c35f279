import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from audit import AUDIT_ENV
from lit_dqn.envs import make_vec
from lit_dqn.errors import TrainingError
from lit_dqn.playing.episodes import ActionLog, Finished, RunningEpisode, frame_hash
from lit_dqn.playing.resimulation import resimulate
from lit_dqn.playing.seeds import episode_seed
from lit_dqn.playing.stage import Stage

SEED = 7
ALL = np.ones(3, bool)
NEVER = 10**6


class Counting(gymnasium.Env):
    """Shows the seed of its episode and the steps since it began, and pays ten times the action and the steps."""

    action_space = gymnasium.spaces.Discrete(5000)
    observation_space = gymnasium.spaces.Box(0, np.inf, (2,), np.float64)

    def __init__(self, length=NEVER, terminates=True, life_lost_at=NEVER, nan_at=NEVER):
        self.length, self.terminates, self.life_lost_at, self.nan_at = length, terminates, life_lost_at, nan_at
        self.seeds = []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.t = 0
        return self.shown(), {}

    def step(self, action):
        assert self.t < self.length, "it has ended and was not reset"
        self.t += 1
        ended = self.t == self.length
        info = {"life_lost": self.t == self.life_lost_at}
        return self.shown(), 10.0 * action + self.t, ended and self.terminates, ended and not self.terminates, info

    def shown(self):
        return np.array([self.seeds[-1], np.nan if self.t == self.nan_at else self.t], np.float64)


def stage_of(*envs, frame_stack=1, seed=SEED, **kwargs):
    makes = [lambda env=env: env for env in envs]
    vector_env = SyncVectorEnv(makes, copy=False, autoreset_mode=AutoresetMode.DISABLED)
    return Stage(vector_env, frame_stack, seed, **kwargs)


def steps_shown(stage):
    """The newest frame of each env as (seed, step)."""
    return stage.observation.reshape(3, -1, 2)[:, -1].astype(int).tolist()


def test_a_mask_begins_the_episodes_of_its_envs_and_leaves_the_others_alone():
    envs = [Counting() for _ in range(3)]
    stage = stage_of(*envs)
    assert not stage.begun
    stage.begin(ALL, [1, 2, 3])
    assert stage.begun
    for action in (4, 5):
        _, finished = stage.step(np.full(3, action))
        assert not finished
    mask = np.array([False, True, False])
    stage.begin(mask, [None, 9, None])
    assert mask.tolist() == [False, True, False]
    assert [env.seeds for env in envs] == [[1], [2, 9], [3]]
    assert steps_shown(stage) == [[1, 2], [9, 0], [3, 2]]
    assert stage.length.tolist() == [2, 0, 2]
    assert stage.total_reward.tolist() == [41 + 52, 0, 41 + 52]
    assert [episode.seed for episode in stage.running()] == [1, 9, 3]
    stage.step(np.array([1, 2, 3]))
    assert stage.length.tolist() == [3, 1, 3]
    assert steps_shown(stage) == [[1, 3], [9, 1], [3, 3]]


def test_each_env_takes_the_seeds_of_the_run_one_after_the_other():
    envs = [Counting() for _ in range(3)]
    stage = stage_of(*envs)
    stage.begin(ALL)
    stage.begin(np.array([False, True, False]))
    stage.begin(np.array([False, True, True]))
    expected = [[episode_seed(SEED, env, episode) for episode in range(count)] for env, count in enumerate((1, 3, 2))]
    assert [env.seeds for env in envs] == expected
    assert stage.episodes.tolist() == [1, 3, 2]
    stage.begin(np.array([True, False, False]), [5, None, None])  # counts only those of the run
    assert stage.episodes.tolist() == [1, 3, 2]


def test_a_restored_stage_continues_with_the_next_seeds():
    envs = [Counting() for _ in range(3)]
    stage = stage_of(*envs)
    stage.begin(ALL)
    stage.restore([4, 0, 2])
    assert not stage.begun
    assert stage.running() == []
    stage.begin(ALL)
    assert [env.seeds[1] for env in envs] == [episode_seed(SEED, env, number) for env, number in enumerate((4, 0, 2))]


def play_audit_envs(num_envs, first_env, steps=200):
    """By number of the env: its seeds, rewards and finished episodes."""
    envs = make_vec(AUDIT_ENV, num_envs)
    stage = Stage(envs, 1, SEED, first_env)
    stage.begin(np.ones(num_envs, bool))
    ended = []
    for step in range(steps):
        actions = (step + first_env + np.arange(num_envs)) % 4
        timestep, finished = stage.step(actions)
        ended += finished
        if finished:
            stage.begin(timestep.last)
    return {
        first_env + index: (
            env.unwrapped.seeds,
            [played.reward for played in env.unwrapped.steps],
            [episode for episode in ended if episode.env == first_env + index],
            stage.running()[index].seed,
        )
        for index, env in enumerate(envs.envs)
    }


def test_an_env_plays_the_same_episodes_whatever_others_its_stage_has():
    whole, part = play_audit_envs(8, 0), play_audit_envs(3, 2)
    assert list(part) == [2, 3, 4]
    for env in part:
        assert len(part[env][2]) > 10
        assert part[env] == whole[env]
    assert whole[0][1] != whole[2][1]


def test_a_truncated_episode_has_a_future_and_a_terminated_one_has_none():
    stage = stage_of(Counting(2, terminates=True), Counting(2, terminates=False), Counting(life_lost_at=2))
    stage.begin(ALL)
    timestep, finished = stage.step(np.array([1, 2, 3]))
    assert finished == []
    assert timestep.discount.tolist() == [True, True, True]
    assert timestep.last.tolist() == [False, False, False]
    timestep, finished = stage.step(np.array([4, 5, 6]))
    assert timestep.discount.tolist() == [False, True, False]
    assert timestep.last.tolist() == [True, True, False]
    assert finished == [Finished(0, 11 + 42, 2, True), Finished(1, 21 + 52, 2, False)]


def test_the_cap_on_the_steps_truncates():
    stage = stage_of(Counting(), Counting(3), Counting(3, terminates=False), max_steps=3)
    stage.begin(ALL, [1, 2, 3])
    for _ in range(2):
        timestep, finished = stage.step(np.zeros(3, int))
        assert not finished
    timestep, finished = stage.step(np.zeros(3, int))
    assert [episode.terminated for episode in finished] == [False, True, False]
    assert [episode.length for episode in finished] == [3, 3, 3]
    assert timestep.last.all()
    assert timestep.discount.tolist() == [True, False, True]


@pytest.mark.parametrize("frame_stack", [1, 3])
def test_an_episode_begins_with_its_first_frame_in_the_whole_stack_and_shows_its_last_one_before(frame_stack):
    stage = stage_of(Counting(2), Counting(), Counting(), frame_stack=frame_stack)
    stage.begin(ALL, [1, 2, 3])

    def stack(env):
        return stage.observation.reshape(3, -1, 2)[env, :, 1].tolist()

    assert stack(0) == [0] * frame_stack
    for step in range(2):
        timestep, _ = stage.step(np.zeros(3, int))
        # Before and after the step, though the env writes both into the same memory.
        assert timestep.observation.tolist() == [[1, step], [2, step], [3, step]]
        assert timestep.next_observation.tolist() == [[1, step + 1], [2, step + 1], [3, step + 1]]
    assert timestep.observation.dtype == timestep.next_observation.dtype == stage.observation.dtype == np.float32
    stage.begin(timestep.last, [8, None, None])
    assert stack(0) == [0] * frame_stack
    assert stack(1) == [0, 1, 2][-frame_stack:]
    assert steps_shown(stage) == [[8, 0], [2, 2], [3, 2]]


def test_the_log_of_actions_holds_those_of_the_running_episode_however_long_it_is():
    stage = stage_of(Counting(), Counting(), Counting(1500))
    stage.begin(ALL, [1, 2, 3])
    for step in range(3000):
        timestep, finished = stage.step(np.array([step, step + 1, step + 2]))
        if finished or step == 2989:
            stage.begin(timestep.last | (np.arange(3) == 1) & (step == 2989), [None, 4, 5])
    one, two, three = stage.running()
    assert one.actions.tolist() == list(range(3000))
    assert two.actions.tolist() == list(range(2991, 3001))
    assert three.actions.tolist() == []
    assert three.seed == 5
    assert two.total_reward == sum(10 * action + step for step, action in enumerate(range(2991, 3001), start=1))
    assert two.frame_hash == frame_hash(np.array([4, 10], np.float32))


def test_what_is_no_number_is_named_by_the_number_of_its_env_and_the_step_of_its_episode():
    stage = stage_of(Counting(), Counting(nan_at=2), Counting(), first_env=5)
    stage.begin(ALL)
    stage.step(np.zeros(3, int))
    with pytest.raises(TrainingError, match=r"env 6 of .* at step 2 of its episode"):
        stage.step(np.zeros(3, int))
    with pytest.raises(TrainingError, match=r"env 0 of .* at step 0 of its episode"):
        stage_of(Counting(nan_at=0), Counting(), Counting()).begin(ALL)


def test_of_an_idle_env_nothing_counts():
    stage = stage_of(Counting(), Counting(3, nan_at=2), Counting(4))
    stage.begin(ALL, [1, None, 3])
    for _ in range(2):
        stage.step(np.zeros(3, int))
    timestep, finished = stage.step(np.zeros(3, int))
    assert finished == []
    assert timestep.last.tolist() == [False, True, False]  # it must be reset all the same
    stage.begin(timestep.last, [None, 2, None])
    timestep, finished = stage.step(np.zeros(3, int))
    assert [episode.env for episode in finished] == [2]
    stage.begin(timestep.last, [None, None, 3])
    with pytest.raises(TrainingError, match="env 1 of"):
        stage.step(np.zeros(3, int))


def running_after(steps, **kwargs):
    stage = stage_of(Counting(4), Counting(), Counting(7), **kwargs)
    stage.begin(ALL)
    for step in range(steps):
        timestep, finished = stage.step(np.array([step, 2 * step, 3 * step]))
        if finished:
            stage.begin(timestep.last)
    return stage


@pytest.mark.parametrize("steps", [0, 1, 8, 11])
def test_a_stage_is_played_again_to_where_it_was(steps):
    stage, other = running_after(steps, frame_stack=3), running_after(3, frame_stack=3)
    other.restore(stage.episodes.tolist())
    assert resimulate(other, stage.running()) == [None, None, None]
    assert other.begun
    np.testing.assert_array_equal(other.observation, stage.observation)
    np.testing.assert_array_equal(other.length, stage.length)
    np.testing.assert_array_equal(other.total_reward, stage.total_reward)
    np.testing.assert_array_equal(other.episodes, stage.episodes)
    for one, two in zip(other.running(), stage.running(), strict=True):
        assert one.actions.tolist() == two.actions.tolist()
        assert (one.seed, one.frame_hash) == (two.seed, two.frame_hash)


def test_what_does_not_come_back_is_named():
    running = running_after(11).running()
    episodes = [
        running[0]._replace(actions=np.arange(9)),
        running[1]._replace(total_reward=0.0),
        running[2]._replace(frame_hash=""),
    ]
    differences = resimulate(running_after(0), episodes)
    assert differences == ["its episode ended before", "it paid other rewards", "it shows another frame"]


def test_an_env_that_waits_may_end_and_show_what_is_no_number():
    """Its action 0 leads elsewhere than the episode that was saved."""
    long, short = Counting(), Counting(5, nan_at=4)
    stage = stage_of(long, short, Counting())
    episodes = [
        RunningEpisode(1, np.arange(40), float(10 * np.arange(40).sum() + np.arange(41).sum()), frame_of(1, 40)),
        RunningEpisode(2, np.arange(3), float(10 * 3 + 6), frame_of(2, 3)),
        RunningEpisode(3, np.arange(0), 0.0, frame_of(3, 0)),
    ]
    assert resimulate(stage, episodes) == [None, None, None]
    assert len(short.seeds) > 3
    assert short.seeds[-1] == 2


def frame_of(seed, step):
    return frame_hash(np.array([seed, step], np.float32))


def test_every_action_is_recorded_however_long_the_episodes_are():
    log, step = ActionLog(2), np.zeros(2, np.int64)
    actions = np.random.default_rng(0).integers(3, size=(2500, 2))
    for number, action in enumerate(actions):
        if number == 1500:
            step[1] = 0  # another episode
        log.write(step, action)
        step += 1
    assert np.array_equal(log.of(0, 2500), actions[:, 0])
    assert np.array_equal(log.of(1, 1000), actions[1500:, 1])


def test_an_episode_that_was_taken_over_goes_on_where_it_was():
    log, before = ActionLog(1), np.arange(5000) % 7
    log.write(np.zeros(1, np.int64), np.ones(1, np.int64))
    log.take_over(0, before)
    for step in range(5000, 9000):
        log.write(np.array([step]), np.array([step % 5]))
    assert np.array_equal(log.of(0, 9000), [*before, *(np.arange(5000, 9000) % 5)])


def test_a_range_of_envs_with_short_episodes_does_not_hide_a_long_one_elsewhere():
    log, step = ActionLog(2), np.array([0, 1000])
    log.take_over(1, np.zeros(1000, np.int64))
    for number in range(200):
        for env in range(2):
            log.write(step, np.array([number % 3]), slice(env, env + 1))
            step[env] += 1
    assert np.array_equal(log.of(1, 1200)[1000:], np.arange(200) % 3)
    assert np.array_equal(log.of(0, 200), np.arange(200) % 3)
