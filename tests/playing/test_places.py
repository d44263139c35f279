"""Envs are played in actors bit for bit as in this process, whichever actor dies; see stand_in.py."""

import importlib.util
import logging
import pickle
import random
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from forbidding import FORBIDDING_ENV, NUM_ACTIONS
from helpers import make_agent, make_data, make_trainer, same
from lit_dqn import CNN, LitDQN, PartsNetwork, RayActors
from lit_dqn.commands.prepared import Prepared
from lit_dqn.envs import make_env, make_vec, stored_dtype
from lit_dqn.errors import ConfigError, TrainingError
from lit_dqn.learning.networks import MLP
from lit_dqn.playing.actor import Actor, Order, PlayerSpec
from lit_dqn.playing.collector import Collector
from lit_dqn.playing.distant import DistantPlayers
from lit_dqn.playing.distant_agent import DistantAgent, bytes_of, distant_agent, observations_of_nothing
from lit_dqn.playing.player import Player
from lit_dqn.playing.policies import EpsilonGreedy, Policy, UniformRandom
from lit_dqn.playing.ray_actors import _RayCrew
from lit_dqn.playing.resimulation import ResumeEnv
from lit_dqn.playing.seeds import episode_seed
from lit_dqn.replay import Replay, ReplayBuffer, Uniform, stacked_shape
from parting import SIGNPOST_ENV
from stand_in import STROLL, ThreadPlace

SEED, STACK, ENVS = 7, 2, 8


class Learning:
    """An agent whose weights move, as those of a copy that acts do; the same each time."""

    def __init__(self, env_id, **settings):
        env = make_env(env_id, **settings)
        self.num_actions = int(env.action_space.n)
        torch.manual_seed(1)
        self.online = MLP(stacked_shape(STACK, env.observation_space.shape), self.num_actions, hidden_sizes=[24])

    def learn(self):
        with torch.no_grad():
            for weight in self.online.parameters():
                weight.mul_(1.1).add_(torch.linspace(-0.1, 0.1, weight.numel()).reshape(weight.shape))

    @torch.inference_mode()
    def preferences(self, observation):
        return self.online(torch.as_tensor(observation)).numpy()


def collector_of(env_id, place=None, resimulates=True, policy=None, action_mask=False, **env_kwargs):
    """One that plays in a place, or in this process."""
    env = make_env(env_id, env_kwargs, action_mask=action_mask)
    shape, dtype = env.observation_space.shape, stored_dtype(env.observation_space)
    num_actions = int(env.action_space.n)
    buffer = ReplayBuffer(
        400,
        ENVS,
        shape,
        dtype,
        gamma=0.9,
        n_step=3,
        frame_stack=STACK,
        num_actions=num_actions if action_mask else None,
    )
    make_envs = partial(make_vec, env_id, env_kwargs=env_kwargs, action_mask=action_mask)
    if place is None:
        players = Player(make_envs(ENVS), STACK, SEED, action_mask=action_mask)
    else:
        spec = PlayerSpec(make_envs, place.envs_per_player, ENVS, ENVS, 0, STACK, SEED, num_actions, action_mask)
        players = DistantPlayers(spec, place, resimulates, np.zeros(stacked_shape(STACK, shape), dtype))
    return Collector(players, policy or EpsilonGreedy(0.3), Replay(buffer, Uniform()))


def play(collector, agent, chunks=12):
    """Warm up, then play and learn in turns."""
    if collector.env_step == 0:
        collector.warm_up(agent, 20 * ENVS, 40)
    for _ in range(chunks):
        collector.collect(agent, 5 * ENVS)
        agent.learn()
    return collector


def known(collector):
    """All that a collector knows, as something that can be compared."""
    state = collector.state_dict()
    running = [{**episode, "actions": episode["actions"].tolist()} for episode in state.pop("running")]
    replay = collector.store.buffer
    arrays = {name: np.asarray(content).tolist() for name, content in replay.state_dict()["arrays"].items()}
    return {**state, "running": running, "arrays": arrays, "starts": list(replay.starts)}


def assert_same(one, other):
    one, other = known(one), known(other)
    assert one.keys() == other.keys()
    assert not [key for key in one if one[key] != other[key]]


