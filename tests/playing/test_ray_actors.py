"""Players in real actors of Ray; who dies when is proved by prove_places.py."""

import os
from functools import partial

import psutil
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from helpers import make_agent, make_data, make_trainer, same
from lit_dqn import ConfigError, ImpalaCNN, LitDQN, RayActors
from lit_dqn.playing import packing, ray_actors
from lit_dqn.playing.distant import DistantPlayers

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow


class Keeping(Callback):
    """Keeps the arrivals of players that play on, before they are written down and gone."""

    def __init__(self, kept):
        self.kept = kept

    def on_train_batch_start(self, trainer, *arguments):
        self.kept += [a for a in trainer.datamodule.asynchronous.new if a.number >= len(self.kept)]


def fitted(place):
    agent, data = make_agent(), make_data(num_envs=8, gradient_steps=2, env_steps_per_update=8, place=place)
    make_trainer(max_epochs=3).fit(agent, data)
    return agent, data


def kill_an_actor():
    """SIGKILL to the process of one."""
    for process in psutil.Process(os.getpid()).children(recursive=True):
        if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::RayActor"):
            process.kill()
            return
    raise AssertionError("there is no actor")


def test_a_run_in_ray_is_the_run_here_also_if_an_actor_is_killed(monkeypatch):
    play, chunks = DistantPlayers.play, iter(range(10**6))

    def with_a_kill(*arguments):
        if next(chunks) == 9:
            kill_an_actor()
        play(*arguments)

    monkeypatch.setattr(DistantPlayers, "play", with_a_kill)
    (one, played), (other, elsewhere) = fitted(None), fitted(RayActors(actors=2, envs_per_player=4))
    assert elsewhere.collector.players.deaths == 1
    assert same(one.state_dict(), other.state_dict())
    generators, there = (data.collector.state_dict()["generators"] for data in (played, elsewhere))
    assert generators == there


def test_images_from_another_machine_are_compressed_and_the_run_is_the_same(monkeypatch):
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 200 * 2**20}

    def played(place):
        data = make_data(
            env_id="minigrid:MiniGrid-Empty-5x5-v0",
            wrappers=[pytest.importorskip("minigrid.wrappers").ImgObsWrapper],
            num_envs=2,
            env_steps_per_update=2,
            place=place,
        )
        torch.manual_seed(0)
        agent = LitDQN(data.observation_shape, data.num_actions, network=partial(ImpalaCNN, width=1))
        make_trainer(max_epochs=2).fit(agent, data)
        return agent

    unpacked, unpack = [], packing.unpack
    monkeypatch.setattr(packing, "unpack", lambda packed: (unpacked.append(packed), unpack(packed))[1])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    try:
        cluster.add_node(num_cpus=2, **memory)
        cluster.wait_for_nodes()
        away = played(RayActors(actors=2, envs_per_player=1, address=cluster.address))
    finally:
        cluster.shutdown()
    assert unpacked
    assert same(played(None).state_dict(), away.state_dict())


def test_ray_ends_with_the_run_that_began_it():
    import ray

    fitted(RayActors(actors=1))
    assert not ray.is_initialized()


@pytest.fixture
def small_ray():
    """A Ray with two CPUs, which is no run's own."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=2**27, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_more_actors_than_there_are_cpus_are_refused_at_once(small_ray):
    with pytest.raises(ConfigError, match=r"^place: 3 actors take one CPU each, and the cluster has 2 in all; set"):
        fitted(RayActors(actors=3, envs_per_player=2))
    assert small_ray.is_initialized()


def test_actors_that_wait_for_a_cpu_say_so_and_are_given_up(small_ray, monkeypatch, caplog):
    class Busy:
        """Takes one of the two."""

    busy = small_ray.remote(num_cpus=1)(Busy).remote()
    monkeypatch.setattr(ray_actors, "REPORT_SECONDS", 0.5)
    monkeypatch.setattr(ray_actors, "GIVE_UP_SECONDS", 3.0)
    small_ray.get(busy.__ray_ready__.remote())
    with pytest.raises(
        ConfigError, match=r"^place: 2 actors take one CPU each, and 1 of the cluster's are free, after"
    ):
        fitted(RayActors(actors=2, envs_per_player=4))
    assert "and 1 of the cluster's are free; the run waits for them, at most 3 seconds" in caplog.text
    small_ray.kill(busy)
    monkeypatch.setattr(ray_actors, "GIVE_UP_SECONDS", 60.0)
    fitted(RayActors(actors=2, envs_per_player=4))


def test_a_run_whose_players_play_on_in_ray_is_made_again_by_its_journal(tmp_path):
    from lit_dqn.playing.journal import HEADER, lines_of

    def free(actors, journal=None):
        agent, data = (
            make_agent(),
            make_data(
                num_envs=8,
                gradient_steps=2,
                env_steps_per_update=8,
                place=RayActors(actors, 2, asynchronous=True),
            ),
        )
        data.replay_journal = journal
        make_trainer(max_epochs=3, callbacks=[Keeping(kept := [])]).fit(agent, data)
        return agent, data, kept

    one, played, kept = free(2)
    journal = tmp_path / "journal.csv"
    journal.write_text(f"{HEADER}\n{lines_of(kept)}")
    other, again, also = free(1, journal)
    assert kept == also
    assert same(one.state_dict(), other.state_dict())
    assert played.collector.state_dict()["generators"] == again.collector.state_dict()["generators"]
