"""No policy plays a forbidden action anywhere, and the masks are stored."""

import copy
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from forbidding import FORBIDDING_ENV, GOAL, MASKS, NUM_ACTIONS, Tempted, actions_at, masks_at
from lit_dqn import EpsilonGreedy, Greedy, Latest, Prioritized, Rollout, Softmax, Uniform, UniformRandom
from lit_dqn.envs import make_env, make_vec
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.evaluation import play_episodes
from lit_dqn.playing.masks import MaskedAgent
from lit_dqn.playing.player import Player
from lit_dqn.playing.resimulation import resimulate
from lit_dqn.playing.stage import Stage
from lit_dqn.playing.trajectories import play_episode
from lit_dqn.replay import DeviceFrames, Replay, ReplayBuffer, RolloutStore
from lit_dqn.replay.layout import replay_bytes
from lit_dqn.saving.sidecar import Sidecar
from lit_dqn.saving.sidecar_writer import SidecarWriter
from lit_dqn.training.data import ReplayDataModule

POLICIES = {
    "greedy": Greedy(),
    "epsilon 0.5": EpsilonGreedy(0.5),
    "epsilon 1": EpsilonGreedy(1.0),
    "softmax": Softmax(0.1),
    "uniform": UniformRandom(),
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def generators(count, seed=0):
    return [np.random.default_rng((seed, number)) for number in range(count)]


def collector(policy, num_envs=8, n_step=3, frame_stack=2, capacity=300, on_device=False, sampler=None, **settings):
    kwargs = {"truncation": 0.1, **settings.pop("env_kwargs", {})}
    envs = make_vec(FORBIDDING_ENV, num_envs, kwargs, action_mask=True, **settings)
    buffer = ReplayBuffer(
        capacity,
        num_envs,
        (GOAL + 1,),
        np.float32,
        gamma=0.9,
        n_step=n_step,
        frame_stack=frame_stack,
        num_actions=NUM_ACTIONS,
    )
    store = Replay(buffer, sampler or Uniform(), DeviceFrames(buffer, "cpu") if on_device else None)
    return Collector(Player(envs, frame_stack, seed=1, action_mask=True), policy, store)


@every_policy
def test_no_policy_chooses_what_is_forbidden_and_each_can_choose_all_else(policy):
    places = np.arange(GOAL).repeat(40)
    agent = MaskedAgent(Tempted(), MASKS[places].astype(bool))
    actions = policy.act(agent, np.eye(GOAL + 1)[places], 0, generators(len(places)))
    assert MASKS[places, actions].all()
    for place in range(GOAL):  # the two that are allowed are a tie
        assert len(set(actions[places == place].tolist())) == 2


@every_policy
def test_where_all_is_allowed_each_policy_draws_as_if_there_were_no_masks(policy):
    observation = np.eye(GOAL + 1)[np.arange(GOAL).repeat(9)]
    agents = Tempted(), MaskedAgent(Tempted(), np.ones((len(observation), NUM_ACTIONS), bool))
    one, other = (policy.act(agent, observation, 0, generators(len(observation))) for agent in agents)
    assert one.tolist() == other.tolist()


STEPS = [10_000, pytest.param(1_000_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("policy", [EpsilonGreedy(0.5), Softmax(0.5), UniformRandom()], ids=lambda p: type(p).__name__)
def test_no_forbidden_action_is_played(policy, steps):
    # The env fails where one is.
    if steps > 10_000 and not isinstance(policy, EpsilonGreedy):
        pytest.skip("a million of one policy is enough")
    playing = collector(policy)
    playing.collect(Tempted(), steps)
    assert playing.env_step == steps
    assert playing.episodes > steps / 50


def test_the_observation_may_hold_the_mask_and_envs_may_live_in_processes():
    playing = collector(UniformRandom(), num_envs=2, env_kwargs={"mask": "observation"}, processes=True)
    playing.collect(Tempted(), 400)
    assert playing.players.stage.observation.shape == (2, 2, GOAL + 1)
    assert (playing.players.stage.action_mask == masks_at(playing.players.stage.observation)).all()
    playing.close()


def test_evaluation_and_watching_play_what_is_allowed():
    envs = make_vec(FORBIDDING_ENV, 3, action_mask=True)
    for policy in POLICIES.values():
        # Five episodes in three envs: one of them is idle in the end.
        how = {"max_steps": 30, "action_mask": True, "frame_stack": 2}
        assert len(list(play_episodes(envs, Tempted(), policy, seeds=range(5), **how))) == 5
        env = make_env(FORBIDDING_ENV, action_mask=True)
        assert len(list(play_episode(env, Tempted(), policy, seed=3, **how))) > 0


class Own(Greedy):
    asks_agent = False

    def act(self, agent, observation, env_step, generators):
        return np.full(len(observation), 5)


def test_a_policy_that_chooses_what_is_forbidden_is_named():
    with pytest.raises(TrainingError, match=r"policy: Own has chosen action 5 in env \d at step \d+ of its episode"):
        collector(Own()).collect(Tempted(), 800)


BAD = {
    "none": "env 0 of .* gives no info\\['action_mask'\\] after a reset; .*--data.action_mask false",
    "short": "an info\\['action_mask'\\] of shape \\(3,\\) after a reset, but it has 20 actions",
    "empty": "forbids every action after a reset; fix the environment",
}


@pytest.mark.parametrize("mask", BAD)
def test_a_mask_that_is_not_there_or_no_mask_is_refused_before_the_run(mask):
    with pytest.raises(ConfigError, match=BAD[mask]) as error:
        ReplayDataModule(FORBIDDING_ENV, {"mask": mask}, action_mask=True)
    assert "\n" not in str(error.value)


class Breaking(gymnasium.Env):
    """Shows right masks, and what it is given with its third step."""

    def __init__(self, third, key="action_mask", parts=False, in_observation=False):
        self.third, self.key, self.in_observation = third, key, in_observation
        self.action_space = spaces.MultiDiscrete([3, 2]) if parts else spaces.Discrete(2)
        self.right = (np.ones(3, np.int8), np.ones(2, np.int8)) if parts else np.ones(2, np.int8)
        box = spaces.Box(0, 1, (2,), np.float32)
        self.observation_space = spaces.Dict({"observation": box, "action_mask": box}) if in_observation else box

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self.shown("action_mask", self.right)

    def step(self, action):
        self.steps += 1
        wrong = (self.key, self.third) if self.steps == 3 else ("action_mask", self.right)
        observation, info = self.shown(*wrong)
        return observation, 0.0, False, False, info

    def shown(self, key, mask):
        observation = np.zeros(2, np.float32)
        return ({"observation": observation, key: mask}, {}) if self.in_observation else (observation, {key: mask})


gymnasium.register("lit_dqn_tests/Breaking-v0", Breaking, disable_env_checker=True)

LATER = {
    "no info": (
        {"third": [1, 1], "key": "mask"},
        r"gives no info\['action_mask'\] {}; let the env or a wrapper give it",
    ),
    "no part": (
        {"third": [1, 1], "key": "mask", "in_observation": True},
        r"gives no observation\['action_mask'\] {}; fix the environment: its observation space says that it is there",
    ),
    "short part": (
        {"third": [1], "in_observation": True},
        r"gives an observation\['action_mask'\] of shape \(1,\) {}, but it has 2 actions; fix the environment: a mask",
    ),
    "texts": (
        {"third": ["yes", "no"]},
        r"gives an info\['action_mask'\] of dtype <U3 {}, but it has 2 actions; fix the environment: a mask has one "
        r"number for each action\.$",
    ),
    "ragged": ({"third": [[1], [1, 1]]}, r"of rows of different lengths {}, but it has 2 actions"),
    "nothing": ({"third": None}, r"of dtype object {}, but it has 2 actions"),
    "lengths": (
        {"third": ([1, 1, 1], [1, 1, 1, 1]), "parts": True},
        r"gives an info\['action_mask'\] of shape \(3,\) and shape \(4,\) {}, but its actions have \(3, 2\) choices; "
        r"fix the environment: a mask has one number for each choice\.$",
    ),
    "a missing part": ({"third": (np.ones(3), None), "parts": True}, r"of shape \(3,\) and dtype object {}, but its"),
    "texts of parts": (
        {"third": (["a", "b", "c"], [1, 1]), "parts": True},
        r"of dtype <U1 and shape \(2,\) {}, but its",
    ),
    "one for six": ({"third": np.ones(5), "parts": True}, r"of shape \(5,\) {}, but it has 6 actions"),
}


@pytest.mark.parametrize("name", LATER)
def test_a_mask_that_goes_wrong_later_is_said_of_the_env(name):
    env_kwargs, sentence = LATER[name]
    envs = make_vec("lit_dqn_tests/Breaking-v0", 2, env_kwargs, action_mask=True)
    envs.reset(seed=[0, 1])
    for _ in range(2):
        envs.step(np.zeros(2, np.int64))
    said = rf"^action_mask: env 0 of lit_dqn_tests/Breaking-v0 .*{sentence.format('after step 3 of its episode')}"
    with pytest.raises(TrainingError, match=said):
        envs.step(np.zeros(2, np.int64))


@pytest.mark.parametrize(("parts", "in_observation"), [(False, False), (True, False), (False, True)])
def test_no_info_where_a_mask_belongs_is_said_of_the_env(parts, in_observation, monkeypatch):
    env_kwargs = {"third": 0, "parts": parts, "in_observation": in_observation}
    env = make_env("lit_dqn_tests/Breaking-v0", env_kwargs, action_mask=True)
    env.reset(seed=0)
    shown, _ = env.unwrapped.shown("action_mask", env.unwrapped.right)
    monkeypatch.setattr(Breaking, "step", lambda *_: (shown, 0.0, False, False, None))
    with pytest.raises(TrainingError, match="env 0 of lit_dqn_tests/Breaking-v0 gives the info None in step 1"):
        env.step(0)


def test_an_observation_that_lacks_all_but_the_mask_is_said_of_the_env(monkeypatch):
    env = make_env("lit_dqn_tests/Breaking-v0", {"third": [1, 1], "in_observation": True}, action_mask=True)
    env.reset(seed=0)
    for shown in ({"action_mask": [1, 1]}, None):
        monkeypatch.setattr(Breaking, "shown", lambda *_, shown=shown: (shown, {}))
        with pytest.raises(TrainingError, match=r"env 0 of .*/Breaking-v0 shows no observation but None in step"):
            env.step(0)


def test_masks_of_ale_games_and_unused_masks_in_observations_are_refused():
    with pytest.raises(ConfigError, match="action_mask: true is not for ALE/Pong-v5"):
        ReplayDataModule("ALE/Pong-v5", action_mask=True)
    with pytest.raises(ConfigError, match=r"which actions are allowed; set --data.action_mask true\."):
        make_env(FORBIDDING_ENV, {"mask": "observation"})


def test_an_episode_that_terminates_where_all_is_forbidden_is_no_mistake():
    env = make_env(FORBIDDING_ENV, action_mask=True)
    env.reset(seed=0)
    for place in range(env.unwrapped.place, GOAL):
        *_, terminated, _, info = env.step(actions_at(place)[1])
    assert terminated
    assert info["action_mask"].all()


STORES = {
    "uniform": {},
    "latest": {"sampler": Latest()},
    "prioritized": {"sampler": Prioritized()},
    "on a device": {"on_device": True},
    "prioritized on a device": {"sampler": Prioritized(), "on_device": True},
    "one step": {"n_step": 1, "frame_stack": 1},
}


@pytest.mark.parametrize("settings", STORES.values(), ids=STORES)
def test_each_transition_comes_with_the_masks_of_its_two_observations(settings):
    playing = collector(EpsilonGreedy(0.5), **settings)
    store, generator = playing.store, np.random.default_rng(0)
    seen = 0
    for round_ in range(30):  # three times round the ring
        playing.collect(Tempted(), 32)
        if round_ % 5 == 4:  # as when a run is resumed in new episodes
            store.cut_episodes()
            playing.players.stage.begin(np.ones(8, bool))
        for batch in store.draw(2, 9, generator, 0).batches:
            assert batch.action_mask.dtype == batch.next_action_mask.dtype == torch.bool
            assert (batch.action_mask.numpy() == masks_at(batch.observation)).all()
            assert batch.action_mask[torch.arange(9), batch.action].all()
            goes_on = (batch.discount > 0).numpy()
            assert (batch.next_action_mask.numpy() == masks_at(batch.next_observation))[goes_on].all()
            assert batch.next_action_mask.any(dim=1).all()
            seen += goes_on.sum()
            if batch.weight is not None:
                assert batch.weight.shape == (9,)
    assert seen > 300


def test_the_masks_of_truncated_episodes_are_those_of_their_last_observation():
    playing = collector(UniformRandom(), env_kwargs={"truncation": 1.0}, n_step=1, frame_stack=1)
    playing.collect(Tempted(), 80)
    batch = playing.store.buffer.sample(np.array(playing.store.buffer.starts))
    goes_on = (batch.discount > 0).numpy()
    assert goes_on.sum() > 50
    assert (batch.next_action_mask.numpy() == masks_at(batch.next_observation))[goes_on].all()


def test_the_values_of_a_rollout_are_those_of_allowed_actions():
    envs = make_vec(FORBIDDING_ENV, 4, {"truncation": 0.2}, action_mask=True)
    buffer = ReplayBuffer(64, 4, (GOAL + 1,), np.float32, gamma=0.9, num_actions=NUM_ACTIONS)
    store = RolloutStore(buffer, Rollout(trace_decay=0.0), Tempted().state_values)
    playing = Collector(Player(envs, 1, seed=2, action_mask=True), UniformRandom(), store)
    playing.collect(Tempted(), 64)
    batches, start = store.draw(4, 16, np.random.default_rng(0), 0)
    for batch, numbers in zip(batches, start, strict=True):
        one_step = buffer.sample(numbers)
        best = [max(mask.nonzero()[0], default=0) for mask in masks_at(one_step.next_observation)]
        torch.testing.assert_close(batch.reward, one_step.reward + one_step.discount * torch.tensor(best))
        assert (batch.action_mask.numpy() == masks_at(batch.observation)).all()


def test_masks_take_one_bit_for_each_action_and_are_counted():
    size = (1000, 8, (GOAL + 1,), np.float32)
    buffer = ReplayBuffer(*size, gamma=0.9, num_actions=NUM_ACTIONS)
    arrays = buffer.state_dict()["arrays"]
    assert replay_bytes(*size, num_actions=NUM_ACTIONS) == sum(array.nbytes for array in arrays.values())
    assert arrays["action_mask"].nbytes == 3 * arrays["last"].nbytes
    assert "action_mask" not in ReplayBuffer(*size, gamma=0.9).state_dict()["arrays"]
    data = ReplayDataModule(FORBIDDING_ENV, action_mask=True, capacity=2000, batch_size=8)
    small = (2000, 1, (GOAL + 1,), np.float32)
    assert data.replay_bytes(2000) == replay_bytes(*small, num_actions=NUM_ACTIONS) > replay_bytes(*small)


def test_a_store_that_is_restored_from_memory_or_from_disk_has_its_masks_again(tmp_path):
    playing, masks = collector(UniformRandom()), {}
    playing.collect(Tempted(), 400)
    saved = playing.store.state_dict()
    folder = SidecarWriter.of(saved).write(tmp_path / "segments")
    on_disk = Sidecar.open(folder.folder, folder.manifest_crc32)
    on_disk.verify(NUM_ACTIONS)
    assert on_disk.layout["action_mask"] == ("uint8", (*on_disk.layout["last"][1], 3))
    for name, state in {
        "memory": copy.deepcopy(saved),
        "disk": {**saved, "arrays": {"head": saved["arrays"]["head"]}, "sidecar": on_disk},
    }.items():
        restored = collector(UniformRandom()).store
        restored.load_state_dict(state)
        batch = restored.buffer.sample(np.array(restored.buffer.starts))
        masks[name] = batch.action_mask, batch.next_action_mask
        assert (batch.action_mask.numpy() == masks_at(batch.observation)).all()
    assert all(map(torch.equal, masks["memory"], masks["disk"]))
    # Another checkpoint of the same store is linked where nothing was written, and holds what memory holds.
    playing.collect(Tempted(), 8)
    later = SidecarWriter.of(playing.store.state_dict(), on_disk).write(tmp_path / "later")
    restored = collector(UniformRandom()).store
    state = playing.store.state_dict()
    restored.load_state_dict({**state, "arrays": {"head": state["arrays"]["head"]}, "sidecar": later})
    masks = [store.state_dict()["arrays"]["action_mask"] for store in (restored, playing.store)]
    assert torch.equal(*masks)


def test_envs_that_are_played_again_are_where_they_were_and_idle_ones_play_what_is_allowed():
    playing = collector(UniformRandom(), num_envs=3)
    playing.collect(Tempted(), 60)
    running = playing.players.stage.running()
    assert len({len(episode.actions) for episode in running}) > 1  # so that one is idle meanwhile
    again = Stage(make_vec(FORBIDDING_ENV, 3, {"truncation": 0.1}, action_mask=True), 2, seed=1, action_mask=True)
    assert resimulate(again, running) == [None] * 3
    assert (again.action_mask == playing.players.stage.action_mask).all()


def test_an_env_that_cannot_be_restored_is_reported_and_not_played_wrong():
    playing = collector(UniformRandom(), num_envs=3, env_kwargs={"truncation": 0.0})
    playing.collect(Tempted(), 24)
    running = [episode._replace(seed=episode.seed + 1) for episode in playing.players.stage.running()]
    again = Stage(make_vec(FORBIDDING_ENV, 3, action_mask=True), 2, seed=1, action_mask=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "an action that it played is forbidden" in resimulate(again, running)