@pytest.fixture(scope="module")
def here():
    """What is played in this process."""
    return play(collector_of(STROLL), Learning(STROLL))


PLACES = [(1, 8), (1, 4), (2, 4), (2, 2), (3, 1)]


@pytest.mark.parametrize(("actors", "envs_per_player"), PLACES)
def test_what_is_played_is_the_same_whatever_the_number_of_actors_and_players(here, actors, envs_per_player):
    there = play(collector_of(STROLL, ThreadPlace(actors, envs_per_player)), Learning(STROLL))
    assert_same(here, there)
    assert there.episodes > 20
    assert there.players.deaths == 0


def test_the_comparison_sees_one_action(here):
    there = play(collector_of(STROLL, ThreadPlace(2, 4), policy=EpsilonGreedy(0.31)), Learning(STROLL))
    with pytest.raises(AssertionError):
        assert_same(here, there)


@pytest.mark.parametrize("policy", [UniformRandom(), EpsilonGreedy(0.3)])
def test_masks_travel_with_what_they_are_of(policy):
    settings = {"policy": policy, "action_mask": True, "truncation": 0.1}
    one, other = (
        play(collector_of(FORBIDDING_ENV, place, **settings), Learning(FORBIDDING_ENV, action_mask=True), 6)
        for place in (None, ThreadPlace(2, 4, lambda actor, chunk: (actor, chunk) == (1, 3)))
    )
    assert other.players.deaths == 1
    assert other.players._spec.num_actions == NUM_ACTIONS
    assert_same(one, other)


def randomly(seed, chance=0.08):
    dice = random.Random(seed)
    return lambda actor, chunk: dice.random() < chance


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("actors", "envs_per_player"), [(1, 4), (2, 4), (2, 2)])
def test_an_actor_that_dies_is_replaced_and_what_is_played_is_the_same(here, actors, envs_per_player, seed):
    place = ThreadPlace(actors, envs_per_player, randomly(seed))
    there = play(collector_of(STROLL, place), Learning(STROLL))
    assert there.players.deaths > 1
    assert_same(here, there)


@pytest.mark.parametrize("chunk", [0, 0.5, 1, 1.5, 9, 9.5])
def test_an_actor_may_die_before_or_after_any_chunk_it_played(here, chunk):
    place = ThreadPlace(2, 2, lambda actor, number: (actor, number) == (1, chunk))
    there = play(collector_of(STROLL, place), Learning(STROLL))
    assert there.players.deaths == 1
    assert_same(here, there)


def test_a_replaced_actor_that_reports_nothing_would_be_noticed(here, monkeypatch):
    """The negative control: the same death without the knowledge of where the envs were."""
    ask = DistantPlayers._ask

    def as_if_new(self, order, player, weights, states):
        if self._envs.was_played(player) and states:
            states = {"episode_of_env": [0] * ENVS, "generators": states["generators"], "running": []}
        return ask(self, order, player, weights, states)

    monkeypatch.setattr(DistantPlayers, "_ask", as_if_new)
    place = ThreadPlace(2, 4, lambda actor, chunk: (actor, chunk) == (1, 4))
    there = play(collector_of(STROLL, place), Learning(STROLL))
    assert there.players.deaths == 1
    with pytest.raises(AssertionError):
        assert_same(here, there)


def test_a_run_resumes_here_that_was_begun_in_actors_and_the_other_way_round(here):
    agent, places = Learning(STROLL), [ThreadPlace(2, 4), None, ThreadPlace(2, 2, randomly(5)), None]
    now = play(collector_of(STROLL, places[0]), agent, 3)
    for place in places[1:]:
        before, now = now, collector_of(STROLL, place)
        now.store.load_state_dict(before.store.state_dict())
        now.load_state_dict(before.state_dict())
        assert_same(before, now)  # also before it has played anything
        before.close()
        play(now, agent, 3)
    assert_same(here, now)


# --- envs that cannot be restored ---


def assert_no_transition_joins_episodes(collector):
    """An episode of `Stroll` is known by its nonce and number, and its frames are counted."""
    buffer = collector.store.buffer
    batch = buffer.sample(np.array(buffer.starts))
    frames = torch.cat([batch.observation, batch.next_observation], dim=1).reshape(-1, 2, STACK, 4)
    goes_on = batch.discount > 0
    assert goes_on.sum() > 100
    first, later = frames[goes_on][:, 0], frames[goes_on][:, 1]
    assert (first[:, :, :2] == first[:, :1, :2]).all()
    assert (later[:, :, :2] == later[:, :1, :2]).all()
    assert (first[:, :, :2] == later[:, :, :2]).all()
    lengths = torch.log(batch.discount[goes_on]) / np.log(0.9)
    assert torch.equal(later[:, -1, 2] - first[:, -1, 2], lengths.round())


@pytest.mark.parametrize("resimulates", [True, False])
def test_an_env_that_cannot_be_restored_begins_a_new_episode_and_is_logged(caplog, resimulates):
    place = ThreadPlace(2, 2, lambda actor, chunk: (actor, chunk) in {(0, 9), (1, 11.5), (1, 15)})
    collector = collector_of(STROLL, place, resimulates, comes_back=False)
    with caplog.at_level(logging.WARNING, logger="lit_dqn"):
        play(collector, Learning(STROLL))
    assert collector.players.deaths == 3
    said = [record.getMessage() for record in caplog.records if "cannot be restored" in record.getMessage()]
    assert len(said) == 3 * 4
    reason = "it shows another frame" if resimulates else "data.resume_env says that it cannot be played again"
    assert all(reason in sentence for sentence in said)
    assert_no_transition_joins_episodes(collector)
    begun = sum(collector.state_dict()["episode_of_env"])
    assert begun == collector.episodes + len(said) + ENVS


def test_a_replay_that_was_not_notified_would_join_episodes(monkeypatch):
    monkeypatch.setattr(Collector, "lose", lambda self, differences: None)
    place = ThreadPlace(2, 2, lambda actor, chunk: (actor, chunk) == (0, 9))
    collector = play(collector_of(STROLL, place, comes_back=False), Learning(STROLL))
    with pytest.raises(AssertionError):
        assert_no_transition_joins_episodes(collector)


def test_episodes_that_must_not_resume_restart_in_actors_as_here():
    agent = Learning(STROLL)
    before = play(collector_of(STROLL, ThreadPlace(2, 4)), agent, 3)
    resumed = []
    for place in (None, ThreadPlace(1, 4)):
        now = collector_of(STROLL, place, resimulates=False)
        now.store.load_state_dict(before.store.state_dict())
        now.load_state_dict(before.state_dict(), ResumeEnv.new_episode)
        resumed.append(play(now, Learning(STROLL), 3))
    assert_same(*resumed)
    assert sum(known(resumed[0])["episode_of_env"]) >= sum(before.state_dict()["episode_of_env"]) + ENVS


# --- what goes wrong ---


def test_steps_that_kill_every_actor_end_the_run():
    collector = collector_of(STROLL, ThreadPlace(2, 4, lambda actor, chunk: actor == 1 and chunk >= 3))
    with pytest.raises(
        TrainingError, match=r"6 actors died while they played the same steps of env 4 and those beside it"
    ):
        play(collector, Learning(STROLL))


def test_an_env_that_cannot_be_made_there_is_refused_at_once():
    spec, place = PlayerSpec(partial(make_vec, "Nowhere-v0"), 4, 8, 8, 0, 1, 1, 2, False), ThreadPlace(2, 4)
    with pytest.raises(ConfigError, match="there is no environment 'Nowhere-v0'"):
        DistantPlayers(spec, place, True, np.zeros(4, np.float32))


class DiesMaking(ThreadPlace):
    """Its actor 1 dies while it makes its second player, some times."""

    def __init__(self, times):
        super().__init__(2, 2)
        self.times = times

    def begin(self, spec):
        actors = super().begin(spec)
        call = actors._call

        def killed(actor, life, asked):
            if actor == 1 and life < self.times and pickle.loads(asked) == ("make", (3,)):
                actors._die(actor, life)
            return call(actor, life, asked)

        actors._call = killed
        return actors


def test_an_actor_that_dies_while_it_makes_its_envs_is_replaced(here):
    there = collector_of(STROLL, DiesMaking(5))
    assert there.players.deaths == 5
    assert_same(play(there, Learning(STROLL)), here)


def test_actors_that_die_again_and_again_while_they_make_their_envs_end_the_run():
    with pytest.raises(ConfigError, match="an actor cannot make its envs: it was killed"):
        collector_of(STROLL, DiesMaking(6))


class Faulty(Policy):
    """A policy of its own mind."""

    asks_agent = False

    def act(self, agent, observation, env_step, generators):
        return agent.preferences(observation).argmax(axis=1)


def test_what_is_raised_there_is_raised_here():
    with pytest.raises(ConfigError, match="it uses the agent"):
        play(collector_of(STROLL, ThreadPlace(1, 4), policy=Faulty()), Learning(STROLL))


class Perverse(Learning):
    """Prefers what its network likes least."""

    def preferences(self, observation):
        return -super().preferences(observation)


def test_an_agent_that_is_more_than_its_network_is_refused():
    with pytest.raises(ConfigError, match="the preferences of Perverse are not the outputs of its network"):
        play(collector_of(STROLL, ThreadPlace(1, 4)), Perverse(STROLL))


class Local(torch.nn.Linear):
    """A network that cannot be sent."""

    def __reduce__(self):
        raise RuntimeError("no")


def test_a_network_that_cannot_be_sent_is_refused():
    agent = Learning(STROLL)
    agent.online = torch.nn.Sequential(torch.nn.Flatten(), Local(8, 3))
    agent.online.__deepcopy__ = lambda memo: agent.online
    with pytest.raises(ConfigError, match="the network Sequential cannot be sent to actors: no"):
        play(collector_of(STROLL, ThreadPlace(1, 4)), agent)


def test_an_actor_with_other_bits_is_named_once(caplog, monkeypatch):
    preferences = DistantAgent.preferences
    collector = collector_of(STROLL, ThreadPlace(2, 4))
    agent = Learning(STROLL)
    send = DistantPlayers._send

    def then_elsewhere(self, *arguments):
        send(self, *arguments)
        monkeypatch.setattr(
            DistantAgent, "preferences", lambda *asked: np.nextafter(preferences(*asked), np.float32(9))
        )

    monkeypatch.setattr(DistantPlayers, "_send", then_elsewhere)
    play(collector, agent, 2)
    assert sum("other bits than this process" in record.getMessage() for record in caplog.records) == 1


# --- the agent ---


def test_fewer_rows_than_four_are_asked_among_as_many_as_there_are_envs():
    agent = Learning(STROLL)
    observations = observations_of_nothing((8, STACK, 4), np.float32)
    assert distant_agent(agent, observations, 4).among is None
    assert distant_agent(agent, observations, 2).among == 8
    assert distant_agent(agent, observations[:2], 2).among is None


def test_all_parameters_and_buffers_travel_whatever_their_types():
    class Net(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.short = torch.nn.Parameter(torch.full((3,), value, dtype=torch.bfloat16))
            self.weight = torch.nn.Parameter(torch.full((2, 3), value))
            self.register_buffer("count", torch.tensor(int(value)), persistent=False)
            self.register_buffer("flag", torch.tensor([value > 1]))

    one, other = Net(3.0), Net(1.0)
    DistantAgent(other, 2).take(bytes_of(one))
    for name in ("short", "weight", "count", "flag"):
        assert torch.equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype == getattr(other, name).dtype


def test_a_chunk_tells_termination_truncation_and_a_lost_life_apart():
    actor = Actor(PlayerSpec(partial(make_vec, STROLL), 8, 8, 8, 0, 1, SEED, 3, False))
    actor.know_policy("0", UniformRandom())
    played = actor.play(Order(0, 100, 0, "0", 0, None), None)
    seen = np.zeros(3, int)
    for env in range(8):
        shadow, episode = make_env(STROLL), 0
        shadow.reset(seed=episode_seed(SEED, env, episode))
        for step, action in enumerate(played.action[:, env]):
            _, reward, terminated, truncated, info = shadow.step(action)
            facts = (terminated, truncated and not terminated, info["life_lost"] and not terminated)
            told = (part[step, env] for part in (played.terminated, played.truncated, played.life_lost))
            assert (*facts, reward) == (*told, played.reward[step, env])
            seen += facts
            if terminated or truncated:
                episode += 1
                shadow.reset(seed=episode_seed(SEED, env, episode))
    assert (seen > 5).all()


# --- whole runs ---


def fitted(**settings):
    agent, data = make_agent(), make_data(num_envs=8, gradient_steps=2, env_steps_per_update=8, **settings)
    make_trainer(max_epochs=3).fit(agent, data)
    return agent, data


@pytest.mark.parametrize("play_ahead", [False, True])
def test_a_run_learns_the_same_wherever_its_envs_are_played(play_ahead):
    place = ThreadPlace(2, 4, lambda actor, chunk: (actor, chunk) in {(0, 0), (1, 6.5), (0, 11)})
    (one, played), (other, elsewhere) = (fitted(play_ahead=play_ahead, place=where) for where in (None, place))
    assert elsewhere.collector.players.deaths == 3
    assert elsewhere.collector.closed
    assert same(one.state_dict(), other.state_dict())
    assert_same(played.collector, elsewhere.collector)
    assert elsewhere.hparams["place"] == {
        "class_path": "stand_in.ThreadPlace",
        "init_args": {"actors": 2, "envs_per_player": 4},
    }


def test_a_run_whose_observations_have_parts_is_the_same_in_a_place():
    encoders = {"image": partial(CNN, filters=(4,), kernel_sizes=(4,), strides=(2,), dense_size=8)}
    network = partial(PartsNetwork, encoders=encoders, dense_size=16)
    ran = []
    for place in (None, ThreadPlace(2, 1, lambda actor, chunk: (actor, chunk) == (1, 6))):
        data = make_data(env_id=SIGNPOST_ENV, num_envs=4, env_steps_per_update=4, frame_stack=2, place=place)
        torch.manual_seed(0)
        agent = LitDQN(data.observation_shape, data.num_actions, network=network, optimizer=torch.optim.Adam)
        make_trainer(max_epochs=2).fit(agent, data)
        ran.append((agent, data))
    (one, played), (other, elsewhere) = ran
    assert elsewhere.collector.players.deaths == 1
    assert same(one.state_dict(), other.state_dict())
    assert_same(played.collector, elsewhere.collector)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 6}, "num_envs: 6 envs cannot be split among players with 4 each"),
        ({"num_envs": 4}, "place: 2 actors are too many for 1 players"),
        ({"num_envs": 8, "env_processes": True}, "env_processes: true and a place both determine"),
        ({"num_envs": 8, "shards": 2}, "place: ThreadPlace plays for one shard, and there are 2"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_data(env_steps_per_update=24, place=ThreadPlace(2, 4), **settings)


def test_a_run_that_is_built_and_not_started_begins_no_actor(folder, monkeypatch):
    # A study builds all of its runs before the first one starts, and their actors would have no room beside each other.
    begun = []
    monkeypatch.setattr(ThreadPlace, "begin", lambda place, spec: begun.append(spec))
    place = ["--data.place=stand_in.ThreadPlace", "--data.place.actors=1", "--data.place.envs_per_player=8"]
    assert Prepared(["fit", "--config=cartpole", *place]).datamodule.place.envs_per_player == 8
    assert begun == []


def test_ray_is_asked_for_only_where_a_place_is_and_refused_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    data = make_data(num_envs=8, env_steps_per_update=8, place=RayActors(actors=1))
    with pytest.raises(ConfigError, match=r"place: RayActors needs the package ray, which is not installed; .*lit-dqn"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("local", r"^place: Ray does not start on this machine: it is slow; try again .* set --data.place null\.$"),
        (
            "auto",
            r"^place: there is no Ray at address 'auto' .*: it is slow; set RAY_AUTH.*, or --data.place.* local\.$",
        ),
    ],
)
def test_a_ray_that_does_not_start_here_is_told_from_one_that_cannot_be_joined(monkeypatch, address, message):
    def init(**settings):
        raise TimeoutError("it is slow")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    with pytest.raises(ConfigError, match=message):
        _RayCrew(RayActors(actors=1, address=address), None)


@pytest.mark.slow
def test_neither_lit_dqn_nor_its_actors_import_more_than_they_need():
    code = (
        "import sys, lit_dqn, lit_dqn.playing.actor; lit_dqn.RayActors; print({'ray', 'lightning'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
